"""Schedules follow the machine's time zone, by themselves and by lshctl refresh."""

from collections.abc import Callable

from tests.system.machine import Machine, eventually

TIMER = "/etc/systemd/system/lsh-night.timer"
# Berlin's clocks leave 02:30 out on the last Sunday of March: cron makes it up at 03:00, which is 01:00 UTC.
MADE_UP = "OnCalendar=Sun "


def add_night(machine: Machine) -> None:
    machine.run("timedatectl", "set-timezone", "Etc/UTC")
    machine.run("lshctl", "add", "night", "--schedule", "30 2 * * *", "--", "true")
    assert MADE_UP not in machine.read(TIMER)


def loaded_lines(machine: Machine) -> int:
    """How many OnCalendar= lines the running timer has."""
    shown = machine.run("systemctl", "show", "lsh-night.timer", "--property=TimersCalendar").stdout
    return shown.count("OnCalendar=")


def test_a_change_of_the_zone_is_noticed(new_machine: Callable[..., Machine], suite: str) -> None:
    machine = new_machine(suite)
    add_night(machine)
    machine.run("lshctl", "agent", "enable")
    machine.run("timedatectl", "set-timezone", "Europe/Berlin")
    eventually(lambda: MADE_UP in machine.read(TIMER))
    eventually(lambda: loaded_lines(machine) == 2)
    (told,) = machine.run("lshctl", "audit", "night", "--limit", "1", "--json").json()
    assert (told["verb"], told["actor"]) == ("refresh", "lsh-refresh")
    findings = machine.run("lshctl", "doctor", "--json", check=False).json()
    assert [each["level"] for each in findings if each["check"] == "schedules"] == ["ok"]


def test_refresh_by_hand(new_machine: Callable[..., Machine], suite: str) -> None:
    machine = new_machine(suite)
    add_night(machine)
    machine.run("lshctl", "add", "elsewhere", "--schedule", "30 2 * * *", "--tz", "Asia/Tokyo", "--", "true")
    before = machine.read("/etc/systemd/system/lsh-elsewhere.timer")
    machine.run("timedatectl", "set-timezone", "Europe/Berlin")
    (told,) = [
        each for each in machine.run("lshctl", "doctor", "--json", check=False).json() if each["check"] == "schedules"
    ]
    assert told["level"] == "warning" and "night" in told["message"] and "elsewhere" not in told["message"]

    assert f"+{MADE_UP}" in machine.run("lshctl", "refresh", "--dry-run").stdout
    assert MADE_UP not in machine.read(TIMER)
    assert machine.run("lshctl", "refresh").stdout == "Refreshed night.\n"
    assert MADE_UP in machine.read(TIMER)
    assert loaded_lines(machine) == 2
    assert machine.read("/etc/systemd/system/lsh-elsewhere.timer") == before
    (told,) = machine.run("lshctl", "audit", "night", "--limit", "1", "--json").json()
    assert told["verb"] == "refresh" and told["actor"] != "lsh-refresh"
    assert "up to date" in machine.run("lshctl", "refresh").stdout


def test_the_agent_goes_without_a_trace(new_machine: Callable[..., Machine], suite: str) -> None:
    machine = new_machine(suite)
    listing = ("find", "/etc/systemd/system", "-name", "lsh-*")
    machine.run("lshctl", "agent", "enable")
    assert machine.run(*listing).stdout.count("\n") == 10  # seven units, three links
    machine.run("lshctl", "agent", "disable")
    assert machine.run(*listing).stdout == ""
    assert machine.run("lshctl", "agent", "status", "--json").json() == {"state": "inactive"}
