"""Whether many jobs start at the same minute. Their timer files tell; systemd is not asked."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from lsh_systemd.cron import MACROS, Cron, CronError, parse
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.instants import upcoming
from lsh_systemd.job import PREFIX
from lsh_systemd.scope import Scope, transient_unit_dir, unit_dir
from lsh_systemd.unitdir import UnitDir
from lsh_systemd.zones import check_zone, transitions

MANY = 5
_INSTANTS = 50  # so many of the coming ones are looked at
_CRON = re.compile(r"^# cron: (.+?)(?: \(([\w+/-]+)\))?$", re.MULTILINE)


def warnings(
    expression: str, coming: Sequence[datetime], *, zone: str, scope: Scope, local_zone: str, job_id: str = ""
) -> Iterator[str]:
    """A word about the minute of the coming instants at which the most other jobs start, where these are many. The job
    of this id is not one of them; those without a zone of their own go by ``local_zone``."""
    minutes = sorted({at.replace(second=0, microsecond=0) for at in coming[:_INSTANTS]})
    clock = _Clock(minutes, local_zone)
    starts: Counter[datetime] = Counter()
    for each, timer in timers(scope):
        if each != job_id:
            starts.update({at for found in _CRON.findall(timer) for at in clock.starts(*found, job_id=each)})
    busiest = max(minutes, key=lambda at: starts[at], default=None)
    if busiest is None or starts[busiest] < MANY:
        return
    whose = "of the machine" if scope is Scope.SYSTEM else "of yours"
    spread = _spread(expression)
    way = f"write {spread} (H is another minute for each job), or use --jitter 10m" if spread else "use --jitter 10m"
    yield (
        f"{starts[busiest]} other jobs {whose} start at {busiest.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M}, too: "
        f"to spread the load, {way}"
    )


def timers(scope: Scope) -> Iterator[tuple[str, str]]:
    """Id and timer file of each job whose schedule counts, and is not put off by --jitter."""
    seen: set[str] = set()
    for folder in (UnitDir(unit_dir(scope)), UnitDir(transient_unit_dir(scope))):
        try:
            names = folder.enabled_timers(PREFIX)
        except LshError:  # not ours to read: nothing is known of its jobs
            continue
        for name in names:
            job_id = name.removeprefix(PREFIX).removesuffix(".timer")
            if job_id not in seen and (text := _text(folder, name)) and "\nRandomizedDelaySec=" not in text:
                yield job_id, text
            seen.add(job_id)


def _text(folder: UnitDir, name: str) -> str | None:
    try:
        return folder.text(name)
    except LshError:
        return None


class _Clock:
    """Some minutes, and which of them a cron expression starts at. Many jobs have the same one, or the same zone."""

    def __init__(self, minutes: Sequence[datetime], local_zone: str) -> None:
        self._minutes = minutes
        self._local_zone = local_zone
        self._walls: dict[str, list[tuple[datetime, datetime, bool]]] = {}
        self._starts: dict[tuple[str, str, str], list[datetime]] = {}

    def starts(self, expression: str, zone: str, *, job_id: str) -> list[datetime]:
        """Those of the minutes in which the job starts; none where its timer was edited so that this cannot be told."""
        key = (expression, zone or self._local_zone, job_id if "H" in expression.upper() else "")
        if key not in self._starts:
            try:
                cron = parse(expression, seconds=True, key=job_id)
                self._starts[key] = [each[0] for each in self._in(key[1]) if _runs(cron, key[1], *each)]
            except BadInput:
                self._starts[key] = []
        return self._starts[key]

    def _in(self, zone: str) -> list[tuple[datetime, datetime, bool]]:
        """The minutes, each with the zone's wall clock, and whether that has just jumped ahead."""
        if zone not in self._walls:
            check_zone(zone)
            self._walls[zone] = [
                (at, at.astimezone(ZoneInfo(zone)), any(each.at == at for each in transitions(zone, at.year, at.year)))
                for at in self._minutes
            ]
        return self._walls[zone]


def _runs(cron: Cron, zone: str, at: datetime, wall: datetime, changed: bool) -> bool:
    """Whether the job starts within this minute."""
    if wall.minute in cron.minutes and wall.hour in cron.hours and cron.match_date(wall.date()):
        return not (cron.fixed and wall.fold)  # the second time that the clock shows this minute
    if not (changed and cron.fixed):
        return False
    # perhaps for a time that the clock has jumped over
    following = next(upcoming(cron, zone, at - timedelta(microseconds=1)), None)
    return following is not None and following < at + timedelta(minutes=1)


def _spread(expression: str) -> str:
    """The expression with H for its minute; empty where that is no single one."""
    minute, *rest = MACROS.get(expression.strip().lower(), expression).split()
    if not re.fullmatch(r"[0-9]+|\*/[0-9]+", minute):
        return ""
    spread = " ".join(["H" + minute[1:] if minute.startswith("*") else "H", *rest])
    try:
        parse(spread, seconds=True)
    except CronError:  # */90
        return ""
    return spread
