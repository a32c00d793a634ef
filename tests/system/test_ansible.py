"""The Ansible collection: ansible-core itself, over ssh, on a booted machine."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system import sshd
from tests.system.lsh import Lsh
from tests.system.machine import Machine
from tests.system.uml import only_on

pytestmark = only_on("bookworm")

COLLECTION = Path(__file__).parents[2] / "packaging/ansible"

# A line of JSON for what each task tells.
CALLBACK = '''
DOCUMENTATION = """
name: told
type: stdout
short_description: for tests
"""
import json
from ansible.plugins.callback import CallbackBase

class CallbackModule(CallbackBase):
    CALLBACK_VERSION, CALLBACK_TYPE, CALLBACK_NAME = 2.0, "stdout", "told"

    def _tell(self, result, **_):
        print(json.dumps(dict(result.result), default=str), flush=True)

    v2_runner_on_ok = v2_runner_on_failed = v2_runner_on_skipped = v2_runner_on_unreachable = _tell
'''


class Ansible:
    """A controller that has the collection; its only host is the machine."""

    def __init__(self, folder: Path, machine: Machine, port: int) -> None:
        self.folder, self.lsh = folder, Lsh(machine, "system")
        (folder / "ansible_collections/lsh").mkdir(parents=True)
        (folder / "ansible_collections/lsh/systemd").symlink_to(COLLECTION)
        (folder / "callbacks").mkdir()
        (folder / "callbacks/told.py").write_text(CALLBACK)
        key = folder / "key"
        key.touch(mode=0o600)
        key.write_text(machine.read("/etc/ansible-test/client_key"))
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {machine.read('/etc/ansible-test/host_key.pub')}")
        options = f"-o UserKnownHostsFile={folder}/known_hosts -o IdentitiesOnly=yes -o ControlPath=none"
        host = {"ansible_host": "127.0.0.1", "ansible_port": port, "ansible_user": "root"}
        host |= {"ansible_ssh_private_key_file": str(key), "ansible_ssh_common_args": options}
        host |= {"ansible_python_interpreter": "/usr/bin/python3"}
        (folder / "ansible.cfg").touch()
        (folder / "inventory.json").write_text(json.dumps({"all": {"hosts": {"machine": host}}}))

    def _call(self, program: str, *argv: str | Path) -> subprocess.CompletedProcess[str]:
        own: dict[str, Any] = {"COLLECTIONS_PATH": self.folder, "HOME": self.folder / "home"}
        own |= {"STDOUT_CALLBACK": "told", "CALLBACK_PLUGINS": self.folder / "callbacks"}
        environment = os.environ | {f"ANSIBLE_{name}": str(value) for name, value in own.items()}
        # The tests may run where ansible would read this user's own settings.
        environment |= {"HOME": str(self.folder), "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg")}
        program = str(Path(sys.executable).with_name(program))
        return subprocess.run(
            [program, *argv], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )

    def play(self, play: dict[str, Any], *options: str) -> list[dict[str, Any]]:
        """What each task of the play tells."""
        return self.playbook(json.dumps([{"hosts": "all", "gather_facts": False} | play]), *options)

    def playbook(self, text: str, *options: str) -> list[dict[str, Any]]:
        """The same of a whole playbook."""
        (self.folder / "play.yml").write_text(text)
        done = self._call("ansible-playbook", "-i", "inventory.json", *options, "play.yml")
        assert done.stdout.startswith("{"), done
        return [json.loads(line) for line in done.stdout.splitlines()]

    def job(self, name: str, job: dict[str, Any] | None, *options: str, **more: Any) -> dict[str, Any]:
        """What one task with the module tells; without a job, there is to be none."""
        given = {"name": name, "job": job} if job else {"name": name, "state": "absent"}
        (told,) = self.play({"tasks": [{"lsh.systemd.lsh_job": given | more}]}, *options)
        return told

    def documentation(self) -> str:
        done = self._call("ansible-doc", "lsh.systemd.lsh_job")
        assert done.returncode == 0, done
        return done.stdout


@pytest.fixture
def ansible(tmp_path: Path, machine: Machine) -> Iterator[Ansible]:
    port = sshd.start(machine, "ansible-test")
    ansible = Ansible(tmp_path, machine, port)
    yield ansible
    ansible.lsh.clean()
    machine.run("systemctl", "stop", "ansible-test")
    machine.run("rm", "-r", "/etc/ansible-test")


def test_the_collection_on_a_machine(ansible: Ansible) -> None:
    lsh = ansible.lsh
    name = lsh.new_name()
    described = {"schedule": "0 2 * * *", "command": "echo {{ '{{ who }}' }} '$HOME'", "tags": ["it's", "ü"]}
    before = lsh.files()
    told = ansible.job(name, described, "--check", "--diff")
    assert (told["changed"], told["id"]) == (True, name)
    assert '"schedule"' in told["diff"]["after"] and told["diff"]["before"] == ""
    assert lsh.files() == before

    assert ansible.job(name, described)["changed"]
    assert lsh.show(f"lsh-{name}.timer", "ActiveState", "UnitFileState") == {
        "ActiveState": "active", "UnitFileState": "enabled",
    }  # fmt: skip
    assert lsh.run(name)["output"] == "{{ who }} $HOME\n"
    assert lsh.json("show", name)["definition"]["tags"] == ["it's", "ü"]
    assert not ansible.job(name, described)["changed"]

    told = ansible.job(name, described | {"schedule": "0 3 * * *", "enabled": False}, "--diff")
    assert (told["changed"], told["difference"]) == (
        True, {"schedule": [["0 2 * * *"], ["0 3 * * *"]], "enabled": [True, False]},
    )  # fmt: skip
    assert lsh.show(f"lsh-{name}.timer", "ActiveState") == {"ActiveState": "inactive"}

    after = lsh.files()
    for wrong in ({"command": "true", "schedule": "61 * * * *"}, {"command": "true", "colour": "red"}, {"command": ""}):
        told = ansible.job(name, wrong)
        assert told["rc"] == 2 and "nothing was changed" in told["msg"]
    assert lsh.files() == after

    exported = lsh("export", "--format", "ansible").stdout
    assert [told.get("changed") for told in ansible.playbook(exported) if told.get("id") == name] == [False]

    assert ansible.job(name, None, "--check")["changed"]
    assert lsh.files() == after
    assert ansible.job(name, None)["changed"]
    assert name not in {job["id"] for job in lsh.json("list")}
    assert not ansible.job(name, None)["changed"]

    # The role: what a folder has is applied; a second time changes nothing.
    (ansible.folder / "jobs").mkdir()
    jobs = {f"{name}-{n}": {"every": "1h", "command": "true"} for n in (1, 2)}
    (ansible.folder / "jobs/jobs.json").write_text(json.dumps({"project": name, "jobs": jobs}))
    play = {"roles": [{"role": "lsh.systemd.lsh", "vars": {"lsh_jobs_from": "jobs/", "lsh_prune": True}}]}
    told_by_all = ansible.play(play)
    assert told_by_all[-1]["changed"] and not any(told.get("failed") for told in told_by_all)
    assert {job["id"] for job in lsh.json("list")} >= {f"{name}-1", f"{name}-2"}
    assert not any(told["changed"] for told in ansible.play(play))
    jobs.popitem()
    (ansible.folder / "jobs/jobs.json").write_text(json.dumps({"project": name, "jobs": jobs}))
    assert ansible.play(play)[-1]["changed"]
    assert f"{name}-2" not in {job["id"] for job in lsh.json("list")}
    lsh.machine.run("rm", "-r", "/etc/lsh/jobs.d")
    assert "lshctl schema" in ansible.documentation()
