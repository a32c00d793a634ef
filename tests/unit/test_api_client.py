"""lshctl --url: what it says to other servers' answers, and to what is no server of ours."""

import json
import threading
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from urllib.error import HTTPError

import pytest
from click.testing import CliRunner

from lsh_systemd.cli import main
from lsh_systemd.cli.http import Http, of_answer
from lsh_systemd.errors import BadInput, LshError


@pytest.mark.parametrize(
    "url", ["", "x", "ftp://x", "http://", "https://x:y", "http://[::1", "https://:key@x", "https://x?a", "http://x\n"]
)
def test_what_is_no_url_of_an_api(url: str) -> None:
    with pytest.raises(BadInput):
        Http(url)


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (404, b'{"detail": "there is no job"}', BadInput, "there is no job"),
        (401, b'{"detail": "a key is needed"}', LshError, "a key is needed"),
        (503, b'{"problems": ["systemd does not answer"]}', LshError, "systemd does not answer"),
        (502, b"<html>", LshError, "'http://x/jobs' answers 502"),
        (500, b"[]", LshError, "'http://x/jobs' answers 500"),
    ],
)
def test_what_the_other_side_says(status: int, body: bytes, kind: type[LshError], message: str) -> None:
    error = of_answer(HTTPError("http://x/jobs", status, "", Message(), BytesIO(body)), "http://x/jobs")
    assert (type(error), error.message) == (kind, message)


@pytest.mark.parametrize("more", [["--user"], ["--system"], ["-H", "web1"]])
def test_a_url_is_one_place(more: list[str]) -> None:
    done = CliRunner().invoke(main, [*more, "--url", "http://127.0.0.1:1", "list"])
    assert (done.exit_code, "--url goes with none of" in done.output) == (2, True)


@pytest.fixture
def hostile() -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers everything with what is put into the list, and its URL."""
    answers: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if answers[-1] == b"elsewhere":
                self.send_response(302)
                self.send_header("Location", f"http://127.0.0.1:{server.server_port}/other")
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answers[-1])

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", answers
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        b"[1]",
        b"[{}]",
        b'{"a": 1}',
        b"null",
        b"[" * 100_000,
        b"elsewhere",
        b"\xff",
        b'[{"id": "a", "state": []}]',
    ],
)
@pytest.mark.parametrize(
    "argv",
    [["list"], ["runs"], ["show", "x"], ["next", "x"], ["logs", "x"], ["queue"], ["templates"]]
    + [["fleet", what] for what in ("hosts", "jobs", "runs", "report", "queue", "limits")],
)
def test_another_server_than_ours_is_told_in_words(
    hostile: tuple[str, list[bytes]], answer: bytes, argv: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, answers = hostile
    answers.append(answer)
    monkeypatch.setenv("LSH_API_KEY", "lsh_secret")
    done = CliRunner().invoke(main, ["--url", url, *argv])
    assert done.exit_code == 1, (done.output, done.exception)
    assert done.output.startswith("lshctl: ") and len(done.output.splitlines()) <= 2
    assert "secret" not in done.output


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST.", "[::1]", "127.9.8.7", "a.localhost"])
def test_what_stays_on_this_machine_goes_past_the_proxy(
    hostile: tuple[str, list[bytes]], host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would see the key. (Nobody listens on port 1.)"""
    proxy, answers = hostile
    answers.append(b"[]")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("LSH_API_KEY", "lsh_secret")
    with pytest.raises(LshError, match="does not answer"):
        Http(f"http://{host}:1").get("jobs")
    assert Http("http://jobs.invalid:1").get("jobs") == []  # others go by it


def test_nothing_that_the_other_side_says_moves_a_cursor(hostile: tuple[str, list[bytes]]) -> None:
    url, answers = hostile
    evil = "a\x1b[2J\u202eb"
    run = {
        "started_at": None,
        "duration_seconds": None,
        "result": evil,
        "signal": evil,
        "exit_status": 1,
        "trigger": evil,
    }
    run |= {"job": evil, "memory_peak_bytes": None, "id": evil}
    job = {"id": evil, "state": evil, "next": None, "last_run": run, "schedule": evil, "command": evil}
    job |= {"definition": {"env": {evil: evil}}}
    line = {"at": None, "identifier": evil, "message": evil}
    place = {"job": evil, "state": evil, "since": None, "waits_for": evil}
    names = "id name last_seen_at waiting_rows lsh_version systemd_version os online scope removed_at next_at".split()
    fleet_row = (
        dict.fromkeys(names) | run | {"name": evil, "host": evil, "state": evil, "schedule": evil, "scope": evil}
    )
    fleet_row |= {"command": evil, "removed_at": None}
    queued = fleet_row | {"user": evil, "only_host": evil, "params": {evil: evil}, "run_at": "2027-01-01T00:00:00Z"}
    queued |= {"cancelled_at": None, "message": evil, "result": "refused", "priority": 1, "attempt": 1}
    for argv, answer in (
        (["fleet", "hosts"], [fleet_row]), (["fleet", "jobs"], [fleet_row]), (["fleet", "runs"], [fleet_row]),
        (["fleet", "queue"], [queued]), (["fleet", "limits"], {"global": evil, "user": None}),
        (["list"], [job]), (["show", "x"], job), (["runs"], [run]), (["logs", "x"], [line]), (["queue"], [place]),
        (["list", "--json"], [job]), (["runs", "--id", "ab"], {"output": evil}),
    ):  # fmt: skip
        answers.append(json.dumps(answer).encode())
        done = CliRunner().invoke(main, ["--url", url, *argv])
        assert done.exit_code == 0, (argv, done.output, done.exception)
        assert not {"\x1b", "\u202e"} & set(done.output.replace("\x1b[1m", "").replace("\x1b[0m", "")), argv
