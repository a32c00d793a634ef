"""Calendar files (.ics, RFC 5545): the times that their events take up."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from lsh_systemd import plainfile
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.text import visible

Interval = tuple[datetime, datetime]

_LARGEST = 5_000_000  # bytes; the holidays of a country are 50 kB
# An event that comes back so often would have millions of times.
_TOO_OFTEN = frozenset({"SECONDLY", "MINUTELY"})


def busy(path: Path, *, zone: str, first_year: int, last_year: int) -> list[Interval]:
    """The times of the file's events, as naive wall-clock times of the zone, start and end (not included).

    An event that has a date only takes up its whole days; those marked as cancelled none. Raises BadInput for a file
    that cannot be read or is no calendar.
    """
    try:
        import icalendar
        import recurring_ical_events
    except ImportError:
        raise LshError(
            "calendar files need the Python package recurring-ical-events", hint="python3-recurring-ical-events"
        ) from None
    data = _read(path)
    try:
        calendar = icalendar.Calendar.from_ical(data)
        _check_rules(calendar)
        found = recurring_ical_events.of(calendar).between(date(first_year, 1, 1), date(last_year + 1, 1, 2))
        return sorted(interval for event in found for interval in _interval(event, ZoneInfo(zone)))
    except BadInput as error:
        raise BadInput(f"{visible(str(path))}: {error.message}") from None
    except Exception as error:  # what the two libraries raise for a broken file is anything at all
        # Not in their words, which would quote a file that is somebody else's.
        raise BadInput(f"{visible(str(path))} is not a calendar file ({type(error).__name__})") from None


def _read(path: Path) -> bytes:
    try:
        data, _ = plainfile.read(path, _LARGEST)
    except OSError as error:
        raise BadInput(f"cannot read the calendar {visible(str(path))}: {error.strerror}") from None
    if len(data) > _LARGEST:
        raise BadInput(f"{visible(str(path))} is larger than {_LARGEST // 1_000_000} MB")
    return data


def _check_rules(calendar: Any) -> None:
    for component in calendar.walk("VEVENT"):
        rules = component.get("RRULE", [])
        for rule in rules if isinstance(rules, list) else [rules]:
            if _TOO_OFTEN & {str(each).upper() for each in rule.get("FREQ", [])}:
                raise BadInput("an event that comes back every second or minute is none to wait for")


def _interval(event: Any, zone: ZoneInfo) -> Iterator[Interval]:
    if str(event.get("STATUS", "")).upper() == "CANCELLED":
        return
    begin = event["DTSTART"].dt
    if "DTEND" in event:
        end = event["DTEND"].dt
    elif "DURATION" in event:
        end = begin + event["DURATION"].dt
    else:
        end = begin if isinstance(begin, datetime) else begin + timedelta(days=1)
    if not isinstance(begin, datetime) and end == begin:
        end = begin + timedelta(days=1)  # seen in the wild: a whole day that ends as it begins
    first, last = _wall(begin, zone), _wall(end, zone)
    if first < last:
        yield first, last


def _wall(moment: date, zone: ZoneInfo) -> datetime:
    """A date as its first moment; a time in the zone; one without a zone ("floating") as it is."""
    if not isinstance(moment, datetime):
        return datetime.combine(moment, time())
    if moment.tzinfo is None:
        return moment
    return moment.astimezone(UTC).astimezone(zone).replace(tzinfo=None)
