"""The module lsh_job, started as Ansible starts it; what it asks of lshctl."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lsh_systemd import filling, jobspec
from lsh_systemd.located import STANDARD_INPUT, read

PROJECT = Path(__file__).parents[2]
MODULE = PROJECT / "packaging/ansible/plugins/modules/lsh_job.py"
NAMES = ["{{ env.HOME }}", "{{ a..b }}", "{{ a.b.c }}", r"\{{ v }}", "{{v}}", "{{ 1 }}"]

pytest.importorskip("ansible")


def call(folder: Path, script: str, **given: Any) -> dict[str, Any]:
    """What the module tells, with this in the place of lshctl."""
    (folder / "lshctl").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "lshctl").chmod(0o755)
    given = {"executable": str(folder / "lshctl"), "scope": "user"} | given
    environ = os.environ | {name: str(folder) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME")}
    environ["PYTHONPATH"] = str(PROJECT)
    done = subprocess.run(
        [sys.executable, MODULE], input=json.dumps({"ANSIBLE_MODULE_ARGS": given}), env=environ,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("text", NAMES)
def test_lshctl_takes_names_and_texts_as_they_are(tmp_path: Path, text: str) -> None:
    told = call(tmp_path, f"cat >{tmp_path}/asked; exit 7", name=f"x {text}", job={"command": f"echo '{text}'"})
    assert told["failed"] and told["rc"] == 7
    source = jobspec.Source(located=read((tmp_path / "asked").read_text(), file=STANDARD_INPUT))
    got = jobspec.gather([source], templates={}, variables={"v": "no"}, environ={"HOME": "/no"})
    assert got.refused == ()
    assert [(each.job.name, each.job.command) for each in got.wanted] == [(f"x {text}", f"echo '{text}'")]


def test_what_is_a_variable_is_the_same_to_both() -> None:
    assert f'r"{filling._BLANK.pattern}"' in MODULE.read_text()


def test_a_job_that_is_not_there_is_not_removed(tmp_path: Path) -> None:
    real = f'exec {sys.executable} -m lsh_systemd.cli "$@"'
    told = call(tmp_path, real, name="No Such", state="absent")
    assert (told.get("failed"), told["changed"]) == (None, False), told


def test_another_failure_is_one(tmp_path: Path) -> None:
    told = call(tmp_path, "echo 'lshctl: the disk is full' >&2; exit 1", name="x", state="absent")
    assert told["failed"] and "the disk is full" in told["msg"]


def test_a_job_is_found_by_any_of_its_names(tmp_path: Path) -> None:
    script = """[ "$2" = show ] && echo '{"id": "a-b", "definition": {"command": "x"}}'; echo "$@" >>$HOME/asked"""
    told = call(tmp_path, f"{script}; exit 0", name="A  b", state="absent")
    assert (told["id"], told["changed"], told["difference"]) == ("a-b", True, {"command": ["x", None]})
    assert (tmp_path / "asked").read_text().splitlines() == ["--user show --json -- A  b", "--user remove a-b"]
