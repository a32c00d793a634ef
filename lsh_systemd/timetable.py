"""Timetables: dates and times of day, by the wall clock of a zone. A ``Cron`` is one; here are the others.

All datetimes are naive: what a clock on the wall shows.
"""

from bisect import bisect_right
from calendar import monthrange
from collections.abc import Iterable, Set
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Protocol

from lsh_systemd.errors import BadInput
from lsh_systemd.span import Months

_DAY = timedelta(days=1)

Interval = tuple[datetime, datetime]  # start, end (not included)
Cut = tuple[timedelta, timedelta]  # the same as times of a day


class Timetable(Protocol):
    """The times ``hours:minutes:seconds`` of every date that matches, but for those that it does not allow.

    ``fixed``: a time that a clock change skips is made up, one that comes twice runs once (see cron.Cron).
    """

    @property
    def hours(self) -> Set[int]: ...
    @property
    def minutes(self) -> Set[int]: ...
    @property
    def seconds(self) -> Set[int]: ...
    @property
    def fixed(self) -> bool: ...
    def match_date(self, day: date) -> bool: ...
    def allows(self, wall: datetime) -> bool: ...


@dataclass(frozen=True)
class Anchored:
    """Every so many days or months from a first time on. Of a month too short for its day, the last day."""

    anchor: datetime
    every: timedelta | Months

    def __post_init__(self) -> None:
        if isinstance(self.every, Months):
            if self.every.count < 1:
                raise BadInput("--every with --from must be a month at least")
        elif self.every < _DAY or self.every % _DAY:
            raise BadInput(
                "--every with --from counts whole days, weeks, months or years", hint="write 2d, 2 weeks or 3 months"
            )

    @property
    def hours(self) -> Set[int]:
        return {self.anchor.hour}

    @property
    def minutes(self) -> Set[int]:
        return {self.anchor.minute}

    @property
    def seconds(self) -> Set[int]:
        return {self.anchor.second}

    @property
    def fixed(self) -> bool:
        return True

    def match_date(self, day: date) -> bool:
        first = self.anchor.date()
        if day < first:
            return False
        if isinstance(self.every, timedelta):
            return (day - first).days % self.every.days == 0
        months = (day.year - first.year) * 12 + day.month - first.month
        return months % self.every.count == 0 and day.day == min(first.day, monthrange(day.year, day.month)[1])

    def allows(self, wall: datetime) -> bool:
        return True


class Limits:
    """The times at which nothing runs. False where there are none."""

    def __init__(self, excluded: Iterable[Interval] = ()) -> None:
        merged: list[Interval] = []
        for start, end in sorted(excluded):
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            elif start < end:
                merged.append((start, end))
        self._excluded = merged
        self._starts = [start for start, _ in merged]

    def __bool__(self) -> bool:
        return bool(self._excluded)

    @property
    def begin(self) -> datetime:
        """The time before which nothing runs; the first of all where there is no such limit."""
        start, end = self._excluded[0] if self._excluded else (datetime.max, datetime.min)  # noqa: DTZ901
        return end if start == datetime.min else datetime.min  # noqa: DTZ901

    @property
    def end(self) -> datetime | None:
        """The time from which on nothing runs any more; None where there is none."""
        start, end = self._excluded[-1] if self._excluded else (datetime.min, datetime.min)  # noqa: DTZ901
        return start if end == datetime.max else None  # noqa: DTZ901

    def last_year(self) -> int:
        """The last year in which something is excluded; the end of all aside."""
        years = [end.year for _, end in self._excluded if end != datetime.max]  # noqa: DTZ901
        return max([*years, self.end.year if self.end else 0])

    def since(self, start: datetime) -> "Limits":
        """The same without what lies before this time."""
        return Limits(each for each in self._excluded if each[1] > start)

    def allows(self, wall: datetime) -> bool:
        at = bisect_right(self._starts, wall) - 1
        return at < 0 or wall >= self._excluded[at][1]

    def cuts(self, day: date) -> tuple[Cut, ...]:
        """What of this day is excluded, as times since its midnight."""
        start = datetime(day.year, day.month, day.day)  # noqa: DTZ001
        found: list[Cut] = []
        for at in range(max(0, bisect_right(self._starts, start) - 1), len(self._excluded)):
            first, last = self._excluded[at]
            if first - start >= _DAY:
                break
            if last > start:
                found.append((max(first - start, timedelta()), min(last - start, _DAY)))
        return tuple(found)


@dataclass(frozen=True)
class Bounded:
    """A timetable within limits."""

    timetable: Timetable
    limits: Limits

    @property
    def hours(self) -> Set[int]:
        return self.timetable.hours

    @property
    def minutes(self) -> Set[int]:
        return self.timetable.minutes

    @property
    def seconds(self) -> Set[int]:
        return self.timetable.seconds

    @property
    def fixed(self) -> bool:
        return self.timetable.fixed

    def match_date(self, day: date) -> bool:
        return self.timetable.match_date(day) and self.limits.cuts(day) != ((timedelta(), _DAY),)

    def allows(self, wall: datetime) -> bool:
        return self.timetable.allows(wall) and self.limits.allows(wall)
