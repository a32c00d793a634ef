"""Our own daemons' units: the package's, or, for an installation elsewhere (a venv, pipx), ones written for it."""

import contextlib
import functools
import shlex
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path

from lsh_systemd.errors import LshError
from lsh_systemd.manager import UNIT, Manager
from lsh_systemd.scope import Scope, unit_dir
from lsh_systemd.span import format_span
from lsh_systemd.unitdir import UnitDir

AGENT = "lsh-agent.service"
# Renders schedules anew that a change of the time zone, of its rules or of the year has made stale.
REFRESH_TIMER = "lsh-refresh.timer"
# Makes up for missed times after boot, for jobs that systemd's Persistent= does not suffice for.
CATCH_UP = "lsh-catch-up.service"
# Keeps the dispatcher running while runs wait for a cap.
QUEUE = "lsh-queue.path"
# Keeps the ledger from growing for ever, and looks daily whether it is sound.
PRUNE, PRUNE_TIMER = "lsh-prune.service", "lsh-prune.timer"
# Sends alerts, when the agent starts it.
ALERT = "lsh-alert.service"
# The HTTP API: systemd listens, and starts the server when somebody calls.
API, API_SOCKET = "lsh-api.service", "lsh-api.socket"
# Where the socket listens, if not where its unit says.
_LISTEN_FOLDER, _LISTEN = f"{API_SOCKET}.d", "lsh-listen.conf"
# Asks Supabase for the API, which has no network.
ASK_SOCKET = "lsh-ask.socket"
ASK = (ASK_SOCKET, "lsh-ask@.service")
# Works on the fleet's queue, where lshctl fleet join has been called.
FLEET, FLEET_TIMER = "lsh-fleet.service", "lsh-fleet.timer"
_FLEET_FILES = (FLEET, FLEET_TIMER)
_POLL = "lsh-poll.conf"  # a drop-in
# Sends what is new to Supabase, when the agent starts it.
SYNC = "lsh-sync.service"
_FILES = (AGENT, "lsh-refresh.service", REFRESH_TIMER, PRUNE, PRUNE_TIMER, ALERT, SYNC)
_PACKAGED_COMMAND = "/usr/bin/lshctl"
_PACKAGED_SCRIPTS = "/usr/lib/lsh-systemd/"
_MARK = "# Written by lshctl, which no package has brought here.\n"


def enable(manager: Manager) -> str:
    """Have the agent and our timers run, now and after a reboot; the ActiveState that the agent has reached."""
    folder = UnitDir(unit_dir(manager.scope))
    with folder.locked():
        _install(manager, folder, _FILES)
        for name, wants in _wanted(manager.scope).items():
            folder.want(name, wants)
            manager.restart(name)
    return manager.wait(AGENT, {"active", "failed"}, seconds=30)


def enable_api(manager: Manager, listen: Sequence[str] = ()) -> str:
    """Have systemd listen for the API, now and after a reboot, on these addresses of TCP (none: where its unit says);
    the ActiveState that the socket has reached."""
    folder = UnitDir(unit_dir(manager.scope))
    with folder.locked():
        _install(manager, folder, (API, API_SOCKET, AGENT))
        drop_ins = UnitDir(unit_dir(manager.scope) / _LISTEN_FOLDER)
        lines = "".join(f"ListenStream={each}\n" for each in (*listen, "%t/lsh/api.sock"))
        wanted = f"{_MARK}[Socket]\nListenStream=\n{lines}" if listen else None
        if drop_ins.text(_LISTEN) != wanted:
            drop_ins.write({_LISTEN: wanted}) if wanted else drop_ins.remove(_LISTEN)
            manager.reload()
        folder.want(API_SOCKET, "sockets.target.wants")
        if manager.get(API, UNIT, "ActiveState") not in ("inactive", "failed"):  # a socket cannot start before it ends
            manager.stop(API)
            manager.wait(API, {"inactive", "failed"}, seconds=30)
        manager.restart(API_SOCKET)
    return manager.wait(API_SOCKET, {"active", "failed"}, seconds=30)


def disable_api(manager: Manager) -> None:
    """Listen no more; units that ``enable_api`` wrote are removed."""
    folder = UnitDir(unit_dir(manager.scope))
    with folder.locked():
        for name in (API_SOCKET, API, ASK_SOCKET):
            if manager.get(name, UNIT, "ActiveState") not in ("inactive", "failed"):
                manager.stop(name)
                manager.wait(name, {"inactive", "failed"}, seconds=30)
        folder.remove(f"sockets.target.wants/{API_SOCKET}", f"{_LISTEN_FOLDER}/{_LISTEN}")
        with contextlib.suppress(OSError):  # an administrator's own drop-ins stay
            (folder.path / _LISTEN_FOLDER).rmdir()
        _take_away(manager, folder, (API, API_SOCKET, *ASK))


