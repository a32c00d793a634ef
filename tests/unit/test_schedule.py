"""Cron → OnCalendar= lines, sentence and warnings, as tables. That the lines are right is for test_cron_instants."""

import re
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsh_systemd.calendar_text import instants_text, values_text, weekdays_text
from lsh_systemd.cron import CronError, parse
from lsh_systemd.describe import describe
from lsh_systemd.errors import BadInput
from lsh_systemd.instants import upcoming
from lsh_systemd.schedule import base_lines, calendar_lines
from lsh_systemd.surprises import warnings
from lsh_systemd.zones import check_zone, systemd_zone, transitions

NOW = datetime(2026, 11, 22, tzinfo=UTC)
BERLIN_AHEAD = "Sun 2026..2031-03~07/1"
BERLIN_BACK = "Sun 2026..2031-10~07/1"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("0 2 * * *", ["*-*-* 02:00:00"]),
        ("5 6 * * *", ["*-*-* 06:05:00"]),
        ("* * * * *", ["*-*-* *:*:00"]),
        ("*/15 * * * *", ["*-*-* *:00..45/15:00"]),
        ("*/15 9-17 * * 1-5", ["Mon..Fri *-*-* 09..17:00..45/15:00"]),
        ("*/35 9-17 * * 1-5", ["Mon..Fri *-*-* 09..17:00,35:00"]),
        ("0 */5 * * *", ["*-*-* 00..20/5:00:00"]),
        ("0 22-2 * * *", ["*-*-* 00..02,22,23:00:00"]),
        ("0 0 * * fri-mon", ["Mon,Fri..Sun *-*-* 00:00:00"]),
        ("0 0 * * 0,6,7", ["Sat,Sun *-*-* 00:00:00"]),
        ("0 0 1 * 1", ["*-*-01 00:00:00", "Mon *-*-* 00:00:00"]),
        ("0 0 */2 * 1", ["Mon *-*-01..31/2 00:00:00"]),
        ("0 0 1-31 * 1", ["*-*-* 00:00:00"]),
        ("0 0 L * *", ["*-*~01 00:00:00"]),
        ("0 0 * * 5L", ["Fri *-*~07/1 00:00:00"]),
        ("0 0 * * 1#2", ["Mon *-*-08..14 00:00:00"]),
        ("0 0 * * 5#5", ["Fri *-*-29..31 00:00:00"]),
        ("0 0 1,15,L * *", ["*-*-01,15 00:00:00", "*-*~01 00:00:00"]),
        ("0 0 LW * *", ["Mon..Thu *-*~01 00:00:00", "Fri *-*~01..03 00:00:00"]),
        ("0 0 15W * *", ["Mon *-*-15,16 00:00:00", "Tue..Thu *-*-15 00:00:00", "Fri *-*-14,15 00:00:00"]),
        ("0 0 1 */3 *", ["*-01..10/3-01 00:00:00"]),
        ("@weekly", ["Sun *-*-* 00:00:00"]),
        ("@yearly", ["*-01-01 00:00:00"]),
        ("0 0 1 1 * */20 2027-2029", ["2027..2029-01-01 00:00:00..40/20"]),
    ],
)
def test_base_lines(text: str, lines: list[str]) -> None:
    cron = parse(text, seconds=True)
    assert list(base_lines(cron)) == lines
    assert list(calendar_lines(cron, zone=None, now=NOW)) == lines
    assert list(calendar_lines(cron, zone="Asia/Kolkata", now=NOW)) == [f"{line} Asia/Kolkata" for line in lines]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        # nothing happens in the hours that a change of the clock touches
        ("0 9 * * 1-5", ["Mon..Fri *-*-* 09:00:00 Europe/Berlin"]),
        ("30 2 * * 1-6", ["Mon..Sat *-*-* 02:30:00 Europe/Berlin"]),
        ("0 3 * * *", ["*-*-* 03:00:00 Europe/Berlin"]),
        # fixed-time jobs: made up at 03:00, which is 01:00 UTC; but not where they run at 03:00 anyway
        ("30 2 * * *", ["*-*-* 02:30:00 Europe/Berlin", f"{BERLIN_AHEAD} 01:00:00 UTC"]),
        ("0 2,3 * * *", ["*-*-* 02,03:00:00 Europe/Berlin"]),
        # others: the second 02:00 to 02:59
        ("*/15 2 * * *", ["*-*-* 02:00..45/15:00 Europe/Berlin", f"{BERLIN_BACK} 01:00..45/15:00 UTC"]),
        ("0 */2 * * *", ["*-*-* 00..22/2:00:00 Europe/Berlin", f"{BERLIN_BACK} 01:00:00 UTC"]),
        # the same minutes of every hour are the same minutes of UTC's
        ("5 * * * *", ["*-*-* *:05:00 UTC"]),
        ("* * * * *", ["*-*-* *:*:00 UTC"]),
        # only one of the dates
        ("30 2 28 3 *", ["*-03-28 02:30:00 Europe/Berlin", "2027-03-28 01:00:00 UTC"]),
        # a day counted from the end of the month would take the second 02:30
        (
            "30 2 * * 0L",
            [
                "Sun *-01..09,11,12~07/1 02:30:00 Europe/Berlin",
                "Sun *-10-25..31 02:30:00 Europe/Berlin",
                f"{BERLIN_AHEAD} 01:00:00 UTC",
            ],
        ),
    ],
)
def test_lines_in_berlin(text: str, lines: list[str]) -> None:
    assert list(calendar_lines(parse(text), zone="Europe/Berlin", now=NOW)) == lines
    local = [line.removesuffix(" Europe/Berlin") for line in lines]
    assert list(calendar_lines(parse(text), zone=None, local_zone="Europe/Berlin", now=NOW)) == local


