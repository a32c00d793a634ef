"""systemd for a process that lives long: what has not changed is not asked again."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterable, Sequence

import anyio.to_thread

from lsh_systemd.manager import TIMER, UNIT, Elapse, Manager, ManagerError, UnitState, unit_object
from lsh_systemd.scope import Scope

# All are asked anew this often, should a change ever have been told to nobody.
_SECONDS = 60.0
# How often systemd is asked whether it has told all.
_HEAR_SECONDS = 0.1
_OURS = unit_object("lsh-")


class FollowingManager(Manager):
    """Counts the changes of jobs' units of which systemd tells, and keeps what it has answered for as long as there are
    none: how they are, and of each timer when it elapses."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope)
        self._lock = threading.Lock()
        self._followed: list[int] = []
        self._until = self._heard_at = self._asked_at = 0.0
        self.changes = 0  # of jobs' units, or of all at once
        self._known: dict[str, Elapse | None] = {}  # by D-Bus object; None: it is being asked
        self._units: dict[tuple[str, frozenset[str]], tuple[int, dict[str, UnitState]]] = {}  # at so many changes

    def told_elapses(self, timers: Sequence[str]) -> list[Elapse]:
        with self._lock:
            self._follow()
            self.hear()
            paths = {timer: unit_object(timer) for timer in timers}
            told = {timer: self._known.get(path) for timer, path in paths.items()}
            unknown = [timer for timer, elapse in told.items() if elapse is None]
            self._known |= dict.fromkeys((paths[timer] for timer in unknown), None)
            for timer, elapse in zip(unknown, super().told_elapses(unknown), strict=True):
                told[timer] = elapse
                if paths[timer] in self._known:  # no change has been told in between
                    self._known[paths[timer]] = elapse
        return [elapse or (None, None) for elapse in told.values()]

    def units(self, pattern: str, *, states: Iterable[str] = ()) -> dict[str, UnitState]:
        key = (pattern, frozenset(states))
        if not pattern.startswith("lsh-"):  # changes of others are not counted
            return super().units(pattern, states=key[1])
        with self._lock:
            self._follow()
            self.hear()
            changes, (at, told) = self.changes, self._units.get(key, (-1, {}))
            if at != changes:
                told = super().units(pattern, states=key[1])
                self._units[key] = (changes, told)
        return dict(told)

    @property
    def is_due(self) -> bool:
        """Whether it is time to ``listen``."""
        return time.monotonic() - self._heard_at > _HEAR_SECONDS

    def listen(self) -> None:
        """Have ``changes`` count all that has changed by now."""
        with self._lock:
            if self.is_due:
                self._follow()
                self.hear()
                self._heard_at = time.monotonic()

    async def look_after(self) -> None:
        """Take in what is told though nobody asks; after a minute of that, have nothing told any more."""
        while True:
            await asyncio.sleep(_SECONDS / 2)
            with contextlib.suppress(ManagerError):  # systemd is away: it has nothing to tell
                await anyio.to_thread.run_sync(self._look_after)

    def _look_after(self) -> None:
        with self._lock:
            if self._followed and time.monotonic() - self._asked_at > _SECONDS:
                followed, self._followed, self._until = self._followed, [], 0.0
                self._known.clear()
                self.changes += 1
                self.unsubscribe(followed)
                self.hear()  # what was told before
            elif self._followed:
                self.hear()

    def _follow(self) -> None:
        now = time.monotonic()
        self._asked_at = now
        if not self._followed:
            self._followed = self.on_change(TIMER, self._timer_changed) + self.on_change(UNIT, self._unit_changed)
            self.changes += 1  # whatever was asked before
        if now > self._until:
            self.subscribe()
            self._known.clear()
            self._units.clear()
            self._until = now + _SECONDS

    # Both are called with the lock or without: each thing that they do is one step.

    def _timer_changed(self, path: str) -> None:
        if path:
            self._known.pop(path, None)
        else:
            self._known.clear()
        self._unit_changed(path)

    def _unit_changed(self, path: str) -> None:
        if not path or path.startswith(_OURS):
            self.changes += 1
