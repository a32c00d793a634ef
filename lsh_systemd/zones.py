"""Time zones: which names there are, what systemd makes of them, and when their clocks change."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from lsh_systemd.errors import BadInput
from lsh_systemd.text import visible

# systemd takes a last word that is one of the machine's own abbreviations (CET and CEST in Berlin) for "local time with
# this offset", not for the zone of that name: name the place instead.
_ABBREVIATIONS = {
    "CET": "Europe/Brussels",
    "EET": "Europe/Athens",
    "EST": "America/Panama",
    "GMT": "Etc/GMT",
    "HST": "Pacific/Honolulu",
    "MET": "Europe/Brussels",
    "MST": "America/Phoenix",
    "WET": "Europe/Lisbon",
}


def check_zone(name: str) -> None:
    """Raise BadInput unless this is an IANA zone that this machine knows: one of zoneinfo.available_timezones()."""
    if not _is_zone(name):
        near = [zone for zone in sorted(available_timezones()) if name and zone.lower().endswith(name.lower())]
        hint = f"did you mean {near[0]}?" if near else "write an IANA name like Europe/Berlin"
        raise BadInput(f"{visible(name)} is not a time zone", hint=f"{hint} (timedatectl list-timezones lists them)")


@lru_cache(maxsize=256)
def _is_zone(name: str) -> bool:
    # available_timezones() reads the headers of 600 files (50 ms); to look at the one in question is enough
    if not re.fullmatch(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*", name):
        return False
    if name.startswith(("posix/", "right/")) or name in ("posixrules", "localtime"):
        return False  # other kinds of data, or names that do not say which zone
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # no such file, another kind of file, a directory
        return False
    return True


def systemd_zone(name: str) -> str:
    """The name under which systemd means this zone, whatever the machine's own zone is."""
    return _ABBREVIATIONS.get(name, name)


@dataclass(frozen=True, kw_only=True)
class Transition:
    """The clocks of a zone go from one UTC offset to another at ``at`` (UTC). ``dst_before``: the time before it is
    flagged as summer time (in Dublin and Casablanca that is the winter)."""

    zone: str
    at: datetime
    before: timedelta
    after: timedelta
    dst_before: bool

    @property
    def wall(self) -> tuple[datetime, datetime]:
        """The naive wall-clock times, start and end (not included), that are skipped (a gap) or come twice."""
        naive = self.at.replace(tzinfo=None)
        first, last = sorted((naive + self.before, naive + self.after))
        return first, last

    @property
    def gap(self) -> bool:
        return self.after > self.before

    @property
    def rough(self) -> bool:
        """A gap that systemd stumbles over: it may lose what comes after it that day, and more (see instants.missing).

        glibc's mktime moves a time that does not exist to the side that has the flag for summer time. systemd gives
        the day up if that is backwards (tm_within_bounds refuses it). Forwards, it sets the minutes to 0 in the hour
        that it lands in: too early where the gap ends within that hour (Chatham, where it may even loop and give the
        line up), too late where the gap is longer than an hour (Troll).
        """
        start, end = self.wall
        uneven = end.minute != 0 and start.hour != end.hour
        return self.gap and (self.dst_before or uneven or end - start > timedelta(hours=1))


@lru_cache(maxsize=256)
def transitions(zone: str, first_year: int, last_year: int) -> tuple[Transition, ...]:
    """Every change of the zone's UTC offset from the start of the first year to the end of the last one (UTC)."""
    found = []
    # A day's step suffices: no zone has changed its offset twice within a day.
    at = datetime(first_year, 1, 1, tzinfo=UTC)
    end = datetime(min(last_year, 9998) + 1, 1, 1, tzinfo=UTC)  # Python knows no year 10000
    offset = utc_offset(zone, at)
    while at < end:
        following = at + timedelta(days=1)
        if (changed := utc_offset(zone, following)) != offset:
            low, high = at, following  # offset at low, changed at high
            while high - low > timedelta(seconds=1):
                middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
                low, high = (middle, high) if utc_offset(zone, middle) == offset else (low, middle)
            dst = bool(low.astimezone(ZoneInfo(zone)).dst())
            found.append(Transition(zone=zone, at=high, before=offset, after=changed, dst_before=dst))
        at, offset = following, changed
    return tuple(found)


def utc_offset(zone: str, at: datetime) -> timedelta:
    """By how much the zone's clocks are ahead of UTC at this instant."""
    offset = at.astimezone(ZoneInfo(zone)).utcoffset()
    assert offset is not None
    return offset
