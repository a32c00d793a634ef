"""systemd's calendar expressions as timetables: read from their normalized form (systemd-analyze calendar)."""

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import date, datetime

from lsh_systemd.calendar_text import WEEKDAYS
from lsh_systemd.errors import BadInput
from lsh_systemd.text import visible

LAST_YEAR = 2199  # systemd's own
_FORM = re.compile(
    r"(?:(?P<weekdays>[A-Z][A-Za-z.,]*) )?(?P<year>[0-9*./,]+)-(?P<month>[0-9*./,]+)(?P<sign>[-~])(?P<day>[0-9*./,]+)"
    r" (?P<hour>[0-9*./,]+):(?P<minute>[0-9*./,]+):(?P<second>[0-9*./,]+)(?: (?P<zone>\S+))?"
)
_ITEM = re.compile(r"([0-9]+)(?:\.\.([0-9]+))?(?:/([0-9]+))?")


@dataclass(frozen=True, kw_only=True)
class Spec:
    """An OnCalendar= value. ``from_end``: ``days`` count back from the month's end, 1 is its last day."""

    weekdays: frozenset[int]
    years: frozenset[int] | None
    months: frozenset[int]
    days: frozenset[int]
    from_end: bool
    hours: frozenset[int]
    minutes: frozenset[int]
    seconds: frozenset[int]
    zone: str | None

    @property
    def fixed(self) -> bool:
        return False

    def match_date(self, day: date) -> bool:
        if day.weekday() not in self.weekdays or day.month not in self.months:
            return False
        if self.years is not None and day.year not in self.years:
            return False
        number = monthrange(day.year, day.month)[1] + 1 - day.day if self.from_end else day.day
        return number in self.days

    def allows(self, wall: datetime) -> bool:
        return True


def parse_normalized(text: str) -> Spec:
    """The Spec of a normalized form. Raises BadInput for fractions of a second, which only systemd itself can tell."""
    match = _FORM.fullmatch(text)
    if not match:
        raise BadInput(f"{visible(text)} is too special for limits and exceptions")
    if "." in match["second"].replace("..", ""):
        raise BadInput(f"{visible(text)} has fractions of a second, which exclude limits and exceptions")
    return Spec(
        weekdays=_weekdays(match["weekdays"]),
        years=None if match["year"] == "*" else _values(match["year"], 1970, LAST_YEAR),
        months=_values(match["month"], 1, 12),
        days=_days_from_end(match["day"]) if match["sign"] == "~" else _values(match["day"], 1, 31),
        from_end=match["sign"] == "~",
        hours=_values(match["hour"], 0, 23),
        minutes=_values(match["minute"], 0, 59),
        seconds=_values(match["second"], 0, 59),
        zone=match["zone"],
    )


def _weekdays(text: str | None) -> frozenset[int]:
    if not text:
        return frozenset(range(7))
    found: set[int] = set()
    for item in text.split(","):
        first, _, last = item.partition("..")
        found.update(range(WEEKDAYS.index(first), WEEKDAYS.index(last or first) + 1))
    return frozenset(found)


def _days_from_end(text: str) -> frozenset[int]:
    """~07/1 steps on to the end of the month, ~01..05/2 begins with the fifth-last day."""
    found: set[int] = set()
    for item in text.split(","):
        match = _ITEM.fullmatch(item)
        if not match:
            raise BadInput(f"{visible(text)} is too special for limits and exceptions")
        low, high = (int(match[1]), int(match[2])) if match[2] else (1 if match[3] else int(match[1]), int(match[1]))
        found.update(range(high, low - 1, -int(match[3] or 1)))
    return frozenset(found)


def _values(text: str, low: int, high: int) -> frozenset[int]:
    if text == "*":
        return frozenset(range(low, high + 1))
    found: set[int] = set()
    for item in text.split(","):
        match = _ITEM.fullmatch(item)
        if not match:
            raise BadInput(f"{visible(text)} is too special for limits and exceptions")
        first = int(match[1])
        last = int(match[2]) if match[2] else high if match[3] else first
        found.update(range(first, min(last, high) + 1, int(match[3] or 1)))
    return frozenset(found)
