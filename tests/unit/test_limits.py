"""Limits, exceptions and anchored dates: the timer elapses, on the real systemd, at the instants that are left."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from lsh_systemd import analyze, limits, unit
from lsh_systemd.cron import parse
from lsh_systemd.errors import BadInput
from lsh_systemd.instants import upcoming
from lsh_systemd.job import Job
from lsh_systemd.jobfile import from_plain, to_plain
from lsh_systemd.schedule import ScheduleOver
from lsh_systemd.spec import parse_normalized
from tests.unit.test_cron_instants import ZONES, union, windows

NOW = datetime(2026, 11, 22, tzinfo=UTC)
ICS = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//holidays//
BEGIN:VEVENT
UID:1
DTSTART;VALUE=DATE:20251225
DTEND;VALUE=DATE:20251227
RRULE:FREQ=YEARLY
TRANSP:TRANSPARENT
SUMMARY:Christmas
END:VEVENT
BEGIN:VEVENT
UID:2
DTSTART:20270310T200000Z
DURATION:PT3H
SUMMARY:Maintenance
END:VEVENT
BEGIN:VEVENT
UID:3
DTSTART;VALUE=DATE:20270401
SUMMARY:A day
END:VEVENT
BEGIN:VEVENT
UID:4
DTSTART;VALUE=DATE:20270402
STATUS:CANCELLED
SUMMARY:Not after all
END:VEVENT
BEGIN:VEVENT
UID:5
DTSTART:20270405T060000
DTEND:20270405T180000
SUMMARY:Floating
END:VEVENT
END:VCALENDAR
""".replace("\n", "\r\n")


def job(**plain: Any) -> Job:
    return from_plain({"name": "x", "command": "true", **plain})


def lines(job: Job, *, now: datetime = NOW, local_zone: str = "UTC") -> list[str]:
    known = limits.known(job, now=now, local_zone=local_zone)
    return unit.calendar_lines(job, now=now, local_zone=local_zone, known=known)


def elapses(job: Job, count: int, *, after: datetime = NOW) -> list[str]:
    """The first instants of the timer after a time, in UTC."""
    return [f"{at:%Y-%m-%d %H:%M}" for at in analyze.instants(lines(job), after=after, count=count)]


def midday(wall: datetime) -> bool:
    return wall.weekday() < 5 and 9 <= wall.hour < 17


def night(wall: datetime) -> bool:
    """22:00-01:30 of Sunday: until Monday."""
    return (wall.weekday() == 6 and wall.hour >= 22) or (wall.weekday() == 0 and (wall.hour, wall.minute) < (1, 30))


# What is excepted, and the same as a person would test for it
EXCEPTIONS: list[tuple[list[str], Callable[[datetime], bool]]] = [
    (["Sat,Sun"], lambda wall: wall.weekday() > 4),
    (["Mon..Fri 09:00-17:00"], midday),
    (["Sun 22:00-01:30"], night),
    (["*-*-1..7", "*-12-24..31"], lambda wall: wall.day < 8 or (wall.month == 12 and wall.day > 23)),
    (["02:30-03:30"], lambda wall: (2, 30) <= (wall.hour, wall.minute) < (3, 30)),
    (["*-03~07/1", "*-10-*"], lambda wall: wall.month == 10 or (wall.month == 3 and wall.day > 24)),
]
EXPRESSIONS = ["0 2 * * *", "30 2 * * *", "*/15 * * * *", "0 */2 * * 1-5", "0 0 L * *", "45 1,3 1-10 * 1", "0 3 * * 7"]


@pytest.mark.parametrize("zone", [*ZONES][::3])
@pytest.mark.parametrize(("exceptions", "excepted"), EXCEPTIONS, ids=[" ".join(each) for each, _ in EXCEPTIONS])
def test_exceptions_around_every_change_of_the_clock(
    zone: str, exceptions: list[str], excepted: Callable[[datetime], bool]
) -> None:
    for number, window in enumerate(windows(zone)):
        expression = EXPRESSIONS[number % len(EXPRESSIONS)]
        limited = job(schedule=[expression], except_calendar=exceptions)
        cron = parse(expression)
        allowed = window.cut(upcoming(cron, zone, window.start))
        wanted = [at for at in allowed if not excepted(at.astimezone(ZoneInfo(zone)))]
        if cron.fixed and window.change.gap:
            # a time that the gap swallows is made up only where it was not excepted itself
            made_up = window.change.at
            start, end = window.change.wall
            steps = range(0, int((end - start).total_seconds()), 60)
            swallowed = [start + timedelta(seconds=step) for step in steps]
            made_up_for = any(cron.match(wall) and not excepted(wall) for wall in swallowed)
            if made_up in wanted and not cron.match(end) and not made_up_for:
                wanted.remove(made_up)
        known = limits.known(limited, now=ZONES[zone], local_zone=zone)
        found = unit.calendar_lines(limited, now=ZONES[zone], local_zone=zone, known=known)
        assert union(found, window, len(wanted) + 4) == wanted, (expression, window.change, found)


