"""Jobs → Nomad's periodic jobs, which its own API document takes; what they cannot hold is said."""

import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, assume, given, settings

from lsh_systemd import cron, nomad
from lsh_systemd.errors import BadInput
from lsh_systemd.job import Job
from lsh_systemd.jobfile import from_plain
from lsh_systemd.text import escape_controls
from tests.hostile import plain_jobs

SCHEMA = json.loads((Path(__file__).parent / "corpora/nomad-job.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
DAY = 24 * 3600 * 10**9


def exported(*jobs: Job, enabled: bool = True) -> tuple[list[dict[str, Any]], list[str], list[str]]:
    """The jobs, valid; what was left out; what was lost."""
    result = nomad.export([(job, enabled) for job in jobs], image="debian:13", local_zone="Europe/Berlin")
    assert escape_controls(result.text) == result.text
    documents = [json.loads(line) for line in result.text.splitlines()]
    for document in documents:
        VALIDATOR.validate(document)
    return [each["Job"] for each in documents], [why for _, why in result.left_out], [what for _, what in result.lost]


def job(**fields: Any) -> Job:
    return Job(**{"name": "Daily Backup", "command": "tar -cf x", "schedule": ("0 2 * * *",), **fields})


def test_the_schema_knows_what_is_wrong() -> None:
    (told,), _, _ = exported(job())
    for wrong in ({"Periodic": {"Cron": "0 2 * * *"}}, {"TaskGroups": {}}, {"Type": 1}):
        assert not VALIDATOR.is_valid({"Job": told | wrong})


def test_a_job_becomes_a_periodic_job() -> None:
    (told,), left_out, lost = exported(
        job(env={"A": "1"}, grace=timedelta(seconds=20), retries=2, retry_delay=timedelta(minutes=1),
            memory_max=2**30 + 1, overlap="skip", working_dir="/srv", run_as="1000", description="All of it.",
            sandbox="strict", network="none", command="echo ${A:-x} 100%{"),
        enabled=False,
    )  # fmt: skip
    assert (left_out, lost) == ([], ["all its retries come after the same delay"])
    assert told == {
        "ID": "daily-backup",
        "Name": "Daily Backup",
        "Type": "batch",
        "Datacenters": ["*"],
        "Meta": {"managed-by": "lsh-systemd", "description": "All of it."},
        "Periodic": {
            "Enabled": False,
            "SpecType": "cron",
            "Spec": "0 2 * * *",
            "TimeZone": "Europe/Berlin",
            "ProhibitOverlap": True,
        },
        "TaskGroups": [
            {
                "Name": "job",
                "Count": 1,
                "RestartPolicy": {
                    "Attempts": 2,
                    "Delay": 60 * 10**9,
                    "Interval": 7 * DAY + 120 * 10**9,
                    "Mode": "fail",
                },
                "ReschedulePolicy": {"Attempts": 0, "Unlimited": False},
                "Tasks": [
                    {
                        "Name": "job",
                        "Driver": "docker",
                        "Config": {
                            "image": "debian:13",
                            "entrypoint": ["/bin/sh"],
                            "args": ["-c", "echo $${A:-x} 100%%{"],
                            "work_dir": "/srv",
                            "network_mode": "none",
                            "readonly_rootfs": True,
                            "security_opt": ["no-new-privileges"],
                            "cap_drop": ["all"],
                        },
                        "Env": {"A": "1"},
                        "User": "1000",
                        "KillTimeout": 20 * 10**9,
                        "Resources": {"MemoryMB": 1025},
                    }
                ],
            }
        ],
    }


@pytest.mark.parametrize(
    ("schedule", "seconds", "spec"),
    [
        ("@weekly", False, "0 0 * * 0"),
        ("*/20 8-17 * jan-mar 7", False, "0,20,40 8-17 * 1-3 0"),
        ("0 2 L * *", False, "0 2 L * *"),
        ("0 2 1,15W,LW * *", False, "0 2 1,15W,LW * *"),
        ("0 2 * * 5L", False, "0 2 * * 5L"),
        ("0 2 * * sun#2,3", False, "0 2 * * 3,0#2"),
        ("0 2 1 * 1", False, "0 2 1 * 1"),
        ("0 2 1-31 * 1", False, "0 2 * * *"),
        ("0 2 * * 0-6", False, "0 2 * * *"),
        ("0 2 */2 * 1-5", False, None),
        ("0 2 * * * 30", True, "30 0 2 * * * *"),
        ("0 2 * * * 0 2027-2029", True, "0 0 2 * * * 2027-2029"),
    ],
)
def test_schedules(schedule: str, seconds: bool, spec: str | None) -> None:
    documents, left_out, _ = exported(job(schedule=(schedule,), seconds=seconds))
    assert [each["Periodic"]["Spec"] for each in documents] == ([spec] if spec else [])
    assert spec or "day of month and that of the week" in left_out[0]


def days_of(spec: str) -> set[date]:
    """The days on which Nomad runs what has these five fields: where both kinds of days are restricted, either does."""
    minute, hour, days, months, weekdays = spec.split()
    both = cron.parse(f"{minute} {hour} * {months} *")
    by_day, by_weekday = cron.parse(f"0 0 {days} * *").days, cron.parse(f"0 0 * * {weekdays}").weekdays
    every = [date(2027, 1, 1) + timedelta(days=number) for number in range(3 * 366)]
    return {
        day
        for day in every
        if both.match_date(day)
        and (
            (days == "*" and weekdays == "*")
            or (days != "*" and by_day.match(day))
            or (weekdays != "*" and by_weekday.match(day))
        )
    }


@pytest.mark.parametrize("days", ["*", "1-31", "*/2", "1", "1-7", "L", "LW", "15W", "*,1", "H"])
@pytest.mark.parametrize("weekdays", ["*", "0-6", "*/2", "1", "mon-fri", "5L", "2#3", "7", "6-1"])
def test_the_days_are_cron_s(days: str, weekdays: str) -> None:
    expression = f"5 4 {days} * {weekdays}"
    documents, left_out, _ = exported(job(schedule=(expression,)))
    parsed = cron.parse(expression, key="daily-backup")
    wanted = {day for number in range(3 * 366) if parsed.match_date(day := date(2027, 1, 1) + timedelta(days=number))}
    assert documents or left_out
    for document in documents:
        assert days_of(document["Periodic"]["Spec"]) == wanted


def test_what_cannot_be_is_left_out_and_what_is_lost_is_said() -> None:
    _, left_out, _ = exported(job(schedule=(), every=timedelta(hours=2)), job(command="echo $${A}"))
    assert left_out == ["it has no cron schedule", "Nomad does not take $${ or %%{ as they stand"]
    (told,), _, lost = exported(
        job(schedule=("0 2 * * *", "0 14 * * *"), nice=5, catch_up="all", run_as="bob",
            secrets=("db:DB",), jitter=timedelta(minutes=1), env={"A": "${node.class} and $B"}),
    )  # fmt: skip
    assert told["Periodic"]["Specs"] == ["0 2 * * *", "0 14 * * *"]
    assert lost == [
        "a job of Nomad's does not have jitter, nice, secrets",
        "the user bob has to be there in the image",
        "Nomad gives it 300 MB of memory, where nothing says how much (--memory-max)",
        "a time that comes while it runs is let pass (ProhibitOverlap)",
        "of the times missed, one is made up for",
        "where Nomad knows ${node.class}, it fills that in, in the value of A",
    ]
    _, _, lost = exported(job(overlap="parallel", memory_max=2**20, once_in_fleet=True))
    assert lost == ["it runs once in its cluster, without LSH_FENCING_TOKEN"]
    (told,), _, lost = exported(job(overlap="replace", memory_max=2**20))
    assert told["TaskGroups"][0]["Tasks"][0]["Resources"] == {"MemoryMB": 10}
    assert lost == ["a run that goes on is not ended; the time that comes meanwhile is let pass (ProhibitOverlap)"]


def expanded(text: str) -> str:
    """What HCL makes of a template without an expression: $${ and %%{ are ${ and %{."""
    bare = text.replace("$${", "").replace("%%{", "")
    assert "${" not in bare and "%{" not in bare, "an expression of HCL's"
    return text.replace("$${", "${").replace("%%{", "%{")


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(plain_jobs)
def test_whatever_a_job_is_its_periodic_job_is_valid_and_says_the_same(plain: dict[str, Any]) -> None:
    try:
        one = replace(from_plain(plain | {"retries": 0}), every=None, anchor=None, schedule=("5 4 * * *",))
    except BadInput:
        assume(False)
        raise
    documents, _, _ = exported(one)
    for document in documents:
        (task,) = document["TaskGroups"][0]["Tasks"]
        words = [expanded(word) for word in [*task["Config"]["entrypoint"], *task["Config"].get("args", [])]]
        assert words == ([one.shell, "-c", one.command] if isinstance(one.command, str) else [*one.command])
        assert task.get("Env", {}) == one.env
