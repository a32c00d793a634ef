"""When a job runs, drawn in text: half hours of the coming days, or, for a job that rarely runs, days of the year.

The job is known only by ``following``: its first instant after another one (aware), None where none comes any more.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from lsh_systemd.calendar_text import WEEKDAYS
from lsh_systemd.zones import Transition

Following = Callable[[datetime], datetime | None]

_DAYS = 7  # that many days with runs are drawn by the half hour
_OFTEN = timedelta(days=14)  # if no more than so many days hold them
_MONTHS = 12
_MONTH_NAMES = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_CELLS = 48
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class Marks:
    """What stands in a cell. Where there is nothing to tell (what is over, what the calendar or the clock leaves out)
    the cell is blank."""

    runs: str
    idle: str
    weekend: str  # idle, on a Saturday or Sunday

    def of(self, day: date, *, runs: bool) -> str:
        return self.runs if runs else self.weekend if day.weekday() > 4 else self.idle


BLOCKS = Marks(runs="█", idle="·", weekend="-")
ASCII = Marks(runs="#", idle=".", weekend="-")


def marks(encoding: str | None) -> Marks:
    """Blocks where this encoding has them, else ASCII."""
    try:
        "".join((BLOCKS.runs, BLOCKS.idle)).encode(encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return ASCII
    return BLOCKS


def draw(following: Following, zone: str, after: datetime, changes: Sequence[Transition], using: Marks) -> list[str]:
    """Lines of at most 100 characters, none where no run comes. ``changes`` are those of the zone's clock that may
    fall on a day that is drawn."""
    clock = ZoneInfo(zone)
    first = following(after)
    if first is None:
        return []
    start = after.astimezone(clock)
    days = half_hours(following, clock, first)
    if days is not None:
        body = _by_half_hours(days, start, changes, using)
        unit = "a cell is half an hour"
    else:
        body = _by_days(following, clock, first, start, changes, using)
        unit = "a cell is a day"
    return [*body, f"{using.runs} runs  {using.idle} no run  {using.weekend} no run, weekend  ({unit})"]


def half_hours(following: Following, clock: ZoneInfo, first: datetime) -> dict[date, set[int]] | None:
    """The half hours with runs, of the next seven days that have any; None where these are far apart."""
    days: dict[date, set[int]] = {}
    at: datetime | None = first
    last = (first.astimezone(clock) + _OFTEN).date()
    while at is not None:
        local = at.astimezone(clock)
        if local.date() not in days:
            if len(days) == _DAYS:
                return days
            if local.date() >= last:
                return None
        days.setdefault(local.date(), set()).add(local.hour * 2 + local.minute // 30)
        rest = timedelta(minutes=30 - local.minute % 30, seconds=-local.second, microseconds=-local.microsecond)
        at = following(at + rest - _TICK)
    return days if len(days) == _DAYS else None


def _by_half_hours(
    days: dict[date, set[int]], start: datetime, changes: Sequence[Transition], using: Marks
) -> Iterator[str]:
    now = start.replace(tzinfo=None)
    yield " " * 16 + "".join(f"{hour:02}  " for hour in range(0, 24, 2)).rstrip()
    for day, runs in days.items():
        midnight = datetime.combine(day, datetime.min.time())
        cells = []
        for cell in range(_CELLS):
            begin = midnight + timedelta(minutes=30 * cell)
            over = begin + timedelta(minutes=30) <= now or _left_out(begin, 0.5, changes)
            cells.append(" " if over and cell not in runs else using.of(day, runs=cell in runs))
        notes = [note for change in changes if (note := _note(change, day))]
        yield "  ".join([f"{WEEKDAYS[day.weekday()]} {day}", "".join(cells), *notes]).rstrip()


def _by_days(
    following: Following,
    clock: ZoneInfo,
    first: datetime,
    start: datetime,
    changes: Sequence[Transition],
    using: Marks,
) -> Iterator[str]:
    month = first.astimezone(clock).date().replace(day=1)
    end = date(month.year + 1, month.month, 1)
    runs = _days(following, clock, first, end)
    yield (" " * 10 + "1       5         10        15        20        25        30").rstrip()
    while month < end:
        cells: list[str] = []
        notes: dict[date, str] = {}
        day = month
        while day.month == month.month:
            over = day < start.date() or _left_out(datetime.combine(day, datetime.min.time()), 24, changes)
            cells.append(" " if over else using.of(day, runs=day in runs))
            notes.update((day, note) for change in changes if (note := _note(change, day)))
            day += timedelta(days=1)
        row = f"{_MONTH_NAMES[month.month - 1]} {month.year}  {' '.join(cells):61}"
        yield f"{row}  {_notes(notes)}".rstrip()
        month = day


def _notes(notes: dict[date, str]) -> str:
    """For one month; two of them would not fit."""
    if len(notes) > 1:
        return f"clock changes: {', '.join(str(day.day) for day in notes)}"
    return "".join(f"{WEEKDAYS[day.weekday()]} {day.day}: {note}" for day, note in notes.items())


def _days(following: Following, clock: ZoneInfo, first: datetime, end: date) -> set[date]:
    """The days with runs before that date."""
    found: set[date] = set()
    at: datetime | None = first
    while at is not None and (day := at.astimezone(clock).date()) < end:
        found.add(day)
        midnight = datetime.combine(day + timedelta(days=1), datetime.min.time(), clock).astimezone(UTC)
        at = following(max(at, midnight - _TICK))
    return found


def _left_out(begin: datetime, hours: float, changes: Sequence[Transition]) -> bool:
    """Whether the clock jumps over all of so many hours."""
    end = begin + timedelta(hours=hours)
    return any(change.gap and change.wall[0] <= begin and end <= change.wall[1] for change in changes)


def _note(change: Transition, day: date) -> str:
    """What the clock does that day; empty where it does nothing."""
    start, end = change.wall
    if start.date() != day:
        return ""
    if end - start >= timedelta(days=1):
        return "no such day"
    return f"no {start:%H:%M}-{end:%H:%M}" if change.gap else f"{start:%H:%M}-{end:%H:%M} twice"
