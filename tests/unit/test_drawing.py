"""The drawing of what comes: as tables, and by the law that it marks what comes and nothing else."""

import random
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from lsh_systemd.cron import Cron, parse
from lsh_systemd.drawing import ASCII, BLOCKS, Marks, draw, marks
from lsh_systemd.instants import upcoming
from lsh_systemd.zones import transitions

NOW = datetime(2026, 11, 22, 9, 40, tzinfo=UTC)
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


def drawn(text: str, zone: str = "Europe/Berlin", after: datetime = NOW, using: Marks = ASCII) -> list[str]:
    cron = parse(text, seconds=True)
    first = next(upcoming(cron, zone, after), after)
    changes = transitions(zone, first.year, first.year + 1)
    return draw(lambda at: next(upcoming(cron, zone, at), None), zone, after, changes, using)


def test_half_hours() -> None:
    assert drawn("*/35 9-17 * * 0-5") == [
        "                00  02  04  06  08  10  12  14  16  18  20  22",
        "Sun 2026-11-22                       -##############------------",  # what is over is blank
        "Mon 2026-11-23  ..................##################............",
        "Tue 2026-11-24  ..................##################............",
        "Wed 2026-11-25  ..................##################............",
        "Thu 2026-11-26  ..................##################............",
        "Fri 2026-11-27  ..................##################............",
        "Sun 2026-11-29  ------------------##################------------",
        "# runs  . no run  - no run, weekend  (a cell is half an hour)",
    ]


def test_days() -> None:
    assert drawn("0 2 * * 1#1") == [
        "          1       5         10        15        20        25        30",
        "Dec 2026  . . . . - - # . . . . - - . . . . . - - . . . . . - - . . . .",
        "Jan 2027  . - - # . . . . - - . . . . . - - . . . . . - - . . . . . - -",
        "Feb 2027  # . . . . - - . . . . . - - . . . . . - - . . . . . - -",
        "Mar 2027  # . . . . - - . . . . . - - . . . . . - - . . . . . - - . . .  Sun 28: no 02:00-03:00",
        "Apr 2027  . . - - # . . . . - - . . . . . - - . . . . . - - . . . . .",
        "May 2027  - - # . . . . - - . . . . . - - . . . . . - - . . . . . - - .",
        "Jun 2027  . . . . - - # . . . . - - . . . . . - - . . . . . - - . . .",
        "Jul 2027  . . - - # . . . . - - . . . . . - - . . . . . - - . . . . . -",
        "Aug 2027  - # . . . . - - . . . . . - - . . . . . - - . . . . . - - . .",
        "Sep 2027  . . . - - # . . . . - - . . . . . - - . . . . . - - . . . .",
        "Oct 2027  . - - # . . . . - - . . . . . - - . . . . . - - . . . . . - -  Sun 31: 02:00-03:00 twice",
        "Nov 2027  # . . . . - - . . . . . - - . . . . . - - . . . . . - - . .",
        "# runs  . no run  - no run, weekend  (a cell is a day)",
    ]


@pytest.mark.parametrize(
    ("text", "zone", "after", "line"),
    [
        # the hour that does not come is blank, and what it swallowed runs at its end
        ("30 2 * * *", "Europe/Berlin", "2027-03-28T00:00+01:00",
         "Sun 2027-03-28  ----  #-----------------------------------------  no 02:00-03:00"),
        ("*/10 2 * * *", "Europe/Berlin", "2027-10-31T00:00+02:00",
         "Sun 2027-10-31  ----##------------------------------------------  02:00-03:00 twice"),
        ("0 2 * * *", "Australia/Lord_Howe", "2027-10-03T00:00+10:30",
         "Sun 2027-10-03  ---- #------------------------------------------  no 02:00-02:30"),
        ("0 0 20 * *", "Pacific/Apia", "2011-12-10T00:00-10:00",
         "Dec 2011                    - - . . . . . - - . # . . . - - . . . .   -  Fri 30: no such day"),
    ],
)  # fmt: skip
def test_changes_of_the_clock(text: str, zone: str, after: str, line: str) -> None:
    lines = drawn(text, zone, datetime.fromisoformat(after))
    assert line in lines
    assert max(map(len, lines)) <= 98


