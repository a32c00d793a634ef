"""The law of the unit files: what is written is read back the same, and no value can add or change a directive."""

import os
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings

from lsh_systemd import unit
from lsh_systemd.errors import BadInput
from lsh_systemd.job import Job
from lsh_systemd.jobfile import from_plain, to_plain
from lsh_systemd.scope import Scope
from tests.directives import check, render
from tests.hostile import plain_jobs

settings.register_profile("law", max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
settings.register_profile("long", settings.get_profile("law"), max_examples=20_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "law"))


def job_from(plain: dict[str, Any]) -> Job:
    """The job, or an example that is none: refused, as it has to be."""
    try:
        return from_plain(plain)
    except BadInput:
        assume(False)
        raise


@given(plain_jobs)
@example({"name": "x", "command": "true", "swap_max": 2**53 + 1})
def test_a_job_is_read_back_as_it_was(plain: dict[str, Any]) -> None:
    job = job_from(plain)
    files = render(job)
    read = unit.read(files[job.unit], files.get(job.timer, ""), files.get)
    assert (read.job, read.changed) == (job, False)
    assert from_plain(to_plain(job)) == job


@given(plain_jobs)
@example({"name": "x", "command": "true", "description": "a\\"})
@example({"name": "x", "command": "a\\\n[Service]\nUser=root"})
@example({"name": "x\\", "command": ["echo", ";", "\\"], "every": "1s"})
def test_no_value_adds_or_changes_a_directive(plain: dict[str, Any]) -> None:
    job = job_from(plain)
    check(job, render(job))


@given(plain_jobs)
def test_the_machine_read_part_is_ascii(plain: dict[str, Any]) -> None:
    """No line separator of Unicode and no invisible mark can hide there."""
    job = job_from(plain)
    _, _, section = render(job)[job.unit].partition("\n[X-Lsh]\n")
    assert section.replace("\n", "").isascii()
    assert section.replace("\n", "").isprintable()


@pytest.mark.parametrize("edit", ["service", "timer"])
def test_a_hand_edit_is_noticed(edit: str) -> None:
    job = from_plain({"name": "x", "command": "true", "every": "1h"})
    files = render(job)
    files[f"lsh-x.{edit}"] = files[f"lsh-x.{edit}"].replace("Description=", "Description=My ")
    read = unit.read(files["lsh-x.service"], files["lsh-x.timer"])
    assert (read.job, read.changed) == (job, True)


def test_somebody_elses_unit_is_not_ours() -> None:
    with pytest.raises(unit.NotOurs):
        unit.read("[Service]\nExecStart=/bin/true\n")
    with pytest.raises(unit.Unreadable):
        unit.read('[Service]\nExecStart=/bin/true\n\n[X-Lsh]\nName="x"\nCommand=not JSON\n')


def test_a_users_job_runs_as_that_user() -> None:
    job = from_plain({"name": "x", "command": "true", "run_as": "root"})
    with pytest.raises(BadInput, match="run as that user"):
        unit.render(job, scope=Scope.USER, recorder="/r", now=datetime.now(UTC), local_zone="UTC")
