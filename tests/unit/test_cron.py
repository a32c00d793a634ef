"""Cron expressions: what is understood as what, what is refused, and where the finger points."""

from datetime import date, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsh_systemd.cron import MACROS, Cron, CronError, DaysOfMonth, DaysOfWeek, nearest_weekday, parse

MON, TUE, WED, THU, FRI, SAT, SUN = range(7)


@pytest.mark.parametrize(
    ("field", "minutes"),
    [
        ("*", set(range(60))),
        ("5", {5}),
        ("05", {5}),
        ("0,30", {0, 30}),
        ("10-13", {10, 11, 12, 13}),
        ("*/15", {0, 15, 30, 45}),
        ("*/35", {0, 35}),
        ("*/90", {0}),
        ("5-59/15", {5, 20, 35, 50}),
        ("1-5/2,30", {1, 3, 5, 30}),
        ("58-1", {58, 59, 0, 1}),
        ("50-10/5", {50, 55, 0, 5, 10}),
        ("7-7/2", {7}),
    ],
)
def test_minutes(field: str, minutes: set[int]) -> None:
    assert parse(f"{field} * * * *").minutes == minutes


@pytest.mark.parametrize(
    ("field", "weekdays"),
    [
        ("*", {MON, TUE, WED, THU, FRI, SAT, SUN}),
        ("0", {SUN}),
        ("7", {SUN}),
        ("0,7", {SUN}),
        ("sun", {SUN}),
        ("1-5", {MON, TUE, WED, THU, FRI}),
        ("MON-Fri", {MON, TUE, WED, THU, FRI}),
        ("fri-mon", {FRI, SAT, SUN, MON}),
        ("5-7", {FRI, SAT, SUN}),
        ("5-0", {FRI, SAT, SUN}),
        ("7-2", {SUN, MON, TUE}),
        ("sat-sun", {SAT, SUN}),
        ("0-7", {MON, TUE, WED, THU, FRI, SAT, SUN}),
        ("*/2", {SUN, TUE, THU, SAT}),
        ("*/7", {SUN}),
        ("1-7/2", {MON, WED, FRI, SUN}),
    ],
)
def test_weekdays(field: str, weekdays: set[int]) -> None:
    assert parse(f"0 0 * * {field}").weekdays.numbers == weekdays


def test_months_and_hours_wrap() -> None:
    assert parse("0 22-2 * nov-feb *").hours == {22, 23, 0, 1, 2}
    assert parse("0 22-2 * nov-feb *").months == {11, 12, 1, 2}
    assert parse("0 0 * dec,MAR,6 *").months == {12, 3, 6}


@pytest.mark.parametrize(
    ("text", "dates"),
    [
        ("0 0 L 2 *", ["2027-02-28"]),
        ("0 0 LW 2 *", ["2027-02-26"]),  # the 28th is a Sunday
        ("0 0 15W 8 *", ["2027-08-16"]),  # a Sunday
        ("0 0 1W 5 *", ["2027-05-03"]),  # a Saturday: not back into April
        ("0 0 31W 1 *", ["2027-01-29"]),  # a Sunday: not on into February
        ("0 0 31W 9-10 *", ["2027-10-29"]),  # and September has none
        ("0 0 1,L 4 *", ["2027-04-01", "2027-04-30"]),
        ("0 0 * 3 5L", ["2027-03-26"]),
        ("0 0 * 3 FRIL", ["2027-03-26"]),
        ("0 0 * 3 fri#2", ["2027-03-12"]),
        ("0 0 * 1 5#5", ["2027-01-29"]),
        ("0 0 * 3 7L", ["2027-03-28"]),
        ("0 0 13 8 5", ["2027-08-06", "2027-08-13", "2027-08-20", "2027-08-27"]),
        ("0 0 1 3 2", ["2027-03-01", "2027-03-02", "2027-03-09", "2027-03-16", "2027-03-23", "2027-03-30"]),
        ("0 0 */10 3 1-5", ["2027-03-01", "2027-03-11", "2027-03-31"]),  # a star: both must match
        ("0 0 1-7 3 */7", ["2027-03-07"]),
        ("0 0 28-2 2 *", ["2027-02-01", "2027-02-02", "2027-02-28"]),
    ],
)
def test_dates(text: str, dates: list[str]) -> None:
    cron = parse(text)
    year = [date.fromordinal(day) for day in range(date(2027, 1, 1).toordinal(), date(2028, 1, 1).toordinal())]
    assert [day.isoformat() for day in year if cron.match_date(day)] == dates


