"""Jobs → CronJobs, which Kubernetes' own schema takes; what they cannot hold is said."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings

from lsh_systemd import kubernetes
from lsh_systemd.errors import BadInput
from lsh_systemd.job import Job
from lsh_systemd.jobfile import from_plain
from lsh_systemd.text import escape_controls
from tests.hostile import plain_jobs

SCHEMA = json.loads((Path(__file__).parent / "corpora/kubernetes-cronjob.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def exported(*jobs: Job, enabled: bool = True) -> tuple[list[dict[str, Any]], list[str], list[str]]:
    """The CronJobs, valid; what was left out; what was lost."""
    result = kubernetes.export([(job, enabled) for job in jobs], image="debian:13", local_zone="Europe/Berlin")
    assert escape_controls(result.text) == result.text
    documents = list(yaml.safe_load_all(result.text))
    for document in documents:
        VALIDATOR.validate(document)
    return documents, [reason for _, reason in result.left_out], [what for _, what in result.lost]


def job(**fields: Any) -> Job:
    return Job(**{"name": "Daily Backup", "command": "tar -cf x", "schedule": ("0 2 * * *",), **fields})


@pytest.mark.parametrize(
    ("schedule", "good"),
    [
        ("0 2 */2 * *", True),
        ("0 2 * * */2", True),
        ("0 2 1 * 1", True),
        ("0 2 * * 1-5", True),
        ("0 2 */2 * 1-5", False),
        ("0 2 1-7 * */3", False),
        ("0 2 */2 * 0-6", False),
        ("0 2 1-31 * */2", False),
        ("0 2 */1 * 1", True),
        ("0 2 * * 7", True),
        ("0 2 1,* * 1", False),
        ("@weekly", True),
    ],
)
def test_days_that_kubernetes_takes_otherwise_are_left_out(schedule: str, good: bool) -> None:
    documents, left_out, _ = exported(job(schedule=(schedule,)))
    assert (len(documents), len(left_out)) == (good, not good)
    assert good or "the day of month and that of the week" in left_out[0]


def test_a_job_becomes_a_cronjob() -> None:
    (document,), left_out, lost = exported(
        job(env={"A": "1"}, timeout=timedelta(minutes=90), retries=2, memory_max=2**20, cpu_quota=50, overlap="skip",
            working_dir="/srv", run_as="1000", description="All of it.", sandbox="strict"),
        enabled=False,
    )  # fmt: skip
    assert (left_out, lost) == ([], [])
    assert document["metadata"]["name"] == "daily-backup"
    assert document["metadata"]["annotations"] == {"description": "All of it."}
    spec = document["spec"]
    assert {name: spec[name] for name in spec if name != "jobTemplate"} == {
        "schedule": "0 2 * * *",
        "timeZone": "Europe/Berlin",
        "concurrencyPolicy": "Forbid",
        "suspend": True,
        "startingDeadlineSeconds": 60,
    }
    assert spec["jobTemplate"]["spec"]["backoffLimit"] == 2
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["activeDeadlineSeconds"] == 5400
    assert pod["containers"] == [
        {
            "name": "job",
            "image": "debian:13",
            "command": ["/bin/sh", "-c", "tar -cf x"],
            "env": [{"name": "A", "value": "1"}],
            "workingDir": "/srv",
            "resources": {"limits": {"memory": "1048576", "cpu": "500m"}},
            "securityContext": {
                "runAsUser": 1000,
                "readOnlyRootFilesystem": True,
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        }
    ]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"schedule": (), "every": timedelta(hours=2)}, "no cron schedule"),
        ({"schedule": ("0 0 2 * * *",), "seconds": True}, "no cron schedule"),
        ({"schedule": ("0 2 L * *",)}, "cannot have the schedule 0 2 L * *"),
        ({"name": "x" * 53}, "longer than 52"),
    ],
)
def test_what_a_cronjob_cannot_be_is_left_out(fields: dict[str, Any], said: str) -> None:
    documents, (reason,), _ = exported(job(**fields))
    assert documents == [] and said in reason


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        ("0 2 * * 7", "0 2 * * 0"),
        ("0 2 * * 5-7", "0 2 * * 0,5,6"),
        ("0 2 * * 1-5", "0 2 * * 1-5"),
        ("@daily", "@daily"),
    ],
)
def test_sunday_is_0(schedule: str, wanted: str) -> None:
    (document,), _, _ = exported(job(schedule=(schedule,)))
    assert document["spec"]["schedule"] == wanted


def test_what_is_lost_is_said() -> None:
    documents, _, lost = exported(job(schedule=("0 2 * * *", "0 14 * * *"), nice=5, catch_up="all", run_as="bob"))
    assert [each["metadata"]["name"] for each in documents] == ["daily-backup-1", "daily-backup-2"]
    assert lost == [
        "a CronJob does not have run_as, nice",
        "a time that comes while it runs is let pass (concurrencyPolicy: Forbid)",
        "of the times missed, one is made up for",
        "it becomes 2 CronJobs, which may run at the same time",
    ]
    _, _, lost = exported(
        job(overlap="skip", once_in_fleet=True, fleet_unreachable="run", from_fleet=True, params=("A",))
    )
    assert lost == [
        "a CronJob does not have fleet_unreachable, from_fleet, params",
        "it runs once in its cluster, without LSH_FENCING_TOKEN",
    ]


def expanded(text: str) -> str:
    """What Kubernetes makes of $ (third_party/forked/golang/expansion): $(NAME) of its variables, $$ → $."""
    out, at = "", 0
    while at < len(text):
        pair = text[at : at + 2]
        assert pair != "$(", "a variable of Kubernetes' own"
        out += "$" if pair == "$$" else text[at]
        at += 2 if pair == "$$" else 1
    return out


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(plain_jobs)
def test_whatever_a_job_is_its_cronjob_is_valid_and_says_the_same(plain: dict[str, Any]) -> None:
    try:
        one = replace(from_plain(plain | {"retries": 0}), every=None, anchor=None, schedule=("5 4 * * *",))
    except BadInput:
        assume(False)
        raise
    documents, _, _ = exported(one)
    for document in documents:
        (container,) = document["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
        words = [expanded(word) for word in container["command"]]
        assert words == ([one.shell, "-c", one.command] if isinstance(one.command, str) else [*one.command])
        assert {each["name"]: expanded(each["value"]) for each in container.get("env", [])} == one.env