def test_a_leap_day_within_given_years() -> None:
    """The clocks of Casablanca go back on the last Sunday of February 2028, perhaps; 2027 is no leap year."""
    lines = base_lines(parse("30 2 * 2 0L 0 2027", seconds=True), forward=frozenset({2}))
    assert lines == ("Sun 2027-02-22..28 02:30:00",)


def test_lines_stay_the_same_until_the_year_is_over() -> None:
    cron = parse("30 2 * * *")
    first = calendar_lines(cron, zone="Africa/Casablanca", now=datetime(2027, 1, 1, tzinfo=UTC))
    assert first == calendar_lines(cron, zone="Africa/Casablanca", now=datetime(2027, 12, 31, 23, 59, tzinfo=UTC))
    assert first != calendar_lines(cron, zone="Africa/Casablanca", now=datetime(2028, 1, 1, tzinfo=UTC))


def test_minutes_that_a_half_hour_moves_stay_in_their_zone() -> None:
    assert calendar_lines(parse("*/30 * * * *"), zone="Australia/Lord_Howe", now=NOW) == ("*-*-* *:00,30:00 UTC",)
    assert calendar_lines(parse("5 * * * *"), zone="Australia/Lord_Howe", now=NOW)[0].endswith("Australia/Lord_Howe")
    assert calendar_lines(parse("0 * * * *"), zone="America/St_Johns", now=NOW) == ("*-*-* *:30:00 UTC",)


def test_years_that_are_over() -> None:
    with pytest.raises(CronError):
        calendar_lines(parse("0 0 1 1 * 0 2026", seconds=True), zone="Europe/Berlin", now=NOW)
    assert calendar_lines(parse("0 0 31 12 * 0 2026", seconds=True), zone=None, now=NOW)


# Zones


@pytest.mark.parametrize(
    "zone",
    ["", "Berlin", "europe/berlin", "Europe/Berlin ", "Europe/Berlin\n", "UTC\nExecStart=/bin/sh", "../etc/passwd",
     "CEST", "/etc/localtime", "Europe", "posix/Europe/Berlin", "Europe/Berlin\x00", "%H", "localtime", "tzdata.zi",
     "leapseconds", "posixrules", "é", "A" * 300],
)  # fmt: skip
def test_no_such_zone(zone: str) -> None:
    for how in ({"zone": zone}, {"zone": None, "local_zone": zone}):
        with pytest.raises(BadInput):
            calendar_lines(parse("0 0 * * *"), now=NOW, **how)