@pytest.mark.parametrize(
    ("day", "weekday", "both"),
    [
        ("*", "*", True),
        ("1", "*", True),
        ("*", "1", True),
        ("1", "1", False),
        ("*/2", "1", True),  # vixie looks at the first character only
        ("1", "*/2", True),
        ("1-31", "1", False),
        ("1", "0-7", False),
        ("1,*/2", "1", False),
        ("L", "5#2", False),
        ("H", "1", False),
    ],
)
def test_and_or(day: str, weekday: str, both: bool) -> None:
    assert parse(f"0 0 {day} * {weekday}").day_and is both


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("30 2 * * *", True),
        ("* 2 * * *", False),
        ("30 * * * *", False),
        ("*/30 2 * * *", False),
        ("0-59 0-23 * * *", True),
        ("0,*/5 2 * * *", True),
        ("30 2 * * * *", True),  # the seconds do not count: cron has none
    ],
)
def test_fixed_time_jobs(text: str, fixed: bool) -> None:
    assert parse(text, seconds=True).fixed is fixed


@pytest.mark.parametrize(("macro", "fields"), MACROS.items())
def test_macros(macro: str, fields: str) -> None:
    for said in (macro, macro.upper(), f" {macro}\t"):
        cron, spelt = parse(said), parse(fields)
        assert (cron.minutes, cron.hours, cron.days, cron.months, cron.weekdays) == (
            (spelt.minutes, spelt.hours, spelt.days, spelt.months, spelt.weekdays)
        )
    assert parse("@weekly").weekdays.numbers == {SUN}  # systemd's weekly is Monday


def test_six_and_seven_fields() -> None:
    cron = parse("30 2 * * * */20", seconds=True)
    assert cron.minutes == {30} and cron.hours == {2} and cron.seconds == {0, 20, 40} and cron.years is None
    assert parse("0 0 1 1 * 0 2027-2029", seconds=True).years == frozenset({2027, 2028, 2029})
    assert parse("0 0 1 1 * 0 *", seconds=True).years is None
    assert parse("30 2 * * *", seconds=True) == parse("30 2 * * *")
    wall = datetime.fromisoformat("2027-01-01 02:30:40")
    assert cron.match(wall) and not cron.match(wall.replace(second=41))


# H: Jenkins' hash

HASHED = [15, 22, 7, 12, 3]


@pytest.mark.parametrize(
    ("field", "low", "high", "count"),
    [("H", 0, 59, 1), ("H(2-5)", 2, 5, 1), ("H/15", 0, 59, 4), ("H(0-29)/10", 0, 29, 3), ("h", 0, 59, 1)],
)
@given(key=st.text())
def test_hash(field: str, low: int, high: int, count: int, key: str) -> None:
    cron = parse(f"{field} * * * *", key=key)
    values = sorted(cron.minutes)
    assert len(values) == count
    assert low <= values[0] <= values[-1] <= high
    assert len({b - a for a, b in pairwise(values)}) <= 1
    assert parse(f"{field} * * * *", key=key) == cron


def test_hash_is_for_ever() -> None:
    """The same on every machine and in every version: a job must not move when the program is updated."""
    cron = parse("H H H H H", key="daily-backup")
    assert [*cron.minutes, *cron.hours, *cron.days.numbers, *cron.months, *cron.weekdays.numbers] == HASHED


def test_hash_spreads() -> None:
    times = {(*c.minutes, *c.hours) for c in (parse("H H * * *", key=f"job-{n}") for n in range(1000))}
    assert len(times) > 650  # 1,000 draws from 1,440 give about 720 different ones
    assert all(max(parse("0 0 H * *", key=f"{n}").days.numbers) <= 28 for n in range(200))


# Refused


