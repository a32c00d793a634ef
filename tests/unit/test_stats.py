"""The figures of a report."""

import pytest

from lsh_systemd.run import Run
from lsh_systemd.stats import percentile, report


def run(
    number: int, result: str | None = "success", duration: int | None = 1_000_000, memory: int | None = None
) -> Run:
    return Run(
        id=f"{number:032x}",
        job="x",
        unit="lsh-x.service",
        started_usec=number,
        result=result,
        duration_usec=duration,
        cpu_usec=duration,
        memory_peak_bytes=memory,
    )


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([], 50, None),
        ([3.0], 50, 3.0),
        ([1.0, 2.0], 50, 1.0),
        ([float(i) for i in range(1, 101)], 95, 95.0),
        ([5.0, 1.0], 99, 5.0),
    ],
)
def test_percentiles_are_values_that_happened(values: list[float], percent: float, expected: float | None) -> None:
    assert percentile(values, percent) == expected


def test_a_report_counts_what_ended() -> None:
    runs = [
        run(1, duration=1_000_000, memory=10),
        run(2, "timeout", 4_000_000, 30),
        run(3, None, None),
        run(4, "skipped", None),
    ]
    told = report("x", runs)
    assert told["runs"] == 3
    assert told["successes"] == 1
    assert told["success_rate"] == 0.5
    assert (told["duration_p50"], told["duration_p95"], told["duration_mean"]) == (1.0, 4.0, 2.5)
    assert (told["cpu_seconds_mean"], told["memory_peak_max"]) == (2.5, 30)
    assert told["failures_by_result"] == {"timeout": 1}


def test_the_trend_compares_the_newer_half_with_the_older() -> None:
    runs = [
        run(1, duration=1_000_000),
        run(2, duration=1_000_000),
        run(3, "exit-code", 3_000_000),
        run(4, duration=3_000_000),
    ]
    assert report("x", runs)["trend"] == {"success_rate_change": -0.5, "duration_p50_ratio": 3.0}


def test_no_runs_no_figures() -> None:
    told = report("x", [])
    assert (told["runs"], told["success_rate"], told["duration_p50"]) == (0, None, None)
