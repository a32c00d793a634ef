"""OnCalendar= lines that name their dates: for timetables that no rule of systemd's can say."""

from calendar import monthrange
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import date, timedelta

from lsh_systemd.calendar_text import time_text, times_text, values_text, weekdays_text
from lsh_systemd.timetable import Cut, Limits, Timetable


def dated_lines(timetable: Timetable, limits: Limits, first_year: int, last_year: int) -> list[str]:
    """The timetable within its limits from the first to the last year, as OnCalendar= values without a zone."""
    dates: dict[str, list[date]] = defaultdict(list)
    known: dict[tuple[Cut, ...], list[str]] = {}
    day = date(first_year, 1, 1)
    while day.year <= last_year:
        if timetable.match_date(day):
            cuts = limits.cuts(day)
            if cuts not in known:
                known[cuts] = _times(timetable, cuts)
            for text in known[cuts]:
                dates[text].append(day)
        day += timedelta(days=1)
    return [f"{dates_text} {text}" for text, days in dates.items() for dates_text in sorted(_dates(days))]


def _times(timetable: Timetable, cuts: tuple[Cut, ...]) -> list[str]:
    """The times of a day without those cut out of it, as HH:MM:SS texts."""
    if not cuts:
        return [time_text(timetable.hours, timetable.minutes, timetable.seconds)]
    left: dict[tuple[int, int], set[int]] = defaultdict(set)
    for hour in timetable.hours:
        for minute in timetable.minutes:
            for second in timetable.seconds:
                at = timedelta(hours=hour, minutes=minute, seconds=second)
                if not any(start <= at < end for start, end in cuts):
                    left[hour, minute].add(second)
    return times_text(left)


def _dates(days: Iterable[date]) -> Iterator[str]:
    """These dates in few texts: the months that look alike together, the years whose months look alike together."""
    months: dict[tuple[int, int], set[int]] = defaultdict(set)
    for day in days:
        months[day.year, day.month].add(day.day)
    shapes: dict[tuple[str, str], dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for (year, month), numbers in months.items():
        shapes[_shape(year, month, numbers)][year].add(month)
    for (weekdays, numbers_text), by_year in shapes.items():
        by_months: dict[frozenset[int], set[int]] = defaultdict(set)
        for year, those in by_year.items():
            by_months[frozenset(those)].add(year)
        for those_months, years in by_months.items():
            year_text = values_text(years, 1970, 2199, width=4)
            yield f"{weekdays}{year_text}-{values_text(those_months, 1, 12)}-{numbers_text}"


def _shape(year: int, month: int, numbers: set[int]) -> tuple[str, str]:
    """Days of a month as systemd writes them: the weekdays that they are limited to, and their numbers."""
    everyday = set(range(1, monthrange(year, month)[1] + 1))
    if numbers == everyday:
        return "", "*"
    of_week = {number: date(year, month, number).weekday() for number in everyday}
    weekdays = {of_week[number] for number in numbers}
    plain = ("", values_text(numbers, 1, 31))
    if len(weekdays) == 7:
        return plain
    free = {number for number in everyday if of_week[number] not in weekdays}
    shown = numbers | _filling(free, numbers, len(everyday))
    limited = (f"{weekdays_text(weekdays)} ", "*" if shown == everyday else values_text(shown, 1, 31))
    return min(plain, limited, key=lambda shape: len(shape[0] + shape[1]))


def _filling(free: set[int], numbers: set[int], last: int) -> set[int]:
    """Of the days that do not matter, those between days that are wanted: so the text is the same for all months."""
    found: set[int] = set()
    for number in free:
        before = next((n for n in range(number, 0, -1) if n not in free), None)
        after = next((n for n in range(number, last + 1) if n not in free), None)
        if (before is None or before in numbers) and (after is None or after in numbers):
            found.add(number)
    return found
