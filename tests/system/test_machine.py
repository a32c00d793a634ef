"""The harness itself: a test bench that cannot be trusted proves nothing."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system import roots
from tests.system.machine import CommandFailed, Machine, eventually

NewMachine = Callable[..., Machine]


def test_is_the_systemd_that_it_says(machine: Machine, suite: str) -> None:
    digits = re.match(r"\d+", machine.systemd_version)
    assert digits
    major = int(digits[0])
    assert (major == 252) if suite == "bookworm" else (major > 257)
    assert machine.run("systemctl", "is-system-running", "--wait").stdout == "running\n"


def test_runs_commands_as_they_are(machine: Machine) -> None:
    result = machine.run("sh", "-c", 'printf "%s|" "$@"; cat; pwd', "sh", "a b", "$HOME", "'\n", input="déjà\udcff")
    assert result.stdout == "a b|$HOME|'\n|déjà\udcff/root\n"
    assert machine.run("env", env={"A": "1", "SHELL": None}, cwd="/tmp").stdout.count("SHELL") == 0
    assert machine.run("sh", "-c", "echo out; echo err >&2; exit 3", check=False).returncode == 3


def test_a_failure_shows_everything(machine: Machine) -> None:
    with pytest.raises(CommandFailed, match=r"(?s)\$ sh -c .*exit status 3.*--- stdout\nout\n.*--- stderr\nerr\n"):
        machine.run("sh", "-c", "echo out; echo err >&2; exit 3")


def test_a_timeout_leaves_nothing_running(machine: Machine) -> None:
    with pytest.raises(CommandFailed, match=r"not done after 0\.3 s"):
        machine.run("sleep", "8121", timeout=0.3)
    assert machine.run("pgrep", "-f", "sleep 8121", check=False).returncode == 1


def test_ctrl_c_reaches_the_command(machine: Machine) -> None:
    process = machine.popen("sh", "-c", "trap 'echo interrupted; exit 7' INT; echo ready; while :; do sleep 0.1; done")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.interrupt()
    assert process.communicate(timeout=5)[0] == "interrupted\n"
    assert process.returncode == 7


def test_a_user_has_a_manager_and_a_login_environment(machine: Machine) -> None:
    machine.add_user("bob")
    assert machine.run("systemctl", "--user", "is-system-running", user="bob").stdout == "running\n"
    machine.run("systemd-run", "--user", "--wait", "--quiet", "touch", "made by a service", user="bob")
    assert machine.run("id", "-un", user="bob").stdout == "bob\n"
    places = machine.run("sh", "-c", "echo $HOME $PWD $XDG_RUNTIME_DIR", user="bob").stdout
    assert places.startswith("/home/bob /home/bob /run/user/")


def test_the_journal_is_persistent_and_readable(machine: Machine) -> None:
    machine.add_user("bob")
    machine.run("systemd-cat", "--identifier=bench", "echo", "two\u2028lines?")
    (entry,) = machine.journal("SYSLOG_IDENTIFIER=bench")
    assert entry["MESSAGE"] == "two\u2028lines?"
    machine.run("systemd-run", "--user", "--wait", "--quiet", "echo", "mine", user="bob")
    assert "mine" in machine.run("journalctl", "--user", "--output=cat", user="bob").stdout


def test_files_go_in_and_out(machine: Machine) -> None:
    machine.write("/opt/bench/a b", "text\n", mode=0o600)
    assert machine.read("/opt/bench/a b") == "text\n"
    assert machine.run("stat", "--format=%a", "/opt/bench/a b").stdout == "600\n"
    assert machine.exists("/opt/bench")
    assert not machine.exists("/opt/nothing")


def test_the_project_is_there_and_read_only(machine: Machine) -> None:
    for path in (roots.PROJECT, roots.PROJECT_INSIDE):
        assert machine.read(f"{path}/pyproject.toml") == (roots.PROJECT / "pyproject.toml").read_text()
        assert machine.run("touch", f"{path}/x", check=False).returncode != 0
    where = "import lsh_systemd, click, jinja2, pydbus, systemd.journal; print(lsh_systemd.__file__)"
    machine.add_user("bob")
    assert machine.run("python3", "-c", where, user="bob").stdout.startswith(roots.PROJECT_INSIDE)
    assert machine.exists("/usr/local/bin/lshctl")


def test_a_reboot_keeps_the_disk_and_the_users(new_machine: NewMachine, suite: str) -> None:
    machine = new_machine(suite)
    machine.add_user("bob")
    machine.write("/etc/kept", "yes")
    machine.write("/run/lost", "yes")
    first = machine.read("/proc/sys/kernel/random/boot_id")
    machine.reboot()
    assert machine.read("/etc/kept") == "yes"
    assert not machine.exists("/run/lost")
    assert machine.read("/proc/sys/kernel/random/boot_id") != first
    machine.run("systemctl", "--user", "is-active", "default.target", user="bob")
    assert len({entry["_BOOT_ID"] for entry in machine.journal()}) == 2


def test_a_killed_machine_boots_again(new_machine: NewMachine, suite: str) -> None:
    machine = new_machine(suite)
    leader = Path(f"/proc/{machine._container.leader}")
    machine.kill()
    assert not machine.is_up
    eventually(lambda: not leader.exists())
    assert "Reached target" in machine.journal_text()
    machine.boot()
    assert not any("Journal stopped" in entry["MESSAGE"] for entry in machine.journal("_COMM=systemd-journal"))


def test_machines_side_by_side_do_not_meet(new_machine: NewMachine) -> None:
    """Same unit, different machines: were they to share a cgroup, stopping one would kill the other's processes."""
    one, other = new_machine("bookworm"), new_machine("forky")
    for machine in (one, other):
        machine.run("systemd-run", "--unit=same", "sleep", "1000")
    one.run("systemctl", "stop", "same.service")
    time.sleep(0.2)
    assert other.run("systemctl", "is-active", "same.service").stdout == "active\n"
    assert one.read("/etc/machine-id") != other.read("/etc/machine-id")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_the_tests_are_ended(_able_to_boot: None, number: signal.Signals) -> None:
    script = (
        "import time\nfrom tests.system.machine import Machine\n"
        "with Machine('bookworm') as m:\n print(m.name, m._container.leader, flush=True)\n time.sleep(60)"
    )
    tests = subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, "-c", script],
        cwd=roots.PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert tests.stdout is not None
    name, leader = tests.stdout.readline().split()
    tests.send_signal(number)
    tests.wait(timeout=10)
    tests.stdout.close()
    eventually(lambda: not Path("/proc", leader).exists())
    assert name not in Path("/proc/mounts").read_text()
    assert not [process for process in Path("/proc").glob("[0-9]*") if name in _command_line(process)]


def _command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_text()
    except OSError:  # it has ended since
        return ""
