"""Cron → the OnCalendar= lines of a timer that elapses at exactly the instants at which Debian cron starts the job.

A base line for each rule of the expression, in the job's zone; and, because systemd skips what a clock jumps over
(systemd issue 5595) and keeps silent in an hour that comes twice (8647), UTC lines for what it leaves out there.
A timer elapses at the union of its lines, so a line too many costs nothing and a line too few costs a run.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice

from lsh_systemd.calendar_text import instants_text, time_text, values_text, weekdays_text
from lsh_systemd.cron import LAST, Cron, CronError, DaysOfMonth, DaysOfWeek
from lsh_systemd.dated import dated_lines
from lsh_systemd.instants import matches, missing, upcoming
from lsh_systemd.spec import Spec
from lsh_systemd.timetable import Anchored, Bounded, Limits, Timetable
from lsh_systemd.zones import Transition, check_zone, systemd_zone, transitions, utc_offset

EVERY_DAY = frozenset(range(1, 32))
EVERY_WEEKDAY = frozenset(range(7))
EVERY_MONTH = frozenset(range(1, 13))
MON, TUE, WED, THU, FRI = range(5)
LAST_YEAR = 2100  # of a cron expression, and one more

# The lengths of months: which months, in which years (None: all). systemd's 2024/4 would hold 2100, no leap year; and a
# line takes one step, so the common years are three. What is past needs no line.
_LENGTHS: tuple[tuple[int, frozenset[int], frozenset[int] | None], ...] = (
    (31, frozenset({1, 3, 5, 7, 8, 10, 12}), None),
    (30, frozenset({4, 6, 9, 11}), None),
    (29, frozenset({2}), frozenset(range(2024, 2097, 4))),
    *((28, frozenset({2}), frozenset(range(first, 2100, 4))) for first in (2025, 2026, 2027)),
)


class ScheduleOver(CronError):
    """Nothing of the schedule is left to come."""


def calendar_lines(
    timetable: Cron | Spec | Anchored,
    *,
    zone: str | None,
    now: datetime,
    years: int = 5,
    local_zone: str | None = None,
    limits: Limits = Limits(),  # noqa: B008  (a value)
) -> tuple[str, ...]:
    """The OnCalendar= values for this timetable in this IANA zone, at least one.

    ``zone`` None means the machine's local time: the lines then name no zone, and ``local_zone`` says which zone's
    transitions to make up for (none where it is None too). The lines that name dates or UTC cover the calendar years
    from that of ``now`` (aware) to ``years`` later, so that rendering again gives the same text until the year is over.
    A Spec means what systemd makes of it, clock changes included: nothing is made up for.
    Raises ScheduleOver where nothing is left to come (a year in the past), BadInput for an unknown zone.
    """
    for name in (zone, local_zone):
        if name is not None:
            check_zone(name)
    clock = zone or local_zone or "UTC"
    limits = limits.since(datetime(now.year, 1, 1))  # noqa: DTZ001
    bounded = Bounded(timetable, limits) if limits else timetable
    begin = limits.begin.replace(tzinfo=UTC) - timedelta(days=2) if limits.begin.year > now.year else now
    _check_coming(timetable, bounded, clock, max(now, begin))
    changes = () if isinstance(timetable, Spec) else transitions(clock, now.year, now.year + years)
    suffix = f" {systemd_zone(zone)}" if zone else ""
    if limits or isinstance(timetable, Anchored):
        first = max(now.year, limits.begin.year)
        last = first + years
        if not isinstance(timetable, Anchored) and not limits.end:
            last = min(last, max(first, limits.last_year()))  # beyond, the rule itself says it
        lines = [*dated_lines(timetable, limits, first, last), *_lines_after(timetable, last, limits)]
        base = tuple(line + suffix for line in lines)
    elif isinstance(timetable, Cron) and (utc := _same_in_utc(timetable, changes)):
        return (utc,)
    elif isinstance(timetable, Cron):
        base = tuple(line + suffix for line in base_lines(timetable, forward=_repeated_months(timetable, changes)))
    else:
        raise ValueError("a Spec without limits needs no lines but itself")
    made_up = [instant for change in changes for instant in missing(bounded, change)]
    return base + instants_text(each for each in made_up if bounded.allows(_wall(each, clock)))


def _check_coming(timetable: Timetable, bounded: Timetable, clock: str, now: datetime) -> None:
    endless = bounded is timetable and not (isinstance(timetable, Cron) and timetable.years is not None)
    if not endless and next(upcoming(bounded, clock, now), None) is None:
        raise ScheduleOver("no such date comes any more", hint="its years, or its limits, are over", field="year")


def _lines_after(timetable: Cron | Spec | Anchored, year: int, limits: Limits) -> tuple[str, ...]:
    """The lines for the years after this one, up to the end that the limits set. Anchored dates need to be named."""
    end = limits.end.year + 1 if limits.end else LAST_YEAR
    if isinstance(timetable, Anchored) or year + 1 >= end:
        return ()
    those = frozenset(range(year + 1, end))
    if timetable.years is not None and not (those := those & timetable.years):
        return ()
    if isinstance(timetable, Cron):
        return base_lines(replace(timetable, years=those))
    rule = _Rule(
        weekdays=timetable.weekdays,
        days=timetable.days,
        from_end=timetable.from_end,
        months=timetable.months,
        years=those,
    )
    return (_line(rule, time_text(timetable.hours, timetable.minutes, timetable.seconds)),)


def _wall(instant: datetime, zone: str) -> datetime:
    return instant.replace(tzinfo=None) + utc_offset(zone, instant)


def base_lines(cron: Cron, *, forward: frozenset[int] = frozenset()) -> tuple[str, ...]:
    """The expression as OnCalendar= values without a zone; between them they elapse at the wall-clock times that it
    matches, transitions aside. In the months ``forward`` no day is counted from the end of the month."""
    times = time_text(cron.hours, cron.minutes, cron.seconds)
    rules = (part for whole in _rules(cron) for part in _forward(whole, forward))
    return tuple(dict.fromkeys(_line(rule, times) for rule in rules))


def _line(rule: "_Rule", times: str) -> str:
    weekdays = "" if rule.weekdays == EVERY_WEEKDAY else weekdays_text(rule.weekdays) + " "
    year = "*" if rule.years is None else values_text(rule.years, 1970, 2199, width=4)
    month = values_text(rule.months, 1, 12)
    if rule.from_end:
        # ~07/1: the manual's own way to say "the last seven days"
        day = "~07/1" if rule.days == frozenset(range(1, 8)) else "~" + values_text(rule.days, 1, 31)
    else:
        day = "-" + values_text(rule.days, 1, 31)
    return f"{weekdays}{year}-{month}{day} {times}"


def _same_in_utc(cron: Cron, changes: tuple[Transition, ...]) -> str | None:
    """The one UTC line for a job at the same minutes of every hour, whatever the clocks do; None for other jobs."""
    if cron.fixed or len(cron.hours) < 24 or not cron.daily or not changes:
        return None
    offsets = {offset // timedelta(seconds=1) for change in changes for offset in (change.before, change.after)}
    minutes = {frozenset((minute - offset // 60) % 60 for minute in cron.minutes) for offset in offsets}
    if len(minutes) > 1 or any(offset % 60 for offset in offsets):
        return None
    return f"*-*-* {time_text(cron.hours, minutes.pop(), cron.seconds)} UTC"


def _repeated_months(cron: Cron, changes: tuple[Transition, ...]) -> frozenset[int]:
    """The months in which the job has times that come twice. Counting from the end of the month (Sun *-*~07/1) goes
    wrong there: once systemd has looked up that end, it takes such a time for the second of the two."""
    overlaps = [change.wall for change in changes if not change.gap]
    return frozenset(wall.month for overlap in overlaps for wall in islice(matches(cron, *overlap), 1))


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """One line's worth of dates: all of these must hold. ``from_end``: ``days`` count back from the month's end (1 is
    the last day). ``years`` None: every year."""

    weekdays: frozenset[int] = EVERY_WEEKDAY
    days: frozenset[int] = EVERY_DAY
    from_end: bool = False
    months: frozenset[int] = EVERY_MONTH
    years: frozenset[int] | None = None

    def within(self, other: "_Rule") -> bool:
        """Whether the other one holds all the dates of this one (as far as it is easily seen)."""
        return (
            self.weekdays <= other.weekdays
            and (other.years is None or (self.years is not None and self.years <= other.years))
            and self.months <= other.months
            and (other.days == EVERY_DAY or (self.from_end == other.from_end and self.days <= other.days))
        )


def _rules(cron: Cron) -> list[_Rule]:
    dates, weekdays = list(_month_rules(cron.days)), list(_week_rules(cron.weekdays))
    # cron ORs day and weekday, OnCalendar ANDs them: two lines
    rules = [both for a in dates for b in weekdays for both in _and(a, b)] if cron.day_and else dates + weekdays
    limits = _Rule(months=cron.months, years=cron.years)
    rules = _merged(both for rule in rules for both in _and(rule, limits))
    return [rule for rule in rules if not any(rule.within(other) for other in rules if other != rule)]


def _month_rules(days: DaysOfMonth) -> Iterator[_Rule]:
    if days.numbers:
        yield _Rule(days=days.numbers)
    if days.last:
        yield _Rule(days=frozenset({1}), from_end=True)
    if days.last_weekday:
        yield _Rule(weekdays=frozenset({MON, TUE, WED, THU}), days=frozenset({1}), from_end=True)
        # the Friday that is the last day, or stands before a last Saturday or Sunday
        yield _Rule(weekdays=frozenset({FRI}), days=frozenset({1, 2, 3}), from_end=True)
    for day in sorted(days.nearest):
        if day < 28:
            yield from _nearest(day, last=31)
        else:  # whether the Monday after is in the same month depends on the month
            for length, months, years in _LENGTHS:
                if day <= length:
                    yield from (replace(rule, months=months, years=years) for rule in _nearest(day, last=length))


def _nearest(day: int, *, last: int) -> Iterator[_Rule]:
    """15W: the 15th, or the Friday before a Saturday the 15th, or the Monday after a Sunday the 15th; but all within
    the month, whose last day is ``last``."""
    monday, friday = {day}, {day}
    if day > 1:
        friday.add(day - 1)
    else:
        monday.add(day + 2)  # Saturday the 1st
    if day < last:
        monday.add(day + 1)
    else:
        friday.add(day - 2)  # Sunday the last
    yield _Rule(weekdays=frozenset({MON}), days=frozenset(monday))
    yield _Rule(weekdays=frozenset({TUE, WED, THU}), days=frozenset({day}))
    yield _Rule(weekdays=frozenset({FRI}), days=frozenset(friday))


def _week_rules(days: DaysOfWeek) -> Iterator[_Rule]:
    if days.numbers:
        yield _Rule(weekdays=days.numbers)
    for weekday, n in sorted(days.nth):
        week = range(1, 8) if n == LAST else range(7 * n - 6, min(7 * n, 31) + 1)
        yield _Rule(weekdays=frozenset({weekday}), days=frozenset(week), from_end=n == LAST)


def _and(a: _Rule, b: _Rule) -> Iterator[_Rule]:
    """The rules, if any, for the dates that both hold."""
    if EVERY_DAY not in (a.days, b.days) and a.from_end != b.from_end:
        # the day counted from the end has another number in each length of month
        end, start = (a, b) if a.from_end else (b, a)
        for rule in _forward(end, EVERY_MONTH):
            yield from _and(rule, start)
        return
    days, from_end = (b.days, b.from_end) if a.days == EVERY_DAY else (a.days & b.days, a.from_end)
    if b.days == EVERY_DAY:
        days, from_end = a.days, a.from_end
    rule = _Rule(
        weekdays=a.weekdays & b.weekdays,
        days=days,
        from_end=from_end,
        months=a.months & b.months,
        years=_years(a.years, b.years),
    )
    if rule.weekdays and rule.days and rule.months and rule.years != frozenset():
        yield rule


def _forward(rule: _Rule, months: frozenset[int]) -> Iterator[_Rule]:
    """The same dates; but in these months, days count from the start."""
    if not rule.from_end or not rule.months & months:
        yield rule
        return
    if rule.months - months:
        yield replace(rule, months=rule.months - months)
    for length, those, some_years in _LENGTHS:
        here, years = rule.months & months & those, _years(rule.years, some_years)
        if here and years != frozenset():
            days = frozenset(length + 1 - day for day in rule.days)
            yield replace(rule, days=days, from_end=False, months=here, years=years)


def _years(a: frozenset[int] | None, b: frozenset[int] | None) -> frozenset[int] | None:
    return b if a is None else a if b is None else a & b


def _merged(rules: Iterable[_Rule]) -> list[_Rule]:
    """The same dates in fewer rules: two that differ in one thing only become one."""
    merged: list[_Rule] = []
    for rule in rules:
        one = rule
        while found := next(((other, both) for other in merged if (both := _union(one, other))), None):
            merged.remove(found[0])
            one = found[1]
        merged.append(one)
    return merged


def _union(a: _Rule, b: _Rule) -> _Rule | None:
    if replace(a, weekdays=b.weekdays) == b:
        return replace(a, weekdays=a.weekdays | b.weekdays)
    if replace(a, months=b.months) == b:
        return replace(a, months=a.months | b.months)
    if replace(a, days=b.days) == b:
        return replace(a, days=a.days | b.days)
    return None
