"""The harness itself, where a machine with its own kernel differs from a container: see test_machine.py."""

import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.system import roots
from tests.system.booted import CommandFailed, eventually
from tests.system.uml import UmlMachine, only_on


def test_is_a_machine_with_a_kernel_of_its_own(uml: UmlMachine, suite: str) -> None:
    assert uml.run("systemctl", "is-system-running").stdout == "running\n"
    assert uml.systemd_version.startswith("252") == (suite == "bookworm")
    assert {"cpu", "memory"} <= set(uml.read("/sys/fs/cgroup/cgroup.controllers").split())
    assert uml.read(f"{roots.PROJECT_INSIDE}/README.md") == (roots.PROJECT / "README.md").read_text()
    assert uml.run("touch", f"{roots.PROJECT_INSIDE}/x", check=False).returncode != 0


@only_on("forky")
def test_runs_commands_as_they_are(uml: UmlMachine) -> None:
    uml.add_user("bob")
    script = 'printf "%s|" "$@"; cat; pwd; id -un; echo "$A"; echo err >&2; exit 3'
    argv = ("sh", "-c", script, "sh", "a b", "'\n")
    result = uml.run(*argv, user="bob", input="déjà\udcff", env={"A": "1"}, cwd="/tmp", check=False)
    assert (result.returncode, result.stdout, result.stderr) == (3, "a b|'\n|déjà\udcff/tmp\nbob\n1\n", "err\n")
    assert uml.run("nonsense", check=False).returncode == 127
    assert uml.run("seq", "200000").stdout.endswith("\n200000\n")
    with pytest.raises(CommandFailed, match=r"(?s)not done after 0\.5 s.*before"):
        uml.run("sh", "-c", "echo before; sleep 8121; true", timeout=0.5)
    assert uml.run("pgrep", "-f", "sleep 8121", check=False).returncode == 1


@only_on("bookworm")
def test_the_plug_is_pulled(uml: UmlMachine) -> None:
    """What was synced is there afterwards, what was not is lost; the clock has gone on."""
    at = datetime(2027, 1, 16, 12, tzinfo=UTC)
    uml.set_clock(at)
    uml.write("/var/tmp/synced", "yes")
    uml.run("sync")
    uml.write("/var/tmp/not-synced", "yes")
    uml.kill()
    assert not uml.is_up
    assert "Reached target" in uml.journal_text()
    uml.boot()
    assert uml.read("/var/tmp/synced") == "yes"
    assert not uml.exists("/var/tmp/not-synced")
    assert at.timestamp() < uml.clock() < (at + timedelta(hours=1)).timestamp()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_when_the_tests_are_ended(_able_to_boot: None, number: signal.Signals) -> None:
    script = (
        "import time\nfrom tests.system.uml_kernel import Kernel\n"
        "k = Kernel('bookworm')\nk._format()\nk._start()\nk._receive(0, time.monotonic() + 60)\n"
        "print(k.name, k._keeper._shell.pid, k._child.pid, flush=True)\ntime.sleep(60)"
    )
    tests = subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, "-c", script],
        cwd=roots.PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert tests.stdout is not None
    pids = tests.stdout.readline().split()[1:]
    kernels = [each for pid in pids for each in descendants(int(pid))]
    assert len(kernels) > 3
    tests.send_signal(number)
    tests.wait(timeout=60)
    tests.stdout.close()
    eventually(lambda: not [pid for pid in kernels if Path("/proc", str(pid)).exists()], timeout=60)


def descendants(pid: int) -> list[int]:
    found = [pid]
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):  # what boots starts and ends helpers all the time
        return found
    for each in children:
        found += descendants(int(each))
    return found