def test_every_zone_that_there_is() -> None:
    for zone in available_timezones() - {"localtime"}:
        check_zone(zone)


def test_near_miss() -> None:
    with pytest.raises(BadInput) as caught:
        check_zone("berlin")
    assert caught.value.hint is not None and "Europe/Berlin" in caught.value.hint


def test_abbreviations_name_a_place() -> None:
    """On a machine in Berlin, systemd reads CET as "in winter only"."""
    assert calendar_lines(parse("0 9 * * *"), zone="CET", now=NOW) == ("*-*-* 09:00:00 Europe/Brussels",)
    summer_and_winter = [datetime(2027, month, 1, tzinfo=UTC) for month in (1, 7)]
    used = {f"{at.astimezone(ZoneInfo(place)):%Z}" for at in summer_and_winter for place in SOME_PLACES} - {"UTC"}
    for zone in available_timezones():
        written = systemd_zone(zone)
        if written == zone:
            assert zone not in used
        else:
            changes = [(change.at, change.after) for change in transitions(zone, 2026, 2035)]
            assert changes == [(change.at, change.after) for change in transitions(written, 2026, 2035)]


SOME_PLACES = """
Europe/Berlin Europe/Athens Europe/Lisbon Europe/London America/New_York America/Chicago America/Phoenix Asia/Tokyo
America/Los_Angeles Pacific/Honolulu Africa/Lagos Africa/Johannesburg Asia/Jerusalem
""".split()


@pytest.mark.parametrize(
    ("zone", "count", "rough"),
    [
        ("Europe/Berlin", 12, False),
        ("Europe/Dublin", 12, True),  # its summer time is the winter
        ("Africa/Casablanca", 13, True),
        ("Antarctica/Troll", 12, True),  # two hours
        ("Pacific/Chatham", 12, True),  # from 02:45 to 03:45
        ("Australia/Lord_Howe", 12, False),
        ("Asia/Kolkata", 0, False),
    ],
)
def test_transitions(zone: str, count: int, rough: bool) -> None:
    found = transitions(zone, 2026, 2031)
    assert len(found) == count
    assert any(change.rough for change in found) is rough
    for change in found:
        for at, offset in ((change.at - timedelta(seconds=1), change.before), (change.at, change.after)):
            assert at.astimezone(ZoneInfo(zone)).utcoffset() == offset


# Instants


@pytest.mark.parametrize(
    ("text", "after", "instants"),
    [
        ("30 2 * * *", "2027-03-27 12:00", ["03-28 01:00", "03-29 00:30", "03-30 00:30"]),
        ("30 2 * * *", "2027-10-30 12:00", ["10-31 00:30", "11-01 01:30", "11-02 01:30"]),
        ("*/30 2 * * *", "2027-03-27 12:00", ["03-29 00:00", "03-29 00:30", "03-30 00:00"]),
        ("*/30 2 * * *", "2027-10-30 12:00", ["10-31 00:00", "10-31 00:30", "10-31 01:00", "10-31 01:30"]),
        ("*/30 2 * * *", "2027-10-31 00:30", ["10-31 01:00", "10-31 01:30", "11-01 01:00"]),
        ("30 2 * * *", "2027-10-31 00:30", ["11-01 01:30"]),
        ("0 0 29 2 *", "2027-01-01 00:00", ["02-28 23:00"]),
    ],
)
def test_upcoming(text: str, after: str, instants: list[str]) -> None:
    start = datetime.fromisoformat(after).replace(tzinfo=UTC)
    coming = islice(upcoming(parse(text), "Europe/Berlin", start), len(instants))
    assert [f"{at:%m-%d %H:%M}" for at in coming] == instants


@given(st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1)))  # noqa: DTZ001
def test_upcoming_goes_on_from_anywhere(after: datetime) -> None:
    cron, start = parse("*/20 1-3 * * *"), after.replace(tzinfo=UTC)
    first, second = islice(upcoming(cron, "Europe/Berlin", start), 2)
    assert start < first < second
    assert next(upcoming(cron, "Europe/Berlin", first)) == second


