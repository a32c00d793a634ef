"""Connections: who has shown no key has little time, and few of them.

uvicorn bounds how long a connection rests between two requests, not how long a request takes to come, so that whoever
sends a byte now and then, or nothing, could hold all the connections that there may be.
"""

import asyncio
import time
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from lsh_systemd.api.access import ROLES, Caller

# For a request's head to come, and for all of a request of somebody who has shown no key.
HEAD_SECONDS = 10.0
STRANGER_SECONDS = 60.0
# So many connections without a key, from one address and together: beyond that the oldest go.
_OF_AN_ADDRESS = 100
_MOST = 1000
# But none that has just come: its key may be on the way.
_GRACE_SECONDS = 3.0


class Strangers:
    """The connections that have shown no key."""

    def __init__(
        self,
        *,
        head_seconds: float = HEAD_SECONDS,
        seconds: float = STRANGER_SECONDS,
        of_an_address: int = _OF_AN_ADDRESS,
        most: int = _MOST,
        grace_seconds: float = _GRACE_SECONDS,
    ) -> None:
        self.head_seconds, self.seconds = head_seconds, seconds
        self._of_an_address, self._most, self._grace_seconds = of_an_address, most, grace_seconds
        self._by_address: dict[str, dict[Connection, float]] = {}  # and since when, the oldest first
        self.count = 0

    def add(self, new: "Connection") -> None:
        """One more; others go where it is one too many."""
        known = self._by_address.setdefault(new.address, {})
        if len(known) >= self._of_an_address:
            self._make_room(known)
        elif self.count >= self._most:
            self._make_room(max(self._by_address.values(), key=len))
        self._by_address.setdefault(new.address, {})[new] = time.monotonic()
        self.count += 1

    def remove(self, gone: "Connection") -> None:
        """It has shown a key, or ended."""
        known = self._by_address.get(gone.address, {})
        if known.pop(gone, None) is not None:
            self.count -= 1
        if not known:
            self._by_address.pop(gone.address, None)

    def _make_room(self, known: "dict[Connection, float]") -> None:
        for each in [each for each in known if each.is_known]:
            self.remove(each)
        before = time.monotonic() - self._grace_seconds
        old = [each for each, since in known.items() if since <= before]
        # Rather one that asks for nothing; of those, the one that has been there for longest.
        if goes := next((each for each in old if not each.is_busy), next(iter(old), None)):
            self.remove(goes)
            goes.transport.abort()


class Connection(H11Protocol):
    """A connection with a time limit for each request's head, and for all that strangers do."""

    address = "unix"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._strangers: Strangers = self.config.app.strangers  # type: ignore[union-attr]
        self._head: asyncio.TimerHandle | None = None
        self._rest: asyncio.TimerHandle | None = None
        self._shown = False

    @property
    def is_busy(self) -> bool:
        """Whether a request has come and is not answered yet."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def is_known(self) -> bool:
        """Whether it has shown a key that is one."""
        caller = (self.scope or {}).get("lsh.caller")
        self._shown = self._shown or (isinstance(caller, Caller) and caller.role in ROLES)
        return self._shown

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.address = self.client[0] if self.client else "unix"
        self._strangers.add(self)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head()
        self._stop_rest()
        self._strangers.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        self._stop_rest()
        if self.is_known:
            self._strangers.remove(self)
        super().on_response_complete()
        self._look()

    def _look(self) -> None:
        """Have the time count for what is being waited for."""
        if self.transport.is_closing():
            return
        if self.is_busy:
            self._stop_head()
            if self._rest is None and not self._shown:
                self._rest = self.loop.call_later(self._strangers.seconds, self._end_stranger)
        elif self._head is None and self.timeout_keep_alive_task is None:
            self._head = self.loop.call_later(self._strangers.head_seconds, self._end_slow)

    def _end_slow(self) -> None:
        self._head = None
        if not self.is_busy and not self.transport.is_closing():
            if self.conn.our_state not in (h11.ERROR, h11.CLOSED):
                self.conn.send_failed()
            self.transport.abort()

    def _end_stranger(self) -> None:
        self._rest = None
        if self.is_busy and not self.is_known:
            self.transport.abort()

    def _stop_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
        self._head = None

    def _stop_rest(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
        self._rest = None
