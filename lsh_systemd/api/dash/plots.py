"""What pages draw, as the numbers of an SVG. Pure.

Each drawing is a box of its own units that the page stretches; ``path`` is a d="…" of rectangles.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import islice
from typing import Any

from lsh_systemd import cron
from lsh_systemd.calendar_text import WEEKDAYS
from lsh_systemd.drawing import Following, half_hours
from lsh_systemd.figures import Counts
from lsh_systemd.instants import upcoming
from lsh_systemd.job import Job
from lsh_systemd.run import Run
from lsh_systemd.zones import check_zone

DAY_USEC = 86_400_000_000
HEIGHT = 100
# So many instants of a job are drawn one by one on the timeline; more are a bar.
_TICKS = 150


@dataclass(frozen=True)
class Strip:
    """A row of cells: of each tone its path; and all of it in words."""

    cells: int
    paths: Mapping[str, str]
    words: str


@dataclass(frozen=True)
class Bar:
    """A run: its height of HEIGHT, its tone by its result."""

    run: Run
    height: float
    x: int


@dataclass(frozen=True)
class Line:
    """A job's coming instants: ticks in minutes from now, or, where they are many, a bar from the first one on."""

    job: str
    next_usec: int
    ticks: tuple[float, ...]
    dense: bool


def strip(found: Mapping[int, Counts], today: int, days: int) -> Strip:
    """The outcomes of the last days of UTC (since 1970), the oldest first: what ``Figures.days`` tells of a job."""
    tones: dict[str, list[int]] = {}
    for place, day in enumerate(range(today - days + 1, today + 1)):
        runs, successes, skipped = found.get(day, (0, 0, 0))
        counted = runs - skipped
        tone = "idle" if not counted else "good" if successes == counted else "warn" if successes else "bad"
        tones.setdefault(tone, []).append(place)
    runs, successes, skipped = (sum(column) for column in zip((0, 0, 0), *found.values(), strict=True))
    ending = "" if runs - skipped == 1 else "s"
    words = (
        f"{successes} of {runs - skipped} run{ending} succeeded in {days} days" if runs else f"no runs in {days} days"
    )
    return Strip(days, {tone: cells(places) for tone, places in tones.items()}, words)


def cells(places: Iterable[int]) -> str:
    return "".join(f"M{place}.06 0h.88v1h-.88z" for place in places)


def bars(runs: Sequence[Run]) -> tuple[list[Bar], float]:
    """The durations of runs that have ended (the newest first, drawn the other way round), and the seconds that the
    full height is."""
    known = [run for run in reversed(runs) if run.duration_usec is not None and run.result != "skipped"]
    highest = max((run.duration_usec or 0 for run in known), default=0)
    drawn = [
        Bar(run, max(1.0, HEIGHT * (run.duration_usec or 0) / highest) if highest else 1.0, place)
        for place, run in enumerate(known)
    ]
    return drawn, highest / 1e6


def line(job: Job, first_usec: int, zone: str, until_usec: int, now_usec: int) -> Line:
    """When the job runs from its next instant, which systemd has told, up to that time."""
    found = sorted({first_usec, *islice(_more(job, first_usec, zone, until_usec), _TICKS + 1)})
    ticks = tuple(round((each - now_usec) / 60e6, 1) for each in found if each < until_usec)
    dense = len(ticks) > _TICKS
    return Line(job.id, first_usec, ticks[:1] if dense else ticks, dense)


def _more(job: Job, first_usec: int, zone: str, until_usec: int) -> Iterable[int]:
    """The instants after the first, where they can be told without asking systemd."""
    if job.interval:
        step = max(1, round(job.interval.total_seconds() * 1e6))
        yield from range(first_usec + step, until_usec, step)
    elif is_plain(job):
        first = datetime.fromtimestamp(first_usec // 1_000_000).astimezone()
        for expression in job.schedule:
            parsed = cron.parse(expression, seconds=job.seconds, key=job.id)
            for each in upcoming(parsed, job.timezone or zone, first):
                at = round(each.timestamp() * 1e6)
                if at >= until_usec:
                    break
                yield at


def is_plain(job: Job) -> bool:
    """Whether its cron expressions alone say when it runs."""
    return bool(job.schedule) and not (job.not_before or job.not_after or job.except_calendar or job.jitter)


@dataclass(frozen=True)
class Day:
    """A day of the coming ones that have runs; ``path`` in half hours."""

    label: str
    path: str
    words: str


def week(job: Job, zone: str, now: datetime) -> list[Day]:
    """The half hours of the next seven days with runs; nothing where these are far apart, or where more than cron
    expressions decides."""
    from zoneinfo import ZoneInfo

    if not is_plain(job):
        return []
    zone = job.timezone or zone
    check_zone(zone)
    parsed = [cron.parse(each, seconds=job.seconds, key=job.id) for each in job.schedule]

    def following(at: datetime) -> datetime | None:
        coming = [each for one in parsed if (each := next(upcoming(one, zone, at), None))]
        return min(coming, default=None)

    return _drawn(following, ZoneInfo(zone), now)


def _drawn(following: Following, clock: Any, now: datetime) -> list[Day]:
    first = following(now)
    days: dict[date, set[int]] = (half_hours(following, clock, first) or {}) if first else {}
    return [
        Day(f"{WEEKDAYS[day.weekday()]} {day.day}", cells(sorted(runs)), f"{len(runs)} half hours with runs")
        for day, runs in days.items()
    ]
