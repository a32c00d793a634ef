"""Was it the timer that started a run? Asked of the timer's own schedule, as systemd does not tell (see run.Fold)."""

from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from lsh_systemd import analyze, unit
from lsh_systemd.job import Job
from lsh_systemd.jobs import Found
from lsh_systemd.run import Run

# From the instant at which a timer elapses to "starting" in the journal: 13 ms on a machine at rest.
_LATENCY_USEC = 2_000_000


def triggers(found: Found | None, pairs: Sequence[tuple[Run, Run | None]]) -> list[str]:
    """For each of some runs of a unit, in their order, given with the unit's run before it: "timer" where its start
    falls on an instant of the timer's schedule, "catch-up" where Persistent= made up for one that was missed while the
    machine was off, else "path" where the job waits for a path or a socket, too, or "manual".

    An instant that comes while the job still runs is not lost: systemd starts the job again at the end of that run. Of
    a job that is no longer there, the schedule is taken for the cause.
    """
    if found is None or found.job is None:
        return ["timer"] * len(pairs)
    other = "path" if found.job.when_path or found.job.when_socket else "manual"
    if not found.job.has_timer:
        return [other] * len(pairs)
    if found.job.interval:
        return ["timer" if _is_due(found.job, run, earlier) else other for run, earlier in pairs]
    lines = unit.on_calendar(found.pair.timer)
    if not lines:
        return ["timer"] * len(pairs)  # a path, or the boot: a schedule that cannot be reckoned up
    on_time = _have_instants(lines, [_window(found.job, run, earlier) for run, earlier in pairs])
    return [
        "timer" if due else "catch-up" if found.job.persistent and _makes_up(found, lines, run, earlier) else other
        for due, (run, earlier) in zip(on_time, pairs, strict=True)
    ]


def _makes_up(found: Found, lines: Sequence[str], run: Run, earlier: Run | None) -> bool:
    """Whether this is the first run of a boot, and an instant was missed since the run before (or the job came)."""
    if not run.started_usec or (earlier and earlier.boot_id == run.boot_id):
        return False
    since = earlier.started_usec + _LATENCY_USEC if earlier and earlier.started_usec else found.written_usec()
    return since < run.started_usec and _have_instants(lines, [(since, run.started_usec)])[0]


def _window(job: Job, run: Run, earlier: Run | None) -> tuple[int, int]:
    """The span of time (µs) within which the timer must have elapsed if it was what started the run."""
    start = run.started_usec or 0
    slack = _LATENCY_USEC + round((job.jitter or timedelta()).total_seconds() * 1e6)
    if earlier and earlier.started_usec and earlier.ended_usec and earlier.ended_usec + _LATENCY_USEC >= start:
        return min(earlier.started_usec, start - slack), start
    return start - slack, start


def _have_instants(lines: Sequence[str], windows: Sequence[tuple[int, int]]) -> list[bool]:
    """Whether the lines elapse within each window. One process reckons up as many windows as its instants reach."""
    answers: list[bool] = []
    while len(answers) < len(windows):
        rest = windows[len(answers) :]
        base = datetime.fromtimestamp(rest[0][0] // 1_000_000 - 1, UTC)
        instants = [each.timestamp() * 1e6 for each in analyze.instants(lines, after=base, count=2 * len(rest) + 2)]
        for first, last in rest:
            if (first, last) != rest[0] and instants and last > instants[-1]:
                break  # farther than these instants reach: begin anew from there
            found = bisect_left(instants, first)
            answers.append(found < len(instants) and instants[found] <= last)
    return answers


def _is_due(job: Job, run: Run, earlier: Run | None) -> bool:
    """--every: so long after the start before, or at the end of a run that took longer than that."""
    if earlier is None or earlier.started_usec is None or job.interval is None:
        return True
    due = earlier.started_usec + job.interval.total_seconds() * 1e6
    first, last = _window(job, run, earlier)
    return first <= due <= last
