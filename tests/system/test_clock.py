"""What only a machine with a clock of its own can show: the nights when the clocks change, and what a boot starts."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.system import roots
from tests.system.booted import eventually
from tests.system.lsh import Lsh, seconds
from tests.system.uml import UmlMachine, only_on

LEAD = timedelta(seconds=1)
START = timedelta(seconds=4)  # for the timers to be started in
NEAR = 60.0  # seconds; the instants in question are half an hour apart, and a slow machine is not a wrong one
DAILY, LOCAL, HALF_HOURLY = NIGHTLY = ("night-daily", "night-local", "night-half-hourly")
SERVICES = tuple(f"lsh-{job}.service" for job in NIGHTLY)
TIMERS = tuple(f"lsh-{job}.timer" for job in NIGHTLY)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def writes_the_time(job: str) -> str:
    return f"date +%s.%N >>/var/tmp/{job}"


def written(machine: UmlMachine, job: str) -> list[float]:
    """When the job ran, as it wrote itself."""
    return [float(line) for line in machine.run("cat", f"/var/tmp/{job}", check=False).stdout.split()]


def at_rest(lsh: Lsh, *services: str) -> bool:
    return set(lsh.systemctl("is-active", *services, check=False).stdout.split()) == {"inactive"}


@pytest.fixture(scope="module")
def nights(uml: UmlMachine) -> Iterator[Lsh]:
    """A machine in Berlin, and its jobs: at 02:30 with and without a zone of its own, and every half hour."""
    uml.set_clock(utc("2027-01-20 12:00"))
    uml.run("timedatectl", "set-timezone", "Europe/Berlin")
    lsh = Lsh(uml, "system")
    lsh.add("--schedule", "30 2 * * *", "--tz", "Europe/Berlin", "--", writes_the_time(DAILY), name=DAILY)
    lsh.add("--schedule", "30 2 * * *", "--", writes_the_time(LOCAL), name=LOCAL)
    lsh.add("--schedule", "*/30 * * * *", "--", writes_the_time(HALF_HOURLY), name=HALF_HOURLY)
    lsh.systemctl("stop", *TIMERS)
    yield lsh
    lsh.clean()


def night(suite: str, name: str, day: str, daily: str, half_hourly: str) -> Any:
    return pytest.param(suite, day, daily, half_hourly, id=f"{roots.ALL_SUITES[suite]}-{name}")


# When the clocks go on, 02:00 → 03:00 at 01:00 UTC: there is no 02:30, it is made up at 03:00.
SPRING = ("spring", "2027-03-28", "01:00", "00:30 01:00 01:30")
ORDINARY = ("ordinary", "2027-06-15", "00:30", "00:30 01:00")
# When they go back, 03:00 → 02:00 at 01:00 UTC: 02:00 and 02:30 come twice; the daily jobs take the first 02:30.
AUTUMN = ("autumn", "2027-10-31", "00:30", "00:30 01:00 01:30 02:00")


@pytest.mark.parametrize(
    ("suite", "day", "daily", "half_hourly"),
    [
        *(night("bookworm", *each) for each in (SPRING, ORDINARY, AUTUMN)),
        *(night("forky", *each) for each in (SPRING, AUTUMN)),
    ],
    indirect=["suite"],
    scope="session",
)
def test_a_night_in_berlin(nights: Lsh, uml: UmlMachine, day: str, daily: str, half_hourly: str) -> None:
    instants = [utc(f"{day} {time}") for time in half_hourly.split()]
    seen = {job: len(written(uml, job)) for job in NIGHTLY}
    uml.set_clock(instants[0] - START)
    nights.systemctl("start", *TIMERS)
    for count, instant in enumerate(instants, 1):
        # From one instant of the night to the next: a leap over one would be made up for at once.
        if count > 1:
            uml.set_clock(instant - LEAD)
        wanted = seen[HALF_HOURLY] + count
        eventually(lambda wanted=wanted: len(written(uml, HALF_HOURLY)) >= wanted, timeout=60)  # type: ignore[misc]
        eventually(lambda: at_rest(nights, *SERVICES), timeout=60)
    nights.systemctl("stop", *TIMERS)

    told = nights.json("runs", "--limit", "0")
    for job in NIGHTLY:
        due = [each.timestamp() for each in (instants if job == HALF_HOURLY else [utc(f"{day} {daily}")])]
        runs = [run for run in told[::-1] if run["job"] == job and run["started_at"].startswith(day)]
        assert [run["result"] for run in runs] == ["success"] * len(due), (job, runs)
        assert_at([seconds(run["started_at"]) for run in runs], due)
        assert_at(written(uml, job)[seen[job] :], due)


def assert_at(times: list[float], instants: list[float]) -> None:
    """Each at its instant or soon after it, and none besides."""
    late = [time - instant for time, instant in zip(times, instants, strict=True)]
    assert all(0 <= each < NEAR for each in late), late


@only_on("bookworm")
def test_what_a_boot_starts(uml: UmlMachine) -> None:
    """--on-boot once a boot, in both scopes; --persistent once for times missed while the machine was off."""
    uml.set_clock(utc("2028-01-10 12:00"))
    system, user = Lsh(uml, "system"), Lsh(uml, "user")
    for lsh in (system, user):
        lsh.add("--on-boot", "--", writes_the_time(f"{lsh.scope}-on-boot"), name="at-boot")
    missed = ("--schedule", "30 2 * * *", "--tz", "Europe/Berlin")
    system.add(*missed, "--persistent", "--", writes_the_time("missed"), name="missed")
    system.add(*missed, "--", writes_the_time("let-go"), name="let-go")

    def counts() -> list[int]:
        for lsh in (system, user):
            lsh.systemctl("daemon-reload")
        for lsh in (system, user):
            eventually(lambda lsh=lsh: at_rest(lsh, "lsh-at-boot.service"), timeout=60)  # type: ignore[misc]
        eventually(lambda: at_rest(system, "lsh-missed.service", "lsh-let-go.service"), timeout=60)
        return [len(written(uml, job)) for job in ("system-on-boot", "user-on-boot", "missed", "let-go")]

    assert counts() == [0, 0, 0, 0]
    uml.power_off()
    uml.boot(clock=utc("2028-01-12 12:00"))  # two 02:30s later
    assert counts() == [1, 1, 1, 0]
    uml.reboot()
    assert counts() == [2, 2, 1, 0]

    told = {lsh.scope: lsh.json("runs", "--limit", "0") for lsh in (system, user)}
    runs = [(scope, run["job"], run["result"], run["trigger"]) for scope in told for run in told[scope]]
    assert sorted(run for run in runs if run[1] in ("at-boot", "missed", "let-go")) == [
        ("system", "at-boot", "success", "timer"),
        ("system", "at-boot", "success", "timer"),
        ("system", "missed", "success", "catch-up"),
        ("user", "at-boot", "success", "timer"),
        ("user", "at-boot", "success", "timer"),
    ]
    for lsh in (system, user):
        lsh.clean()
