"""Figures of the ended runs, read from the store without reading the runs: days that are reckoned already, and indexes
in which a percentile stands at its place."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import pairwise
from typing import Any

from lsh_systemd.rollup import DAY_USEC, FIGURES, STALE, nearest_rank, reckoned

Query = Callable[[str, Sequence[object]], list[Any]]
Counts = tuple[int, int, int]  # runs, successes, skipped
_END = 2**62  # later than any run
# So many durations of a job, or so small a share of them, are read and sorted; of more the sorted index.
_FEW, _SHARE = 256, 6
# So many names of metrics are told, those that most runs have: a run may make up new ones each time.
_METRICS = 50


@dataclass(frozen=True)
class Period:
    """From an instant until before another, in µs since 1970."""

    since_usec: int = 0
    until_usec: int = _END

    def edges(self) -> list[tuple[int, int]]:
        """Those of its ends that are no whole days."""
        first, last = -(-self.since_usec // DAY_USEC) * DAY_USEC, self.until_usec // DAY_USEC * DAY_USEC
        if self.until_usec == _END:
            last = _END
        if first > last:
            return [(self.since_usec, self.until_usec)]
        return [(lo, hi) for lo, hi in ((self.since_usec, first), (last, self.until_usec)) if lo < hi]

    def days(self) -> tuple[int, int]:
        """The first whole day, and the one after the last."""
        return -(-self.since_usec // DAY_USEC), self.until_usec // DAY_USEC


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What runs come to; see rollup.py for the words. Times and durations in µs, memory in bytes."""

    runs: int = 0
    successes: int = 0
    skipped: int = 0
    retries: int = 0
    durations: int = 0
    duration_sum: float = 0.0
    duration_max: int | None = None
    cpus: int = 0
    cpu_sum: float = 0.0
    memory_max: int | None = None
    waits: int = 0
    wait_sum: float = 0.0
    wait_max: int | None = None
    first_usec: int | None = None
    last_usec: int | None = None
    silence_usec: int | None = None

    @property
    def counted(self) -> int:
        """Those that a rate of success is reckoned from."""
        return self.runs - self.skipped


@dataclass(frozen=True)
class Durations:
    """Percentiles, by nearest rank, so that each is a duration that happened; in µs."""

    p50: int | None = None
    p95: int | None = None
    p99: int | None = None
    older_p50: int | None = None
    newer_p50: int | None = None


@dataclass(frozen=True)
class Failure:
    """Runs that ended alike: result, and what they last said, masked."""

    job: str
    result: str
    message: str | None
    runs: int
    last_usec: int


@dataclass(frozen=True)
class Metric:
    """The values that the runs of a job have told under one name."""

    name: str
    values: int
    sum: float
    p95: float
    newer_values: int
    newer_sum: float


@dataclass(frozen=True)
class Half:
    """The newer half of some runs: it began at ``middle_usec``; how many, how many succeeded, have a duration."""

    middle_usec: int
    runs: int
    successes: int
    durations: int


# A day, and of its counted runs: how many, how many succeeded, have a duration.
_Day = tuple[int, int, int, int]
# Runs of one result: how many, how many have a duration, and the sum of these in µs.
Outcome = tuple[int, int, float]
_NAMES = [field.name for field in fields(Totals)]
_SUMMED = [name for name in _NAMES if name not in ("first_usec", "last_usec", "silence_usec") and "max" not in name]
_MAXIMA = [name for name in _NAMES if "max" in name]
_COUNTED = "duration_usec IS NOT NULL AND result <> 'skipped'"
_WITHIN = "started_usec >= ? AND started_usec < ?"


