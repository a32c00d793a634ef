"""What a job's --not-before, --not-after and --except-calendar come to: asked of systemd, and of calendar files."""

import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

from lsh_systemd import analyze, ics, unit
from lsh_systemd.errors import BadInput
from lsh_systemd.job import EXCEPTION_HINT, Job
from lsh_systemd.spec import Spec, parse_normalized
from lsh_systemd.text import visible
from lsh_systemd.timetable import Interval, Limits

# As far ahead as the lines that name dates reach (schedule.calendar_lines), and a year more.
_YEARS = 6
_WINDOW = re.compile(r"([0-9]{1,2}):([0-9]{2})-([0-9]{1,2}):([0-9]{2})")
_DAY = timedelta(days=1)


def known(job: Job, *, now: datetime, local_zone: str) -> unit.Known:
    """What rendering the job needs to know. Raises BadInput for what systemd or a calendar file does not tell."""
    normalized = analyze.normalized(unit.calendar_specs(job))
    excluded = [*_bounds(job)]
    for exception in job.except_calendar:
        if exception.startswith("/"):
            zone = job.timezone or local_zone
            excluded += ics.busy(Path(exception), zone=zone, first_year=now.year, last_year=now.year + _YEARS)
        else:
            excluded += _excepted(exception, now.year)
    limits = Limits(excluded)
    return unit.Known(limits=limits, specs=tuple(map(parse_normalized, normalized)) if limits else ())


def _bounds(job: Job) -> Iterator[Interval]:
    if job.not_before:
        yield datetime.min, job.not_before  # noqa: DTZ901
    if job.not_after:
        yield job.not_after + timedelta(seconds=1), datetime.max  # noqa: DTZ901


def _excepted(exception: str, year: int) -> Iterator[Interval]:
    """The times of "DAYS", "FROM-TO" or "DAYS FROM-TO": whole days, or a part of each, perhaps past midnight."""
    words = exception.split()
    start, end = timedelta(), _DAY
    if window := _WINDOW.fullmatch(words[-1]):
        words.pop()
        start, end = _clock(exception, *window.group(1, 2)), _clock(exception, *window.group(3, 4))
        if end <= start:
            end += _DAY
    days = _days(" ".join(words), exception) if words else None
    day = date(year - 1, 12, 31)  # a window may begin the evening before
    while day.year <= year + _YEARS:
        if days is None or days.match_date(day):
            midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001
            yield midnight + start, midnight + end
        day += _DAY


def _clock(exception: str, hour: str, minute: str) -> timedelta:
    time = timedelta(hours=int(hour), minutes=int(minute))
    if int(minute) > 59 or time > _DAY:
        raise BadInput(f"{visible(exception)}: there is no time {hour}:{minute}", hint=EXCEPTION_HINT)
    return time


def _days(text: str, exception: str) -> Spec:
    if ":" in text:
        raise BadInput(f"{visible(exception)} excepts days, or a part of each", hint=EXCEPTION_HINT)
    try:
        spec = parse_normalized(analyze.normalized([text])[0])
    except BadInput:
        raise BadInput(f"{visible(exception)} is neither days nor a file", hint=EXCEPTION_HINT) from None
    if spec.zone or (spec.hours, spec.minutes, spec.seconds) != (frozenset({0}), frozenset({0}), frozenset({0})):
        raise BadInput(f"{visible(exception)} excepts days, or a part of each", hint=EXCEPTION_HINT)
    return spec
