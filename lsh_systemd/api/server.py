"""The server: on the sockets that systemd hands over, or on its own; ends itself where nobody calls."""

import asyncio
import ipaddress
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType

import uvicorn
from systemd import daemon

from lsh_systemd import caps
from lsh_systemd.api.access import Caller
from lsh_systemd.api.app import make
from lsh_systemd.api.connections import Connection
from lsh_systemd.api.parts import Parts
from lsh_systemd.api.wire import Wire
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.refresh import change_caps
from lsh_systemd.scope import Scope, runtime_dir
from lsh_systemd.text import visible

PORT = 3030
# How long requests in progress may take to end when the server is told to.
_GRACE_SECONDS = 10
_MOST_JOBS = 100_000
# So many connections at once; more are told to come back.
_CONNECTIONS = 2000
_LOOK_SECONDS = 1.0


def serve(scope: Scope, listen: tuple[str, ...] = (), idle_seconds: int | None = None) -> None:
    """Serve until SIGTERM, or until nobody has called for so long (None: as lsh.toml says, where systemd would start it
    again; else never)."""
    application = make(scope)
    given = daemon.listen_fds(unset_environment=True)
    sockets = [socket.socket(fileno=each) for each in given]
    sockets = sockets or [bound(each) for each in listen or (f"127.0.0.1:{port()}",)]
    if idle_seconds is None:
        idle_seconds = application.state.parts.settings().idle_seconds if given else 0
    _limit(application.state.parts)
    wire = Wire(application, proxies=application.state.parts.settings().trust_proxy)
    config = uvicorn.Config(
        wire,
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        timeout_keep_alive=15,
        h11_max_incomplete_event_size=64 * 1024,
        http=Connection,
        limit_concurrency=_CONNECTIONS,
        ws="none",
    )
    server = _Server(config, wire, idle_seconds, application.state.feed.close)
    if not given:
        print("Listening on " + ", ".join(map(_shown, sockets)), file=sys.stderr, flush=True)
    asyncio.run(server.serve(sockets))


def _limit(parts: Parts) -> None:
    """LSH_MAX_CONCURRENT_JOBS, where no limit of all jobs has been set: from then on `lshctl limits` has it."""
    told = os.environ.get("LSH_MAX_CONCURRENT_JOBS", "")
    if not told:
        return
    if not (told.isascii() and told.isdecimal() and 0 < int(told[:7]) <= _MOST_JOBS):
        raise BadInput(f"LSH_MAX_CONCURRENT_JOBS is not a number from 1 to {_MOST_JOBS}")
    old = caps.load(parts.scope)
    if old.total is None:
        caller = Caller(id="", name="LSH_MAX_CONCURRENT_JOBS", role="admin")
        try:
            change_caps(parts.control(caller), replace(old, total=int(told)), parts.collect)
        except LshError as error:  # no reason not to serve
            print(f"<4>LSH_MAX_CONCURRENT_JOBS: {error.message}", file=sys.stderr, flush=True)


class _Server(uvicorn.Server):
    """Ends when idle, and tells listeners of events to go before it waits for them."""

    def __init__(self, config: uvicorn.Config, wire: Wire, idle_seconds: int, close: Callable[[], None]) -> None:
        super().__init__(config)
        self._wire, self._idle_seconds, self._close = wire, idle_seconds, close

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        daemon.notify("READY=1")
        self._watcher = asyncio.create_task(self._watch())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        daemon.notify("STOPPING=1")
        self._watcher.cancel()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._close()
        super().handle_exit(sig, frame)

    async def _watch(self) -> None:
        while self._idle_seconds:
            await asyncio.sleep(_LOOK_SECONDS)
            if not self._wire.busy and time.monotonic() - self._wire.last > self._idle_seconds:
                self.handle_exit(signal.SIGTERM, None)
                return


def port() -> int:
    """$PORT, or the one that older systems had."""
    told = os.environ.get("PORT", str(PORT))
    if not (told.isascii() and told.isdecimal() and 0 < int(told[:6]) < 65536):
        raise BadInput(f"PORT={told[:20]} is not a port")
    return int(told)


def bound(address: str) -> socket.socket:
    """A listening socket on /path or HOST:PORT. Raises BadInput or LshError."""
    try:
        if address.startswith("/"):
            Path(address).unlink(missing_ok=True) if Path(address).is_socket() else None
            listening = socket.socket(socket.AF_UNIX)
            old = os.umask(0o117)
            try:
                listening.bind(address)
            finally:
                os.umask(old)
            listening.listen(socket.SOMAXCONN)
            return listening
        host, number = parsed(address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, number), family=family, backlog=socket.SOMAXCONN)
        # Connections inherit it. asyncio would see to it, but for sockets that do not say they are TCP's, as these; an
        # answer's body would then wait for the acknowledgement of its head: 40 ms.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        raise LshError(f"cannot listen on {address}: {error.strerror}", hint="--listen takes another address") from None


def parsed(address: str) -> tuple[str, int]:
    """HOST:PORT or [HOST]:PORT or PORT → both. Raises BadInput."""
    host, _, number = address.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not (number.isascii() and number.isdecimal() and 0 < int(number[:6]) < 65536):
        raise BadInput(f"{visible(address)} is no address to listen on", hint="HOST:PORT, or the path of a socket")
    return host, int(number)


def for_socket(address: str) -> str:
    """The same as systemd's ListenStream= takes it, for which a port alone would be that of all addresses. Raises
    BadInput."""
    if "/" in address:
        raise BadInput(f"{visible(address)} is no HOST:PORT", hint="a Unix socket is listened on besides, in any case")
    host, number = parsed(address)
    try:
        told = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise BadInput(f"{visible(address)} is no address in numbers", hint="such as 127.0.0.1:3030") from None
    return f"[{told}]:{number}" if told.version == 6 else f"{told}:{number}"


def socket_path(scope: Scope) -> Path:
    """Where lsh-api.socket listens, beside a port."""
    return Path("/run/lsh/api.sock") if scope is Scope.SYSTEM else runtime_dir() / "lsh/api.sock"


def _shown(listening: socket.socket) -> str:
    name = listening.getsockname()
    return f"http://{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name)
