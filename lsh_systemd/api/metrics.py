"""/metrics, as Prometheus reads them."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import Depends
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from starlette.responses import Response

from lsh_systemd import __version__
from lsh_systemd.api.gate import needs, router
from lsh_systemd.api.parts import Desk, desk
from lsh_systemd.queue import Queue
from lsh_systemd.unsent import KINDS, Unsent

routes = router(tags=["live"])
# The upper ends of the durations' buckets, in seconds.
BUCKETS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14_400, 86_400)
# The counts of all runs are reckoned this often at most: a million take half a second.
_SECONDS = 15.0
_CONTENT = "text/plain; version=0.0.4; charset=utf-8"
_PLAIN: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}

# One look through an index that has all of it.
_COUNTS = (
    "SELECT job, result, count(*), count(duration_usec), total(duration_usec), "
    + ", ".join(f"count(duration_usec) FILTER (WHERE duration_usec <= {round(each * 1e6)})" for each in BUCKETS)
    + " FROM runs WHERE result IS NOT NULL GROUP BY job, result"
)
Row = tuple[str, str, int, int, float, tuple[int, ...]]


class Counts:
    """What all runs come to, by job and result; a little old at times."""

    def __init__(self) -> None:
        self._lock, self._at, self._rows = threading.Lock(), float("-inf"), list[Row]()

    def rows(self, desk: Desk) -> list[Row]:
        with self._lock:
            if time.monotonic() - self._at > _SECONDS:
                told = desk.store().query(_COUNTS)
                self._rows = [(row[0], row[1], row[2], row[3], row[4], tuple(row[5:])) for row in told]
                self._at = time.monotonic()
            return self._rows


_counts = Counts()


@routes.get("/metrics", openapi_extra=needs("viewer"), response_class=Response, responses=_PLAIN)
def metrics(desk: Annotated[Desk, Depends(desk)]) -> Response:
    """Counts, durations, next runs, the queue, the agent and the sync, in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scrape(desk))
    return Response(generate_latest(registry), media_type=_CONTENT)


class _Scrape:
    """What one scrape tells, of the jobs that its key is for."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def collect(self) -> Iterator[Metric]:
        desk, seen = self._desk, self._desk.seen_ids()
        info = GaugeMetricFamily("lsh_info", "The version and the scope.", labels=["version", "scope"])
        info.add_metric([__version__, str(desk.scope)], 1)
        yield info
        yield from _runs([row for row in _counts.rows(desk) if seen is None or row[0] in seen])
        yield from self._jobs()
        waiting = [entry for entry in Queue(desk.scope).entries() if seen is None or entry.job in seen]
        yield GaugeMetricFamily("lsh_queue_length", "Runs that wait for a cap.", value=len(waiting))
        yield GaugeMetricFamily("lsh_agent_up", "Whether the agent runs.", value=int(desk.parts.agent_runs()))
        if (collected := collected_seconds(desk.parts.ledger().cursor())) is not None:
            name = "lsh_collected_timestamp_seconds"
            yield GaugeMetricFamily(name, "Up to when the journal has been read.", value=collected)
        if seen is None:
            yield from _sync(Unsent(desk.parts.ledger()))

    def _jobs(self) -> Iterator[Metric]:
        statuses = self._desk.statuses(self._desk.all())
        states = GaugeMetricFamily("lsh_jobs", "Jobs by state.", labels=["state"])
        for state, count in sorted(Counter(each.state for each in statuses).items()):
            states.add_metric([state], count)
        yield states
        following = GaugeMetricFamily("lsh_job_next_elapse_timestamp_seconds", "When a job runs next.", labels=["job"])
        last = GaugeMetricFamily("lsh_job_last_run_timestamp_seconds", "When its newest run began.", labels=["job"])
        good = GaugeMetricFamily("lsh_job_last_run_success", "Whether its newest run succeeded.", labels=["job"])
        for each in statuses:
            if each.next_usec:
                following.add_metric([each.found.id], each.next_usec / 1e6)
            run = each.last_run
            if run and run.started_usec is not None:
                last.add_metric([each.found.id], run.started_usec / 1e6)
            if run and not run.running:
                good.add_metric([each.found.id], int(run.result == "success"))
        yield from (following, last, good)


def _sync(unsent: Unsent) -> Iterator[Metric]:
    """How far Supabase is behind; nothing where no project is set."""
    if not unsent.is_on():
        return
    counts, progress = unsent.waiting(), unsent.progress()
    waiting = GaugeMetricFamily("lsh_sync_waiting", "What Supabase has not got yet.", labels=["kind"])
    for kind in KINDS:
        waiting.add_metric([kind], counts.get(kind, 0))
    yield waiting
    refused = len(unsent.refused())
    yield GaugeMetricFamily("lsh_sync_refused", "What Supabase has refused.", value=refused)
    yield GaugeMetricFamily("lsh_sync_failures", "How often sending has failed in a row.", value=progress.tries)
    if progress.sent_usec:
        name = "lsh_sync_sent_timestamp_seconds"
        yield GaugeMetricFamily(name, "When Supabase last had all that there was.", value=progress.sent_usec / 1e6)


def _runs(rows: list[Row]) -> Iterator[Metric]:
    counts = CounterMetricFamily("lsh_runs", "Runs that have ended, by result.", labels=["job", "result"])
    durations = HistogramMetricFamily("lsh_run_duration_seconds", "How long runs took.", labels=["job"])
    by_job: dict[str, tuple[int, float, list[int]]] = {}
    for job, result, runs, known, total_usec, below in rows:
        counts.add_metric([job, result], runs)
        if result != "skipped":
            count, total, buckets = by_job.get(job, (0, 0.0, [0] * len(BUCKETS)))
            together = [a + b for a, b in zip(buckets, below, strict=True)]
            by_job[job] = (count + known, total + total_usec / 1e6, together)
    for job, (count, total, buckets) in by_job.items():
        told = [(str(float(edge)), number) for edge, number in zip(BUCKETS, buckets, strict=True)]
        durations.add_metric([job], [*told, ("+Inf", count)], total)
    yield from (counts, durations)


def collected_seconds(cursor: str | None) -> float | None:
    """The time of the entry that a journal cursor stands at (s since 1970): its field t, µs in hexadecimal."""
    fields = dict(each.split("=", 1) for each in (cursor or "").split(";") if "=" in each)
    try:
        return int(fields["t"], 16) / 1e6
    except (KeyError, ValueError):
        return None
