"""The instants at which Debian cron starts a job: the rule that the OnCalendar= lines are measured by.

Where a clock jumps ahead, cron runs a fixed-time job once at the end of the gap if the gap swallowed one of its times.
Where a clock is set back, a fixed-time job has run already and keeps still while the hour repeats; every other job goes
by the wall clock through both.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

from lsh_systemd.timetable import Timetable
from lsh_systemd.zones import Transition, check_zone, transitions, utc_offset

_YEARS = 50  # a 29th of February that must be a Monday can be 40 years away (2100 has none)


def upcoming(cron: Timetable, zone: str, after: datetime) -> Iterator[datetime]:
    """The instants (UTC) after this one (aware), in order, for 50 years. Raises BadInput for an unknown zone."""
    check_zone(zone)
    silent_until = datetime.min  # the wall clock up to which a fixed-time job has had its runs  # noqa: DTZ901
    for start, end, offset, change in _stretches(zone, after.astimezone(UTC)):
        if change and change.gap:
            yield from (instant for instant in _made_up(cron, change) if instant > after)
        if change and cron.fixed and not change.gap:
            silent_until = change.wall[1]
        # no need to walk through what has been: start at the second of "after"
        first = max(start, after.astimezone(UTC).replace(microsecond=0))
        for wall in matches(cron, _naive(first + offset), _naive(end + offset)):
            instant = (wall - offset).replace(tzinfo=UTC)
            if instant > after and wall >= silent_until:
                yield instant


def missing(cron: Timetable, change: Transition) -> Iterator[datetime]:
    """The instants (UTC) at which cron starts the job, and systemd with only the plain lines may not, because of this
    change of the clock."""
    start, end = change.wall
    if not change.gap:
        if not cron.fixed:
            yield from ((wall - change.after).replace(tzinfo=UTC) for wall in matches(cron, start, end))
    elif change.rough and _meets(cron, start, end):
        # the rest of the day; at the least one instant more: from there systemd calculates anew, with the gap behind it
        midnight = end.replace(hour=0, minute=0) + timedelta(days=1)
        rest = [(wall - change.after).replace(tzinfo=UTC) for wall in matches(cron, end, midnight)]
        found = [*_made_up(cron, change), *rest]
        yield from found or islice(upcoming(cron, change.zone, change.at), 1)
    else:
        yield from _made_up(cron, change)


def _made_up(cron: Timetable, change: Transition) -> Iterator[datetime]:
    """The run at the end of a gap for the times that it swallowed, unless the job runs in that minute anyway."""
    start, end = change.wall
    if cron.fixed and any(matches(cron, start, end)) and not any(matches(cron, end, end + timedelta(minutes=1))):
        yield change.at


def _meets(cron: Timetable, start: datetime, end: datetime) -> bool:
    """Whether the job has anything to do in the hours that these wall-clock times lie in."""
    hour = start.replace(minute=0, second=0)
    while hour < end:
        if hour.hour in cron.hours and cron.match_date(hour.date()):
            return True
        hour += timedelta(hours=1)
    return False


def matches(cron: Timetable, start: datetime, end: datetime) -> Iterator[datetime]:
    """The naive wall-clock times from start to end (not included) that the expression matches, in order."""
    day = start.replace(hour=0, minute=0, second=0, microsecond=0)
    while day < end:
        if cron.match_date(day.date()):
            for hour in sorted(cron.hours):
                at = day.replace(hour=hour)
                if at < end and start < at + timedelta(hours=1):
                    yield from (wall for wall in _within_hour(cron, at) if start <= wall < end and cron.allows(wall))
        day += timedelta(days=1)


def _within_hour(cron: Timetable, hour: datetime) -> Iterator[datetime]:
    for minute in sorted(cron.minutes):
        for second in sorted(cron.seconds):
            yield hour.replace(minute=minute, second=second)


def _stretches(zone: str, start: datetime) -> Iterator[tuple[datetime, datetime, timedelta, Transition | None]]:
    """From the year of start on, the times (UTC) between two changes of the clock: begin, end, the offset in force, and
    the change that it began with, if any."""
    begin, change = datetime(start.year, 1, 1, tzinfo=UTC), None
    for year in range(start.year, min(start.year + _YEARS, 9998)):
        for following in transitions(zone, year, year):
            yield begin, following.at, following.before, change
            begin, change = following.at, following
        end = datetime(year + 1, 1, 1, tzinfo=UTC)
        yield begin, end, utc_offset(zone, begin), change
        begin, change = end, None


def _naive(instant: datetime) -> datetime:
    return instant.replace(tzinfo=None)
