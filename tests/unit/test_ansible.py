"""The module lsh_job, started as Ansible starts it; what it asks of lshctl."""

import json
import os
import re
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


def test_the_role_tells_in_a_check_and_takes_away_what_went(tmp_path: Path) -> None:
    for folder in ("bin", "files/jobs", "to"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "files/jobs/a.yaml").write_text("jobs: {a: {command: x}}")
    (tmp_path / "to/b.yaml").write_text("jobs: {b: {command: x}}")
    script = '#!/bin/sh\n[ -z "$2" ] || echo "$2" >>$HOME/asked\n'
    script += '[ "$2" != diff ] || { ls "$4" >$HOME/seen; exit 3; }\necho done\n'
    (tmp_path / "bin/lshctl").write_text(script)
    (tmp_path / "bin/lshctl").chmod(0o755)
    (tmp_path / "ansible.cfg").touch()
    (tmp_path / "roles").symlink_to(PROJECT / "packaging/ansible/roles")
    variables = {"lsh_agent": False, "lsh_jobs_from": "jobs/", "lsh_jobs_to": str(tmp_path / "to"), "lsh_delete": True}
    play = {"hosts": "all", "connection": "local", "gather_facts": False, "roles": [{"role": "lsh", "vars": variables}]}
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    environ = os.environ | {"HOME": str(tmp_path), "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    environ |= {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg")}

    def changed(*options: str) -> list[str]:
        program = Path(sys.executable).with_name("ansible-playbook")
        given = ["-i", "localhost,", "-e", f"ansible_python_interpreter={sys.executable}", *options, "play.yml"]
        done = subprocess.run([program, *given], cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)
        return re.findall(r"TASK \[lsh : (.*?)\] \**\nchanged:", done.stdout)

    assert "Compare the jobs with the files" in changed("--check")
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["b.yaml"]
    assert (tmp_path / "asked").read_text().split() == ["diff"]
    assert (tmp_path / "seen").read_text().split() == ["a.yaml"]
    changed("--check", "-e", '{"lsh_delete": false}')
    assert (tmp_path / "seen").read_text().split() == ["a.yaml", "b.yaml"]
    assert "Make the jobs those of the files" in changed()
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["a.yaml"]
