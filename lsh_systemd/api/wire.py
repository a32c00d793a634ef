"""What is done with every request, whatever its route: its id, its size, and a line in the log. Plain ASGI, so that
streams cost nothing more."""

import contextlib
import ipaddress
import os
import re
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException

from lsh_systemd.api.access import Caller
from lsh_systemd.api.connections import Strangers
from lsh_systemd.api.problems import problem
from lsh_systemd.text import escape_controls

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_BYTES = 1024 * 1024
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# As the journal reads the beginning of a line.
_LEVELS = {"debug": 7, "info": 6, "warning": 4, "warn": 4, "error": 3}


class TooLarge(HTTPException):
    """The body goes on beyond what is read of it."""

    def __init__(self) -> None:
        super().__init__(413, f"a body has {BODY_BYTES} bytes at most")


class Proxies:
    """Who is believed what X-Forwarded-For says: addresses and networks, or "unix" for who calls on the Unix socket."""

    def __init__(self, trusted: Sequence[str] = ()) -> None:
        self._unix = "unix" in trusted
        self._networks = [ipaddress.ip_network(each) for each in trusted if each != "unix"]

    def caller(self, peer: str | None, forwarded: Sequence[str]) -> str | None:
        """Who calls, as far as those tell it who are believed: the last in the line who is not one of them. None is
        somebody on the Unix socket."""
        line = [each.strip() for header in forwarded for each in header.split(",")]
        while line and self._believes(peer):
            try:
                peer = str(ipaddress.ip_address(line.pop()))
            except ValueError:
                break  # no address: nobody before it is known
        return peer

    def _believes(self, peer: str | None) -> bool:
        if peer is None:
            return self._unix
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in self._networks)


class Wire:
    """Around the whole application. ``busy``: requests in progress; ``last``: when the last one ended (monotonic)."""

    def __init__(self, app: Asgi, *, proxies: Sequence[str] = (), strangers: Strangers | None = None) -> None:
        self._app, self._proxies, self.strangers = app, Proxies(proxies), strangers or Strangers()
        self.busy, self.last = 0, time.monotonic()
        self._level = _LEVELS.get(os.environ.get("LSH_LOG_LEVEL", "info").lower(), 6)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if b"x-forwarded-for" in headers:
            told = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
            peer = scope["client"][0] if scope.get("client") else None
            address = self._proxies.caller(peer, told)
            if address is not None and address != peer:
                scope["client"] = (address, 0)
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _ID.fullmatch(given) else secrets.token_hex(8)
        began, status = time.monotonic(), 500
        self.busy += 1

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = message.get("headers", [])
                known = {name.lower() for name, _ in own}
                message["headers"] = [*own, *(each for each in _headers(request_id) if each[0] not in known)]
            await send(message)

        try:
            await self._limited(scope, receive, sending, headers)
        finally:
            self.busy -= 1
            self.last = time.monotonic()
            self._log(scope, request_id, status, self.last - began)

    async def _limited(self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes]) -> None:
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > BODY_BYTES:
            await problem(413, TooLarge().detail)(scope, receive, send)
            return
        seen = 0

        async def receiving() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > BODY_BYTES:
                raise TooLarge
            return message

        await self._app(scope, receiving, send)

    def _log(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        level = 3 if status >= 500 else 4 if status in (401, 403, 429) else 6
        if level > self._level:
            return
        caller = scope.get("lsh.caller")
        who = f"{caller.name} {caller.id}".strip() if isinstance(caller, Caller) else "-"
        client = scope.get("client")
        words = (
            request_id,
            client[0] if client else "unix",
            who,
            scope["method"],
            scope["path"][:500],
            str(status),
            f"{seconds * 1000:.1f}ms",
        )
        with contextlib.suppress(OSError):  # journald is not there just now: no reason to fail
            print(f"<{level}>" + escape_controls(" ".join(words), keep=""), file=sys.stderr, flush=True)


def _headers(request_id: str) -> list[tuple[bytes, bytes]]:
    return [
        (b"x-request-id", request_id.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
        (b"referrer-policy", b"no-referrer"),
        (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    ]
