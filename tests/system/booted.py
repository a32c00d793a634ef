"""What every machine to test on can do, whatever it is made of: see machine.py and uml.py."""

import json
import shlex
import subprocess
import time
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from tests.system import fresh, roots

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


def not_done(result: Result, timeout: float) -> CommandFailed:
    return CommandFailed(f"not done after {timeout:g} s\n{result}")


class Body(Protocol):
    """What a machine is made of: its disk and, while it is up, its processes."""

    name: str
    disk: Path

    @property
    def is_up(self) -> bool: ...
    def boot(self) -> None: ...
    def power_off(self) -> None: ...
    def kill(self) -> None: ...
    def close(self) -> None: ...
    def console(self) -> str: ...
    def journals(self) -> Path: ...


class Booted(ABC):
    """A booted machine; as a context manager it boots on entry and leaves nothing behind."""

    def __init__(self, suite: str, body: Body) -> None:
        self.suite = suite
        self.name = body.name
        self._body = body
        self._lingering: dict[str, int] = {}  # user → UID
        if not suite.startswith(fresh.FRESH):
            _install_commands(body.disk)

    def __enter__(self) -> Self:
        try:
            self.boot()
        except BaseException:
            self._body.close()
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
            self._body.close()

    # --- the machine as a whole

    @property
    def is_up(self) -> bool:
        return self._body.is_up

    @property
    def systemd_version(self) -> str:
        """As the manager itself says, such as "252.39-1~deb12u1"."""
        manager = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
        answer = self.run("busctl", "get-property", "--json=short", *manager, "Version").json()
        return str(answer["data"])

    def boot(self) -> None:
        self._body.boot()
        for user in self._lingering:
            self._wait_for_user_manager(user)

    def reboot(self) -> None:
        """Shut down in order and boot again: the disk stays, /run and transient units go."""
        self.power_off()
        self.boot()

    def power_off(self) -> None:
        self._body.power_off()

    def kill(self) -> None:
        """Without a goodbye; boot() brings it up again with the disk as it was."""
        self._body.kill()

    def console(self) -> str:
        """What was printed on it since the last boot."""
        return self._body.console()

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
        # surrogate escapes carry any bytes through a text
        text = input.decode(errors="surrogateescape") if isinstance(input, bytes) else input
        result = self._execute(tuple(map(str, argv)), user=user, env=env, cwd=cwd, input=text, timeout=timeout)
        if check and result.returncode != 0:
            raise CommandFailed(str(result))
        return result

    @abstractmethod
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
        """run() without the check. Raises `not_done`, and leaves nothing running, on a timeout."""

    def _environment(self, user: str, env: Mapping[str, str | None] | None) -> dict[str, str]:
        """What a command gets: a login's variables, with the changes that `env` makes."""
        environment = self._login(user) | dict(env or {})
        return {name: value for name, value in environment.items() if value is not None}

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
        """The journal for people, from a POSIX time (of this host's clock) on; of a machine that is down, too."""
        options = ["--no-pager", "--output=short-precise", f"--since=@{since:.6f}"]
        if self.is_up:
            self.run("journalctl", "--sync", check=False)
            return self.run("journalctl", *options, check=False).stdout
        argv = ["journalctl", *options, f"--directory={self._body.journals()}"]
        return subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False).stdout

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
    while not ((began := time.monotonic()) and (seen := look())):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s; the last look gave {seen!r}")
        time.sleep(max(0.05, time.monotonic() - began))  # to look all the time slows down what is looked at
    return seen


def _install_commands(disk: Path) -> None:
    """The project's entry points, as pip would write them, for the machine's own Python."""
    scripts = tomllib.loads((roots.PROJECT / "pyproject.toml").read_text())["project"]["scripts"]
    for name, target in scripts.items():
        module, function = target.split(":")
        command = disk / "usr/local/bin" / name
        command.write_text(f"#!/usr/bin/python3\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n")
        command.chmod(0o755)
