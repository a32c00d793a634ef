"""The figures that the store gives without reading the runs are those of the runs."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsh_systemd import figures, rollup
from lsh_systemd.figures import Figures, Period, Totals, merged
from lsh_systemd.report import Reporter
from lsh_systemd.rollup import DAY_USEC
from lsh_systemd.run import Run, rfc3339
from lsh_systemd.store import Store

RESULTS = ("success", "success", "exit-code", "timeout", "skipped", "missed", "lost", None)
# Around the ends of days, which are reckoned apart, and at few instants, so that some coincide.
times = st.builds(
    lambda day, off: day * DAY_USEC + off,
    st.integers(20_000, 20_004),
    st.one_of(st.integers(-2, 2), st.integers(0, DAY_USEC), st.sampled_from([5, 10**6, DAY_USEC // 2])),
)
spans = st.one_of(st.none(), st.integers(0, 5), st.integers(0, 10**9))
runs = st.builds(
    Run,
    id=st.just(""),
    job=st.sampled_from(["a", "b", "c-d"]),
    unit=st.just("lsh-x.service"),
    started_usec=times,
    duration_usec=spans,
    result=st.sampled_from(RESULTS),
    cpu_usec=spans,
    memory_peak_bytes=spans,
    attempt=st.integers(1, 3),
    due_usec=st.one_of(st.none(), times),
    message=st.sampled_from([None, "no route to 10.0.0.1", "no route to 10.0.0.2"]),
    metrics=st.sampled_from(["{}", '{"rows": 3}', '{"rows": 7.5, "bad": 1}', '{"rows": "x"}', '{"rows"']),
)
lists = st.lists(runs, max_size=40).map(lambda many: [numbered(n, run) for n, run in enumerate(many)])
periods = st.builds(
    lambda one, other: (min(one, other), max(one, other) + 1),
    st.one_of(times, st.just(0)),
    st.one_of(times, st.just(2**61)),
)


def numbered(number: int, run: Run) -> Run:
    return Run(**{**vars(run), "id": f"{number:032x}"})


def stored(many: Sequence[Run]) -> Store:
    store = Store(None)
    with store.transaction():
        store.put(many)
    return store


def nearest_rank(values: Sequence[float], percent: float) -> float | None:
    return sorted(values)[max(0, math.ceil(percent / 100 * len(values)) - 1)] if values else None


def mean(values: Sequence[float]) -> Any:
    return pytest.approx(math.fsum(values) / len(values)) if values else None


def rate(some: Sequence[Run]) -> float | None:
    return sum(run.result == "success" for run in some) / len(some) if some else None


def seconds(usec: Sequence[int | None]) -> list[float]:
    return [value / 1e6 for value in usec if value is not None]


def plain(job: str, many: Sequence[Run], since: int = 0, until: int = 2**62) -> dict[str, Any]:
    """What a report promises, reckoned from the list of runs."""
    own = [run for run in many if run.job == job and run.result and since <= (run.started_usec or 0) < until]
    own.sort(key=lambda run: run.started_usec or 0)
    counted = [run for run in own if run.result != "skipped"]
    began = [run.started_usec or 0 for run in counted if run.result != "missed"]
    durations = seconds([run.duration_usec for run in counted])
    waits = seconds(
        [
            run.started_usec - run.due_usec if run.started_usec and run.due_usec is not None else None
            for run in counted
            if run.result != "missed" and (run.due_usec or 0) <= (run.started_usec or 0)
        ]
    )
    middle = counted[len(counted) // 2].started_usec if counted else 0
    older = [run for run in counted if run.started_usec < middle]  # type: ignore[operator]
    newer = [run for run in counted if run.started_usec >= middle]  # type: ignore[operator]
    medians = [nearest_rank(seconds([run.duration_usec for run in half]), 50) for half in (older, newer)]
    enough = len(counted) >= 4 and older
    return {
        "job": job,
        "runs": len(own),
        "successes": sum(run.result == "success" for run in own),
        "skipped": len(own) - len(counted),
        "retries": sum(run.attempt > 1 for run in counted),
        "success_rate": rate(counted),
        "duration_p50": nearest_rank(durations, 50),
        "duration_p95": nearest_rank(durations, 95),
        "duration_p99": nearest_rank(durations, 99),
        "duration_mean": mean(durations),
        "duration_max": max(durations, default=None),
        "cpu_seconds_mean": mean(seconds([run.cpu_usec for run in counted])),
        "memory_peak_max": max((m for run in counted if (m := run.memory_peak_bytes) is not None), default=None),
        "wait_mean": mean(waits),
        "wait_max": max(waits, default=None),
        "first_run": rfc3339(min(began, default=None)),
        "last_run": rfc3339(max(began, default=None)),
        "longest_silence": max(((b - a) / 1e6 for a, b in pairwise(began)), default=None),
        "results": dict(Counter(run.result for run in own)),
        "failures_by_result": dict(Counter(run.result for run in counted if run.result != "success")),
        "trend": {
            "success_rate_change": pytest.approx(rate(newer) - rate(older)) if enough else None,  # type: ignore[operator]
            "duration_p50_ratio": pytest.approx(medians[1] / medians[0])
            if enough and medians[0] and medians[1] is not None
            else None,
        },
    }


def check(told: dict[str, Any], expected: dict[str, Any]) -> None:
    assert {key: told[key] for key in expected} == expected


@settings(deadline=None, max_examples=200)
@given(lists, periods, st.booleans(), st.sampled_from([0, 256]))
def test_a_report_is_what_the_runs_come_to(many: list[Run], period: tuple[int, int], settled: bool, few: int) -> None:
    """``few``: of so many, durations are sorted; of more, they are found in the index."""
    store = stored(many)
    if settled:
        for statement in rollup.REFRESH:
            store.query(statement)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(figures, "_FEW", few)
        compare(store, many, *period)


def compare(store: Store, many: Sequence[Run], since: int, until: int) -> None:
    jobs = sorted({run.job for run in many})
    for told in Reporter(Figures(store.query)).jobs():
        check(told, plain(told["job"], many))
    bounded = Reporter(Figures(store.query), since_usec=since, until_usec=until)
    for told in bounded.jobs(jobs):
        check(told, plain(told["job"], many, since, until))
    for job in jobs:
        alone = Reporter(Figures(store.query), since_usec=since, until_usec=until, job=job)
        check(alone.jobs([job])[0], plain(job, many, since, until))
    together = [Run(**{**vars(run), "job": "all"}) for run in many]
    silences = {job: plain(job, many, since, until)["longest_silence"] for job in jobs}
    longest = max((each for each in silences.values() if each is not None), default=None)
    overall = bounded.overall()
    check(overall, plain("all", together, since, until) | {"job": None, "longest_silence": longest})
    assert silences.get(overall["longest_silence_job"]) == (longest or None)


@settings(deadline=None, max_examples=100)
@given(lists, lists, st.booleans())
def test_whatever_becomes_of_runs_their_figures_follow(many: list[Run], others: list[Run], settled: bool) -> None:
    """Runs are written again, renamed and deleted, before and after their days were reckoned."""
    store = stored(many)
    if settled:
        for statement in rollup.REFRESH:
            store.query(statement)
    with store.transaction():
        store.put(others)
    store.rename("a", "b")
    gone = f"{3:032x}"
    store.query("DELETE FROM runs WHERE id = ?", (gone,))
    left = [run for run in store.runs() if run.id != gone]
    for told in Reporter(Figures(store.query)).jobs():
        check(told, plain(told["job"], left))
    assert {each["job"] for each in Reporter(Figures(store.query)).jobs()} == {run.job for run in left if run.result}
    told_by = {(run.id, name) for run in left if run.result for name in numbers(run.metrics)}
    assert {tuple(row) for row in store.query("SELECT run, name FROM metrics")} == told_by


def numbers(metrics: str) -> dict[str, float]:
    known = {'{"rows": 3}': {"rows": 3.0}, '{"rows": 7.5, "bad": 1}': {"rows": 7.5, "bad": 1.0}}
    return known.get(metrics, {})


@settings(deadline=None, max_examples=60)
@given(lists, periods)
def test_metrics_and_messages_are_summed_up(many: list[Run], period: tuple[int, int]) -> None:
    since, until = period
    reporter = Reporter(Figures(stored(many).query), since_usec=since, until_usec=until)
    for told in reporter.jobs():
        own = [
            run for run in many if run.job == told["job"] and run.result and since <= (run.started_usec or 0) < until
        ]
        values = [numbers(run.metrics)["rows"] for run in own if "rows" in numbers(run.metrics)]
        if values and any(run.result != "skipped" for run in own):
            rows = told["metrics"]["rows"]
            assert (rows["runs"], rows["sum"], rows["p95"]) == (
                len(values),
                pytest.approx(sum(values)),
                nearest_rank(values, 95),
            )
        failed = [run for run in own if run.result not in ("success", "skipped")]
        kinds = Counter((run.result, run.message and "no route to #") for run in failed)
        assert {(each["result"], each["message"]): each["runs"] for each in told["failures"]} == kinds


@settings(deadline=None, max_examples=60)
@given(lists, st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"]), st.sampled_from(["hour", "day"]))
def test_buckets_hold_each_run_once(many: list[Run], zone: str, by: str) -> None:
    since, until = 19_999 * DAY_USEC + 12345, 20_006 * DAY_USEC
    reporter = Reporter(Figures(stored(many).query), since_usec=since, until_usec=until)
    buckets = reporter.buckets(by, zone)
    assert [each["until"] for each in buckets[:-1]] == [each["since"] for each in buckets[1:]]
    assert (buckets[0]["since"], buckets[-1]["until"]) == (rfc3339(since), rfc3339(until))
    overall = reporter.overall()
    for key in ("runs", "successes", "skipped"):
        assert sum(each[key] for each in buckets) == overall[key]


def test_the_time_before_is_as_long_and_ends_where_the_period_begins() -> None:
    hour = 3_600_000_000
    base = 20_000 * DAY_USEC
    many = [
        Run(
            id=f"{n:032x}",
            job="x",
            unit="lsh-x.service",
            started_usec=base + n * hour,
            duration_usec=(1 + n // 10) * 1_000_000,
            result="success" if n < 10 or n % 2 else "exit-code",
        )
        for n in range(20)
    ]
    reporter = Reporter(Figures(stored(many).query), since_usec=base + 10 * hour, until_usec=base + 20 * hour)
    (told,) = reporter.jobs()
    assert told["before"] == {
        "since": rfc3339(base),
        "until": rfc3339(base + 10 * hour),
        "runs": 10,
        "success_rate": 1.0,
        "duration_p50": 1.0,
        "duration_mean": 1.0,
        "runs_change": 0,
        "success_rate_change": -0.5,
        "duration_p50_ratio": 2.0,
    }
    assert told["runs_per_hour"] == 1.0


def test_no_runs_no_figures() -> None:
    reporter = Reporter(Figures(Store(None).query))
    (told,) = reporter.jobs(["x"])
    assert (told["runs"], told["success_rate"], told["duration_p50"], told["metrics"]) == (0, None, None, {})
    assert reporter.overall()["runs"] == 0


def test_many_days_are_reckoned_by_who_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    run = {"job": "x", "unit": "lsh-x.service", "result": "success"}
    many = [Run(id=f"{n:032x}", started_usec=n * DAY_USEC, **run) for n in range(rollup.MANY_DAYS + 1)]
    stale = "SELECT count(*) FROM days WHERE stale"
    store = stored(many[:-1])
    assert store.query(stale) == [(rollup.MANY_DAYS,)]
    with store.transaction():
        store.put(many[-1:])
    assert store.query(stale) == [(0,)]


@pytest.mark.parametrize(
    ("period", "edges"),
    [
        (Period(), []),
        (Period(0, 5), [(0, 5)]),
        (Period(5, 9), [(5, 9)]),
        (Period(5, DAY_USEC), [(5, DAY_USEC)]),
        (Period(5, 2 * DAY_USEC + 1), [(5, DAY_USEC), (2 * DAY_USEC, 2 * DAY_USEC + 1)]),
        (Period(DAY_USEC, 3 * DAY_USEC), []),
    ],
)
def test_edges_are_what_is_no_whole_day(period: Period, edges: list[tuple[int, int]]) -> None:
    assert period.edges() == edges


def test_together_sums_and_extremes() -> None:
    assert merged([]) == Totals()
    one = Totals(runs=2, duration_sum=5.0, duration_max=4, first_usec=3, last_usec=9, silence_usec=6)
    both = merged([one, Totals(runs=1, duration_max=7, first_usec=1, last_usec=1), Totals()])
    assert both == replace(one, runs=3, duration_max=7, first_usec=1)


def test_a_day_is_reckoned_without_a_look_at_the_runs_outputs() -> None:
    plan = Store(None).query(f"EXPLAIN QUERY PLAN {rollup.reckoned(rollup.STALE)}")
    assert any("USING COVERING INDEX runs_by_job" in row[3] for row in plan), plan


@given(
    lists, st.integers(19_999, 20_005), st.one_of(st.none(), st.lists(st.sampled_from(["a", "b", "c-d"]), unique=True))
)
def test_days(many: list[Run], first: int, jobs: list[str] | None) -> None:
    found: dict[str, dict[int, list[Run]]] = {}
    for run in many:
        day = (run.started_usec or 0) // DAY_USEC
        if run.result and day >= first and (jobs is None or run.job in jobs):
            found.setdefault(run.job, {}).setdefault(day, []).append(run)

    def counts(some: Sequence[Run]) -> tuple[int, int, int]:
        results = Counter(run.result for run in some)
        return len(some), results["success"], results["skipped"]

    told = Figures(stored(many).query)
    assert told.days(first, jobs) == {
        job: {day: counts(some) for day, some in days.items()} for job, days in found.items()
    }
    together: dict[int, list[Run]] = {}
    for days in found.values():
        for day, some in days.items():
            together.setdefault(day, []).extend(some)
    assert told.days_together(first, jobs) == {day: counts(some) for day, some in together.items()}
