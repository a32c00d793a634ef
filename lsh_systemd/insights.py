"""Reports → what deserves attention, the worst first, each with the command that looks closer. Pure.

Reports are those of ``Reporter.jobs`` on a period that has one before it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Report = Mapping[str, Any]

# From so many runs on, a rate or a median says something.
_ENOUGH = 5
_SLOWER = 1.5
_LONGER_SILENCE = 3.0
_LONG_WAIT_SECONDS = 60.0
_OFTEN = 0.2
_METRIC = 0.5
# Results that tell more than that a command failed: the worse, the higher.
_RESULTS = {
    "lost": (75, "{runs} of its runs were lost with the machine"),
    "missed": (80, "{runs} of its runs never began"),
    "oom-kill": (70, "{runs} of its runs were killed for want of memory"),
    "timeout": (60, "{runs} of its runs took too long and were ended"),
    "core-dump": (65, "{runs} of its runs crashed"),
    "watchdog": (60, "{runs} of its runs stopped answering"),
    "resources": (65, "systemd could not begin {runs} of its runs"),
}


@dataclass(frozen=True)
class Insight:
    """``weight`` runs from 0 to 100; ``command`` follows ``lshctl``."""

    job: str
    kind: str
    weight: int
    message: str
    command: str


@dataclass(frozen=True)
class Streak:
    """The failures since a job's last success: how many, and the seconds since it last began at all."""

    failures: int
    idle_seconds: float


def insights(reports: Sequence[Report], streaks: Mapping[str, Streak], active: frozenset[str]) -> list[Insight]:
    """What the reports come to. ``active``: the jobs that still are to run by themselves."""
    found = [
        each
        for report in reports
        for each in _of_job(report, streaks.get(report["job"]), is_active=report["job"] in active)
    ]
    return sorted(found, key=lambda each: (-each.weight, each.job, each.kind))


def _of_job(report: Report, streak: Streak | None, *, is_active: bool) -> Iterator[Insight]:
    job = report["job"]
    if streak and streak.failures >= 3:
        why = f": {_reason(report)}" if _reason(report) else ""
        message = f"the last {streak.failures} runs have failed{why}"
        yield Insight(job, "failing", min(100, 90 + streak.failures // 10), message, f"runs {job} --failed")
    elif streak and report["success_rate"] is not None and report["success_rate"] < 1:
        share, failed = 1 - report["success_rate"], sum(report["failures_by_result"].values())
        why = f"; most often {_reason(report)}" if _reason(report) else ""
        message = f"{failed} of {report['runs'] - report['skipped']} runs have failed{why}"
        yield Insight(job, "failures", round(20 + 60 * share), message, f"runs {job} --failed")
    for result, (weight, text) in _RESULTS.items():
        if count := report["failures_by_result"].get(result):
            yield Insight(job, result, weight, text.format(runs=count), f"runs {job} --result {result}")
    if streak and is_active:
        yield from _silent(report, streak)
    if report["retries"] >= _ENOUGH and report["retries"] > _OFTEN * report["runs"]:
        message = f"{report['retries']} of {report['runs']} runs were retries"
        yield Insight(job, "retries", 45, message, f"report {job}")
    if report["wait_mean"] is not None and report["wait_mean"] > _LONG_WAIT_SECONDS:
        message = f"its runs waited for {_span(report['wait_mean'])} on average before they could begin"
        yield Insight(job, "waits", 40, message, "limits")
    yield from _compared(report)
    for name, metric in report["metrics"].items():
        ratio = metric["trend"]["mean_ratio"]
        if metric["runs"] >= 2 * _ENOUGH and ratio is not None and not _METRIC < ratio < 1 / _METRIC:
            message = f"{name} is {ratio:.2g} times what it was"
            yield Insight(job, "metric", 30, message, f"report {job}")


def _silent(report: Report, streak: Streak) -> Iterator[Insight]:
    usual = report["longest_silence"]
    if usual and streak.idle_seconds > _LONGER_SILENCE * usual:
        message = f"it has not run for {_span(streak.idle_seconds)}; {_span(usual)} was the longest until then"
        yield Insight(report["job"], "silent", 85, message, f"show {report['job']}")


def _compared(report: Report) -> Iterator[Insight]:
    job, before = report["job"], report["before"]
    if before is None or min(report["runs"], before["runs"]) < _ENOUGH:
        return
    if before["success_rate_change"] is not None and before["success_rate_change"] <= -0.1:
        message = f"its rate of success went from {before['success_rate']:.0%} to {report['success_rate']:.0%}"
        yield Insight(job, "worse", 55, message, f"report {job}")
    ratio = before["duration_p50_ratio"]
    if ratio is not None and ratio >= _SLOWER and report["duration_p50"] >= 1:
        message = f"it takes {ratio:.2g} times as long as before: {_span(report['duration_p50'])} at the median"
        yield Insight(job, "slower", 35, message, f"report {job}")


def _reason(report: Report) -> str:
    """The commonest failure that said something, in short."""
    return next((f"'{each['message'][:80]}'" for each in report["failures"] if each["message"]), "")


def _span(seconds: float) -> str:
    """In the largest unit that fits: 5400 → "1.5 h"."""
    for name, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.2g} {name}" if seconds < 100 * size else f"{seconds / size:.0f} {name}"
    return f"{seconds:.2g} s"
