"""lshctl on a machine, as root with the system's jobs or as bob with his own, and what systemd itself says of them."""

import itertools
import json
from datetime import UTC, datetime
from typing import Any

from lsh_systemd.job import RESERVED_IDS
from lsh_systemd.manager import SERVICE, SYSTEMD, TIMER, UNIT, unit_object
from lsh_systemd.unit import id_of_unit, is_job_unit
from tests.system.booted import Booted, Result, eventually
from tests.system.machine import Machine, Process

__all__ = ["SERVICE", "TIMER", "UNIT", "Lsh", "seconds"]

_USERS = {"system": "root", "user": "bob"}
_FOLDERS = {
    "system": ("/etc/systemd/system", "/run/systemd/system"),
    "user": ("/home/bob/.config/systemd/user", "/run/user/1000/systemd/user"),
}
_numbers = itertools.count(1)


class Lsh:
    """One scope of a machine: `lsh("add", …)` calls lshctl there, without saying which scope is meant."""

    def __init__(self, machine: Booted, scope: str) -> None:
        self.machine, self.scope, self.user = machine, scope, _USERS[scope]
        self.folder, self.transient_folder = _FOLDERS[scope]
        if scope == "user":
            machine.add_user(self.user)

    def __call__(self, *argv: str, check: bool = True, **options: Any) -> Result:
        return self.machine.run("lshctl", *argv, user=self.user, check=check, **options)

    def popen(self, *argv: str, **options: Any) -> Process:
        assert isinstance(self.machine, Machine)
        return self.machine.popen("lshctl", *argv, user=self.user, **options)

    def json(self, verb: str, *argv: str) -> Any:
        return self(verb, "--json", *argv).json()

    def json_of(self, group: str, verb: str, *argv: str) -> Any:
        """The same for a command of a group: alerts list."""
        return self(group, verb, "--json", *argv).json()

    def add(self, *argv: str, name: str | None = None) -> str:
        """Add a job, under a name of its own where none is given; its id. `argv` are the options and the command."""
        name = name or self.new_name()
        self("add", name, *argv)
        return name.lower()

    def new_name(self) -> str:
        """A name that no other test has used: jobs go, but their runs stay."""
        return f"job-{next(_numbers)}"

    def new_path(self) -> str:
        """A path under /tmp that nobody else uses, and every user may write to."""
        return f"/tmp/{self.scope}-{self.new_name()}"

    # --- runs

    def runs(self, job: str) -> list[dict[str, Any]]:
        """The job's runs as `runs --json` tells them, the oldest first."""
        told: list[dict[str, Any]] = self.json("runs", job, "--limit", "0")
        return told[::-1]

    def ended(self, job: str, count: int = 1, *, timeout: float = 15) -> list[dict[str, Any]]:
        """The job's runs, once `count` have ended."""

        def look() -> list[dict[str, Any]]:
            runs = self.runs(job)
            return runs if sum(run["result"] is not None for run in runs) >= count else []

        return eventually(look, timeout=timeout)

    def run(self, job: str, *, check: bool = True) -> dict[str, Any]:
        """Start the job through lshctl, wait for its end; the run."""
        result = self("start", "--wait", "--json", job, check=check)
        assert result.stdout, result
        told: dict[str, Any] = result.json()
        return told

    # --- systemd's own word

    def systemctl(self, *argv: str, check: bool = True) -> Result:
        return self.machine.run("systemctl", f"--{self.scope}", *argv, user=self.user, check=check)

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit as `systemctl show` prints them."""
        lines = self.systemctl("show", unit, f"--property={','.join(names)}").stdout.splitlines()
        return dict(line.split("=", 1) for line in lines)

    def loaded(self, unit: str, interface: str, *names: str) -> dict[str, Any]:
        """Properties of a unit as systemd has loaded it, with their types: read through D-Bus."""
        argv = ("busctl", f"--{self.scope}", "--json=short", "get-property", SYSTEMD, unit_object(unit), interface)
        lines = self.machine.run(*argv, *names, user=self.user).stdout.splitlines()
        return {name: json.loads(line)["data"] for name, line in zip(names, lines, strict=True)}

    def metrics(self, job: str) -> str:
        """The variable that every unit has beside the job's own."""
        run = "/run" if self.scope == "system" else "/run/user/1000"
        return f"LSH_METRICS={run}/lsh/said/lsh-{job}.service/metrics"

    def check_fresh(self) -> None:
        """No unit of this manager, whosever, wants a daemon-reload."""

        def stale() -> list[str]:
            shown = self.systemctl("show", "*", "--all", "--property=Id,NeedDaemonReload,ActiveState").stdout
            assert "NeedDaemonReload=no" in shown
            return [unit for unit in shown.split("\n\n") if "NeedDaemonReload=yes" in unit]

        def fresh() -> bool:
            left = stale()
            print(*left)  # what pytest shows where it fails
            return left == []

        eventually(fresh)

    def files(self) -> dict[str, str]:
        """Everything in the folders of unit files: path → checksum, or target of a link."""
        script = (
            'for folder; do find "$folder" -type f -exec sha256sum {} + ; '
            'find "$folder" -type l -printf "%l  %p\\n"; done 2>/dev/null'
        )
        listed = self.machine.run("sh", "-c", script, "sh", self.folder, self.transient_folder, check=False).stdout
        return {path: what for what, path in (line.split("  ", 1) for line in listed.splitlines())}

    def read(self, unit: str, *, transient: bool = False) -> str:
        return self.machine.read(f"{self.transient_folder if transient else self.folder}/{unit}")

    def write(self, name: str, text: str) -> None:
        """Write a file into the folder of unit files, as an administrator would."""
        self.machine.write(f"{self.folder}/{name}", text, user=self.user)

    # --- refusals

    def refused(self, *argv: str, status: int = 2, **options: Any) -> str:
        """lshctl must refuse this, in words, and no file may have changed. The words."""
        before = self.files()
        said = self.told_off(*argv, status=status, **options)
        assert self.files() == before, said
        return said

    def told_off(self, *argv: str, status: int = 2, **options: Any) -> str:
        """lshctl must say no in one or two lines, with this exit status and without a traceback. The lines."""
        result = self(*argv, check=False, **options)
        assert result.returncode == status, result
        assert result.stdout == "", result
        assert 1 <= len(result.stderr.splitlines()) <= 2, result
        assert result.stderr.startswith("lshctl: "), result
        assert "Traceback" not in result.stderr, result
        return result.stderr

    def clean(self) -> None:
        """Remove all jobs, whatever state a test has left them in."""
        files = [path.rsplit("/", 1) for path in self.files()]
        names = {name for folder, name in files if name.startswith("lsh-") and folder in _FOLDERS[self.scope]}
        jobs = sorted({id_of_unit(name) for name in names if is_job_unit(name)} - RESERVED_IDS)
        if jobs:
            self.systemctl("kill", "--signal=KILL", *(f"lsh-{job}.service" for job in jobs), check=False)
            self("remove", *jobs)


def seconds(told: str) -> float:
    """An RFC 3339 time in UTC, as lshctl prints it, → POSIX time."""
    assert told.endswith("Z"), told
    at = datetime.fromisoformat(told)
    assert at.tzinfo is not None
    return at.astimezone(UTC).timestamp()
