"""Figures → reports, in the shape that ``report --json`` promises.

Rates run from 0 to 1, times are RFC 3339 in UTC, durations and CPU are in seconds, memory in bytes; null where there
is nothing to tell from. ``trend`` compares the newer half of the runs with the older half, ``before`` the period with
the one of the same length before it.
"""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from lsh_systemd.figures import Durations, Failure, Figures, Half, Metric, Outcome, Period, Totals, merged
from lsh_systemd.insights import Streak
from lsh_systemd.run import rfc3339

# So many kinds of failures are told, those that came most often.
_KINDS = 10
# So many hours or days are told: a machine without a clock begins in 1970.
_BUCKETS = 10_000
# From so many runs on, halves of them are compared.
_ENOUGH = 4
_HOUR_USEC = 3_600_000_000


class Reporter:
    """Reports on the runs of a period, of one ``job`` or of all; ``until_usec`` None: up to now."""

    def __init__(
        self,
        figures: Figures,
        *,
        since_usec: int | None = None,
        until_usec: int | None = None,
        job: str | None = None,
    ) -> None:
        self._figures, self._only = figures, job
        self.since_usec, self.until_usec = since_usec, until_usec
        whole = Period()
        self.period = Period(
            whole.since_usec if since_usec is None else max(0, since_usec),
            whole.until_usec if until_usec is None else max(0, until_usec),
        )
        self._now_usec = time.time_ns() // 1000

    @cached_property
    def _totals(self) -> dict[str, Totals]:
        return self._figures.totals(self.period, self._only)

    @cached_property
    def _earlier(self) -> dict[str, Totals]:
        return self._figures.totals(self._before, self._only) if self._before else {}

    @cached_property
    def _halves(self) -> dict[str | None, Half]:
        return self._figures.newer_halves(self.period, self._only)

    @cached_property
    def _failures(self) -> list[Failure]:
        return self._figures.failures(self.period, self._only)

    def jobs(self, more: Sequence[str] = ()) -> list[dict[str, Any]]:
        """A report on each job that has runs in the period, and those of ``more``, by name."""
        return self._jobs(sorted({*self._totals, *more}))

    def overall(self) -> dict[str, Any]:
        """The report on all of them together: ``job`` is null, metrics, which are a job's, are left out. The longest
        silence is that of the job in ``longest_silence_job``."""
        totals, earlier = (merged(list(each.values())) for each in (self._totals, self._earlier))
        told = self._report(None, totals, self._halves.get(None), _together(self._failures), earlier)
        silences = {job: each.silence_usec or 0 for job, each in self._totals.items()}
        silent = max(silences, key=lambda job: silences[job], default=None)
        return told | {"longest_silence_job": silent if totals.silence_usec else None}

    def streaks(self, jobs: Sequence[str]) -> dict[str, Streak]:
        """How those of the jobs that have runs are doing now, whatever the period."""
        told = {job: self._figures.since_success(job) for job in jobs}
        return {
            job: Streak(failures, (self._now_usec - last) / 1e6)
            for job, (failures, last) in told.items()
            if last is not None
        }

    def last_days(self, zone: str, job: str | None = None, *, days: int = 30) -> list[dict[str, Any]]:
        """What each of the period's last days held, by the zone's clock."""
        until = min(self.period.until_usec, self._now_usec)
        last = datetime.fromtimestamp((until - 1) // 1_000_000, ZoneInfo(zone)).date()
        first = datetime.combine(last - timedelta(days=days - 1), datetime.min.time(), ZoneInfo(zone))
        since = max(0, round(first.timestamp()) * 1_000_000)  # a clock of 1970 has no 30 days behind it
        return self._told(_bounds(since, until, "day", ZoneInfo(zone)), job)

    def buckets(self, by: str, zone: str) -> list[dict[str, Any]]:
        """What each "hour" or "day" of the period held (the newest 10,000), from its beginning or first run on."""
        until = min(self.period.until_usec, self._now_usec)
        since = self.since_usec
        if since is None:
            first = [each.first_usec for each in self._totals.values()]
            since = min((usec for usec in first if usec is not None), default=until)
        since = max(0, since, until - _BUCKETS * _HOUR_USEC * (1 if by == "hour" else 24))
        return self._told(_bounds(since, until, by, ZoneInfo(zone)), self._only)

    def _told(self, bounds: Sequence[int], job: str | None) -> list[dict[str, Any]]:
        outcomes = self._figures.outcomes(bounds, job)
        return [_bucket(since, until, each) for (since, until), each in zip(pairwise(bounds), outcomes, strict=True)]

    @cached_property
    def _before(self) -> Period | None:
        """The period of the same length before; None where there is no beginning."""
        if self.since_usec is None:
            return None
        length = min(self.period.until_usec, self._now_usec) - self.period.since_usec
        return Period(max(0, self.period.since_usec - length), self.period.since_usec) if length > 0 else None

    def _jobs(self, names: Sequence[str]) -> list[dict[str, Any]]:
        failures: dict[str, list[Failure]] = defaultdict(list)
        for failure in self._failures:
            failures[failure.job].append(failure)
        return [
            self._report(
                name,
                self._totals.get(name, Totals()),
                self._halves.get(name),
                failures[name],
                self._earlier.get(name, Totals()),
            )
            for name in names
        ]

    def _report(
        self, job: str | None, totals: Totals, half: Half | None, failures: Sequence[Failure], earlier: Totals
    ) -> dict[str, Any]:
        enough = half if totals.counted >= _ENOUGH else None
        durations = self._figures.durations(self.period, totals.durations, job, enough)
        return {
            "job": job,
            "since": rfc3339(self.since_usec),
            "until": rfc3339(self.until_usec),
            "runs": totals.runs,
            "successes": totals.successes,
            "skipped": totals.skipped,
            "retries": totals.retries,
            "success_rate": _rate(totals.successes, totals.counted),
            "duration_p50": _seconds(durations.p50),
            "duration_p95": _seconds(durations.p95),
            "duration_p99": _seconds(durations.p99),
            "duration_mean": _mean(totals.duration_sum, totals.durations),
            "duration_max": _seconds(totals.duration_max),
            "cpu_seconds_mean": _mean(totals.cpu_sum, totals.cpus),
            "cpu_seconds_sum": totals.cpu_sum / 1e6 if totals.cpus else None,
            "memory_peak_max": totals.memory_max,
            "wait_mean": _mean(totals.wait_sum, totals.waits),
            "wait_max": _seconds(totals.wait_max),
            "runs_per_hour": self._per_hour(totals),
            "first_run": rfc3339(totals.first_usec),
            "last_run": rfc3339(totals.last_usec),
            "longest_silence": _seconds(totals.silence_usec),
            "results": _results(totals, failures),
            "failures_by_result": _by_result(failures),
            "failures": [_told(each) for each in failures[:_KINDS]],
            "metrics": self._metrics(job, half),
            "trend": _trend(totals, enough, durations),
            "before": self._compared(job, totals, earlier, durations.p50),
        }

    def _per_hour(self, totals: Totals) -> float | None:
        """Runs an hour, from the beginning of the period, or from the first run, on."""
        since = totals.first_usec if self.since_usec is None else self.since_usec
        until = min(self.period.until_usec, self._now_usec)
        return totals.runs * _HOUR_USEC / (until - since) if since is not None and until > since else None

    def _metrics(self, job: str | None, half: Half | None) -> dict[str, dict[str, Any]]:
        if job is None or half is None:
            return {}
        return {each.name: _metric(each) for each in self._figures.metrics(self.period, job, half.middle_usec)}

    def _compared(self, job: str | None, totals: Totals, earlier: Totals, p50: int | None) -> dict[str, Any] | None:
        before = self._before
        if before is None:
            return None
        rate = _rate(earlier.successes, earlier.counted)
        median = self._figures.durations(before, earlier.durations, job).p50
        return {
            "since": rfc3339(before.since_usec),
            "until": rfc3339(before.until_usec),
            "runs": earlier.runs,
            "success_rate": rate,
            "duration_p50": _seconds(median),
            "duration_mean": _mean(earlier.duration_sum, earlier.durations),
            "runs_change": totals.runs - earlier.runs,
            "success_rate_change": _difference(_rate(totals.successes, totals.counted), rate),
            "duration_p50_ratio": _ratio(p50, median),
        }


def _bounds(since: int, until: int, by: str, zone: ZoneInfo) -> list[int]:
    """``since``, the beginnings of the hours or days after it, and ``until``."""
    bounds = [since]
    at = datetime.fromtimestamp(since // 1_000_000, zone)
    while bounds[-1] < until:
        if by == "hour":  # of UTC: it has 60 minutes, whatever the zone's clock does
            at = datetime.fromtimestamp(at.timestamp() // 3600 * 3600 + 3600, zone)
        else:
            at = datetime.combine(at.date() + timedelta(days=1), datetime.min.time(), zone)
        bounds.append(min(until, round(at.timestamp()) * 1_000_000))
    return bounds


def _bucket(since: int, until: int, results: Mapping[str, Outcome]) -> dict[str, Any]:
    counted = [each for result, each in results.items() if result != "skipped"]
    runs, durations = sum(each[0] for each in counted), sum(each[1] for each in counted)
    successes, skipped = (results.get(result, (0, 0, 0.0))[0] for result in ("success", "skipped"))
    return {
        "since": rfc3339(since),
        "until": rfc3339(until),
        "runs": runs + skipped,
        "successes": successes,
        "skipped": skipped,
        "success_rate": _rate(successes, runs),
        "duration_mean": _mean(sum(each[2] for each in counted), durations),
    }


def _told(failure: Failure) -> dict[str, Any]:
    return {
        "job": failure.job or None,
        "result": failure.result,
        "message": failure.message,
        "runs": failure.runs,
        "last_at": rfc3339(failure.last_usec),
    }


def _together(failures: Sequence[Failure]) -> list[Failure]:
    """Failures of the same kind, whichever job's, as one; ``job`` is empty where there are several."""
    kinds: dict[tuple[str, str | None], list[Failure]] = defaultdict(list)
    for each in failures:
        kinds[each.result, each.message].append(each)
    merged_kinds = [
        Failure(
            group[0].job if len({each.job for each in group}) == 1 else "",
            result,
            message,
            sum(each.runs for each in group),
            max(each.last_usec for each in group),
        )
        for (result, message), group in kinds.items()
    ]
    return sorted(merged_kinds, key=lambda each: -each.runs)


def _by_result(failures: Sequence[Failure]) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for each in failures:
        counts[each.result] += each.runs
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _trend(totals: Totals, half: Half | None, durations: Durations) -> dict[str, float | None]:
    """How the newer half differs from the older: success rate (difference) and median duration (ratio)."""
    if half is None:
        return {"success_rate_change": None, "duration_p50_ratio": None}
    older = _rate(totals.successes - half.successes, totals.counted - half.runs)
    return {
        "success_rate_change": _difference(_rate(half.successes, half.runs), older),
        "duration_p50_ratio": _ratio(durations.newer_p50, durations.older_p50),
    }


def _results(totals: Totals, failures: Sequence[Failure]) -> dict[str, int]:
    """How many runs ended how: failures are all that neither succeeded nor were skipped."""
    counts = {"success": totals.successes, **_by_result(failures), "skipped": totals.skipped}
    return {result: count for result, count in counts.items() if count}


def _metric(metric: Metric) -> dict[str, Any]:
    older = metric.values - metric.newer_values
    newer_mean = metric.newer_sum / metric.newer_values if metric.newer_values else None
    older_mean = (metric.sum - metric.newer_sum) / older if older else None
    return {
        "runs": metric.values,
        "sum": metric.sum,
        "mean": metric.sum / metric.values,
        "p95": metric.p95,
        "trend": {"mean_ratio": _ratio(newer_mean, older_mean)},
    }


def _rate(successes: int, counted: int) -> float | None:
    return successes / counted if counted else None


def _mean(usec: float, count: int) -> float | None:
    return usec / count / 1e6 if count else None


def _seconds(usec: int | None) -> float | None:
    return None if usec is None else usec / 1e6


def _difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def _ratio(after: float | None, before: float | None) -> float | None:
    return after / before if before and after is not None else None