def join(manager: Manager, poll: timedelta | None) -> None:
    """Have the fleet's queue asked for work, now and after a reboot; every ``poll``, or the timer's own span."""
    folder = UnitDir(unit_dir(manager.scope))
    with folder.locked():
        _install(manager, folder, _FLEET_FILES)
        drop_ins = UnitDir(folder.path / f"{FLEET_TIMER}.d")
        if poll:
            # An empty value takes back the timer's other spans, too.
            spans = f"OnUnitInactiveSec=\nOnActiveSec=1s\nOnUnitInactiveSec={format_span(poll)}\n"
            spread = f"RandomizedDelaySec={format_span(poll / 10)}\n"
            drop_ins.write({_POLL: f"{_MARK}[Timer]\n{spans}{spread}"})
        else:
            drop_ins.remove(_POLL)
        folder.want(FLEET_TIMER, "timers.target.wants")
        manager.reload()
        manager.restart(FLEET_TIMER)


def leave(manager: Manager) -> None:
    """Ask the fleet's queue for work no more. What runs of it goes on, until whoever cares for it has told its end."""
    folder = UnitDir(unit_dir(manager.scope))
    with folder.locked():
        folder.disable(FLEET_TIMER)
        if manager.get(FLEET_TIMER, UNIT, "ActiveState") != "inactive":
            manager.stop(FLEET_TIMER)


def provide(manager: Manager, names: Iterable[str]) -> None:
    """Have these units of ours there for a job that needs them; nothing to do where they are. What starts at boot does
    so from the next one on."""
    folder = UnitDir(unit_dir(manager.scope))
    wanted = {CATCH_UP: _boot_target(manager.scope), QUEUE: "paths.target.wants"}
    for name in names:
        wants = wanted.get(name)
        if any((path / name).exists() for path in manager.unit_path) and (
            wants is None or (folder.path / wants / name).is_symlink()
        ):
            continue
        with folder.locked():
            _install(manager, folder, (name,))
            if wants:
                folder.want(name, wants)
            if name == QUEUE:
                manager.start(name)


def _install(manager: Manager, folder: UnitDir, names: tuple[str, ...]) -> None:
    """Write those of the units that neither a package nor an earlier call has brought."""
    missing = [name for name in names if not any((path / name).exists() for path in manager.unit_path)]
    folder.write({name: _text(name, manager.scope) for name in missing})
    if any(map(manager.is_loaded, missing)):
        manager.reload()


def disable(manager: Manager) -> None:
    """End them and keep them from starting at boot; units that ``enable`` wrote are removed."""
    folder = UnitDir(unit_dir(manager.scope))
    with folder.locked():
        for name, wants in _wanted(manager.scope).items():
            if manager.get(name, UNIT, "ActiveState") not in ("inactive", "failed"):
                manager.stop(name)
                manager.wait(name, {"inactive", "failed"}, seconds=100)
            folder.remove(f"{wants}/{name}")
        _take_away(manager, folder, _FILES)


def _take_away(manager: Manager, folder: UnitDir, names: Sequence[str]) -> None:
    """Remove those units that we wrote, from systemd's memory, too: since a reload, targets hold what they wanted."""
    folder.remove(*(name for name in names if (folder.text(name) or "").startswith(_MARK)))
    if not manager.wait_forgotten(names):
        manager.reload()


def _wanted(scope: Scope) -> dict[str, str]:
    """What starts at boot, and the target whose .wants folder says so."""
    return {AGENT: _boot_target(scope)} | dict.fromkeys((REFRESH_TIMER, PRUNE_TIMER), "timers.target.wants")


def _boot_target(scope: Scope) -> str:
    return "multi-user.target.wants" if scope is Scope.SYSTEM else "default.target.wants"


def _text(name: str, scope: Scope) -> str:
    """The shipped unit, with the path of this lshctl. A unit that differs by scope has a file for users of its own."""
    stem, kind = name.split(".")
    wanted = [f"{stem}.user.{kind}", name] if scope is Scope.USER else [name]
    folders = (Path(__file__).parents[1] / "units", Path(sysconfig.get_path("data")) / "share/lsh-systemd/units")
    for path in (folder / file for folder in folders for file in wanted):
        if path.exists():
            text = path.read_text().replace(_PACKAGED_SCRIPTS, _word(f"{_scripts()}/"))
            return _MARK + (text.replace(_PACKAGED_COMMAND, _command()) if _PACKAGED_COMMAND in text else text)
    raise LshError(f"the shipped unit {name} is missing", hint="install lsh-systemd anew")


def script(name: str) -> Path:
    """A shell script of ours: the package's, or the one beside this module."""
    return _scripts() / name


@functools.cache
def _scripts() -> Path:
    packaged = Path(_PACKAGED_SCRIPTS)
    return packaged if (packaged / "record").exists() else Path(__file__).parent / "libexec"


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
