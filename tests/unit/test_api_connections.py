"""The HTTP API's server before callers who mean no good: real sockets on loopback."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn

from lsh_systemd.api.access import Caller
from lsh_systemd.api.connections import Connection, Strangers
from lsh_systemd.api.wire import Proxies, Wire

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"
KEY = b"X-API-Key: good\r\n"


class Server:
    """The server that lshctl starts, before an application that knows one key; it may be told to let requests wait."""

    def __init__(self, strangers: Strangers) -> None:
        self.answers = threading.Event()
        self.answers.set()
        self.callers: list[Any] = []
        wire = Wire(self._answer, proxies=("127.0.0.1",), strangers=strangers)
        config = uvicorn.Config(
            wire, log_level="warning", http=Connection, ws="none", lifespan="off", proxy_headers=False
        )
        self.server = uvicorn.Server(config)
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self.address = self.listening.getsockname()

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        self.callers.append(scope["client"])
        if (b"x-api-key", b"good") in scope["headers"]:
            scope["lsh.caller"] = Caller(id="1", name="x", role="viewer")
        while not self.answers.is_set():
            await asyncio.sleep(0.01)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    def connect(self) -> socket.socket:
        link = socket.create_connection(self.address)
        link.settimeout(20)
        return link

    @property
    def connections(self) -> int:
        return len(self.server.server_state.connections)


@contextlib.contextmanager
def serving(**limits: Any) -> Iterator[Server]:
    server = Server(Strangers(**limits))
    thread = threading.Thread(target=server.server.run, args=([server.listening],), daemon=True)
    thread.start()
    eventually(lambda: server.server.started)
    yield server
    server.answers.set()
    server.server.should_exit = server.server.force_exit = True
    thread.join(20)
    server.listening.close()
    assert not thread.is_alive()


def eventually(holds: Callable[[], bool], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


def is_closed(link: socket.socket) -> bool:
    """Waits for the other side to end it."""
    try:
        return link.recv(1) == b""
    except ConnectionResetError:
        return True


def asked(link: socket.socket, head: bytes = HEAD) -> bytes:
    link.sendall(head + b"\r\n")
    return answered(link)


def answered(link: socket.socket) -> bytes:
    told = b""
    while not told.endswith(b"ok"):
        told += link.recv(1000)
    return told


def test_a_head_that_never_comes_ends_the_connection() -> None:
    with serving(head_seconds=0.3) as server:
        silent, begun, dripping, later = (server.connect() for _ in range(4))
        begun.sendall(HEAD)
        asked(later)
        later.sendall(b"GET /")  # the second request is what never comes
        stop = threading.Event()

        def drip() -> None:
            with contextlib.suppress(OSError):
                dripping.sendall(HEAD)
                while not stop.wait(0.05):
                    dripping.sendall(b"X-A: b\r\n")

        thread = threading.Thread(target=drip)
        thread.start()
        for link in (silent, begun, dripping, later):
            assert is_closed(link)
            link.close()
        stop.set()
        thread.join()
        eventually(lambda: server.connections == 0)
        with server.connect() as link:  # others are served as before
            assert asked(link).startswith(b"HTTP/1.1 200")


def test_what_is_no_head_after_an_early_answer_ends_the_connection() -> None:
    """A body that comes byte by byte, after its request has been refused."""
    with serving(head_seconds=0.3) as server, server.connect() as link:
        asked(link, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n")
        with contextlib.suppress(OSError):
            for _ in range(1000):
                link.sendall(b"x")
                time.sleep(0.02)
                if server.connections == 0:
                    break
        eventually(lambda: server.connections == 0)


def test_who_has_no_key_does_not_keep_a_request_waiting_for_ever() -> None:
    with serving(seconds=0.3) as server, server.connect() as stranger, server.connect() as known:
        server.answers.clear()
        stranger.sendall(HEAD + b"\r\n")
        known.sendall(HEAD + KEY + b"\r\n")
        assert is_closed(stranger)
        eventually(lambda: server.connections == 1)
        time.sleep(0.5)  # longer than a stranger has
        server.answers.set()
        assert answered(known).startswith(b"HTTP/1.1 200")


def test_connections_without_a_key_are_few() -> None:
    """However many somebody opens, there is room for who has a key, and who is busy with one stays."""
    with serving(head_seconds=60, of_an_address=10, grace_seconds=0) as server, server.connect() as known:
        asked(known, HEAD + KEY)
        with contextlib.ExitStack() as stack:
            opened = [stack.enter_context(server.connect()) for _ in range(300)]
            # Of what he holds, ten are left; the others are gone, the oldest first.
            eventually(lambda: server.connections <= 12)
            assert is_closed(opened[0])
            with server.connect() as other:
                assert asked(other, HEAD + KEY).startswith(b"HTTP/1.1 200")
            assert asked(known, HEAD + KEY).startswith(b"HTTP/1.1 200")


def test_many_who_have_keys_may_come_at_once_from_one_address() -> None:
    with serving(of_an_address=10) as server, contextlib.ExitStack() as stack:
        links = [stack.enter_context(server.connect()) for _ in range(200)]
        for link in links:
            link.sendall(HEAD + KEY + b"\r\n")
        for link in links:
            assert answered(link).startswith(b"HTTP/1.1 200")
        for link in links:
            assert asked(link, HEAD + KEY).startswith(b"HTTP/1.1 200")


def test_a_proxy_is_believed_where_it_is_named() -> None:
    with serving() as server, server.connect() as link:
        for forwarded, caller in ((b"", "127.0.0.1"), (b"X-Forwarded-For: 9.9.9.9, 192.0.2.7\r\n", "192.0.2.7")):
            asked(link, HEAD + forwarded)
            assert server.callers[-1][0] == caller


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "caller"),
    [
        ((), "127.0.0.1", ["9.9.9.9"], "127.0.0.1"),
        ((), None, ["9.9.9.9"], None),
        (("127.0.0.1",), None, ["9.9.9.9"], None),  # the Unix socket is a peer like others
        (("unix",), None, ["9.9.9.9"], "9.9.9.9"),
        (("unix",), "127.0.0.1", ["9.9.9.9"], "127.0.0.1"),
        (("127.0.0.1",), "127.0.0.1", [], "127.0.0.1"),
        (("127.0.0.1",), "127.0.0.1", ["6.6.6.6, 9.9.9.9"], "9.9.9.9"),
        (("127.0.0.1",), "127.0.0.1", ["6.6.6.6", "9.9.9.9"], "9.9.9.9"),
        (("127.0.0.1", "10.0.0.0/8"), "127.0.0.1", ["6.6.6.6, 9.9.9.9, 10.1.2.3"], "9.9.9.9"),
        (("127.0.0.1", "10.0.0.0/8"), "127.0.0.1", ["10.1.2.3"], "10.1.2.3"),
        (("127.0.0.1",), "127.0.0.1", ["6.6.6.6, nonsense"], "127.0.0.1"),
        (("::1",), "::1", ["2001:db8::1"], "2001:db8::1"),
    ],
)
def test_who_calls(trusted: tuple[str, ...], peer: str | None, forwarded: list[str], caller: str | None) -> None:
    assert Proxies(trusted).caller(peer, forwarded) == caller
