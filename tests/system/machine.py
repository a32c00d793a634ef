"""A machine to test on: a real systemd, D-Bus, journald and user managers, with the project and its lshctl in it.

with Machine("bookworm") as machine:
    machine.add_user("bob")
    machine.run("lshctl", "add", "Tick", "--every", "2s", "--", "date", user="bob")
    machine.reboot()
    assert machine.run("lshctl", "list", "--json", user="bob").json()

It is a container, up in a second. What a container has not (a clock and a kernel of its own) uml.py has.
"""

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.system.booted import Booted, CommandFailed, Result, eventually, not_done
from tests.system.container import Container
from tests.system.keeper import BootFailed

__all__ = ["BootFailed", "CommandFailed", "Machine", "Process", "Result", "eventually"]


class Process(subprocess.Popen[str]):
    """A command that runs inside while the test goes on."""

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        """What Ctrl-C at its terminal would do: the signal goes to the command and its children, not to nsenter."""
        for pid in _group(self.pid):
            if pid != self.pid:
                os.kill(pid, number)

    def kill(self) -> None:
        """End the command, too: killing nsenter alone would leave it running."""
        for pid in (*_group(self.pid), self.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # gone by itself since


class Machine(Booted):
    """A container. kill() is no power cut: what was written but not synced is still there afterwards.

    `suite` is one of roots.ALL_SUITES. Machines share this host's network, unless `--private-network` is among
    `nspawn_options`.
    """

    def __init__(self, suite: str, *, nspawn_options: tuple[str, ...] = ()) -> None:
        self._container = Container(suite, nspawn_options=nspawn_options)
        super().__init__(suite, self._container)

    @property
    def disk(self) -> Path:
        """Its file system as seen from outside, also while it is off. (Absolute symlinks in it lead outside.)"""
        return self._container.disk

    def popen(
        self,
        *argv: str | Path,
        user: str = "root",
        env: Mapping[str, str | None] | None = None,
        cwd: str | Path | None = None,
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | None = subprocess.PIPE,
        stderr: int | None = subprocess.PIPE,
    ) -> Process:
        """Start a command inside. `with machine.popen(…) as process:` waits for its end; see also Process.interrupt."""
        environment = self._environment(user, env)
        as_user = () if user == "root" else ("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--")
        # Ctrl-C must work inside also where the tests themselves run in the background, with SIGINT ignored.
        there = ("env", "--default-signal=INT", f"--chdir={cwd or environment['HOME']}", "--")
        return Process(
            [*self._container.enter(), *as_user, *there, *map(str, argv)],
            env=environment,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            umask=0o022,
            start_new_session=True,
            encoding="utf-8",
            errors="surrogateescape",
        )

    def _execute(
        self,
        argv: tuple[str, ...],
        *,
        user: str,
        env: Mapping[str, str | None] | None,
        cwd: str | Path | None,
        input: str | None,
        timeout: float,
    ) -> Result:
        stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
        process = self.popen(*argv, user=user, env=env, cwd=cwd, stdin=stdin)
        try:
            stdout, stderr = process.communicate(input, timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            stdout, stderr = process.communicate()
            raise not_done(Result(argv=argv, returncode=-9, stdout=stdout, stderr=stderr), timeout) from None
        except BaseException:
            process.kill()
            process.wait()
            raise
        return Result(argv=argv, returncode=process.returncode, stdout=stdout, stderr=stderr)


def _group(leader: int) -> list[int]:
    """The processes of a group."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = stat.read_text(errors="replace").split(" ", 1)
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(rest.rpartition(") ")[2].split()[2]) == leader:  # state, parent, group
            members.append(int(pid))
    return members
