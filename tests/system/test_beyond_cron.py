"""What cron cannot say: limits, exceptions, dates that count from an anchor, schedules from a variable; by lshctl."""

from typing import Any

import pytest

from tests.system.lsh import TIMER, Lsh

HOLIDAYS = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//holidays//
BEGIN:VEVENT
UID:1
DTSTART;VALUE=DATE:20251225
RRULE:FREQ=YEARLY
SUMMARY:Christmas
END:VEVENT
END:VCALENDAR
""".replace("\n", "\r\n")


def calendars(lsh: Lsh, job: str) -> list[str]:
    """The timer's lines as systemd has loaded them."""
    loaded = lsh.loaded(f"lsh-{job}.timer", TIMER, "TimersCalendar")["TimersCalendar"]
    return [spec for _, spec, _ in loaded]


def definition(lsh: Lsh, job: str) -> dict[str, Any]:
    told: dict[str, Any] = lsh.json("show", job)["definition"]
    return told


def test_limits(lsh: Lsh) -> None:
    job = lsh.add(
        "--schedule", "0 2 * * *", "--tz", "Europe/Berlin",
        "--not-before", "2098-03-15", "--not-after", "2098-03-20", "--except-calendar", "*-01-01", "--", "true",
    )  # fmt: skip
    assert definition(lsh, job)["not_before"] == "2098-03-15T00:00:00"
    assert definition(lsh, job)["not_after"] == "2098-03-20T23:59:59"
    assert lsh.json("next", job)["next"] == [f"2098-03-{day}T01:00:00.000000Z" for day in range(15, 20)]
    lsh("set", job, "--not-before", "tomorrow 00:00", "--unset", "not_after", "--unset", "except-calendar")
    assert calendars(lsh, job)
    assert lsh.json("list")[0]["state"] == "waiting"
    lsh("set", job, "--every", "15m")
    assert "not_before" not in definition(lsh, job)


def test_exceptions_of_a_file_are_read_anew_by_refresh(lsh: Lsh) -> None:
    path = f"/home/bob/{lsh.scope}.ics" if lsh.scope == "user" else "/etc/holidays.ics"
    lsh.machine.write(path, HOLIDAYS, user=lsh.user)
    job = lsh.add("--schedule", "0 9 * * *", "--except-calendar", path, "--", "true")
    before = calendars(lsh, job)
    assert any("-12-01..24,26..31 09:00:00" in line for line in before)
    lsh.machine.write(path, HOLIDAYS.replace("20251225", "20251226"), user=lsh.user)
    assert "Refreshed" in lsh("refresh").stdout
    assert any("-12-01..25,27..31 09:00:00" in line for line in calendars(lsh, job))
    lsh.machine.write(path, "no calendar", user=lsh.user)
    assert "is not a calendar file" in lsh("refresh", check=False).stderr
    assert any("-12-01..25,27..31 09:00:00" in line for line in calendars(lsh, job))
    lsh.refused("add", lsh.new_name(), "--schedule", "0 9 * * *", "--except-calendar", path, "--", "true")


def test_dates_that_count_from_an_anchor(lsh: Lsh) -> None:
    job = lsh.add("--every", "2 weeks", "--from", "2027-01-04 9:00", "--tz", "Asia/Tokyo", "--", "true")
    assert lsh.json("list")[0]["schedule"] == "@every 14d from 2027-01-04 09:00"
    told = lsh.json("next", job)["next"]
    assert told[:3] == ["2027-01-04T00:00:00.000000Z", "2027-01-18T00:00:00.000000Z", "2027-02-01T00:00:00.000000Z"]
    assert lsh.json("show", job)["next"] == told[0]
    lsh("set", job, "--every", "3 months", "--from", "2027-01-31")
    assert lsh.json("next", job)["next"][:2] == ["2027-01-30T15:00:00.000000Z", "2027-04-29T15:00:00.000000Z"]


def test_a_schedule_from_a_variable_is_taken_now_and_remembered(lsh: Lsh) -> None:
    job = lsh.new_name()
    argv = ("add", job, "--schedule", "${BACKUP_SCHEDULE}", "--", "true")
    assert "BACKUP_SCHEDULE is not set" in lsh.refused(*argv)
    lsh(*argv, env={"BACKUP_SCHEDULE": "15 3 * * *"})
    assert calendars(lsh, job) == ["*-*-* 03:15:00"]
    assert definition(lsh, job)["schedule"] == ["15 3 * * *"]
    assert definition(lsh, job)["schedule_from"] == ["${BACKUP_SCHEDULE}"]
    lsh("set", job, "--priority", "7")
    assert calendars(lsh, job) == ["*-*-* 03:15:00"]
    other = lsh.add("--schedule", "${NOT_SET:-45 4 * * *}", "--schedule", "@weekly", "--", "true")
    assert set(calendars(lsh, other)) == {"*-*-* 04:45:00", "Sun *-*-* 00:00:00"}
    assert "five fields wanted" in lsh.refused("add", "x", "--schedule", "$(reboot)", "--", "true")


def test_the_jitter_is_the_same_each_time(lsh: Lsh) -> None:
    job = lsh.add("--schedule", "0 2 * * *", "--jitter", "6h", "--", "true")
    first = lsh.json("show", job)["next"]
    lsh("disable", job)
    lsh("enable", job)
    assert lsh.json("show", job)["next"] == first


@pytest.mark.parametrize(
    "argv",
    [
        ("--every", "15m", "--from", "2027-01-04"),
        ("--every", "15m", "--not-before", "2027-01-04"),
        ("--schedule", "@daily", "--from", "2027-01-04"),
        ("--schedule", "@daily", "--not-after", "2020-01-01"),
        ("--schedule", "@daily", "--not-before", "someday"),
        ("--schedule", "@daily", "--not-before", "2027-13-01"),
        ("--schedule", "@daily", "--except-calendar", "Mon 09:00"),
        ("--schedule", "@daily", "--except-calendar", "/nonexistent.ics"),
        ("--schedule", "@daily", "--except-calendar", "/etc/passwd"),
        ("--schedule", "@daily", "--except-calendar", "Mon\nExecStart=/bin/false"),
        ("--at", "tomorrow", "--except-calendar", "Mon"),
    ],
)
def test_refused(lsh: Lsh, argv: tuple[str, ...]) -> None:
    lsh.refused("add", lsh.new_name(), *argv, "--", "true")