@pytest.mark.parametrize(
    ("text", "field", "position"),
    [
        ("60 * * * *", "minute", 0),
        ("0 24 * * *", "hour", 2),
        ("0 0 0 * *", "day of month", 4),
        ("0 0 32 * *", "day of month", 4),
        ("0 0 * 13 *", "month", 6),
        ("0 0 * 0 *", "month", 6),
        ("0 0 * * 8", "day of week", 8),
        ("0  0 * *   8", "day of week", 11),
        ("0 0 * * mon,tue,foo", "day of week", 16),
        ("0 0 * * mon-foo", "day of week", 12),
        ("0 10-99 * * *", "hour", 5),
        ("5/15 * * * *", "minute", 1),
        ("0 9/2 * * *", "hour", 3),
        ("*/0 * * * *", "minute", 2),
        ("*/ * * * *", "minute", 2),
        ("*/x * * * *", "minute", 2),
        ("*/-5 * * * *", "minute", 2),
        ("0,,5 * * * *", "minute", 2),
        ("0, * * * *", "minute", 2),
        ("1- * * * *", "minute", 2),
        ("-5 * * * *", "minute", 0),
        ("1-2-3 * * * *", "minute", 2),
        ("*-5 * * * *", "minute", 0),
        ("** * * * *", "minute", 0),
        ("+5 * * * *", "minute", 0),
        ("1.5 * * * *", "minute", 0),
        ("0 0 ? * *", "day of month", 4),
        ("0 0 L-3 * *", "day of month", 4),
        ("0 0 32W * *", "day of month", 4),
        ("0 0 W * *", "day of month", 4),
        ("0 0 LW/2 * *", "day of month", 4),
        ("0 0 * * L", "day of week", 8),
        ("0 0 * * 8L", "day of week", 8),
        ("0 0 * * 5#6", "day of week", 8),
        ("0 0 * * 5#0", "day of week", 8),
        ("L * * * *", "minute", 0),
        ("H(5-2) * * * *", "minute", 0),
        ("H(0-60) * * * *", "minute", 0),
        ("H/61 * * * *", "minute", 0),
        ("H(1) * * * *", "minute", 0),
        ("1~30 * * * *", "minute", 0),
        ("0 0 30 2 *", "day of month", 4),
        ("0 0 31 4,6,9,11 *", "day of month", 4),
        ("0 0 */31 2 1#2", "day of month", 4),
        ("0 0 31W 2 *", "day of month", 4),
        ("jan * * * *", "minute", 0),
        ("0 0 * jan-foo *", "month", 10),
        ("0 0 * mon *", "month", 6),
        ("* * * *", "", 7),
        ("* * * * * *", "", 10),
        ("", "", 0),
        ("@fortnightly", "", 0),
        ("@reboot", "", 0),
        ("  @every 15m", "", 2),
        ("@daily x", "", 0),
        ("0 0 * * *\n", "", 9),
        ("@every \x1b[31m1h", "", 7),
        ("0 0 * * *\n* * * * *", "", 9),
        ("٥ 0 * * *", "", 0),
        ("0 0 * * \x00", "", 8),
    ],
)
def test_refused(text: str, field: str, position: int) -> None:
    with pytest.raises(CronError) as caught:
        parse(text)
    assert (caught.value.field, caught.value.position) == (field, position)
    assert caught.value.hint
    assert "\n" not in caught.value.message and "\x00" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("5/15 * * * *", "write 5-59/15"),
        ("0 0 * * 1/2", "write 1-6/2"),
        ("@reboot", "use --on-boot"),
        ("@every 15m", "use --every 15m"),
        ("0 0 * * * 0", "--seconds allows six (seconds last) and seven (then the year)"),
        ("0 0 ? * *", "write *"),
        ("1~30 * * * *", "for a time spread over a range write H(1-30)"),
    ],
)
def test_hints(text: str, hint: str) -> None:
    with pytest.raises(CronError) as caught:
        parse(text)
    assert caught.value.hint == hint


@pytest.mark.parametrize("text", ["0 0 1 1 * 60", "0 0 1 1 * 0 1969", "0 0 1 1 * 0 2100", "0 0 1 1 * 0 2030-2027",
                                  "0 0 29 2 * 0 2027", "* * * *", "* * * * * * * *"])  # fmt: skip
def test_refused_with_seconds(text: str) -> None:
    with pytest.raises(CronError):
        parse(text, seconds=True)


def test_valid_from_birth() -> None:
    days = DaysOfMonth(star=False, numbers=frozenset({30}))
    weekdays = DaysOfWeek(star=True, numbers=frozenset(range(7)))

    def born(minutes: set[int], months: set[int]) -> Cron:
        return Cron(
            expression="",
            minutes=frozenset(minutes),
            hours=frozenset({0}),
            days=days,
            months=frozenset(months),
            weekdays=weekdays,
            fixed=True,
        )

    assert born({0}, {3})
    for minutes, months in (({60}, {3}), (set[int](), {3}), ({0}, {13}), ({0}, {2})):
        with pytest.raises(CronError):
            born(minutes, months)


# Laws

WORDS = st.sampled_from(
    "* */2 0 1 5 7 12 23 31 59 60 L LW 15W 5L 5#2 mon fri-mon jan 22-2 1-5 1-5/2 H H(2-5) H/9 , 1, ? x @daily".split()
)


@given(st.one_of(st.text(), st.lists(WORDS, min_size=1, max_size=8).map(" ".join)), st.booleans())
def test_a_cron_or_an_error_that_points(text: str, seconds: bool) -> None:
    try:
        cron = parse(text, seconds=seconds)
    except CronError as error:
        assert 0 <= error.position <= len(text)
        assert error.hint and error.hint.isprintable() and error.message.isprintable()
        return
    assert cron.expression.isprintable() and cron.expression.isascii()
    assert parse(cron.expression, seconds=seconds) == cron


@given(st.integers(0, 59), st.integers(0, 59))
def test_a_range_and_the_rest_make_the_whole(first: int, last: int) -> None:
    cron = parse(f"{first}-{last} * * * *")
    rest = parse(f"{(last + 1) % 60}-{(first - 1) % 60} * * * *")
    if (last + 1) % 60 != first:
        assert cron.minutes | rest.minutes == set(range(60)) and not cron.minutes & rest.minutes


@given(st.dates())
def test_nearest_weekday(day: date) -> None:
    nearest = day.replace(day=nearest_weekday(day.year, day.month, day.day))
    assert nearest.weekday() <= FRI
    assert nearest == day or day.weekday() > FRI
    assert abs((nearest - day).days) <= 2
