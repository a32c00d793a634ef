"""Time spans as systemd.time(7) writes them, both ways: ``1h 30min`` ↔ ``timedelta``."""

import re
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction

from lsh_systemd.errors import BadInput
from lsh_systemd.text import visible

_MICROSECONDS = {
    ("us", "usec", "µs", "μs"): 1,  # both of Unicode's micro signs, as systemd
    ("ms", "msec"): 1_000,
    ("s", "sec", "second", "seconds"): 1_000_000,
    ("min", "m", "minute", "minutes"): 60_000_000,
    ("h", "hr", "hour", "hours"): 3_600_000_000,
    ("d", "day", "days"): 86_400_000_000,
    ("w", "week", "weeks"): 7 * 86_400_000_000,
    ("month", "M", "months"): 2_629_800_000_000,  # a twelfth of a year
    ("y", "year", "years"): 31_557_600_000_000,  # 365.25 days
}
_UNITS = {name: size for names, size in _MICROSECONDS.items() for name in names}
_WRITTEN = ("d", "h", "min", "s", "ms", "us")  # not y, month, w: nobody counts on a month of 30.4375 days
_PART = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)[ \t]*([A-Za-zµμ]+)[ \t]*")
_MONTHS = re.compile(r"([0-9]{1,4})[ \t]*(?:(M|mo|months?)|(y|years?))")
_LONGEST = timedelta(days=36500)
_MAXIMUM = 2**63 - 1  # µs, 292,000 years: systemd takes no greater number, though it counts in 64 bits


@dataclass(frozen=True)
class Months:
    """A whole number of calendar months: for a span that counts from a date."""

    count: int


def parse_period(text: str) -> timedelta | Months:
    """``2 weeks``, ``10d``; but ``3 months`` and ``1 year`` by the calendar, as Months. Raises BadInput."""
    if months := _MONTHS.fullmatch(text.strip(" \t")):
        return Months(int(months[1]) * (1 if months[2] else 12))
    return parse_span(text)


def parse_span(text: str) -> timedelta:
    """``90`` (seconds), ``15m``, ``1h 30min``, ``1.5h``, ``500ms``; m is minutes, M months. Fractions of a microsecond
    are dropped, as by systemd. Raises BadInput for anything else, negative spans and what systemd cannot hold."""
    stripped = text.strip(" \t")
    if re.fullmatch(r"[0-9]{1,20}(\.[0-9]{1,20})?", stripped):
        stripped += "s"
    total, position = 0, 0
    while position < len(stripped) and (part := _PART.match(stripped, position)) and part[2] in _UNITS:
        total += int(Fraction(part[1]) * _UNITS[part[2]])
        position = part.end()
    if not stripped or position < len(stripped):
        raise BadInput(f"{visible(text)} is not a time span", hint="write 90 (seconds), 15m, 1h 30min, 2d or 500ms")
    if total > _MAXIMUM:
        raise BadInput(f"{visible(text)} is longer than systemd can wait", hint="leave the limit out for no limit")
    return timedelta(microseconds=total)


def format_span(span: timedelta | Months) -> str:
    """The span in systemd's words, exactly: ``1h 30min``, ``2d 500ms``, ``0``. Raises BadInput for a negative one."""
    if isinstance(span, Months):
        count, unit = (span.count, "month") if span.count % 12 else (span.count // 12, "year")
        return f"{count} {unit}{'' if count == 1 else 's'}"
    rest = span // timedelta(microseconds=1)
    if rest < 0:
        raise BadInput(f"a span of {span} is negative", hint="spans count from 0 on")
    parts = []
    for unit in _WRITTEN:
        count, rest = divmod(rest, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts) or "0"


def check_span(option: str, value: timedelta, *, least: timedelta) -> None:
    """Raise BadInput for a span that is shorter than ``least`` or longer than 100 years."""
    if not least <= value <= _LONGEST:
        raise BadInput(f"{option} must be between {least.total_seconds():g} s and 100 years")
