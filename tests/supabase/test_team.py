"""The team's secrets on a real Supabase: who has the key pulls what was pushed, and nobody's push is lost."""

import http.server
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from lsh_systemd import seal
from lsh_systemd.audit import Actor
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.remote import Remote, RemoteForbidden, Target
from lsh_systemd.scope import Scope
from lsh_systemd.teamfiles import Notes
from lsh_systemd.teamsecrets import KEPT, Team
from tests.supabase.stack import Stack

KEY = b"correct horse battery staple"
ALICE = Actor(name="alice", uid=1000)
Member = Callable[..., "Person"]


class Person:
    """Somebody with a machine, a copy of the file, and a key."""

    def __init__(self, folder: Path, url: str, api_key: str, key: bytes, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        folder.mkdir()
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        remote = Remote(Target(url=url, key=api_key), timeout_seconds=20)
        self.team = Team(remote, Notes(Scope.USER, url), lambda new: key)
        self.file = folder / ".env"

    def push(self, data: bytes, env: str = "prod", **options: Any) -> int:
        self.file.write_bytes(data)
        return self.team.push(env, self.file, ALICE, "host-1", **options).version

    def pull(self, env: str = "prod", **options: Any) -> bytes:
        self.team.pull(env, self.file, **options)
        return self.file.read_bytes()

    def refused(self, words: str, what: Callable[..., object], *args: Any, **options: Any) -> LshError:
        """It is refused in these words, and neither the file nor anything beside it has changed."""
        self.file.parent.mkdir(exist_ok=True)
        before = {path.name: path.read_bytes() for path in self.folder.iterdir() if path.is_file()}
        if what == self.push:
            before[".env"] = args[0]
        with pytest.raises(LshError, match=words) as caught:
            what(*args, **options)
        assert {path.name: path.read_bytes() for path in self.folder.iterdir() if path.is_file()} == before
        return caught.value


@pytest.fixture
def stack(project: Stack) -> Stack:
    return project


@pytest.fixture
def member(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Member]:
    """member("alice"): one who shares this team's store, which is empty. What scrypt takes is not of interest here."""
    monkeypatch.setattr(seal, "_N", 2**10)
    stack.sql("DELETE FROM secrets")
    yield lambda name, key=KEY, url=stack.url: Person(tmp_path / name, url, stack.secret_key, key, monkeypatch)


def test_what_one_pushes_the_others_pull(stack: Stack, member: Member) -> None:
    alice, bob = member("alice"), member("bob")
    first, second = b"\xef\xbb\xbfA='1'\r\n# why\n\nB=\xc3\xa9", b"A=2\n"
    assert alice.push(first) == 1
    assert bob.pull() == first
    assert bob.file.stat().st_mode & 0o777 == 0o600
    assert bob.push(second) == 2
    assert alice.pull() == second
    assert alice.pull(number=1) == first
    assert alice.push(first, env="test") == 1
    told = [(each.number, each.pushed_by, each.host) for each in alice.team.versions("prod")]
    assert told == [(2, "alice", "host-1"), (1, "alice", "host-1")]
    version, changes = bob.team.differences("prod", bob.file, 1)
    assert version.number == 1
    assert [(each.name, each.kind) for each in changes] == [("A", "changed"), ("B", "removed")]
    alice.refused("there is no version 3 of prod", alice.pull, number=3)
    alice.refused("there is no environment none", alice.pull, env="none")


def test_the_same_is_not_pushed_twice(member: Member) -> None:
    alice, bob = member("alice"), member("bob")
    assert [alice.push(b"A=1"), alice.push(b"A=1"), bob.push(b"A=1")] == [1, 1, 1]
    assert bob.push(b"A=2") == 2  # the first push told bob's machine where his file stands


def test_nothing_of_a_file_is_in_the_database(stack: Stack, member: Member) -> None:
    member("alice").push(b"VERY_SECRET_NAME=very-secret-value\n")
    everything = stack.sql("SELECT * FROM secrets")
    assert "|alice|host-1|" in everything
    assert "very" not in everything.lower()


def test_a_push_that_others_have_outrun_is_refused(member: Member) -> None:
    alice, bob = member("alice"), member("bob")
    alice.push(b"A=1")
    bob.pull()
    alice.push(b"A=2")
    error = bob.refused("version 2 of prod was pushed by 'alice', and .* came from version 1", bob.push, b"A=3")
    assert "--force" in str(error.hint)
    stranger = member("stranger")
    stranger.refused("is not known to come from any", stranger.push, b"A=4")
    assert stranger.push(b"A=4", force=True, dry=True) == 3
    assert stranger.push(b"A=4", force=True) == 3
    assert alice.pull(number=2) == b"A=2"


def test_of_two_who_push_at_once_one_wins_and_one_is_told(member: Member) -> None:
    people = [member(f"person-{number}") for number in range(4)]
    people[0].push(b"A=0")
    for each in people:
        each.pull()
    results = _at_once(lambda number: people[number].push(f"A=by {number}".encode()), 4)
    assert sorted(each for each in results if isinstance(each, int)) == [2]
    losers = [each for each in results if isinstance(each, BadInput)]
    assert len(losers) == 3
    assert all("version 2" in each.message for each in losers)
    forced = _at_once(lambda number: people[number].push(f"A=forced {number}".encode(), force=True), 4)
    assert sorted(forced) == [3, 4, 5, 6]  # type: ignore[type-var]
    kept = {people[0].pull(number=number, force=True) for number in range(3, 7)}
    assert kept == {f"A=forced {number}".encode() for number in range(4)}


def test_a_push_whose_answer_was_lost_is_sent_again(stack: Stack, member: Member) -> None:
    remote = Remote(Target(url=stack.url, key=stack.secret_key))
    push = {"p_env": "prod", "p_base": 0, "p_sealed": "sealed", "p_by": "alice", "p_host": "h"}
    assert [remote.rpc("lsh_secrets_push", push) for _ in range(2)] == [{"stored": True, "version": 1}] * 2
    assert remote.rpc("lsh_secrets_push", {**push, "p_sealed": "other"}) == {"stored": False, "version": 1}
    assert remote.rpc("lsh_secrets_push", {**push, "p_base": 7}) == {"stored": False, "version": 1}
    assert remote.rpc("lsh_secrets_push", {**push, "p_tenant": "x"}) == {"stored": True, "version": 1}


def test_so_many_versions_are_kept(stack: Stack, member: Member) -> None:
    remote = Remote(Target(url=stack.url, key=stack.secret_key))
    push = {"p_env": "prod", "p_sealed": "sealed", "p_by": "alice", "p_host": "h"}
    for base in range(KEPT + 3):
        remote.rpc("lsh_secrets_push", {**push, "p_base": base})
    alice = member("alice")
    assert [each.number for each in alice.team.versions("prod")] == list(range(KEPT + 3, 3, -1))
    alice.refused("there is no version 3 of prod", alice.pull, number=3)


@pytest.mark.parametrize(
    ("tampering", "words"),
    [
        (
            "UPDATE secrets SET sealed = overlay(sealed placing 'AAAA' from 80) WHERE version = 2",
            "not what was pushed",
        ),
        ("UPDATE secrets SET sealed = left(sealed, 40) WHERE version = 2", "not what was pushed"),
        ("UPDATE secrets SET sealed = '' WHERE version = 2", "not what was pushed"),
        (
            "UPDATE secrets SET sealed = (SELECT sealed FROM secrets WHERE env = 'prod' AND version = 1) "
            "WHERE version = 2",
            "not what was pushed",  # rolled back, under the newest number
        ),
        (
            "UPDATE secrets SET sealed = (SELECT sealed FROM secrets WHERE env = 'test' AND version = 2) "
            "WHERE env = 'prod' AND version = 2",
            "not what was pushed",  # another environment's
        ),
        ("DELETE FROM secrets WHERE version = 2", "version 2 of prod has been there, and now the newest is 1"),
        ("DELETE FROM secrets", "version 2 of prod has been there, and now the newest is none"),
    ],
    ids=["changed", "cut off", "emptied", "rolled back", "swapped", "newest gone", "all gone"],
)
def test_a_row_that_was_tampered_with_is_noticed(stack: Stack, member: Member, tampering: str, words: str) -> None:
    alice = member("alice")
    for env in ("test", "prod"):
        for data in (b"A=1", b"A=2"):
            alice.push(data + env.encode(), env=env)
    stack.sql(tampering)
    before = stack.sql("SELECT * FROM secrets ORDER BY env, version")
    alice.refused(words, alice.pull)
    alice.refused(words, alice.push, b"A=3")
    alice.refused(words, alice.team.differences, "prod", alice.file)
    assert stack.sql("SELECT * FROM secrets ORDER BY env, version") == before
    number = alice.push(b"A=3", force=True)  # whoever knows better goes on
    assert alice.pull() == b"A=3"
    assert alice.push(b"A=4") == number + 1


def test_a_wrong_key_changes_nothing(stack: Stack, member: Member) -> None:
    member("alice").push(b"A=1")
    before = stack.sql("SELECT * FROM secrets")
    mallory = member("mallory", key=b"correct horse battery stable")
    mallory.refused("was sealed with another key", mallory.pull)
    mallory.refused("was sealed with another key", mallory.push, b"A=2")
    mallory.refused("was sealed with another key", mallory.push, b"A=2", dry=True)
    assert stack.sql("SELECT * FROM secrets") == before
    short = member("short", key=b"hunter2")
    short.refused("shorter than 12 characters", short.push, b"A=1", env="other")
    assert mallory.push(b"A=2", force=True) == 2  # a new key


def test_changes_of_one_s_own_are_not_pulled_over(member: Member) -> None:
    alice, bob = member("alice"), member("bob")
    alice.push(b"A=1")
    bob.pull()
    bob.file.write_bytes(b"A=mine")
    bob.refused("has changes of its own", bob.pull)
    alice.push(b"A=2")
    bob.refused("has changes of its own", bob.pull)
    assert bob.pull(force=True, dry=True) == b"A=mine"
    assert bob.pull(force=True) == b"A=2"
    alice.push(b"A=3")
    assert bob.pull() == b"A=3"  # it was as it had been pulled


def test_what_is_no_file_is_not_written_over(member: Member) -> None:
    alice = member("alice")
    alice.push(b"A=1")
    elsewhere = alice.folder / "elsewhere"
    elsewhere.write_bytes(b"precious")
    alice.file.unlink()
    alice.file.symlink_to(elsewhere)
    with pytest.raises(BadInput, match="is a symbolic link"):
        alice.pull(force=True)
    assert elsewhere.read_bytes() == b"precious"
    alice.file.unlink()
    os.mkfifo(alice.file)
    for verb in (alice.team.pull, alice.team.differences):
        with pytest.raises(BadInput, match="is not a file"):
            verb("prod", alice.file)
    with pytest.raises(LshError, match="No such file or directory"):
        alice.team.pull("prod", alice.folder / "nowhere/.env")
    assert sorted(path.name for path in alice.folder.iterdir()) == [".env", "elsewhere", "state"]


def test_nobody_reads_but_the_tenant_and_nobody_writes_but_by_pushing(stack: Stack, member: Member) -> None:
    member("alice").push(b"A=1")
    stack.sql(
        "INSERT INTO secrets VALUES ('a', 'prod', 1, now(), 'x', 'h', 's'), ('b', 'prod', 1, now(), 'y', 'h', 's')"
    )

    def seen(key: str, token: str | None = None) -> list[str]:
        remote = Remote(Target(url=stack.url, key=key))
        if token:
            remote._client.postgrest.auth(token)
        return sorted(row["tenant"] for row in remote.select("secrets", order=["tenant"]))

    assert seen(stack.secret_key) == ["a", "b", "default"]
    user = stack.jwt("authenticated", app_metadata={"lsh_tenant": "a"}, user_metadata={"lsh_tenant": "b"})
    assert seen(stack.publishable_key, user) == ["a"]
    assert seen(stack.publishable_key, stack.authenticated_jwt) == []
    with pytest.raises(RemoteForbidden):
        seen(stack.publishable_key)
    push = {"p_env": "prod", "p_base": 1, "p_sealed": "s", "p_by": "x", "p_host": "h"}
    for key in (stack.publishable_key, stack.anon_key):
        with pytest.raises(LshError):
            Remote(Target(url=stack.url, key=key)).rpc("lsh_secrets_push", push)
    for role in ("anon", "authenticated", "service_role"):
        for change in ("DELETE FROM secrets", "UPDATE secrets SET sealed = 'x'", "INSERT INTO secrets DEFAULT VALUES"):
            with pytest.raises(RuntimeError, match="permission denied"):
                stack.sql(change, role=role)


ROW = {"version": 1, "pushed_at": "2026-11-22T17:00:00+00:00", "pushed_by": "x", "host": "h", "sealed": "TFNI"}


class _Odd(http.server.BaseHTTPRequestHandler):
    """A server that answers every request with the same."""

    answer: ClassVar[Any]

    def do_GET(self) -> None:
        body = json.dumps(self.answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    "answer",
    [
        {},
        "",
        7,
        None,
        [{}],
        [7],
        [{**ROW, "version": "1"}],
        [{**ROW, "version": 0}],
        [{**ROW, "version": 2**70}],
        [{**ROW, "version": True}],
        [{**ROW, "pushed_at": "yesterday"}],
        [{**ROW, "pushed_at": "0001-01-01T00:00:00+23:00"}],
        [{**ROW, "pushed_at": 7}],
        [{**ROW, "pushed_by": None}],
        [{**ROW, "sealed": ["TFNI"]}],
        [{**ROW, "sealed": "TFNI"}],
        [ROW] * 3000,
        [],
    ],
    ids=lambda answer: str(answer)[:60],
)
def test_a_server_that_answers_nonsense(member: Member, answer: Any) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Answering", (_Odd,), {"answer": answer}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    alice = member("alice", url=f"http://127.0.0.1:{server.server_port}")
    alice.file.write_bytes(b"A=1")
    try:
        alice.refused(".", alice.pull)
        alice.refused(".", alice.push, b"A=1")
        alice.refused(".", alice.team.differences, "prod", alice.file)
    finally:
        server.shutdown()
        server.server_close()


def _at_once(function: Callable[[int], object], count: int) -> list[object]:
    """What came of calling it in so many threads: results and errors."""
    results: list[object] = [None] * count
    gate = threading.Barrier(count)

    def call(number: int) -> None:
        gate.wait()
        try:
            results[number] = function(number)
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=call, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
