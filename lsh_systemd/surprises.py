"""Warnings about what in a cron expression usually surprises the one who wrote it."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from lsh_systemd.cron import MACROS, Cron
from lsh_systemd.instants import matches, upcoming
from lsh_systemd.zones import Transition, transitions

_RARE = timedelta(days=400)
_SHORT = {29: "February (but for leap years)", 30: "February", 31: "February, April, June, September and November"}
_SHORT_MONTHS = {29: {2}, 30: {2}, 31: {2, 4, 6, 9, 11}}


def warnings(cron: Cron, zone: str | None, now: datetime) -> list[str]:
    """What to know before relying on this expression, a sentence each. ``zone`` None: no word about clock changes."""
    found = [*_steps(cron), *_both_days(cron), *_short_months(cron), *_rare(cron, zone or "UTC", now)]
    return found if zone is None else [*found, *_clock_changes(cron, zone, now)]


def hashed(cron: Cron) -> list[str]:
    """What to know where H was hashed without a job's name."""
    if not re.search(r"(^|[ ,])H($|[ ,/(])", cron.expression, re.IGNORECASE):
        return []
    return ["H comes from the name of the job, and here there is none: --name NAME tells the times of that job"]


def _steps(cron: Cron) -> Iterator[str]:
    """*/35 does not mean every 35 minutes."""
    fields = MACROS.get(cron.expression.lower(), cron.expression).split()
    units: tuple[tuple[str, str, int, str, frozenset[int]], ...] = (
        ("minute", "min", 60, "hour", cron.minutes),
        ("hour", "h", 24, "day", cron.hours),
        ("day", "d", 31, "month", cron.days.numbers),
        ("month", "", 12, "year", cron.months),
        ("weekday", "", 7, "week", frozenset()),
        ("second", "s", 60, "minute", cron.seconds),
    )
    for field, (unit, short, size, whole, values) in zip(fields, units, strict=False):
        star, _, text = field.partition("/")
        if star != "*" or not text.isdecimal() or size % (step := int(text)) == 0:
            continue
        if step >= size:
            said = f"{unit} {field} matches once in each {whole}"
        elif unit in ("day", "weekday"):
            said = f"{unit} {field} counts anew with each {whole}, so not always every {step} days"
        else:
            said = f"{unit} {field} is {unit}s {_values(values)} of each {whole}, not every {step} {unit}s"
        yield f"{said}; for that, use --every {step}{short}" if short else said


def _values(values: frozenset[int]) -> str:
    shown = [str(value) for value in sorted(values)]
    return ", ".join(shown if len(shown) < 9 else [*shown[:4], "…", shown[-1]])


def _both_days(cron: Cron) -> Iterator[str]:
    days_free = cron.days.star and len(cron.days.numbers) == 31
    weekdays_free = cron.weekdays.star and len(cron.weekdays.numbers) == 7
    if days_free or weekdays_free:
        return
    if cron.day_and:
        yield "day of month and day of week are both set, one beginning with *: it runs only where both match"
    else:
        yield "day of month and day of week are both set: it runs where either matches, not only where both do"


def _short_months(cron: Cron) -> Iterator[str]:
    if cron.days.star or cron.days.last or cron.days.last_weekday:
        return
    # 25-31 means "the last days" and will not surprise; a 31 by itself does
    named = cron.days.numbers | cron.days.nearest
    for day in (29, 30, 31):
        if day in named and day - 1 not in named and cron.months & _SHORT_MONTHS[day]:
            yield f"there is no {day}{'st' if day == 31 else 'th'} in {_SHORT[day]}; L is the last day of every month"


def _rare(cron: Cron, zone: str, now: datetime) -> Iterator[str]:
    coming = [f"{at.astimezone(ZoneInfo(zone)):%Y-%m-%d}" for at in islice(upcoming(cron, zone, now), 2)]
    if not coming:
        yield "it will never run again"
        return
    first, *second = islice(upcoming(cron, zone, now), 2)
    if not second:
        yield f"it runs once more, on {coming[0]}, and never again"
    elif second[0] - first > _RARE or first - now > _RARE:
        yield f"it runs only once in years: on {coming[0]}, then on {coming[1]}"


def _clock_changes(cron: Cron, zone: str, now: datetime) -> Iterator[str]:
    """A word about the next change of the clock ahead and the next one back, where they touch the job."""
    if not cron.fixed and len(cron.hours) == 24:
        return  # it goes on by the minute, whatever the hour is called
    coming = [change for change in transitions(zone, now.year, now.year + 2) if change.at > now]
    for gap in (True, False):
        for change in [change for change in coming if change.gap is gap][:1]:
            times = [f"{wall:%H:%M}" for wall in matches(cron, *change.wall)]
            if times:
                yield _clock_change(cron, zone, change, times)


def _clock_change(cron: Cron, zone: str, change: Transition, times: list[str]) -> str:
    start, end = change.wall
    shown = times[0] if len(set(times)) == 1 else f"{times[0]} to {times[-1]}"
    day = f"on {start:%Y-%m-%d} in {zone}"
    if change.gap:
        what = f"it runs once at {end:%H:%M}" if cron.fixed else "it does not run then"
        return f"{day} the clock jumps over {shown}: {what}"
    what = "it runs the first time only" if cron.fixed else "it runs both times"
    return f"{day} {shown} comes twice: {what}"
