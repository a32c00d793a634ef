"""systemd over D-Bus. The only module that knows pydbus and GLib.

pydbus introspects an object once (7 ms), so only the Manager object gets a proxy; properties of units are read
through plain Properties.Get calls, many in flight at a time.
"""

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lsh_systemd import interrupts, progress
from lsh_systemd.errors import LshError
from lsh_systemd.scope import Scope, runtime_dir

SYSTEMD = "org.freedesktop.systemd1"
MANAGER_PATH = "/org/freedesktop/systemd1"
UNIT = f"{SYSTEMD}.Unit"
SERVICE = f"{SYSTEMD}.Service"
TIMER = f"{SYSTEMD}.Timer"

Elapse = tuple[int | None, int | None]
# What systemd writes where there is no such time.
NEVER = 2**64 - 1
# How long systemd may take to drop stopped units from its memory before a reload is the quicker way.
FORGET_SECONDS = 0.3
_RELOAD_TIMEOUT_MS = 300_000
_CALL_TIMEOUT_MS = 60_000
# dbus-daemon's system bus refuses a connection more than 128 pending replies.
_IN_FLIGHT = 100
# Starts asked for at a time: enough that systemd never waits for us, and so few that what they begin is done meanwhile.
_ORDERS_IN_FLIGHT = 8
# Of two threads that wait for answers at once, one could take the other's, which would then wait for ever.
_answering = threading.Lock()


class ManagerError(LshError):
    """systemd refused or could not do what it was asked."""


class ManagerUnavailable(ManagerError):
    """No systemd answers on the bus of this scope."""


class AccessDenied(ManagerError):
    """polkit or D-Bus said no."""


class AlreadySubscribed(ManagerError):
    """systemd tells us of changes already."""


class NoSuchUnit(ManagerError):
    """systemd knows no unit of that name."""


_ERRORS: dict[str, type[ManagerError]] = {
    "org.freedesktop.DBus.Error.AccessDenied": AccessDenied,
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired": AccessDenied,
    "org.freedesktop.DBus.Error.NoReply": ManagerUnavailable,
    "org.freedesktop.DBus.Error.ServiceUnknown": ManagerUnavailable,
    "org.freedesktop.DBus.Error.FileNotFound": NoSuchUnit,
    "org.freedesktop.systemd1.AlreadySubscribed": AlreadySubscribed,
    "org.freedesktop.systemd1.NoSuchUnit": NoSuchUnit,
}
# The ActiveStates of a oneshot service that runs.
RUNNING_STATES = frozenset({"activating", "active", "deactivating", "reloading"})


@dataclass(frozen=True, kw_only=True)
class UnitState:
    """One line of ListUnits: systemd's own words for how a loaded unit is."""

    load: str
    active: str
    sub: str


