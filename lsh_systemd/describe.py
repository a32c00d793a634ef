"""What a cron expression means, in English: one sentence, and warnings about what usually surprises.

Our own words, not the package cron-descriptor's: it says "every 35 minutes" of */35, reads ``0 0 */2 * 1`` as "or on
Monday", and turns ``1,5L`` into the last Monday and Friday.
"""

from collections.abc import Iterator, Set

from lsh_systemd.cron import LAST, Cron

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = tuple("January February March April May June July August September October November December".split())
_NTH = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", LAST: "last"}
_ALL_TIMES = 6  # so many times of day are named one by one


def describe(cron: Cron) -> str:
    """The expression as an English sentence, without a full stop: ``At 02:00 every day``."""
    time = _time(cron)
    date = _date(cron)
    if not date and len(cron.hours) < 24:
        date = "every day"
    # ", Monday to Friday", but " every Monday" and " on the 1st"
    sentence = time + (", " if date[:1].isupper() else " " if date else "") + date
    return sentence[0].upper() + sentence[1:]


def _time(cron: Cron) -> str:
    """At what times of day."""
    hours, minutes, seconds = sorted(cron.hours), sorted(cron.minutes), sorted(cron.seconds)
    if len(hours) * len(minutes) * len(seconds) <= _ALL_TIMES and len(hours) < 24:
        end = len("02:00") if seconds == [0] else len("02:00:00")
        return "at " + _join([f"{h:02}:{m:02}:{s:02}"[:end] for h in hours for m in minutes for s in seconds])
    if seconds == [0]:
        return _minutes(cron.hours, cron.minutes)
    each = _every(cron.seconds, 60, "second") or f"at second {_numbers(cron.seconds)}"
    if len(minutes) < 60 or len(hours) < 24:
        return f"{each} of the minute, {_minutes(cron.hours, cron.minutes)}"
    return each if each.startswith("every") else f"{each} of every minute"


def _minutes(hours: Set[int], minutes: Set[int]) -> str:
    """At what minutes of the day, the seconds aside."""
    every = _every(minutes, 60, "minute")
    run = _run(hours, 24)
    if len(hours) == 24:
        if minutes == {0}:
            return "every hour, on the hour"
        return every or f"at {_past(minutes)} every hour"
    if every and run:
        return f"{every.partition(',')[0]} from {run[0]:02}:{min(minutes):02} to {run[1]:02}:{max(minutes):02}"
    every_hours = _every(hours, 24, "hour")
    if len(minutes) == 1 and (every_hours or run):
        first, last = run or (min(hours), max(hours))
        minute = min(minutes)
        return f"{every_hours or 'every hour'} from {first:02}:{minute:02} to {last:02}:{minute:02}"
    during = f"every hour from {run[0]} to {run[1]}" if run else f"the hours {_numbers(hours)}"
    return f"{every} of {during}" if every else f"at {_past(minutes)} {during}"


def _date(cron: Cron) -> str:
    """On what days; empty where it is every day."""
    months = "" if len(cron.months) == 12 else _names(cron.months, _MONTHS, 1)
    years = "" if cron.years is None else f"in {_numbers(cron.years)}"
    day, weekday = _day_of_month(cron, months), _day_of_week(cron, months)
    if day and weekday and cron.day_and:
        days = f"{day}, if it is {_weekday_alone(cron)}"
    elif day and weekday:
        days = f"{day}, and also {weekday}"
    elif (day or weekday) and cron.day_and:
        days = day or weekday
    else:  # neither is limited, or only one of them and either suffices
        days = f"every day in {months}" if months else "every day" if years else ""
    return " ".join(part for part in (days, years) if part)


def _day_of_month(cron: Cron, months: str) -> str:
    days = cron.days
    if len(days.numbers) == 31:
        return ""
    of = f"of {months or 'the month'}"
    numbers = sorted(days.numbers)
    step = numbers[1] - numbers[0] if len(numbers) > 4 else 0
    parts = []
    if step > 1 and numbers == list(range(numbers[0], numbers[-1] + 1, step)):
        parts.append(f"every {_ordinal(step)} day from the {_ordinal(numbers[0])} to the {_ordinal(numbers[-1])}")
    elif numbers:
        parts += [f"the {_ordinal(a)}" if a == b else f"the {_ordinal(a)} to {_ordinal(b)}" for a, b in _runs(numbers)]
    parts += [f"the weekday (Monday to Friday) nearest to the {_ordinal(day)}" for day in sorted(days.nearest)]
    if days.last:
        parts.append("the last day")
    if days.last_weekday:
        parts.append("the last weekday (Monday to Friday)")
    return f"on {_join(parts)} {of}"


def _day_of_week(cron: Cron, months: str) -> str:
    days = cron.weekdays
    if len(days.numbers) == 7:
        return ""
    parts = []
    if days.numbers:
        names = _names(days.numbers, _WEEKDAYS, 0)
        parts.append((names if " to " in names else f"every {names}") + (f" in {months}" if months else ""))
    nth = [f"the {_NTH[n]} {_WEEKDAYS[weekday]}" for weekday, n in sorted(days.nth)]
    if nth:
        parts.append(f"on {_join(nth)} of {months or 'the month'}")
    return " and ".join(parts)


def _weekday_alone(cron: Cron) -> str:
    names = [f"a {_WEEKDAYS[weekday]}" for weekday in sorted(cron.weekdays.numbers)]
    names += [f"the {_NTH[n]} {_WEEKDAYS[weekday]} of the month" for weekday, n in sorted(cron.weekdays.nth)]
    return _join(names, "or")


def _every(values: Set[int], size: int, unit: str) -> str:
    """``every 15 minutes`` where the values are spaced evenly all round the clock, else empty."""
    count = len(values)
    if count < 3 or size % count or sorted(values) != list(range(min(values), size, size // count)):
        return ""
    if count == size:
        return f"every {unit}"
    start = f", starting at {unit} {min(values)}" if min(values) else ""
    return f"every {size // count} {unit}s{start}" if unit != "hour" else f"every {size // count} hours"


def _past(minutes: Set[int]) -> str:
    return f"{_numbers(minutes)} minute{'' if minutes == {1} else 's'} past"


def _run(values: Set[int], size: int) -> tuple[int, int] | None:
    """First and last where the values follow one another, perhaps over the end (22, 23, 0, 1); None elsewhere."""
    starts = [value for value in values if (value - 1) % size not in values]
    return (starts[0], (starts[0] + len(values) - 1) % size) if len(starts) == 1 else None


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of three or more; what is alone or a pair comes one by one."""
    while numbers:
        length = next((i for i, n in enumerate(numbers) if n != numbers[0] + i), len(numbers))
        length = length if length > 2 else 1
        yield numbers[0], numbers[length - 1]
        numbers = numbers[length:]


def _numbers(values: Set[int]) -> str:
    return _join([f"{a}" if a == b else f"{a} to {b}" for a, b in _runs(sorted(values))])


def _names(values: Set[int], names: tuple[str, ...], low: int) -> str:
    run = _run({value - low for value in values}, len(names))
    if run and len(values) > 2:
        return f"{names[run[0]]} to {names[run[1]]}"
    return _join([names[value - low] for value in sorted(values)])


def _join(parts: list[str], word: str = "and") -> str:
    return f" {word} ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number not in (11, 12, 13) else 0, "th")
    return f"{number}{ending}"
