"""What Supabase answers, and what each of its ways to fail means, on a real one."""

import http.server
import math
import socket
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from lsh_systemd.remote import Remote, RemoteAway, RemoteError, RemoteForbidden, RemoteOutdated, RemoteRefused, Target
from tests.supabase.stack import Stack

_TABLE = """
CREATE TABLE things (id int PRIMARY KEY, name text, size float CHECK (size < 1000));
GRANT SELECT, INSERT, UPDATE ON things TO service_role;
CREATE FUNCTION twice(a int) RETURNS int LANGUAGE sql AS 'SELECT 2 * a';
CREATE FUNCTION sleepy() RETURNS int LANGUAGE sql AS 'SELECT 1 FROM pg_sleep(60)';
NOTIFY pgrst, 'reload schema';
"""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """One of its own: it is broken, too."""
    with Stack() as stack:
        stack.sql(_TABLE)
        stack.stop("postgrest")  # it reads the schema anew when it feels like it
        stack.start("postgrest")
        yield stack


@pytest.fixture
def remote(stack: Stack) -> Iterator[Remote]:
    remote = Remote(Target(url=stack.url, key=stack.secret_key), timeout_seconds=10)
    yield remote
    remote.close()


def test_rows_are_written_over_and_read_in_pages(stack: Stack, remote: Remote) -> None:
    remote.upsert("things", [{"id": each, "name": "old"} for each in range(1, 2501)], on_conflict="id")
    remote.upsert("things", [{"id": 7, "name": "né\u2028w"}], on_conflict="id")
    rows = list(remote.select("things", order=["-id"]))
    assert [row["id"] for row in rows] == list(range(2500, 0, -1))
    assert list(remote.select("things", columns="name", where=[("id", "eq", 7)])) == [{"name": "né\u2028w"}]
    assert len(list(remote.select("things", order=["id"], limit=1200))) == 1200
    assert remote.rpc("twice", {"a": 21}) == 42
    assert abs((remote.clock_usec() or 0) / 1e6 - float(stack.sql("SELECT extract(epoch FROM now())"))) < 5


@pytest.mark.parametrize(
    ("table", "row", "kind", "code"),
    [
        ("things", {"id": 1, "name": "a\0b"}, RemoteRefused, "22P05"),
        ("things", {"id": 1, "name": "\ud800"}, RemoteRefused, "22021"),
        ("things", {"id": 1, "size": 2000}, RemoteRefused, "23514"),
        ("things", {"id": 1, "size": math.nan}, RemoteRefused, "22P02"),
        ("things", {"id": None}, RemoteRefused, "23502"),
        ("things", {"id": 1, "colour": "red"}, RemoteOutdated, None),
        ("no_things", {"id": 1}, RemoteOutdated, None),
    ],
)
def test_what_will_never_do(
    remote: Remote, table: str, row: dict[str, Any], kind: type[RemoteError], code: str
) -> None:
    with pytest.raises(RemoteError) as caught:
        remote.upsert(table, [row], on_conflict="id")
    assert type(caught.value) is kind, caught.value.message
    assert code in (None, caught.value.code)


def test_the_same_key_twice_is_refused(remote: Remote) -> None:
    with pytest.raises(RemoteRefused) as caught:
        remote.upsert("things", [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], on_conflict="id")
    assert caught.value.code == "21000"


def test_a_key_that_may_not(stack: Stack) -> None:
    for key in (stack.anon_key, stack.publishable_key, "sb_secret_no"):
        with pytest.raises(RemoteForbidden) as caught:
            list(Remote(Target(url=stack.url, key=key)).select("things"))
        assert key not in caught.value.message
        assert key not in repr(Target(url=stack.url, key=key))


def test_nobody_there(stack: Stack, remote: Remote) -> None:
    for part in ("postgrest", "postgres"):
        stack.stop(part)
        with pytest.raises(RemoteAway):
            list(remote.select("things"))
    for part in ("postgres", "postgrest"):
        stack.start(part)
    assert list(remote.select("things", limit=1))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        away = Remote(Target(url=f"http://127.0.0.1:{free.getsockname()[1]}", key="sb_secret_x"))
        with pytest.raises(RemoteAway):
            away.rpc("twice", {"a": 1})


def test_too_slow(stack: Stack) -> None:
    impatient = Remote(Target(url=stack.url, key=stack.secret_key), timeout_seconds=0.5)
    with pytest.raises(RemoteAway):
        impatient.rpc("sleepy")


class _Odd(http.server.BaseHTTPRequestHandler):
    """A server that is no Supabase, or one that is not well: it answers as ``answer`` says."""

    answer: ClassVar[tuple[int, dict[str, str], bytes]]

    def do_GET(self) -> None:
        status, headers, body = self.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("answer", "kind", "after"),
    [
        ((429, {"Retry-After": "17"}, b"{}"), RemoteAway, 17.0),
        ((503, {"Retry-After": "soon"}, b"<html>"), RemoteAway, None),
        ((500, {}, b""), RemoteAway, None),
        ((200, {}, b"<html>Log in to the hotel's network</html>"), RemoteAway, None),
        ((301, {"Location": "https://example.org/"}, b""), RemoteAway, None),
        ((200, {"Content-Length": "100"}, b"[1,"), RemoteAway, None),  # cut in the middle
        ((403, {}, b"no"), RemoteForbidden, None),
        ((413, {}, b"too much"), RemoteRefused, None),
    ],
)
def test_odd_answers(answer: tuple[int, dict[str, str], bytes], kind: type[RemoteError], after: float | None) -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), type("Answering", (_Odd,), {"answer": answer}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    remote = Remote(Target(url=f"http://127.0.0.1:{server.server_port}", key="sb_secret_x"))
    with pytest.raises(RemoteError) as caught:
        list(remote.select("things"))
    assert type(caught.value) is kind, caught.value.message
    assert getattr(caught.value, "retry_after", None) == after
    server.shutdown()
    server.server_close()