def test_two_changes_in_a_month_fit() -> None:
    changes = transitions("Europe/Berlin", 2027, 2027)
    both = [changes[0], transitions("Africa/Casablanca", 2027, 2027)[1]]
    assert [f"{change.wall[0]:%m-%d}" for change in both] == ["03-28", "03-14"]
    cron = parse("0 0 1 * *")
    lines = draw(lambda at: next(upcoming(cron, "UTC", at), None), "UTC", NOW, both, ASCII)
    assert next(line for line in lines if line.startswith("Mar 2027")).endswith("  clock changes: 14, 28")
    assert max(map(len, lines)) <= 98


@pytest.mark.parametrize("text", ["0 0 1 1 * 0 2020", "* * * * * * 1980-2026"])
def test_nothing_comes(text: str) -> None:
    assert drawn(text, after=NOW + timedelta(days=60)) == []


def test_a_last_week_of_runs() -> None:
    """Less than seven days are left: the months tell it."""
    assert "Dec 2026" in drawn("0 0 29-31 12 * 0 2026")[1]


@pytest.mark.parametrize(
    ("encoding", "using"),
    [
        *(("utf-8", BLOCKS), ("UTF-8", BLOCKS), ("cp850", BLOCKS)),
        *(("ascii", ASCII), ("latin-1", ASCII), (None, ASCII), ("x", ASCII)),
    ],
)
def test_blocks_where_they_can_be_written(encoding: str | None, using: Marks) -> None:
    assert marks(encoding) is using


def cells(lines: list[str], mark: str) -> set[tuple[str, int]]:
    """The marked cells: row and number."""
    step, start = (1, 16) if "half" in lines[-1] else (2, 10)
    wide = 48 if step == 1 else 61
    found = set()
    for line in lines[1:-1]:
        row = line[4:14] if step == 1 else f"{line[4:8]}-{MONTHS.index(line[:3]) + 1:02}"
        found |= {(row, at // step) for at, cell in enumerate(line[start : start + wide]) if cell == mark}
    return found


def expected(cron: Cron, zone: str, after: datetime, lines: list[str]) -> set[tuple[str, int]]:
    """The same from the instants, one by one, up to the end of what is drawn."""
    found = set()
    half_hours = "half" in lines[-1]
    last = lines[-2][4:14] if half_hours else f"{lines[-2][4:8]}-{MONTHS.index(lines[-2][:3]) + 1:02}"
    for at in upcoming(cron, zone, after):
        wall = at.astimezone(ZoneInfo(zone))
        row = f"{wall:%Y-%m-%d}" if half_hours else f"{wall:%Y-%m}"
        if row > last:
            break
        found.add((row, wall.hour * 2 + wall.minute // 30 if half_hours else wall.day - 1))
    return found


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Havana", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"])
def test_it_marks_what_comes_and_nothing_else(zone: str) -> None:
    rng = random.Random(zone)
    for number in range(60):
        minute = rng.choice(["0", "17", "*/20", "29,30", "59"])
        hour = rng.choice(["*", "0", "2", "1-3", "*/7", "23"])
        day = rng.choice(["*", "*", "1", "*/9", "L", "1-14", "31"])
        text = f"{minute} {hour} {day} * {rng.choice(['*', '*', '1-5', '0', '6#3'])}"
        cron = parse(text)
        after = datetime(2027, 1, 1, 7, 13, 5, 250, tzinfo=UTC) + timedelta(hours=rng.randrange(0, 9000))
        lines = drawn(text, zone, after)
        assert cells(lines, ASCII.runs) == expected(cron, zone, after, lines), (text, after, number)
        assert max(map(len, lines)) <= 98
        assert len(lines) == (9 if "half" in lines[-1] else 14)
        assert all(re.fullmatch(r"[ -~]+", line) for line in lines)
