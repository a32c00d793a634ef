"""Sets of numbers as systemd.time(7) writes them: ``Mon..Fri``, ``00/15``, ``01..05,08``."""

from calendar import monthrange
from collections.abc import Iterable, Iterator, Mapping, Set
from datetime import date, datetime

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")  # systemd's week begins on Monday


def values_text(values: Set[int], low: int, high: int, *, width: int = 2) -> str:
    """``*`` for all of low..high, else steps, ranges and single values, as a person would write them."""
    numbers = sorted(values)
    if len(numbers) == high - low + 1:
        return "*"
    step = numbers[1] - numbers[0] if len(numbers) > 2 else 0
    if step > 1 and numbers == list(range(numbers[0], numbers[-1] + 1, step)):
        # always with an end: what systemd does beyond the last value of an open 00/15 loses runs (issue 40260)
        return f"{numbers[0]:0{width}}..{numbers[-1]:0{width}}/{step}"
    return ",".join(
        f"{first:0{width}}..{last:0{width}}" if last > first else f"{first:0{width}}" for first, last in _runs(numbers)
    )


def weekdays_text(weekdays: Set[int]) -> str:
    """Monday = 0 … Sunday = 6 as ``Mon..Wed,Sat``."""
    return ",".join(
        f"{WEEKDAYS[first]}..{WEEKDAYS[last]}" if last > first else WEEKDAYS[first]
        for first, last in _runs(sorted(weekdays))
    )


def time_text(hours: Set[int], minutes: Set[int], seconds: Set[int]) -> str:
    return f"{values_text(hours, 0, 23)}:{values_text(minutes, 0, 59)}:{values_text(seconds, 0, 59)}"


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """First and last of each run of neighbours; a run of two stays two single values."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    pairs = [[(a, a), (b, b)] if b == a + 1 else [(a, b)] for a, b in runs]
    return [run for pair in pairs for run in pair]


def instants_text(instants: Iterable[datetime]) -> tuple[str, ...]:
    """Instants (UTC) as few OnCalendar= values in UTC; their dates are usually the same Sunday of each year."""
    days: dict[date, dict[Minute, set[int]]] = {}
    for at in instants:
        days.setdefault(at.date(), {}).setdefault((at.hour, at.minute), set()).add(at.second)
    dates: dict[str, list[date]] = {}
    for day, minutes in days.items():
        for text in times_text(minutes):
            dates.setdefault(text, []).append(day)
    return tuple(f"{dates_text} {time} UTC" for time, group in dates.items() for dates_text in _dates_text(group))


Minute = tuple[int, int]  # hour, minute


def times_text(times: Mapping[Minute, Set[int]]) -> list[str]:
    """The times of a day, seconds by hour and minute, in as few HH:MM:SS texts as their shape allows."""
    minutes: dict[tuple[int, frozenset[int]], set[int]] = {}
    for (hour, minute), seconds in times.items():
        minutes.setdefault((hour, frozenset(seconds)), set()).add(minute)
    hours: dict[tuple[frozenset[int], frozenset[int]], set[int]] = {}
    for (hour, second_set), minute_set in minutes.items():
        hours.setdefault((frozenset(minute_set), second_set), set()).add(hour)
    return [time_text(hour_set, *rest) for rest, hour_set in hours.items()]


def _dates_text(days: list[date]) -> list[str]:
    """These dates in few texts: clocks mostly change on the same Sunday of a month, year after year."""
    texts = []
    for month in sorted({day.month for day in days}):
        rest = [day for day in days if day.month == month]
        while rest:
            text, found = max(_dates_like(rest[0], rest), key=lambda like: len(like[1]))
            texts.append(text)
            rest = [day for day in rest if day not in found]
    return texts


def _dates_like(first: date, days: list[date]) -> Iterator[tuple[str, list[date]]]:
    """The ways to write the first date (all of one month) together with others: the same day of the month, the same
    weekday of it (the 2nd Sunday), the same last weekday."""
    week = (first.day - 1) // 7
    same_weekday = [day for day in days if day.weekday() == first.weekday()]
    last = [day for day in same_weekday if day.day + 7 > monthrange(day.year, day.month)[1]]
    ways = [
        (f"-{first.month:02}-{first.day:02}", "", [day for day in days if day.day == first.day]),
        (f"-{first.month:02}~07/1", WEEKDAYS[first.weekday()] + " ", last if first in last else []),
        (
            f"-{first.month:02}-{week * 7 + 1:02}..{min(week * 7 + 7, 31):02}",
            WEEKDAYS[first.weekday()] + " ",
            [day for day in same_weekday if (day.day - 1) // 7 == week],
        ),
    ]
    for text, weekday, found in ways:
        years = values_text({day.year for day in found}, 1970, 2199, width=4)
        yield f"{weekday}{years}{text}", found
