"""The daily or weekly report of a rule: how its jobs have done since the last one."""

from datetime import UTC, datetime, timedelta
from typing import Any

from lsh_systemd.alertrule import Rule
from lsh_systemd.alerttext import harmless
from lsh_systemd.figures import Figures
from lsh_systemd.jobs import Jobs
from lsh_systemd.report import Reporter
from lsh_systemd.store import Store

_SPAN = {"daily": timedelta(days=1), "weekly": timedelta(days=7)}
_MOST_JOBS = 200


def text(rule: Rule, store: Store, jobs: Jobs, *, host: str, until_usec: int) -> tuple[str, str]:
    """Title and body of the rule's report on the day, or week, up to this time; who did not do well comes first."""
    since = until_usec - _SPAN[rule.digest or "daily"] // timedelta(microseconds=1)
    known = {found.id: found.job for found in jobs.all()}
    told = Reporter(Figures(store.query), since_usec=since, until_usec=until_usec).jobs([*known])
    reports = [each for each in told if rule.covers(each["job"], known.get(each["job"]))]
    reports.sort(key=lambda each: (each["success_rate"] if each["success_rate"] is not None else 1, each["job"]))
    runs, failures = sum(each["runs"] for each in reports), sum(map(_failures, reports))
    lines = [f"{_local(since)} to {_local(until_usec)}", "", *map(_line, reports[:_MOST_JOBS])]
    if len(reports) > _MOST_JOBS:
        lines.append(f"and {len(reports) - _MOST_JOBS} more jobs: lshctl report")
    title = f"[{host}] {rule.digest} report: {len(reports)} jobs, {runs} runs, {failures} failures"
    return title, harmless("\n".join(lines))


def _failures(told: dict[str, Any]) -> int:
    return sum(told["failures_by_result"].values())


def _line(told: dict[str, Any]) -> str:
    if not told["runs"]:
        return f"{told['job']}: no runs"
    words = [f"{told['runs']} runs"]
    if told["success_rate"] is not None:
        words.append(f"{told['success_rate']:.1%} successful")
    if told["duration_p50"] is not None:
        words.append(f"p50 {told['duration_p50']:.3g} s, p95 {told['duration_p95']:.3g} s")
    failed = ", ".join(f"{count} {result}" for result, count in told["failures_by_result"].items())
    return f"{told['job']}: {', '.join(words)}" + (f"; {failed}" if failed else "")


def _local(usec: int) -> str:
    return f"{datetime.fromtimestamp(usec / 1e6, UTC).astimezone():%Y-%m-%d %H:%M %Z}"
