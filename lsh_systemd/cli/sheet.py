"""One report as lines of a label and a text; the texts may hold anything that a run has said."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from lsh_systemd.cli.table import duration, number, percent, size

_MESSAGES = 5


def lines(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What there is to tell, in the order of a reader's questions; figures that nobody knows are left out."""
    yield "job" if report["job"] else "together", report["job"] or "all jobs"
    runs = [f"{report['runs']}"]
    runs += [f"{report['skipped']} skipped"] if report["skipped"] else []
    runs += [f"{report['retries']} retries"] if report["retries"] else []
    hourly = report["runs_per_hour"]
    runs += [f"{f'{hourly:.0f}' if hourly >= 100 else f'{hourly:.3g}'} an hour"] if hourly else []
    yield "runs", ", ".join(runs)
    if report["last_run"]:
        yield "from, to", f"{local(report['first_run'])}, {local(report['last_run'])}"
    yield "success", percent(report["success_rate"])
    if report["duration_p50"] is not None:
        named = [("p50", "p50"), ("p95", "p95"), ("p99", "p99"), ("mean", "mean"), ("longest", "max")]
        yield "duration", ", ".join(f"{label} {duration(report[f'duration_{key}'])}" for label, key in named)
    if report["cpu_seconds_mean"] is not None:
        yield "CPU", f"mean {duration(report['cpu_seconds_mean'])}, in all {duration(report['cpu_seconds_sum'])}"
    if report["memory_peak_max"] is not None:
        yield "memory", f"at most {size(report['memory_peak_max'])}"
    if report["wait_mean"] is not None:
        yield "wait to begin", f"mean {duration(report['wait_mean'])}, longest {duration(report['wait_max'])}"
    if report["longest_silence"] is not None:
        whose = report.get("longest_silence_job")
        yield "longest silence", duration(report["longest_silence"]) + (f" ({whose})" if whose else "")
    yield from _changes(report)
    for name, metric in report["metrics"].items():
        ratio = metric["trend"]["mean_ratio"]
        trend = "" if ratio is None else f", trend ×{ratio:.3g}"
        sums = ", ".join(f"{key} {number(metric[key])}" for key in ("sum", "mean", "p95"))
        yield "metric", f"{name}: {sums}{trend}"
    if report["failures_by_result"]:
        yield "failures", ", ".join(f"{count} {result}" for result, count in report["failures_by_result"].items())
    for each in report["failures"][:_MESSAGES]:
        if each["message"]:
            yield "", f"{each['runs']} × {each['result']}: {each['message']}"


def _changes(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    trend, before = report["trend"], report["before"]
    if trend["success_rate_change"] is not None:
        yield "newer half", _change(trend)
    if before and before["runs"]:
        yield "time before", ", ".join([f"{before['runs']} runs ({before['runs_change']:+} now)", _change(before)])


def _change(told: dict[str, Any]) -> str:
    rate, ratio = told["success_rate_change"], told["duration_p50_ratio"]
    said = [] if rate is None else [f"success {rate * 100:+.1f} points"]
    said += [] if ratio is None else [f"median duration ×{ratio:.3g}"]
    return ", ".join(said) or "nothing to compare"


def local(told: str) -> str:
    """A time that a report tells, in the machine's time zone: "2026-11-23 02:00"."""
    return f"{datetime.fromisoformat(told).astimezone():%Y-%m-%d %H:%M}"