@pytest.mark.parametrize(
    ("plain", "instants"),
    [
        ({"every": "2w", "anchor": "2027-01-04T09:00:00"}, ["2027-01-04 09:00", "2027-01-18 09:00"]),
        ({"every": "10d", "anchor": "2026-11-02T06:30:00"}, ["2026-11-22 06:30", "2026-12-02 06:30"]),
        ({"every": "1 day", "anchor": "2020-01-01T00:00:00"}, ["2026-11-23 00:00", "2026-11-24 00:00"]),
        (
            {"every": "1 month", "anchor": "2026-10-31T08:00:00"},
            ["2026-11-30 08:00", "2026-12-31 08:00", "2027-01-31 08:00", "2027-02-28 08:00", "2027-03-31 08:00"],
        ),
        ({"every": "1 year", "anchor": "2024-02-29T08:00:00"}, ["2027-02-28 08:00", "2028-02-29 08:00"]),
        ({"every": "5 months", "anchor": "2026-09-15T12:00:00"}, ["2027-02-15 12:00", "2027-07-15 12:00"]),
        # by the clock of the zone, over its changes; 02:30 does not come on 2027-03-28
        (
            {"every": "7d", "anchor": "2027-03-21T02:30:00", "timezone": "Europe/Berlin"},
            ["2027-03-21 01:30", "2027-03-28 01:00", "2027-04-04 00:30"],
        ),
        (
            {"schedule": ["0 2 * * *"], "not_before": "2027-03-15T02:00:00"},
            ["2027-03-15 02:00", "2027-03-16 02:00"],
        ),
        (
            {"schedule": ["0 2 * * *"], "not_before": "2027-03-15T02:00:01", "not_after": "2027-03-17T02:00:00"},
            ["2027-03-16 02:00", "2027-03-17 02:00"],
        ),
        (
            {"schedule": ["0 2 * * *", "@yearly"], "not_after": "2026-11-23T12:00:00"},
            ["2026-11-22 02:00", "2026-11-23 02:00"],
        ),
        (
            {"schedule": ["0 2 * * *"], "not_before": "2098-03-15T00:00:00", "not_after": "2098-03-16T23:59:59"},
            ["2098-03-15 02:00", "2098-03-16 02:00"],
        ),
        (
            {"every": "3 months", "anchor": "2027-01-31T08:00:00", "not_before": "2045-03-15T00:00:00"},
            ["2045-04-30 08:00", "2045-07-31 08:00"],
        ),
        (
            {"calendar": ["Mon..Fri 09:00 Asia/Tokyo"], "except_calendar": ["*-11-23..26"]},
            ["2026-11-27 00:00", "2026-11-30 00:00", "2026-12-01 00:00"],
        ),
        ({"calendar": ["*-*~02/1 06:00"], "except_calendar": ["Mon"]}, ["2026-11-29 06:00", "2026-12-30 06:00"]),
        (
            {"every": "2d", "anchor": "2026-11-22T09:00:00", "except_calendar": ["Thu"]},
            ["2026-11-22 09:00", "2026-11-24 09:00", "2026-11-28 09:00", "2026-11-30 09:00"],
        ),
    ],
)  # fmt: skip
def test_instants(plain: dict[str, Any], instants: list[str]) -> None:
    assert elapses(job(**plain), len(instants)) == instants


@pytest.mark.parametrize(
    "text",
    [
        "Mon..Fri 09:00",
        "*-*~07/1 06:00",
        "*-*~01..05/2 06:00",
        "*-02~03,01 06:00",
        "Sat,Sun *-05..08/2-01..07,15/8 10..18/4:07,11:30",
        "2027/2-01-01 00:00",
        "2027..2030-*-31 23:59:59",
        "weekly",
        "quarterly",
        "*:0/20",
        "Sun *-*~07/1 01:00",
    ],
)
def test_a_calendar_expression_is_read_as_systemd_means_it(text: str) -> None:
    spec = parse_normalized(analyze.normalized([text])[0])
    coming = islice(upcoming(spec, "UTC", NOW), 20)
    assert [*coming] == analyze.instants([f"{text} UTC"], after=NOW, count=20)


def test_a_schedule_without_an_end_goes_on_after_the_years_that_are_named() -> None:
    limited = job(schedule=["0 2 * * *"], except_calendar=["*-12-25"])
    assert elapses(limited, 3, after=datetime(2040, 5, 1, tzinfo=UTC)) == [
        "2040-05-01 02:00", "2040-05-02 02:00", "2040-05-03 02:00",
    ]  # fmt: skip
    ending = job(schedule=["0 2 * * *"], not_after="2040-05-02T12:00:00")
    assert elapses(ending, 1, after=datetime(2031, 12, 31, 12, tzinfo=UTC)) == ["2032-01-01 02:00"]


