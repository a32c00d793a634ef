"""A machine to test on: a real systemd, D-Bus, journald and user managers, with the project and its lshctl in it.

with Machine("bookworm") as machine:
    machine.add_user("bob")
    machine.run("lshctl", "add", "Tick", "--every", "2s", "--", "date", user="bob")
    machine.reboot()
    assert machine.run("lshctl", "list", "--json", user="bob").json()
"""

import json
import os
import shlex
import signal
import subprocess
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.system import roots
from tests.system.container import BootFailed, Container

__all__ = ["BootFailed", "CommandFailed", "Machine", "Process", "Result", "eventually"]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a command ended and what it said. Bytes that are not UTF-8 are surrogate escapes."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        return json.loads(self.stdout)

    def __str__(self) -> str:
        return (
            f"$ {shlex.join(self.argv)}\nexit status {self.returncode}\n"
            f"--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"
        )


class CommandFailed(AssertionError):
    """A command that had to succeed did not; the message shows all of it."""


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


class Machine:
    """A booted machine; as a context manager it boots on entry and leaves nothing behind.

    `suite` is one of roots.SUITES. Machines share this host's network, unless `--private-network` is among
    `nspawn_options`.
    """

    def __init__(self, suite: str, *, nspawn_options: tuple[str, ...] = ()) -> None:
        self.suite = suite
        self._container = Container(suite, nspawn_options=nspawn_options)
        self.name = self._container.name
        self._lingering: dict[str, int] = {}  # user → UID
        _install_commands(self.disk)

    def __enter__(self) -> Self:
        try:
            self.boot()
        except BaseException:
            self._container.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            # In order, so that a service that hinders a shutdown is noticed; but no waiting after a Ctrl-C.
            if self.is_up and (kind is None or issubclass(kind, Exception)):
                self.power_off()
        finally:
            self._container.close()

    # --- the machine as a whole

    @property
    def is_up(self) -> bool:
        return self._container.leader != 0

    @property
    def disk(self) -> Path:
        """Its file system as seen from outside, also while it is off. (Absolute symlinks in it lead outside.)"""
        return self._container.disk

    @property
    def systemd_version(self) -> str:
        """As the manager itself says, such as "252.39-1~deb12u1"."""
        manager = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
        answer = self.run("busctl", "get-property", "--json=short", *manager, "Version").json()
        return str(answer["data"])

    def boot(self) -> None:
        self._container.boot()
        for user in self._lingering:
            self._wait_for_user_manager(user)

    def reboot(self) -> None:
        """Shut down in order and boot again: the disk stays, /run and transient units go."""
        self.power_off()
        self.boot()

    def power_off(self) -> None:
        self._container.power_off()

    def kill(self) -> None:
        """As if its container died, without a goodbye; boot() brings it up again with the disk as it was.

        (Not a power cut: what was written but not synced is still there.)
        """
        self._container.kill()

    # --- commands

    def run(
        self,
        *argv: str | Path,
        user: str = "root",
        check: bool = True,
        input: str | bytes | None = None,
        timeout: float = 60,
        env: Mapping[str, str | None] | None = None,
        cwd: str | Path | None = None,
    ) -> Result:
        """Run a command inside and wait for it. Raises CommandFailed where `check` and it fails, and on a timeout.

        The environment is a login's; `env` adds to it, and takes away what it gives as None.
        """
        data = input.encode(errors="surrogateescape") if isinstance(input, str) else input
        stdin = subprocess.DEVNULL if data is None else subprocess.PIPE
        process = self.popen(*argv, user=user, env=env, cwd=cwd, stdin=stdin)
        try:
            # communicate() of a text pipe wants text; surrogate escapes carry any bytes through it
            text = None if data is None else data.decode(errors="surrogateescape")
            stdout, stderr = process.communicate(text, timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            stdout, stderr = process.communicate()
            shown = Result(argv=_strings(argv), returncode=-9, stdout=stdout, stderr=stderr)
            raise CommandFailed(f"not done after {timeout:g} s\n{shown}") from None
        except BaseException:
            process.kill()
            process.wait()
            raise
        result = Result(argv=_strings(argv), returncode=process.returncode, stdout=stdout, stderr=stderr)
        if check and result.returncode != 0:
            raise CommandFailed(str(result))
        return result

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
        environment = self._login(user) | dict(env or {})
        as_user = () if user == "root" else ("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--")
        # Ctrl-C must work inside also where the tests themselves run in the background, with SIGINT ignored.
        there = ("env", "--default-signal=INT", f"--chdir={cwd or environment['HOME']}", "--")
        return Process(
            [*self._container.enter(), *as_user, *there, *_strings(argv)],
            env={name: value for name, value in environment.items() if value is not None},
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            umask=0o022,
            start_new_session=True,
            encoding="utf-8",
            errors="surrogateescape",
        )

    def _login(self, user: str) -> dict[str, str | None]:
        """What a login would set; without a user manager (no add_user, no lingering) as `su` would."""
        home = "/root" if user == "root" else f"/home/{user}"
        env: dict[str, str | None] = {"PATH": PATH, "LANG": "C.UTF-8", "SHELL": "/bin/bash"}
        env |= {"HOME": home, "USER": user, "LOGNAME": user}
        if user in self._lingering:
            runtime = f"/run/user/{self._lingering[user]}"
            env |= {"XDG_RUNTIME_DIR": runtime, "DBUS_SESSION_BUS_ADDRESS": f"unix:path={runtime}/bus"}
        return env

    # --- what is on it

    def add_user(self, name: str, *, linger: bool = True, groups: tuple[str, ...] = ()) -> None:
        """Make a user and, unless `linger` is false, wait until their user manager is up. Repeating it is fine."""
        if name in self._lingering:
            return
        if self.run("id", name, check=False).returncode != 0:
            self.run("useradd", "--create-home", "--shell=/bin/bash", f"--groups={','.join(groups)}", name)
        if linger:
            self.run("loginctl", "enable-linger", name)
            self._lingering[name] = int(self.run("id", "--user", name).stdout)
            self._wait_for_user_manager(name)

    def _wait_for_user_manager(self, name: str) -> None:
        self.run("systemctl", "start", f"user@{self._lingering[name]}.service")
        self.run("systemctl", "--user", "is-system-running", "--wait", user=name, check=False)  # "degraded" will do

    def journal(self, *matches: str) -> list[dict[str, Any]]:
        """The journal's entries, oldest first, as journalctl gives them; `matches` are any of its arguments."""
        self.run("journalctl", "--sync")
        found = self.run("journalctl", "--output=json", "--all", "--quiet", *matches)
        # journalctl ends an entry with a newline; within one, any other line separator may stand as it is
        return [json.loads(line) for line in found.stdout.split("\n") if line]

    def journal_text(self, *, since: float = 0) -> str:
        """The journal for people, from a POSIX time on; of a machine that is down, from its disk."""
        options = ["--no-pager", "--output=short-precise", f"--since=@{since:.6f}"]
        if self.is_up:
            self.run("journalctl", "--sync", check=False)
            return self.run("journalctl", *options, check=False).stdout
        argv = ["journalctl", *options, f"--directory={self.disk}/var/log/journal"]
        return subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False).stdout

    def console(self) -> str:
        """What systemd and nspawn printed since the last boot."""
        return self._container.console()

    def write(self, path: str | Path, text: str | bytes, *, mode: int = 0o644, user: str = "root") -> None:
        """Write a file; its folders are made as needed."""
        script = 'mkdir -p "$(dirname "$1")" && cat >"$1" && chmod "$2" "$1"'
        self.run("sh", "-c", script, "write", path, f"{mode:o}", user=user, input=text)

    def read(self, path: str | Path) -> str:
        return self.run("cat", "--", path).stdout

    def exists(self, path: str | Path) -> bool:
        return self.run("test", "-e", path, check=False).returncode == 0


def eventually(look: Callable[[], T], *, timeout: float = 10) -> T:
    """Look until there is something to see (a true value) and return it. Raises AssertionError with the last look."""
    deadline = time.monotonic() + timeout
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s; the last look gave {seen!r}")
        time.sleep(0.05)
    return seen


def _install_commands(disk: Path) -> None:
    """The project's entry points, as pip would write them, for the machine's own Python."""
    scripts = tomllib.loads((roots.PROJECT / "pyproject.toml").read_text())["project"]["scripts"]
    for name, target in scripts.items():
        module, function = target.split(":")
        command = disk / "usr/local/bin" / name
        command.write_text(f"#!/usr/bin/python3\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n")
        command.chmod(0o755)


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


def _strings(argv: tuple[str | Path, ...]) -> tuple[str, ...]:
    return tuple(str(part) for part in argv)
