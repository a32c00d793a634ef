"""The example for cloud-init: taken by cloud-init's own check, and the job files in it by lshctl's."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

from lsh_systemd import specfiles
from lsh_systemd.jobspec import Source, gather
from lsh_systemd.located import read
from lsh_systemd.scope import Scope

PROJECT = Path(__file__).parents[2]
EXAMPLE = PROJECT / "packaging/cloud-init/user-data.yaml"


def check(file: Path) -> subprocess.CompletedProcess[str]:
    unpacked = PROJECT / ".cache/cloud-init/usr/lib/python3/dist-packages"
    argv = [sys.executable, "-m", "cloudinit.cmd.main", "schema", "-c", str(file)]
    return subprocess.run(
        argv, env=os.environ | {"PYTHONPATH": str(unpacked)}, capture_output=True, text=True, check=False
    )


def test_cloud_init_takes_it(tmp_path: Path) -> None:
    assert "Valid" in check(EXAMPLE).stdout
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(EXAMPLE.read_text().replace("packages: [", "packages: [5, "))
    assert "Valid" not in check(wrong).stdout


def test_its_jobs_are_jobs() -> None:
    files = {each["path"]: each["content"] for each in yaml.safe_load(EXAMPLE.read_text())["write_files"]}
    ((name, text),) = [(path, text) for path, text in files.items() if path.startswith("/etc/lsh/jobs.d/")]
    source = Source(located=read(text, file=name), includes=())
    found = gather([source], templates=specfiles.templates(Scope.SYSTEM), variables={}, environ={})
    assert found.refused == ()
    assert {each.job.id for each in found.wanted} == {"follow-the-jobs-repository", "trim"}
