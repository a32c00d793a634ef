"""Which systemd is meant, the machine's own or the caller's user manager, and where each keeps its files."""

import os
from enum import StrEnum
from pathlib import Path

from lsh_systemd.errors import BadInput


class Scope(StrEnum):
    SYSTEM = "system"
    USER = "user"


def unit_dir(scope: Scope) -> Path:
    """Where an administrator's (or the user's own) unit files live."""
    if scope is Scope.SYSTEM:
        return Path("/etc/systemd/system")
    return _home("XDG_CONFIG_HOME", ".config") / "systemd/user"


def transient_unit_dir(scope: Scope) -> Path:
    """Where unit files live that are gone after a reboot."""
    return Path("/run/systemd/system") if scope is Scope.SYSTEM else runtime_dir() / "systemd/user"


def timer_stamp_dir(scope: Scope) -> Path:
    """Where systemd keeps the last elapse of a timer with Persistent=yes, as a file's time."""
    if scope is Scope.SYSTEM:
        return Path("/var/lib/systemd/timers")
    return _home("XDG_DATA_HOME", ".local/share") / "systemd/timers"


def state_dir(scope: Scope) -> Path:
    """Where our own store lives."""
    return Path("/var/lib/lsh") if scope is Scope.SYSTEM else _home("XDG_STATE_HOME", ".local/state") / "lsh"


def config_dir(scope: Scope) -> Path:
    """Where settings live."""
    return Path("/etc/lsh") if scope is Scope.SYSTEM else _home("XDG_CONFIG_HOME", ".config") / "lsh"


def work_dir(scope: Scope) -> Path:
    """What our own units hand to each other (queue/, retry/). Not by XDG_STATE_HOME: the user manager's environment
    and a shell's may differ in it."""
    return Path("/var/lib/lsh") if scope is Scope.SYSTEM else _own_home() / ".local/state/lsh"


def secrets_dir(scope: Scope) -> Path:
    """Where the secrets of the scope's jobs are."""
    return state_dir(scope) / "secrets"


def rounds_dir(scope: Scope) -> Path:
    """Where a job that runs after others has a folder that counts their successes; it outlives a reboot."""
    return state_dir(scope) / "after"


def due_dir(scope: Scope) -> Path:
    """Where a catch-up run finds the scheduled time that it makes up for: %t/lsh/due in the unit."""
    return (Path("/run") if scope is Scope.SYSTEM else runtime_dir()) / "lsh/due"


def fleet_dir(scope: Scope) -> Path:
    """Where a run finds what its fleet gives it: %t/lsh/fleet/%n in the unit."""
    return (Path("/run") if scope is Scope.SYSTEM else runtime_dir()) / "lsh/fleet"


def said_file(scope: Scope, unit: str) -> Path:
    """Where a run of the unit says what it has to say of itself: %t/lsh/said/%n/metrics in the unit."""
    return (Path("/run") if scope is Scope.SYSTEM else runtime_dir()) / "lsh/said" / unit / "metrics"


def starting_file(scope: Scope, unit: str) -> Path:
    """What goes with the unit's next run: systemd removes it with the RuntimeDirectory= of the unit."""
    return said_file(scope, unit).with_name("starting")


def runtime_dir() -> Path:
    """The caller's $XDG_RUNTIME_DIR, or where systemd puts it."""
    return _own(Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"))


def _home(variable: str, default: str) -> Path:
    value = os.environ.get(variable, "")
    # The base directory specification says to ignore a relative path.
    return _own(Path(value)) if value.startswith("/") else _own_home() / default


def _own_home() -> Path:
    try:
        return _own(Path.home())
    except RuntimeError:
        raise BadInput("this user has no home folder", hint="set HOME") from None


def _own(folder: Path) -> Path:
    """The folder; not for root where it is another user's (sudo that keeps HOME): what root writes there, that user
    could lead anywhere by a link, and what is read there is no word of root's."""
    if os.geteuid() == 0:
        there = next(each for each in (folder, *folder.parents) if each.exists())
        if there.stat().st_uid != 0:
            raise BadInput(
                f"root has no business in {there}, which is another user's",
                hint="leave sudo out; or sudo lshctl --system, for the machine's jobs",
            )
    return folder
