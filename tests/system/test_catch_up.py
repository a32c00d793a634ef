"""--catch-up: what was missed while the machine was off is made up for as the job asks; once, never twice."""

import itertools
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.system.lsh import UNIT, Lsh, seconds
from tests.system.machine import Machine, eventually

NewMachine = Callable[..., Machine]

HOURLY = ("--schedule", "0 * * * *", "--tz", "UTC")


def set_back(lsh: Lsh, job: str, when: datetime) -> None:
    """Make it seem that the job's times are accounted for up to then only, as after a time off."""
    stamps = {"system": "/var/lib/systemd/timers", "user": "/home/bob/.local/share/systemd/timers"}[lsh.scope]
    assert isinstance(lsh.machine, Machine)
    for file in (f"{stamps}/stamp-lsh-{job}.timer", f"{lsh.folder}/lsh-{job}.service"):
        os.utime(lsh.machine.disk / file[1:], (when.timestamp(), when.timestamp()))


def caught_up(lsh: Lsh, job: str) -> list[dict[str, Any]]:
    return [run for run in lsh.runs(job) if run["trigger"] == "catch-up" and run["result"]]


def missed_hours(lsh: Lsh, job: str, began: datetime) -> list[str]:
    """The full hours from then until the job's timer has begun to count."""
    until = lsh.loaded(f"lsh-{job}.timer", UNIT, "ActiveEnterTimestamp")["ActiveEnterTimestamp"] / 1e6
    hour, found = began.replace(minute=0, second=0, microsecond=0), []
    while (hour := hour + timedelta(hours=1)).timestamp() <= until:
        found.append(f"{hour:%Y-%m-%dT%H:%M:%S}.000000Z")
    return found


@pytest.mark.parametrize("scope", ["system", "user"])
def test_after_a_time_off(new_machine: NewMachine, suite: str, scope: str) -> None:
    lsh = Lsh(new_machine(suite), scope)
    say = 'echo "for ${LSH_SCHEDULED_AT:-now}"'
    every = lsh.add(*HOURLY, "--catch-up", "all", "--", say)
    once = lsh.add(*HOURLY, "--catch-up", "once", "--", say)
    none = lsh.add(*HOURLY, "--catch-up", "none", "--", say)
    spread = lsh.add(*HOURLY, "--catch-up", "once", "--catch-up-spread", "2s", "--", say)
    rests = lsh.add(*HOURLY, "--catch-up", "all", "--", say)
    lsh("disable", rests)
    assert lsh("catch-up", "--dry-run").stdout == "Nothing was missed.\n"
    began = datetime.now(UTC) - timedelta(hours=3)
    lsh.machine.power_off()
    for job in (every, once, spread, rests):
        set_back(lsh, job, began)
    lsh.machine.boot()
    hours = missed_hours(lsh, every, began)
    eventually(lambda: len(caught_up(lsh, every)) == len(hours), timeout=30)
    runs = caught_up(lsh, every)
    assert [(run["due_at"], run["output"]) for run in runs] == [(hour, f"for {hour}\n") for hour in hours]
    assert {run["triggered_by"] for run in runs} == {None}
    for one, other in itertools.pairwise(runs):
        assert seconds(other["started_at"]) >= seconds(one["ended_at"])
    assert len(eventually(lambda: caught_up(lsh, once), timeout=20)) == 1
    late = eventually(lambda: caught_up(lsh, spread), timeout=20)
    assert [run["due_at"] for run in late] == hours[-1:]
    assert lsh.runs(none) == []
    assert lsh.runs(rests) == []
    eventually(lambda: lsh("catch-up", "--dry-run").stdout == "Nothing was missed.\n")
    # Another boot makes up for nothing again; nor does one that rested.
    lsh("enable", rests)
    lsh.machine.reboot()
    eventually(lambda: lsh.show("lsh-catch-up.service", "ActiveState") == {"ActiveState": "inactive"}, timeout=20)
    assert [len(lsh.runs(job)) for job in (every, once, spread, rests, none)] == [len(hours), 1, 1, 0, 0]
    # Asked for by hand, the runs carry by whom.
    asked = lsh.add(*HOURLY, "--catch-up", "all", "--", say)
    set_back(lsh, asked, began)
    lsh("catch-up")
    assert None not in {run["triggered_by"] for run in eventually(lambda: caught_up(lsh, asked))}


