"""Cron expressions: text → ``Cron``, a value that knows which wall-clock times it matches.

The rules are Debian cron's, with what Quartz, croniter and Jenkins added (seconds, year, L, W, #, H).
Nothing here knows about zones, instants or systemd: that is ``schedule``.
"""

import calendar
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache

from lsh_systemd.errors import BadInput
from lsh_systemd.text import visible

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")  # cron counts from Sunday
LAST = -1  # as the n of Nth: the last one in the month

# @weekly is Sunday in cron, though Monday in systemd; so the macros are cron's, spelt out.
MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class CronError(BadInput):
    """The expression cannot be used. ``position`` is the 0-based offset of the offending text in the
    expression as it was given, ``field`` the name of the field ("" where it is the whole expression)."""

    def __init__(self, message: str, *, hint: str | None = None, field: str = "", position: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.field = field
        self.position = position


@dataclass(frozen=True, kw_only=True)
class DaysOfMonth:
    """The third field: any of these days. ``star``: its text begins with ``*``."""

    star: bool
    numbers: frozenset[int] = frozenset()
    nearest: frozenset[int] = frozenset()  # 15W: the weekday (Mon..Fri) nearest to the 15th in the same month
    last: bool = False
    last_weekday: bool = False  # LW: the last of Mon..Fri

    def match(self, day: date) -> bool:
        if day.day in self.numbers:
            return True
        last = calendar.monthrange(day.year, day.month)[1]
        return (
            (self.last and day.day == last)
            or (self.last_weekday and day.day == nearest_weekday(day.year, day.month, last))
            or any(n <= last and day.day == nearest_weekday(day.year, day.month, n) for n in self.nearest)
        )


@dataclass(frozen=True, kw_only=True)
class DaysOfWeek:
    """The fifth field: any of these. Weekdays count from Monday = 0, as ``date.weekday()``."""

    star: bool
    numbers: frozenset[int] = frozenset()
    nth: frozenset[tuple[int, int]] = frozenset()  # (weekday, n): 5#2 is (4, 2), 5L is (4, LAST)

    def match(self, day: date) -> bool:
        weekday = day.weekday()
        if weekday in self.numbers:
            return True
        if not self.nth:
            return False
        last = calendar.monthrange(day.year, day.month)[1]
        return (weekday, (day.day + 6) // 7) in self.nth or (day.day + 7 > last and (weekday, LAST) in self.nth)


@dataclass(frozen=True, kw_only=True)
class Cron:
    """A cron expression, valid from birth: it matches at least one moment. Make it with ``parse``.

    ``fixed``: cron calls this a fixed-time job (neither minute nor hour begins with ``*``): its times that a clock
    change skips are made up, and in an hour that comes twice it runs once. Others simply follow the wall clock.
    """

    expression: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: DaysOfMonth
    months: frozenset[int]
    weekdays: DaysOfWeek
    seconds: frozenset[int] = frozenset({0})
    years: frozenset[int] | None = None  # None: every year
    fixed: bool

    def __post_init__(self) -> None:
        for name, values in (
            ("minute", self.minutes),
            ("hour", self.hours),
            ("month", self.months),
            ("second", self.seconds),
            ("year", self.years),
        ):
            field = _FIELDS[name]
            if values is not None and not (values and field.low <= min(values) and max(values) <= field.high):
                raise CronError(f"{self.expression}: bad {name}", hint=field.allowed, field=name)
        if not self._has_a_date():
            raise CronError(f"{self.expression}: no such date ever comes", field="day of month")

    @property
    def day_and(self) -> bool:
        """Day of month AND day of week must match (else OR): vixie's rule of the first character."""
        return self.days.star or self.weekdays.star

    @property
    def daily(self) -> bool:
        """Every day of every year matches."""
        every_day = len(self.days.numbers) == 31, len(self.weekdays.numbers) == 7
        days = all(every_day) if self.day_and else any(every_day)
        return days and len(self.months) == 12 and self.years is None

    def match_date(self, day: date) -> bool:
        if day.month not in self.months or (self.years is not None and day.year not in self.years):
            return False
        if self.day_and:
            return self.days.match(day) and self.weekdays.match(day)
        return self.days.match(day) or self.weekdays.match(day)

    def allows(self, wall: datetime) -> bool:
        """No time of a matching day is excluded (see timetable.Timetable)."""
        return True

    def match(self, wall: datetime) -> bool:
        """Whether this wall-clock time (its zone is ignored) is one of the expression's."""
        return (
            wall.minute in self.minutes
            and wall.hour in self.hours
            and wall.second in self.seconds
            and self.match_date(wall.date())
        )

    def _has_a_date(self) -> bool:
        # The calendar has 14 kinds of year; 2001..2028 holds them all.
        years = range(2001, 2029) if self.years is None else sorted(self.years)
        return any(
            self.match_date(date(year, month, day))
            for year in years
            for month in sorted(self.months)
            for day in range(1, calendar.monthrange(year, month)[1] + 1)
        )


def nearest_weekday(year: int, month: int, day: int) -> int:
    """The day of the month of the Mon..Fri nearest to this one, never in another month (Quartz' W)."""
    last = calendar.monthrange(year, month)[1]
    weekday = date(year, month, day).weekday()
    if weekday == calendar.SATURDAY:
        return day - 1 if day > 1 else day + 2
    if weekday == calendar.SUNDAY:
        return day + 1 if day < last else day - 2
    return day


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int
    allowed: str
    names: tuple[str, ...] = ()
    hash_high: int | None = None  # H stays below this, so that it comes in every month (or once a week)

    def number(self, text: str) -> int | None:
        """The value that a number or name stands for, None where it is neither or out of range."""
        if text.lower() in self.names:
            return self.low + self.names.index(text.lower())
        if re.fullmatch("[0-9]{1,4}", text) and self.low <= int(text) <= self.high:
            return int(text)
        return None

    def span(self, start: int, end: int) -> list[int]:
        """start..end in order; 22-2 goes on over the end of the field (never for years)."""
        if start <= end:
            return list(range(start, end + 1))
        size = 7 if self.name == "day of week" else self.high - self.low + 1  # its 0 and 7 are one day
        return [self.low + (value - self.low) % size for value in range(start, end + size + 1)]


_FIELDS = {
    field.name: field
    for field in (
        _Field("minute", 0, 59, "0-59, *, ranges 0-29, steps */15, lists 0,30, or H"),
        _Field("hour", 0, 23, "0-23, *, ranges 9-17, steps */2, lists 8,20, or H"),
        _Field("day of month", 1, 31, "1-31, *, ranges, steps, lists, L (last day), LW, 15W, or H", hash_high=28),
        _Field("month", 1, 12, "1-12, jan-dec, *, ranges, steps, lists, or H", MONTHS),
        _Field("day of week", 0, 7, "0-7 (0 and 7 are Sunday), sun-sat, *, ranges, lists, 5L, 5#2, or H", WEEKDAYS, 6),
        _Field("second", 0, 59, "0-59, *, ranges 0-29, steps */15, lists 0,30, or H"),
        _Field("year", 1970, 2099, "1970-2099, *, ranges, steps, lists"),
    )
}


def parse(expression: str, *, seconds: bool = False, key: str = "") -> Cron:
    """The Cron that this expression means: five fields or a macro; with ``seconds`` also six (seconds last) and
    seven (then the year). ``key``, a job's id, decides what H stands for. Raises CronError."""
    return _parse(expression, seconds, key if "H" in expression.upper() else "")


@lru_cache(maxsize=256)  # of a thousand jobs most have the same few, and each is parsed several times
def _parse(expression: str, seconds: bool, key: str) -> Cron:
    if stray := re.search(r"[^!-~ \t]", expression):
        raise CronError(
            f"character {stray[0]!r} has no place in a cron expression",
            hint="write plain ASCII: minute hour day month weekday",
            position=stray.start(),
        )
    if (text := expression.strip(" \t")).startswith("@"):
        return _parse_fields(expression, _macro(text, expression.index("@")), key)
    words = [(word[0], word.start()) for word in re.finditer(r"[^ \t]+", expression)]
    if len(words) not in ((5, 6, 7) if seconds else (5,)):
        raise _wrong_count(expression, words, seconds)
    return _parse_fields(expression, words, key)


def _macro(text: str, position: int) -> list[tuple[str, int]]:
    """The fields of @daily and its like, all said to be where the macro is."""
    word = text.split()[0].lower()
    if word in MACROS and text.lower() == word:
        return [(field, position) for field in MACROS[word].split()]
    if word == "@reboot":
        raise CronError(f"{word} is not a time of the calendar", hint="use --on-boot", position=position)
    if word == "@every":
        hint = f"use --every {text.split(maxsplit=1)[1][:100]}" if len(text.split()) > 1 else "use --every 15m"
        raise CronError(f"{word} is not a time of the calendar", hint=hint, position=position)
    raise CronError(f"{text[:100]}: no such macro", hint=f"there are {', '.join(MACROS)}", position=position)


def _wrong_count(expression: str, words: list[tuple[str, int]], seconds: bool) -> CronError:
    wanted = "six fields, or seven with the year" if seconds else "five fields"
    order = "minute hour day month weekday" + (" second [year]" if seconds else "")
    hint = f"write {order}"
    if not seconds and len(words) in (6, 7):
        hint = "--seconds allows six (seconds last) and seven (then the year)"
    # Too many: point at the first one too many; too few: at the end, where the next one is missing.
    limit = 7 if seconds else 5
    position = words[limit][1] if len(words) > limit else len(expression.rstrip())
    return CronError(f"{wanted} wanted, there are {len(words)}", hint=hint, position=position)


def _parse_fields(expression: str, words: list[tuple[str, int]], key: str) -> Cron:
    texts = dict(zip(_FIELDS, words, strict=False))
    values = {name: _numbers(_FIELDS[name], text, at, key) for name, (text, at) in texts.items() if "day" not in name}
    try:
        return Cron(
            expression=" ".join(expression.split()),
            minutes=values["minute"],
            hours=values["hour"],
            days=_days_of_month(*texts["day of month"], key),
            months=values["month"],
            weekdays=_days_of_week(*texts["day of week"], key),
            seconds=values.get("second", frozenset({0})),
            # "*" means for ever, not until the last year that can be written
            years=None if texts.get("year", ("*", 0))[0] == "*" else values["year"],
            fixed=not words[0][0].startswith("*") and not words[1][0].startswith("*"),
        )
    except CronError as error:
        if error.position == 0 and error.field:  # born in Cron, which does not know where its fields came from
            error.position = texts[error.field][1]
            error.hint = error.hint or "April, June, September and November have 30 days, February 28 or 29"
        raise


def _items(text: str, at: int) -> Iterator[tuple[str, int]]:
    for item in text.split(","):
        yield item, at
        at += len(item) + 1


def _numbers(field: _Field, text: str, at: int, key: str) -> frozenset[int]:
    return frozenset(value for item, where in _items(text, at) for value in _item(field, item, where, key))


def _days_of_month(text: str, at: int, key: str) -> DaysOfMonth:
    field = _FIELDS["day of month"]
    numbers: set[int] = set()
    nearest: set[int] = set()
    words: set[str] = set()
    for item, where in _items(text, at):
        if item.upper() in ("L", "LW", "WL"):
            words.add("L" if item.upper() == "L" else "LW")
        elif item[-1:].upper() == "W":
            if (day := field.number(item[:-1])) is None:
                raise _refuse(field, item, where)
            nearest.add(day)
        else:
            numbers.update(_item(field, item, where, key))
    return DaysOfMonth(
        star=text.startswith("*"),
        numbers=frozenset(numbers),
        nearest=frozenset(nearest),
        last="L" in words,
        last_weekday="LW" in words,
    )


def _days_of_week(text: str, at: int, key: str) -> DaysOfWeek:
    field = _FIELDS["day of week"]
    numbers: set[int] = set()
    nth: set[tuple[int, int]] = set()
    for item, where in _items(text, at):
        special = re.fullmatch(r"([0-9]+|[a-z]{3})(?:L|#([1-5]))", item, re.IGNORECASE)
        if special:
            if (day := field.number(special[1])) is None:
                raise _refuse(field, item, where)
            nth.add((_from_monday(day), int(special[2] or LAST)))
        else:
            numbers.update(_from_monday(day) for day in _item(field, item, where, key))
    return DaysOfWeek(star=text.startswith("*"), numbers=frozenset(numbers), nth=frozenset(nth))


def _from_monday(day: int) -> int:
    return (day + 6) % 7


def _item(field: _Field, item: str, at: int, key: str) -> list[int]:
    """The values of one item of a list: ``*``, ``5``, ``mon``, ``1-5``, ``H``, ``H(2-5)``, perhaps with a step."""
    base, slash, step_text = item.partition("/")
    if slash and (not re.fullmatch("[0-9]{1,4}", step_text) or int(step_text) == 0):
        raise CronError(
            f"{field.name} {visible(item)}: a step is a number from 1 on",
            hint=f"for example */{2 if field.high < 15 else 15}",
            field=field.name,
            position=at + len(base) + 1,
        )
    step = int(step_text) if slash else 1
    if base[:1] in ("H", "h"):
        return _hashed(field, item, base, step if slash else None, at, key)
    if base == "*":
        return list(range(field.low, field.high + 1, step))
    start_text, dash, end_text = base.partition("-")
    start = field.number(start_text)
    end = field.number(end_text) if dash else start
    if start is None:
        raise _refuse(field, item, at)
    if end is None:
        raise _refuse(field, item, at + len(start_text) + 1)
    if slash and not dash:
        # cronie refuses this too; others read it as 5-59/15, which few who write it expect
        raise CronError(
            f"{field.name} {visible(item)}: a step needs * or a range before it",
            hint=f"write {start_text}-{min(field.high, 6) if field.names == WEEKDAYS else field.high}/{step}",
            field=field.name,
            position=at + len(base),
        )
    if start > end and field.name == "year":
        raise _refuse(field, item, at)
    return field.span(start, end)[::step]


def _hashed(field: _Field, item: str, base: str, step: int | None, at: int, key: str) -> list[int]:
    """H: one value of the field (or of the range in parentheses), always the same for this key; with a step, every
    step-th from such a start."""
    form = re.fullmatch(r"H(?:\(([0-9]+|[a-z]{3})-([0-9]+|[a-z]{3})\))?", base, re.IGNORECASE)
    if form is None or field.name == "year":
        raise _refuse(field, item, at)
    low = field.number(form[1]) if form[1] else field.low
    high = field.number(form[2]) if form[2] else field.hash_high or field.high
    if low is None or high is None or low > high or (step or 1) > high - low + 1:
        raise _refuse(field, item, at)
    # Each field hashes for itself: with one number for all, minute and hour of the jobs would go together.
    seed = int.from_bytes(hashlib.sha256(f"{field.name}\n{key}".encode()).digest()[:8])
    if step is None:
        return [low + seed % (high - low + 1)]
    return list(range(low + seed % step, high + 1, step))


def _refuse(field: _Field, item: str, at: int) -> CronError:
    hint = f"allowed: {field.allowed}"
    if "~" in item:
        hint = f"for a time spread over a range write H({item.replace('~', '-')})"
    elif item == "?":
        hint = "write *"
    elif field.name == "day of week" and item.upper() == "L":
        hint = "write 6 for Saturday, 6L for the last Saturday of the month"
    shown = visible(item) if item else "is empty"
    return CronError(f"{field.name} {shown} is not understood", hint=hint, field=field.name, position=at)