class Manager:
    """The service manager of one scope. Connects when first used; every call may raise a ManagerError."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self._subscribed = False

    @cached_property
    def version(self) -> str:
        return str(self._property(MANAGER_PATH, f"{SYSTEMD}.Manager", "Version"))

    @cached_property
    def control_group(self) -> str:
        """The control group that all of this manager's units lie in."""
        return str(self._property(MANAGER_PATH, f"{SYSTEMD}.Manager", "ControlGroup"))

    @cached_property
    def unit_path(self) -> list[Path]:
        """The folders in which systemd looks for unit files, the most important first."""
        return [Path(each) for each in self._property(MANAGER_PATH, f"{SYSTEMD}.Manager", "UnitPath")]

    def start(self, unit: str) -> None:
        """Ask for the unit to be started; returns before it has."""
        self._call("StartUnit", "(ss)", unit, "replace")

    def stop(self, unit: str) -> None:
        """Ask for the unit to be stopped; returns before it has."""
        self._call("StopUnit", "(ss)", unit, "replace")

    def restart(self, unit: str) -> None:
        """Ask for the unit to be stopped, where it runs, and started."""
        self._call("RestartUnit", "(ss)", unit, "replace")

    def reload(self) -> None:
        """Let systemd read all unit files again. Takes about 1 s for each thousand jobs."""
        self._call("Reload", None, timeout_ms=_RELOAD_TIMEOUT_MS)

    def reset_failed(self, unit: str) -> None:
        self._call("ResetFailedUnit", "(s)", unit)

    def pin(self, unit: str) -> None:
        """Keep the unit loaded, results and all, for as long as this process lives."""
        self._call("LoadUnit", "(s)", unit)
        self._call("RefUnit", "(s)", unit)

    def is_loaded(self, unit: str) -> bool:
        """Whether systemd has the unit in memory. Asking does not load it."""
        try:
            self._call("GetUnit", "(s)", unit)
        except NoSuchUnit:
            return False
        return True

    def unpin(self, unit: str) -> None:
        """Let systemd forget the unit again."""
        self._call("UnrefUnit", "(s)", unit)

    def units(self, pattern: str, *, states: Iterable[str] = ()) -> dict[str, UnitState]:
        """All loaded units whose names match the glob pattern, in any of the states where some are given."""
        (rows,) = self._call("ListUnitsByPatterns", "(asas)", list(states), [pattern])
        return {row[0]: UnitState(load=row[2], active=row[3], sub=row[4]) for row in rows}

    def get(self, unit: str, interface: str, name: str) -> Any:
        """One property of a unit; loads the unit where it is not in memory."""
        return self._property(unit_object(unit), interface, name)

    def get_many(self, wanted: Sequence[tuple[str, str, str]]) -> list[Any]:
        """Properties of many units, as (unit, interface, name), all asked for at once; None where one has gone."""
        from gi.repository import GLib

        properties = "org.freedesktop.DBus.Properties"
        answers = self._call_many(
            (unit_object(unit), properties, "Get", GLib.Variant("(ss)", (interface, name)))
            for unit, interface, name in wanted
        )
        # An error: the unit has gone since it was listed.
        return [None if isinstance(answer, GLib.Error) else answer[0] for answer in answers]

    def start_many(self, units: Sequence[str], *, seconds: float) -> dict[str, str]:
        """Start all these units; the ActiveState of those that have not become active. Raises the first refusal."""
        return self._order_many("StartUnit", "starting", units, {"active", "failed"}, "active", seconds)

    def stop_many(self, units: Sequence[str], *, seconds: float) -> dict[str, str]:
        """Stop all these units; the ActiveState of those that have not come to an end. Raises the first refusal."""
        return self._order_many("StopUnit", "stopping", units, {"inactive", "failed"}, "inactive failed", seconds)

    def _order_many(
        self, method: str, what: str, units: Sequence[str], ends: set[str], good: str, seconds: float
    ) -> dict[str, str]:
        from gi.repository import GLib

        left: dict[str, str] = {}
        for start in range(0, len(units), _IN_FLIGHT):
            progress.tell(what, start, len(units))
            some = units[start : start + _IN_FLIGHT]
            words = (GLib.Variant("(ss)", (unit, "replace")) for unit in some)
            orders = ((MANAGER_PATH, f"{SYSTEMD}.Manager", method, each) for each in words)
            answers = self._call_many(orders, in_flight=_ORDERS_IN_FLIGHT)
            for answer in answers:
                if isinstance(answer, GLib.Error):
                    raise self._refusal(answer, method)
            # systemd has a match rule on the bus for each start not yet done: at 512 it loses its connection (252).
            states = self._wait_many(some, ends, seconds)
            left |= {unit: state for unit, state in states.items() if state not in good.split()}
        progress.tell(what, len(units), len(units))
        return left

    def _wait_many(self, units: Sequence[str], ends: set[str], seconds: float) -> dict[str, str]:
        """Wait until the ActiveState of each unit is one of ``ends``, or systemd has nothing more to do with it; the
        states that they have then."""
        pause, until, states, waiting = 0.001, time.monotonic() + seconds, dict.fromkeys(units, "inactive"), list(units)
        while waiting and time.monotonic() < until:
            (rows,) = self._call("ListUnitsByNames", "(as)", waiting)
            states |= {row[0]: row[3] for row in rows}
            queued = {row[0] for row in rows if row[7]}
            waiting = [unit for unit in waiting if unit in queued and states[unit] not in ends]
            if waiting:
                time.sleep(pause)
                pause = min(pause * 2, 0.1)
        return states

    def _call_many(self, calls: Iterable[tuple[str, str, str, Any]], *, in_flight: int = _IN_FLIGHT) -> list[Any]:
        """The answers to calls of (object, interface, method, arguments), so many at a time; errors as GLib.Error."""
        from gi.repository import GLib

        answers: list[Any] = []
        context, pending = GLib.MainContext.default(), 0

        def answered(connection: Any, result: Any, index: int) -> None:
            nonlocal pending
            pending -= 1
            try:
                answers[index] = connection.call_finish(result).unpack()
            except GLib.Error as error:
                answers[index] = error

        with _answering, interrupts.later() as interrupted:
            for index, (path, interface, method, arguments) in enumerate(calls):
                if interrupted:
                    break
                answers.append(None)
                self._connection.call(
                    SYSTEMD, path, interface, method, arguments, None, 0, _CALL_TIMEOUT_MS, None, answered, index
                )
                pending += 1
                while pending >= in_flight:
                    context.iteration(True)
            while pending:
                context.iteration(True)
        return answers

    def wait(self, unit: str, states: Iterable[str], *, seconds: float) -> str:
        """Wait until the unit's ActiveState is one of ``states``; return it, or the one it still has at the end."""
        wanted, pause, until = set(states), 0.001, time.monotonic() + seconds
        while True:
            state = str(self.get(unit, UNIT, "ActiveState"))
            if state in wanted or time.monotonic() > until:
                return state
            time.sleep(pause)
            pause = min(pause * 2, 0.1)

    def wait_forgotten(self, units: Sequence[str]) -> bool:
        """Wait until systemd has none of the units in memory; False where it keeps one, and a reload is quicker."""
        until = time.monotonic() + FORGET_SECONDS
        while any(map(self.is_loaded, units)):
            if time.monotonic() > until:
                return False
            time.sleep(0.002)
        return True

    def wait_for_end_of_a_job(self, seconds: float) -> None:
        """Wait until a oneshot service has run to its end, at most so long. systemd tells of it by JobRemoved."""
        from gi.repository import GLib

        if not self._subscribed:
            self.subscribe()
            self._connection.signal_subscribe(
                SYSTEMD, f"{SYSTEMD}.Manager", "JobRemoved", MANAGER_PATH, None, 0, lambda *_: None
            )
            self._subscribed = True
        context = GLib.MainContext.default()
        timer = GLib.timeout_source_new(max(1, round(seconds * 1000)))
        timer.set_callback(lambda *_: False)
        timer.attach(context)
        context.iteration(True)
        timer.destroy()

    def subscribe(self) -> None:
        """Have systemd tell of changes. It may be asked again: a systemd that was executed anew may have forgotten."""
        with contextlib.suppress(AlreadySubscribed):
            self._call("Subscribe", None)

    def unsubscribe(self, followed: Iterable[int]) -> None:
        """Have nothing more told: ``followed`` is what ``on_change`` gave."""
        for each in followed:
            self._connection.signal_unsubscribe(each)
        self._call("Unsubscribe", None)

    def on_change(self, interface: str, heard: Callable[[str], None]) -> list[int]:
        """Call ``heard`` with a unit's D-Bus object for each of its changes in that interface, with "" for a reload
        (which may change all): from ``hear``, or while other answers are waited for."""

        def changed(connection: Any, sender: str, path: str, *_: Any) -> None:
            heard("" if path == MANAGER_PATH else path)

        on, properties = self._connection.signal_subscribe, "org.freedesktop.DBus.Properties"
        changes = on(SYSTEMD, properties, "PropertiesChanged", None, interface, 0, changed)
        return [changes, on(SYSTEMD, f"{SYSTEMD}.Manager", "Reloading", MANAGER_PATH, None, 0, changed)]

    def hear(self) -> None:
        """Take in all changes that systemd has told of by now: what it tells before it answers is here before that."""
        from gi.repository import GLib

        self._property(MANAGER_PATH, f"{SYSTEMD}.Manager", "Tainted")
        with _answering:
            while GLib.MainContext.default().iteration(False):
                pass

    def next_elapses(self, timers: Sequence[str]) -> list[int | None]:
        """When each timer elapses next, in µs since 1970; None for a timer that will not."""
        offset = time.time_ns() // 1000 - time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        elapses: list[int | None] = []
        for realtime, monotonic in self.told_elapses(timers):
            times = [realtime] if realtime not in (None, 0, NEVER) else []
            times += [monotonic + offset] if monotonic not in (None, 0, NEVER) else []
            elapses.append(min(times, default=None))
        return elapses

    def told_elapses(self, timers: Sequence[str]) -> list[Elapse]:
        """The same as systemd tells it: by the real and by the monotonic clock (µs); 0, NEVER or None for no time."""
        wanted = [(t, TIMER, f"NextElapseUSec{clock}") for t in timers for clock in ("Realtime", "Monotonic")]
        answers = self.get_many(wanted)
        return list(zip(answers[::2], answers[1::2], strict=True))

    @cached_property
    def _bus(self) -> Any:
        import pydbus
        from gi.repository import GLib

        try:
            if self.scope is Scope.SYSTEM:
                return pydbus.SystemBus()
            _find_user_bus()
            return pydbus.SessionBus()
        except GLib.Error as error:
            raise self._unavailable(error) from None

    @property
    def _connection(self) -> Any:
        return self._bus.con

    def _unavailable(self, error: Exception) -> ManagerUnavailable:
        if self.scope is Scope.SYSTEM:
            return ManagerUnavailable(
                "systemd does not answer on the system bus",
                hint="is this machine booted with systemd, and is dbus running?",
            )
        return ManagerUnavailable(
            "your user manager does not answer",
            hint="log in properly (not by su or sudo), or: sudo loginctl enable-linger $USER; lshctl doctor tells more",
        )

    def _property(self, path: str, interface: str, name: str) -> Any:
        from gi.repository import GLib

        arguments = GLib.Variant("(ss)", (interface, name))
        return self._invoke(path, "org.freedesktop.DBus.Properties", "Get", arguments, _CALL_TIMEOUT_MS)[0]

    def _call(self, method: str, signature: str | None, *arguments: Any, timeout_ms: int = _CALL_TIMEOUT_MS) -> Any:
        from gi.repository import GLib

        variant = GLib.Variant(signature, arguments) if signature else None
        return self._invoke(MANAGER_PATH, f"{SYSTEMD}.Manager", method, variant, timeout_ms)

    def _invoke(self, path: str, interface: str, method: str, arguments: Any, timeout_ms: int) -> Any:
        from gi.repository import GLib

        try:
            answer = self._connection.call_sync(SYSTEMD, path, interface, method, arguments, None, 0, timeout_ms, None)
        except GLib.Error as error:
            raise self._refusal(error, method) from None
        return answer.unpack()

    def _refusal(self, error: Any, method: str) -> ManagerError:
        """What an answer that is an error says."""
        from gi.repository import Gio

        kind = _ERRORS.get(Gio.dbus_error_get_remote_error(error) or "", ManagerError)
        if kind is ManagerUnavailable:
            return self._unavailable(error)
        if kind is AccessDenied:
            return AccessDenied(
                f"systemd does not allow you to do this ({method})", hint="try sudo, or --user for jobs of your own"
            )
        message = error.message.split(": ", 1)[-1]
        return kind(f"systemd refused {method}: {message}")


@functools.lru_cache(maxsize=10_000)
def unit_object(unit: str) -> str:
    """The D-Bus object of a unit (sd_bus_path_encode): lsh-a.timer → …/unit/lsh_2da_2etimer."""
    encoded = "".join(
        character if character.isascii() and character.isalnum() and not (index == 0 and character.isdigit())
        else "".join(f"_{byte:02x}" for byte in character.encode())
        for index, character in enumerate(unit)
    )  # fmt: skip
    return f"{MANAGER_PATH}/unit/{encoded}"


def _find_user_bus() -> None:
    """Name the user's bus where the environment does not (cron, sudo -u, a bare ssh command)."""
    if os.environ.get("DBUS_SESSION_BUS_ADDRESS"):
        return
    socket = runtime_dir() / "bus"
    if socket.exists():
        os.environ["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={socket}"