def test_a_machine_that_dies_in_the_middle_goes_on_where_it_was(new_machine: NewMachine) -> None:
    lsh = Lsh(new_machine("bookworm"), "system")
    job = lsh.add(*HOURLY, "--catch-up", "all", "--", "sleep 1.5")
    began = datetime.now(UTC) - timedelta(hours=5)
    lsh.machine.power_off()
    set_back(lsh, job, began)
    lsh.machine.boot()
    hours = missed_hours(lsh, job, began)
    eventually(lambda: len(caught_up(lsh, job)) >= 2, timeout=30)
    lsh.machine.kill()
    lsh.machine.boot()
    eventually(lambda: {run["due_at"] for run in caught_up(lsh, job)} >= set(hours), timeout=40)
    # the one that died with the machine has had its run, too: lost, not repeated
    made_up = [run["due_at"] for run in lsh.runs(job) if run["trigger"] == "catch-up"]
    assert made_up[: len(hours)] == hours


def test_renaming_and_changing(lsh: Lsh) -> None:
    job = lsh.add(*HOURLY, "--catch-up", "all", "--", "true")
    set_back(lsh, job, datetime.now(UTC) - timedelta(hours=2, minutes=1))
    assert lsh("catch-up", "--dry-run").stdout.startswith(f"{job}: ")
    new = lsh.new_name()
    lsh("rename", job, new)
    assert lsh("catch-up", "--dry-run").stdout.startswith(f"{new}: ")
    lsh("set", new, "--schedule", "30 * * * *")
    assert lsh("catch-up", "--dry-run").stdout == "Nothing was missed.\n"
    lsh("set", new, "--catch-up", "none")
    assert "Persistent" not in lsh.read(f"lsh-{new}.timer")
    lsh("set", new, "--persistent")
    assert "Persistent=yes" in lsh.read(f"lsh-{new}.timer")


@pytest.mark.parametrize(
    "argv",
    [
        ("--every", "5m", "--catch-up", "all"),
        ("--schedule", "@daily", "--catch-up", "sometimes"),
        ("--schedule", "@daily", "--catch-up", "all", "--persistent"),
        ("--schedule", "@daily", "--catch-up-spread", "5m"),
    ],
)
def test_refused(lsh: Lsh, argv: tuple[str, ...]) -> None:
    lsh.refused("add", lsh.new_name(), *argv, "--", "true")


def test_catching_up_keeps_to_the_caps(new_machine: NewMachine, suite: str) -> None:
    lsh = Lsh(new_machine(suite), "system")
    lsh("limits", "set", "--global", "1")
    say = 'echo "for $LSH_SCHEDULED_AT"; sleep 0.5'
    jobs = [lsh.add(*HOURLY, "--catch-up", "all", "--", say) for _ in range(2)]
    began = datetime.now(UTC) - timedelta(hours=3)
    lsh.machine.power_off()
    for job in jobs:
        set_back(lsh, job, began)
    lsh.machine.boot()
    hours = missed_hours(lsh, jobs[0], began)
    eventually(lambda: all(len(caught_up(lsh, job)) == len(hours) for job in jobs), timeout=40)
    for job in jobs:
        assert [(run["due_at"], run["output"]) for run in caught_up(lsh, job)] == [(h, f"for {h}\n") for h in hours]
    runs = sorted((run for job in jobs for run in lsh.runs(job)), key=lambda run: str(run["started_at"]))
    for one, other in itertools.pairwise(runs):
        assert seconds(other["started_at"]) >= seconds(one["ended_at"])
    eventually(lambda: lsh("catch-up", "--dry-run").stdout == "Nothing was missed.\n")