def test_a_limit_of_a_year_that_is_over_leaves_no_trace() -> None:
    plain = {"schedule": ["0 2 * * *"], "not_before": "2026-11-20T00:00:00"}
    assert lines(job(**plain), now=datetime(2027, 1, 1, tzinfo=UTC)) == ["*-*-* 02:00:00"]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
def test_events_of_a_calendar_file(tmp_path: Path, zone: str) -> None:
    path = tmp_path / "holidays.ics"
    path.write_text(ICS)
    limited = job(schedule=["0 * * * *"], except_calendar=[str(path)], timezone=zone)

    def excepted(at: datetime) -> bool:
        wall = at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        return (
            (wall.month, wall.day) in {(12, 25), (12, 26)}
            or (wall.year, wall.month, wall.day) == (2027, 4, 1)
            or datetime(2027, 3, 10, 20, tzinfo=UTC) <= at < datetime(2027, 3, 10, 23, tzinfo=UTC)
            or datetime(2027, 4, 5, 6) <= wall < datetime(2027, 4, 5, 18)  # noqa: DTZ001
        )

    for start in (datetime(2026, 12, 23), datetime(2027, 3, 9), datetime(2027, 3, 30), datetime(2031, 12, 24)):  # noqa: DTZ001
        after = start.replace(tzinfo=UTC)
        wanted = [at for at in islice(upcoming(parse("0 * * * *"), zone, after), 200) if not excepted(at)]
        assert analyze.instants(lines(limited), after=after, count=len(wanted)) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a calendar file"),
        (ICS.replace("20251225", "nonsense"), "is not a calendar file"),
        (ICS.replace("FREQ=YEARLY", "FREQ=SECONDLY"), "every second or minute"),
        (None, "No such file"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_calendar_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "x.ics"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInput, match=message):
        lines(job(schedule=["0 2 * * *"], except_calendar=[str(path)]))


@pytest.mark.parametrize(
    "exception",
    [
        "Mon 09:00",
        "09:00-25:00",
        "09:60-10:00",
        "never",
        "*-13-01",
        "Mon Europe/Berlin",
        "monthly UTC",
    ],
)
def test_exceptions_that_mean_nothing_are_refused(exception: str) -> None:
    with pytest.raises(BadInput):
        lines(job(schedule=["0 2 * * *"], except_calendar=[exception]))


@pytest.mark.parametrize(
    "plain",
    [
        {"every": "15m", "not_before": "2027-01-01T00:00:00"},
        {"every": "15m", "anchor": "2027-01-01T00:00:00"},
        {"every": "36h", "anchor": "2027-01-01T00:00:00"},
        {"every": "0 months", "anchor": "2027-01-01T00:00:00"},
        {"anchor": "2027-01-01T00:00:00"},
        {"anchor": "2027-01-01T00:00:00", "schedule": ["@daily"]},
        {"at": "2027-01-01T00:00:00Z", "except_calendar": ["Mon"]},
        {"on_boot": True, "not_after": "2027-01-01T00:00:00"},
        {"schedule": ["@daily"], "not_before": "2027-01-02T00:00:00", "not_after": "2027-01-01T00:00:00"},
        {"schedule": ["@daily"], "not_before": "2027-01-02T00:00:00Z"},
        {"schedule": ["@daily"], "except_calendar": ["Mon\nExecStart=x"]},
        {"schedule": ["@daily"], "except_calendar": ["/tmp/x\n.ics"]},
        {"schedule": ["@daily"], "catch_up": "twice"},
        {"schedule": ["@daily"], "catch_up_spread": "5m"},
        {"every": "15m", "catch_up": "all"},
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(plain: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        job(**plain)


def test_what_is_over_says_so() -> None:
    with pytest.raises(ScheduleOver):
        lines(job(schedule=["0 2 * * *"], not_after="2026-11-22T00:00:00"))
    with pytest.raises(ScheduleOver):
        lines(job(calendar=["Mon 09:00"], not_after="2026-11-22T00:00:00"))


def test_every_field_goes_to_plain_data_and_back() -> None:
    given = job(
        every="3 months",
        anchor="2027-01-31T08:00:00",
        not_before="2027-01-01T00:00:00",
        not_after="2029-01-01T00:00:00",
        except_calendar=["Sat,Sun", "/etc/holidays.ics"],
        catch_up="all",
        catch_up_spread="10min",
    )
    assert from_plain(to_plain(given)) == given
    assert from_plain({"name": "x", "command": "x", "schedule": ["@daily"], "persistent": True}).catch_up == "once"
