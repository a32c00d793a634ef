"""Jobs → a play of Ansible's: each job is there as it is, and nothing in it is filled in."""

from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings

from lsh_systemd import playbook
from lsh_systemd.errors import BadInput
from lsh_systemd.job import Job
from lsh_systemd.jobfile import from_plain
from lsh_systemd.scope import Scope
from lsh_systemd.text import escape_controls
from tests.hostile import plain_jobs


class Unsafe(str):
    """A text that the file marks so."""


class Loader(yaml.SafeLoader):
    """As Ansible's own, which knows one tag more."""


Loader.add_constructor("!unsafe", lambda loader, node: Unsafe(loader.construct_scalar(node)))


def play(*jobs: tuple[Job, bool], scope: Scope = Scope.SYSTEM) -> dict[str, Any]:
    text = playbook.export(jobs, scope=scope)
    assert escape_controls(text) == text
    ((read,),) = yaml.load_all(text, Loader)
    return dict(read)


def texts(data: Any) -> list[str]:
    if isinstance(data, str):
        return [data]
    inner = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return [text for each in inner for text in texts(each)]


@pytest.mark.parametrize(("scope", "become"), [(Scope.SYSTEM, True), (Scope.USER, None)])
def test_jobs_become_tasks(scope: Scope, become: bool | None) -> None:
    one = from_plain({"name": "A b", "command": "docker ps --format '{{ .Names }}'", "nice": 3, "applied": "web"})
    two = from_plain({"name": "c", "command": ["/bin/true", "yes"], "every": "2h"})
    read = play((one, True), (two, False), scope=scope)
    assert (read["hosts"], read.get("become")) == ("all", become)
    assert read["tasks"] == [
        {
            "name": "The job a-b",
            "lsh.systemd.lsh_job": {
                "name": "A b",
                "scope": str(scope),
                "project": "web",
                "job": {"command": "docker ps --format '{{ .Names }}'", "nice": 3},
            },
        },
        {
            "name": "The job c",
            "lsh.systemd.lsh_job": {
                "name": "c",
                "scope": str(scope),
                "job": {"command": ["/bin/true", "yes"], "every": "2h", "enabled": False},
            },
        },
    ]
    assert [type(text) for text in texts(read) if "{{" in text] == [Unsafe]


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(plain_jobs)
def test_a_job_comes_out_as_it_went_in(plain: dict[str, Any]) -> None:
    try:
        one = from_plain(plain)
    except BadInput:
        assume(False)
        raise
    read = play((one, True))
    (told,) = (task["lsh.systemd.lsh_job"] for task in read["tasks"])
    applied = {"applied": told["project"]} if "project" in told else {}
    assert from_plain({"name": told["name"], **told["job"], **applied}) == one
    filled_in = [text for text in texts(read) if type(text) is str and any(mark in text for mark in ("{{", "{%", "{#"))]
    assert filled_in == []