class Figures:
    """``query`` is the store's."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self._outcomes: dict[tuple[tuple[int, ...], str], list[Any]] = {}

    def jobs(self) -> list[str]:
        """The jobs that have runs, by name."""
        return [job for (job,) in self._query("SELECT DISTINCT job FROM days ORDER BY job", ())]

    def totals(self, period: Period, job: str | None = None) -> dict[str, Totals]:
        """What the runs of each job come to, or those of one; jobs without a run in that time are missing."""
        pieces, values = self._pieces(period, job)
        known = [f"sum({name})" for name in _SUMMED] + [f"max({name})" for name in _MAXIMA]
        known += ["min(first_usec)", "max(last_usec)", "max(silence_usec)"]
        names = [*_SUMMED, *_MAXIMA, "first_usec", "last_usec", "silence_usec"]
        rows = self._query(f"SELECT job, {', '.join(known)} FROM ({pieces}) GROUP BY job", values)
        totals = {each: dict(zip(names, figures, strict=True)) for each, *figures in rows}
        for each, silence in self._between(pieces, values):
            totals[each]["silence_usec"] = max(silence, totals[each]["silence_usec"] or 0)
        return {each: _totals(figures) for each, figures in totals.items()}

    def days(self, first: int, jobs: Sequence[str] | None = None) -> dict[str, dict[int, Counts]]:
        """Of each job, or of these: the days of UTC from this one (since 1970) on that have runs, with how many there
        were, succeeded and were skipped."""
        found: dict[str, dict[int, Counts]] = defaultdict(dict)
        for name, *told in self._days("job, day, runs, successes, skipped", first, jobs):
            found[name][told[0]] = (int(told[1]), int(told[2]), int(told[3]))
        return found

    def days_together(self, first: int, jobs: Sequence[str] | None = None) -> dict[int, Counts]:
        """The same of all of them together."""
        rows = self._days("day, sum(runs), sum(successes), sum(skipped)", first, jobs, "GROUP BY day")
        return {day: (int(runs), int(successes), int(skipped)) for day, runs, successes, skipped in rows}

    def _days(self, columns: str, first: int, jobs: Sequence[str] | None, rest: str = "") -> list[Any]:
        pieces, values = self._pieces(Period(first * DAY_USEC), jobs[0] if jobs and len(jobs) == 1 else None)
        among = f"WHERE job IN ({', '.join('?' * len(jobs))})" if jobs is not None else ""
        return self._query(f"SELECT {columns} FROM ({pieces}) {among} {rest}", (*values, *(jobs or ())))

    def _between(self, pieces: str, values: Sequence[object]) -> list[tuple[str, int]]:
        """Of each job whose runs began in several pieces, the longest time from the end of one to the next."""
        last = "lag(last_usec) OVER (PARTITION BY job ORDER BY first_usec)"
        return self._query(
            f"SELECT job, max(silence) FROM (SELECT job, first_usec - {last} AS silence FROM ({pieces}) "
            "WHERE first_usec IS NOT NULL) WHERE silence IS NOT NULL GROUP BY job",
            values,
        )

    def newer_halves(self, period: Period, job: str | None = None) -> dict[str | None, Half]:
        """The newer half of the counted runs of each job, or of one, and, under None, of all of these together."""
        pieces, values = self._pieces(period, job)
        by_job: dict[str | None, list[_Day]] = defaultdict(list)
        together: dict[int, _Day] = {}
        for name, *row in self._query(
            f"SELECT job, day, CAST(runs - skipped AS INTEGER), CAST(successes AS INTEGER), durations FROM ({pieces}) "
            "WHERE runs > skipped",
            values,
        ):
            day, runs, successes, durations = row
            by_job[name].append((day, runs, successes, durations))
            _, *sums = together.get(day, (day, 0, 0, 0))
            together[day] = (day, sums[0] + runs, sums[1] + successes, sums[2] + durations)
        by_job[None] = list(together.values())
        return {each: self._newer_half(period, each or job, sorted(days)) for each, days in by_job.items() if days}

    def _newer_half(self, period: Period, job: str | None, days: Sequence[_Day]) -> Half:
        runs = sum(day[1] for day in days) // 2
        newer = list(days)
        while newer[0][1] <= runs:
            runs -= newer.pop(0)[1]
        within = _common(period, Period(newer[0][0] * DAY_USEC, (newer[0][0] + 1) * DAY_USEC))
        rows = self._query(
            "SELECT started_usec, result = 'success', duration_usec IS NOT NULL FROM runs "
            f"WHERE {'job = ? AND' if job else ''} {_WITHIN} AND result <> 'skipped' ORDER BY started_usec",
            (*([job] if job else []), within.since_usec, within.until_usec),
        )
        middle = rows[runs][0]
        # Of runs that began at the same instant, all are newer.
        before = [row for row in rows if row[0] < middle]
        return Half(
            middle,
            sum(day[1] for day in newer) - len(before),
            sum(day[2] for day in newer) - sum(row[1] for row in before),
            sum(day[3] for day in newer) - sum(row[2] for row in before),
        )

    def durations(self, period: Period, known: int, job: str | None, half: Half | None = None) -> Durations:
        """Percentiles of the durations. ``known``: how many runs of that job, or of all, have one in that period;
        ``half``: their newer half, if its median is wanted, and that of the older."""
        if not known:
            return Durations()
        if job and (known <= _FEW or known * _SHARE < self._runs(job)):
            return self._few_durations(period, job, half)
        walk = partial(self._duration, period, job)
        p50, p95, p99 = (walk(nearest_rank(percent, known), known) for percent in (50, 95, 99))
        if half is None:
            return Durations(p50, p95, p99)
        below, newer_below = self._count_below(period, job, p50, half)
        newer, older = half.durations, known - half.durations
        return Durations(
            p50,
            p95,
            p99,
            self._from(p50, Period(period.since_usec, half.middle_usec), job, older, below - newer_below),
            self._from(p50, Period(half.middle_usec, period.until_usec), job, newer, newer_below),
        )

    def _few_durations(self, period: Period, job: str, half: Half | None) -> Durations:
        rows = self._query(
            f"SELECT duration_usec, started_usec FROM runs INDEXED BY runs_by_job WHERE job = ? AND {_WITHIN} "
            f"AND {_COUNTED} ORDER BY duration_usec",
            (job, period.since_usec, period.until_usec),
        )
        middle = half.middle_usec if half else _END
        whole = [usec for usec, _ in rows]
        older, newer = [usec for usec, at in rows if at < middle], [usec for usec, at in rows if at >= middle]
        p50, p95, p99 = (whole[nearest_rank(percent, len(whole))] for percent in (50, 95, 99))
        medians = (each[nearest_rank(50, len(each))] if each else None for each in (older, newer))
        return Durations(p50, p95, p99, *medians)

    def _duration(self, period: Period, job: str | None, rank: int, known: int) -> int:
        """The duration of that rank (the shortest: 0) of the ``known`` ones, from the nearer end of the index."""
        if rank > known // 2:
            return self._step(period, job, "DESC", known - 1 - rank)
        return self._step(period, job, "ASC", rank)

    def _step(self, period: Period, job: str | None, order: str, steps: int, bound: str = "") -> int:
        """The duration so many steps into the index."""
        where, values = self._of(period, job, bound)
        rows = self._query(
            f"SELECT duration_usec FROM {where} ORDER BY duration_usec {order} LIMIT 1 OFFSET ?", (*values, steps)
        )
        return int(rows[0][0])

    def _count_below(self, period: Period, job: str | None, usec: int, half: Half) -> tuple[int, int]:
        """How many durations are below one; and how many of these are of the newer half."""
        where, values = self._of(period, job, f"AND duration_usec < {usec}")
        newer = f"count(*) FILTER (WHERE started_usec >= {half.middle_usec})"
        row = self._query(f"SELECT count(*), {newer} FROM {where}", values)[0]
        return row[0], row[1]

    def _from(self, usec: int, period: Period, job: str | None, known: int, below: int) -> int | None:
        """The median of the ``known`` durations of a period, sought from one near it that so many are ``below``."""
        if not known:
            return None
        rank = nearest_rank(50, known)
        if rank < below:
            return self._step(period, job, "DESC", below - 1 - rank, f"AND duration_usec < {usec}")
        return self._step(period, job, "ASC", rank - below, f"AND duration_usec >= {usec}")

    def _of(self, period: Period, job: str | None, bound: str) -> tuple[str, tuple[object, ...]]:
        """The index of durations with the conditions that a period needs."""
        whole = Period()
        terms = [
            ("job = ?", job),
            ("started_usec >= ?", None if period.since_usec == whole.since_usec else period.since_usec),
            ("started_usec < ?", None if period.until_usec == whole.until_usec else period.until_usec),
        ]
        wanted = [(term, value) for term, value in terms if value is not None]
        index = "durations_by_job" if job else "durations"
        where = " AND ".join([_COUNTED, *(term for term, _ in wanted)])
        return f"runs INDEXED BY {index} WHERE {where} {bound}", tuple(value for _, value in wanted)

    def failures(self, period: Period, job: str | None = None) -> list[Failure]:
        """The runs that were neither successful nor skipped, grouped; the most frequent first."""
        rows = self._query(
            "SELECT job, result, failure, count(*), max(started_usec) FROM runs INDEXED BY failures "
            f"WHERE result NOT IN ('success', 'skipped') {'AND job = ?' if job else ''} AND {_WITHIN} "
            "GROUP BY job, result, failure ORDER BY count(*) DESC, job, result, failure",
            (*([job] if job else []), period.since_usec, period.until_usec),
        )
        return [Failure(*row) for row in rows]

    def metrics(self, period: Period, job: str, middle_usec: int) -> list[Metric]:
        """What the job's runs have told of themselves, by name; the newer ones began at ``middle_usec`` or later."""
        rows = self._query(
            "SELECT name, count(*), total(value), count(*) FILTER (WHERE started_usec >= ?), "
            f"total(value) FILTER (WHERE started_usec >= ?) FROM metrics WHERE job = ? AND {_WITHIN} "
            "GROUP BY name ORDER BY count(*) DESC, name LIMIT ?",
            (middle_usec, middle_usec, job, period.since_usec, period.until_usec, _METRICS),
        )
        return [
            Metric(name, values, total, self._metric_p95(period, job, name, values), newer, newer_sum)
            for name, values, total, newer, newer_sum in sorted(rows)
        ]

    def outcomes(self, bounds: Sequence[int], job: str | None = None) -> list[dict[str, Outcome]]:
        """For each stretch between neighbouring bounds (µs since 1970): what its runs came to, by result."""
        found: list[dict[str, Outcome]] = [{} for _ in bounds[1:]]
        for name in [job] if job else self.jobs():
            for number, result, *counts in self._outcomes_of(tuple(bounds), name):
                runs, durations, duration_sum = found[number].get(result, (0, 0, 0.0))
                found[number][result] = (runs + counts[0], durations + counts[1], duration_sum + counts[2])
        return found

    def _outcomes_of(self, bounds: tuple[int, ...], job: str) -> list[Any]:
        """Asked for each job alone and for all of them: remembered."""
        known = self._outcomes.get((bounds, job))
        if known is None:
            stretches = ", ".join(f"({number}, {lo}, {hi})" for number, (lo, hi) in enumerate(pairwise(bounds)))
            known = self._outcomes[bounds, job] = self._query(
                f"WITH stretches (number, lo, hi) AS (VALUES {stretches or '(0, 0, 0)'}) "
                "SELECT number, result, count(*), count(duration_usec), total(duration_usec) "
                "FROM stretches CROSS JOIN runs INDEXED BY runs_by_job "
                "ON job = ? AND started_usec >= lo AND started_usec < hi WHERE result IS NOT NULL "
                "GROUP BY number, result",
                (job,),
            )
        return known

    def since_success(self, job: str) -> tuple[int, int | None]:
        """How many runs have failed since the job's last success, and when its last run began."""
        own = "FROM runs INDEXED BY runs_by_job WHERE job = ?"
        success = self._query(
            f"SELECT started_usec {own} AND result = 'success' ORDER BY started_usec DESC LIMIT 1", (job,)
        )
        failures = self._query(
            f"SELECT count(*) {own} AND started_usec > ? AND result NOT IN ('success', 'skipped')",
            (job, success[0][0] if success else -1),
        )
        last = self._query(f"SELECT max(started_usec) {own}", (job,))
        return int(failures[0][0]), last[0][0]

    def _pieces(self, period: Period, job: str | None) -> tuple[str, tuple[object, ...]]:
        """A SELECT of job, day and figures that make up the period: whole days as they stand, the rest reckoned now."""
        first, end = period.days()
        own = "AND job = ?" if job else ""
        stretches = [f"SELECT * FROM ({STALE}) WHERE lo >= ? AND hi <= ? {own}"]
        names: tuple[object, ...] = (job,) if job else ()
        values: list[object] = [first, end, *names, first * DAY_USEC, end * DAY_USEC, *names]
        for lo, hi in period.edges():
            stretches.append(f"SELECT DISTINCT job, {lo} AS lo, {hi} AS hi FROM days WHERE day BETWEEN ? AND ? {own}")
            values += [lo // DAY_USEC, (hi - 1) // DAY_USEC, *names]
        standing = f"SELECT job, day, {FIGURES} FROM days WHERE NOT stale AND day >= ? AND day < ? {own}"
        return f"{standing} UNION ALL {reckoned(' UNION ALL '.join(stretches))}", tuple(values)

    def _runs(self, job: str) -> int:
        return int(self._query("SELECT ifnull(sum(runs), 0) FROM days WHERE job = ?", (job,))[0][0])

    def _metric_p95(self, period: Period, job: str, name: str, values: int) -> float:
        rows = self._query(
            f"SELECT value FROM metrics WHERE job = ? AND name = ? AND {_WITHIN} ORDER BY value DESC LIMIT 1 OFFSET ?",
            (job, name, period.since_usec, period.until_usec, values - 1 - nearest_rank(95, values)),
        )
        return float(rows[0][0])


def merged(parts: Sequence[Totals]) -> Totals:
    """What the runs of several jobs come to together; the longest silence is that of one of them."""

    def extreme(name: str, which: Callable[[Iterable[int]], int]) -> int | None:
        known = [value for part in parts if (value := getattr(part, name)) is not None]
        return which(known) if known else None

    sums: dict[str, Any] = {name: sum(getattr(part, name) for part in parts) for name in _SUMMED}
    maxima: dict[str, Any] = {name: extreme(name, max) for name in _MAXIMA}
    return Totals(
        **sums,
        **maxima,
        first_usec=extreme("first_usec", min),
        last_usec=extreme("last_usec", max),
        silence_usec=extreme("silence_usec", max),
    )


def _totals(row: dict[str, Any]) -> Totals:
    known = {name: value for name, value in row.items() if value is not None}
    return Totals(**{name: value if name.endswith("_sum") else int(value) for name, value in known.items()})


def _common(one: Period, other: Period) -> Period:
    return Period(max(one.since_usec, other.since_usec), min(one.until_usec, other.until_usec))
