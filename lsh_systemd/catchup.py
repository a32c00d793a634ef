"""Making up for what was missed while the machine was off: after boot, by lsh-catch-up.service.

systemd's Persistent= starts a job once, however many of its times were missed, and all such jobs together as it boots.
Here is what it does not do: a run for each missed time (``--catch-up all``), and a moment of its own for each job
(``--catch-up-spread``). What was missed is reckoned up from the timer's lines and the ledger, so that a machine which
dies in the middle goes on where it was.
"""

import hashlib
import subprocess
import sys
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lsh_systemd import analyze, daemons
from lsh_systemd.control import Control
from lsh_systemd.errors import LshError
from lsh_systemd.job import Job
from lsh_systemd.jobs import Found
from lsh_systemd.manager import UNIT
from lsh_systemd.queue import Queue
from lsh_systemd.run import Cause, Run
from lsh_systemd.scope import work_dir
from lsh_systemd.store import Store
from lsh_systemd.unit import on_calendar

TRIGGER = "catch-up"
# How often the jobs that are catching up are looked at.
_PAUSE_SECONDS = 0.2
_BATCH = 1000


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """The times (µs since 1970, in order) for which a job has still to run; ``delay``: how long after boot to begin."""

    found: Found
    due: tuple[int, ...]
    delay: timedelta
    until_usec: int


def missed(times: Sequence[int], runs: Sequence[Run]) -> list[int]:
    """Those of a schedule's times (µs, in order) that no run answers for.

    A run answers for the newest time before its start, and for those that came while it went on: systemd makes one
    start of them. A catch-up run answers for the time that it was made up for alone.
    """
    answered: set[int] = set()
    for run in runs:
        if run.result == "missed":
            continue
        if run.trigger == TRIGGER and run.due_usec is not None:
            answered.add(run.due_usec)
        elif run.started_usec is not None:
            first = bisect_right(times, run.started_usec)
            last = bisect_right(times, run.ended_usec or run.started_usec)
            answered.update(times[max(0, first - 1) : last])
    return [each for each in times if each not in answered]


def backlogs(control: Control, store: Store) -> Iterator[Backlog]:
    """What each job has to catch up on."""
    queue = Queue(control.scope)
    for found in control.jobs.all():
        job = found.job
        if job is None or not job.caught_up_by_us or not found.pair.enabled:
            continue
        active = int(control.manager.get(found.timer, UNIT, "ActiveEnterTimestamp"))
        since = control.stamps.read(found.timer)
        if not active or since is None:
            continue
        before = store.last_of_unit(found.service, before_usec=since)
        runs = store.runs(job=found.id, since_usec=since, output=False) + ([before] if before else [])
        due = missed(_times(on_calendar(found.pair.timer), since, active), runs)
        if (entry := queue.of(found.id)) and (waiting := queue.read(entry)):  # for its cap, since before the boot
            due = [each for each in due if str(each) != waiting.fields.get("due")]
        if job.catch_up == "once":
            due = due[-1:]
        yield Backlog(found=found, due=tuple(due), delay=_delay(job), until_usec=active)


def _times(lines: Sequence[str], after: int, until: int) -> list[int]:
    """The times of the lines after ``after``, up to ``until``; all in µs."""
    found: list[int] = []
    start = after
    while True:
        base = datetime.fromtimestamp(start / 1e6, UTC)
        batch = [round(at.timestamp() * 1e6) for at in analyze.instants(lines, after=base, count=_BATCH)]
        found += [each for each in batch if after < each <= until]
        if len(batch) < _BATCH or batch[-1] > until:
            return found
        start = batch[-1]


def _delay(job: Job) -> timedelta:
    """A part of the job's spread, always the same for this job on this machine."""
    if job.catch_up_spread is None:
        return timedelta()
    try:
        machine = Path("/etc/machine-id").read_text().strip()
    except OSError:
        machine = ""
    number = int.from_bytes(hashlib.sha256(f"{machine}\n{job.id}".encode()).digest()[:4])
    return job.catch_up_spread * (number / 2**32)


def run(control: Control, waiting: Sequence[Backlog], *, by: str | None = None) -> None:
    """Start each job for each of its times, one after the other, and wait for the last one's end. ``by``: the person
    who asked for it."""
    began = time.monotonic()
    queues = {each.found.id: deque(each.due) for each in waiting}
    open_ones = list(waiting)
    while open_ones:
        for each in list(open_ones):
            queue = queues[each.found.id]
            if not queue:
                if Queue(control.scope).of(each.found.id) is None and control.forget_due(each.found):
                    control.stamps.renew(each.found.timer, each.until_usec)
                    open_ones.remove(each)
            elif time.monotonic() - began >= each.delay.total_seconds() and not _next(control, each.found, queue, by):
                open_ones.remove(each)
        if open_ones:
            time.sleep(_PAUSE_SECONDS)


def resume_retries(control: Control) -> None:
    """Make the retries that were pending when the machine went down, unless their jobs have run since."""
    for path in (work_dir(control.scope) / "retry").glob("*"):
        job_id = path.name
        if "." in job_id or control.jobs.find(job_id) is None or control.manager.units(f"lsh-{job_id}.retry*.timer"):
            continue
        subprocess.run(["/bin/sh", str(daemons.script("retry")), control.scope, job_id, "fire"], check=False)


def _next(control: Control, found: Found, queue: deque[int], by: str | None) -> bool:
    """Start the job for the first time of its queue, unless it runs; False where it is not to go on."""
    try:
        now = control.jobs.find(found.id)
        if now is None or now.job != found.job or not now.pair.enabled:
            print(f"{found.id}: changed or gone, no more catching up", file=sys.stderr)
            return False
        if not control.forget_due(found):
            return True
        if not control.is_capped(now.valid_job):
            control.start(found, Cause(TRIGGER, due_usec=queue.popleft(), by=by))
        elif Queue(control.scope).of(found.id) is None:
            rank, fields = now.valid_job.queue_rank, {"due": str(queue.popleft()), **({"by": by} if by else {})}
            Queue(control.scope).add(found.id, rank=rank, trigger=TRIGGER, fields=fields)
    except LshError as error:
        print(f"{found.id}: {error.message}", file=sys.stderr)
        return False
    return True