# Text


@given(st.sets(st.integers(0, 59), min_size=1))
def test_values_text_is_the_same_set(values: set[int]) -> None:
    text = values_text(values, 0, 59)
    found: set[int] = set()
    for item in text.split(","):
        first, last, step = re.fullmatch(r"(\*|\d\d)(?:\.\.(\d\d))?(?:/(\d+))?", item).groups()  # type: ignore[union-attr]
        start, end = (0, 59) if first == "*" else (int(first), int(last or first))
        found.update(range(start, end + 1, int(step or 1)))
    assert found == values


@given(st.sets(st.datetimes(datetime(2027, 1, 1), datetime(2031, 12, 31)).map(lambda at: at.replace(microsecond=0))))  # noqa: DTZ001
def test_instants_text_holds_them_all(walls: set[datetime]) -> None:
    lines = instants_text(sorted(wall.replace(tzinfo=UTC) for wall in walls))
    assert len(lines) <= len(walls)
    assert all(re.fullmatch(LINE, line) and line.endswith(" UTC") for line in lines)


def test_weekdays_text() -> None:
    assert weekdays_text({0, 1, 2, 3, 4}) == "Mon..Fri"
    assert weekdays_text({0, 1, 5}) == "Mon,Tue,Sat"


LINE = r"([A-Z][a-z]{2}[A-Za-z,.]* )?[-0-9*,./~]+ [0-9*,./:]+( [A-Za-z0-9_+/-]+)?"
FIELDS = [
    st.sampled_from("* */7 0 5,50 1-30/4 H H/9".split()),
    st.sampled_from("* */5 2 0-3 22-2 H(1-3)".split()),
    st.sampled_from("* */3 1 L LW 15W 28W 1,L 28-3 H".split()),
    st.sampled_from("* */5 2 mar,oct 11-2".split()),
    st.sampled_from("* */2 0 mon-fri fri-mon 5L 5#2 1,5L".split()),
]


@given(st.tuples(*FIELDS).map(" ".join), st.sampled_from(sorted(available_timezones() - {"localtime"})))
def test_every_line_is_a_line(text: str, zone: str) -> None:
    try:
        cron = parse(text)
    except CronError:
        return
    lines = calendar_lines(cron, zone=zone, now=NOW)
    assert lines and len(set(lines)) == len(lines)
    assert all(re.fullmatch(LINE, line) for line in lines), lines
    assert describe(cron)[0].isupper()
    assert all(warnings(cron, zone, NOW))


