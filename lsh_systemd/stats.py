"""Runs → figures. Pure."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from lsh_systemd.run import Run


def report(job: str, runs: Sequence[Run]) -> dict[str, Any]:
    """The figures of one job's ended runs, in the shape that ``report --json`` promises.

    Rates run from 0 to 1, durations and CPU are in seconds, memory in bytes; null where there is nothing to tell from.
    ``trend`` compares the newer half of the runs with the older half.
    """
    ended = sorted((run for run in runs if not run.running), key=lambda run: run.started_usec or 0)
    counted = [run for run in ended if run.result != "skipped"]
    durations = _seconds([run.duration_usec for run in counted])
    cpu = _seconds([run.cpu_usec for run in counted])
    memory = [run.memory_peak_bytes for run in counted if run.memory_peak_bytes is not None]
    return {
        "job": job,
        "runs": len(ended),
        "successes": sum(run.result == "success" for run in ended),
        "success_rate": success_rate(counted),
        "duration_p50": percentile(durations, 50),
        "duration_p95": percentile(durations, 95),
        "duration_p99": percentile(durations, 99),
        "duration_mean": _mean(durations),
        "cpu_seconds_mean": _mean(cpu),
        "memory_peak_max": max(memory, default=None),
        "failures_by_result": dict(Counter(run.result for run in counted if run.result != "success").most_common()),
        "trend": _trend(counted),
    }


def success_rate(runs: Sequence[Run]) -> float | None:
    """The share of successes, 0 to 1."""
    return sum(run.result == "success" for run in runs) / len(runs) if runs else None


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The smallest value that at least ``percent`` % of the values do not exceed (nearest rank: one that happened)."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(percent / 100 * len(values)) - 1)]


def _trend(runs: Sequence[Run]) -> dict[str, float | None]:
    """How the newer half differs from the older: success rate (difference) and median duration (ratio)."""
    if len(runs) < 4:
        return {"success_rate_change": None, "duration_p50_ratio": None}
    older, newer = runs[: len(runs) // 2], runs[len(runs) // 2 :]
    before, after = success_rate(older), success_rate(newer)
    median_before = percentile(_seconds([run.duration_usec for run in older]), 50)
    median_after = percentile(_seconds([run.duration_usec for run in newer]), 50)
    return {
        "success_rate_change": None if before is None or after is None else after - before,
        "duration_p50_ratio": median_after / median_before if median_before and median_after is not None else None,
    }


def _seconds(usec: Sequence[int | None]) -> list[float]:
    return [value / 1e6 for value in usec if value is not None]


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
