"""The agent's own unit: the package's, or one written for an installation elsewhere (a venv, pipx)."""

import shlex
import sys
import sysconfig
from pathlib import Path

from lsh_systemd.errors import LshError
from lsh_systemd.manager import UNIT, Manager
from lsh_systemd.scope import Scope, unit_dir
from lsh_systemd.unitdir import UnitDir

NAME = "lsh-agent.service"
_WANTS = {Scope.SYSTEM: "multi-user.target.wants", Scope.USER: "default.target.wants"}
_PACKAGED_COMMAND = "/usr/bin/lshctl"


def enable(manager: Manager) -> str:
    """Have the agent run, now and after a reboot; the ActiveState it has reached.

    Where no package brought its unit, one is written that calls this very lshctl.
    """
    scope = manager.scope
    folder = UnitDir(unit_dir(scope))
    with folder.locked():
        if not any((path / NAME).exists() for path in manager.unit_path):
            folder.write({NAME: _text(scope)})
        folder.want(NAME, _WANTS[scope])
        if manager.is_loaded(NAME):
            manager.reload()
        manager.restart(NAME)
    return manager.wait(NAME, {"active", "failed"}, seconds=30)


def disable(manager: Manager) -> None:
    """End the agent and keep it from starting at boot; a unit that ``enable`` wrote is removed."""
    folder = UnitDir(unit_dir(manager.scope))
    with folder.locked():
        if manager.get(NAME, UNIT, "ActiveState") not in ("inactive", "failed"):
            manager.stop(NAME)
            manager.wait(NAME, {"inactive", "failed"}, seconds=100)
        folder.remove(f"{_WANTS[manager.scope]}/{NAME}")
        folder.remove(NAME)


def _text(scope: Scope) -> str:
    """The shipped unit, with the path of this lshctl."""
    name = "lsh-agent.user.service" if scope is Scope.USER else NAME
    beside = (Path(__file__).parents[1] / "units", Path(sysconfig.get_path("data")) / "share/lsh-systemd/units")
    for folder in beside:
        if (folder / name).exists():
            return (folder / name).read_text().replace(_PACKAGED_COMMAND, _command())
    raise LshError(f"the shipped unit {name} is missing", hint="install lsh-systemd anew")


def _command() -> str:
    """How to call this lshctl: its script, or the module through this Python."""
    script = Path(sys.argv[0]).absolute()
    if script.name == "lshctl":
        return _word(str(script))
    return f"{_word(sys.executable)} -m lsh_systemd.cli"


def _word(path: str) -> str:
    if shlex.quote(path) != path or "%" in path or "$" in path:
        raise LshError(f"{path} cannot stand in a unit file", hint="install lsh-systemd in a folder with a plain name")
    return path