# Words


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("* * * * *", "Every minute"),
        ("*/15 * * * *", "Every 15 minutes"),
        ("5-59/15 * * * *", "Every 15 minutes, starting at minute 5"),
        ("*/35 * * * *", "At 0 and 35 minutes past every hour"),
        ("0 * * * *", "Every hour, on the hour"),
        ("1 * * * *", "At 1 minute past every hour"),
        ("0 2 * * *", "At 02:00 every day"),
        ("0 9,12,18 * * *", "At 09:00, 12:00 and 18:00 every day"),
        ("0 */2 * * *", "Every 2 hours from 00:00 to 22:00 every day"),
        ("5 9-17 * * *", "Every hour from 09:05 to 17:05 every day"),
        ("*/5 9-17 * * 1-5", "Every 5 minutes from 09:00 to 17:55, Monday to Friday"),
        ("* 22-1 * * *", "Every minute from 22:00 to 01:59 every day"),
        ("*/35 9-17 * * 1-5", "At 0 and 35 minutes past every hour from 9 to 17, Monday to Friday"),
        ("1-6,8 1,2,5 * * *", "At 1 to 6 and 8 minutes past the hours 1, 2 and 5 every day"),
        ("0 0 1 * *", "At 00:00 on the 1st of the month"),
        ("0 0 1,15 1,7 *", "At 00:00 on the 1st and the 15th of January and July"),
        ("0 0 1-7 * *", "At 00:00 on the 1st to 7th of the month"),
        ("0 0 */2 * *", "At 00:00 on every 2nd day from the 1st to the 31st of the month"),
        ("0 0 L * *", "At 00:00 on the last day of the month"),
        ("0 0 1,L * *", "At 00:00 on the 1st and the last day of the month"),
        ("0 0 LW * *", "At 00:00 on the last weekday (Monday to Friday) of the month"),
        ("0 0 15W * *", "At 00:00 on the weekday (Monday to Friday) nearest to the 15th of the month"),
        ("0 0 * * 5L", "At 00:00 on the last Friday of the month"),
        ("0 0 * 3 5#2", "At 00:00 on the second Friday of March"),
        ("0 9 * * 1,5L", "At 09:00 every Monday and on the last Friday of the month"),
        ("0 0 * * 0", "At 00:00 every Sunday"),
        ("0 0 * * 1,3", "At 00:00 every Monday and Wednesday"),
        ("0 0 * * fri-mon", "At 00:00, Friday to Monday"),
        ("0 0 1 * 1", "At 00:00 on the 1st of the month, and also every Monday"),
        ("0 0 13 10 5", "At 00:00 on the 13th of October, and also every Friday in October"),
        ("0 0 */2 * 1", "At 00:00 on every 2nd day from the 1st to the 31st of the month, if it is a Monday"),
        ("0 0 L * */3", "At 00:00 on the last day of the month, if it is a Wednesday, a Saturday or a Sunday"),
        ("0 0 1-31 * 1", "At 00:00 every day"),
        ("0 0 1-31 2 1", "At 00:00 every day in February"),
        ("0 0 * 11-2 *", "At 00:00 every day in November to February"),
        ("30 2 * * * 15", "At 02:30:15 every day"),
        ("* * * * * *", "Every second"),
        ("* * * * * */10", "Every 10 seconds"),
        ("* * * * * 30", "At second 30 of every minute"),
        ("*/5 * * * * 0,30", "At second 0 and 30 of the minute, every 5 minutes"),
        ("0 2 1 1 * 0 2027,2028", "At 02:00 on the 1st of January in 2027 and 2028"),
        ("0 2 * * * 0 2027", "At 02:00 every day in 2027"),
    ],
)
def test_describe(text: str, sentence: str) -> None:
    assert describe(parse(text, seconds=True)) == sentence


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 9 * * 1-5", []),
        ("*/15 * * * *", []),
        ("0 9 25-31 * *", []),
        ("*/35 * * * *", ["minutes 0, 35 of each hour, not every 35 minutes; for that, use --every 35min"]),
        ("*/90 * * * *", ["once in each hour; for that, use --every 90min"]),
        ("0 */5 9 * *", ["hours 0, 5, 10, 15, 20 of each day"]),
        ("0 9 */2 * *", ["counts anew with each month"]),
        ("0 9 1 * 1", ["where either matches"]),
        ("0 9 */2 * 1", ["counts anew", "where both match"]),
        ("0 9 31 * *", ["no 31st in February, April, June, September and November"]),
        ("0 9 31 1 *", []),
        ("0 9 30 * *", ["no 30th in February"]),
        ("0 9 29 2 *", ["no 29th in February", "once in years: on 2028-02-29, then on 2032-02-29"]),
        ("30 2 * * *", ["2027-03-28 in Europe/Berlin the clock jumps over 02:30: it runs once at 03:00",
                        "2027-10-31 in Europe/Berlin 02:30 comes twice: it runs the first time only"]),
        ("*/30 2 * * *", ["the clock jumps over 02:00 to 02:30: it does not run then",
                          "02:00 to 02:30 comes twice: it runs both times"]),
        ("0 9 1 1 * 0 2020", ["never run again"]),
        ("0 9 1 1 * 0 2027", ["once more, on 2027-01-01, and never again"]),
    ],
)  # fmt: skip
def test_warnings(text: str, words: list[str]) -> None:
    found = warnings(parse(text, seconds=True), "Europe/Berlin", NOW)
    assert len(found) == len(words), found
    assert all(word in warning for word, warning in zip(words, found, strict=True)), found


def test_no_word_of_clocks_without_a_zone() -> None:
    assert warnings(parse("30 2 * * *"), None, NOW) == []
