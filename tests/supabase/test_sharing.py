"""Claims and the queue: what PostgreSQL promises to many who ask at once, some of whom die.

LSH_FLEET (1) multiplies the number of queued runs: 10 makes ten thousand.
"""

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lsh_systemd.remote import Remote, RemoteError, RemoteForbidden, Target
from tests.supabase.project import migrated
from tests.supabase.stack import PROJECT, Stack

TIMES = int(os.environ.get("LSH_FLEET", "1"))
PER_USER, TOTAL = 2, 12


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """One with the tables, which are filled here."""
    with migrated() as stack:
        yield stack


@pytest.fixture
def remote(stack: Stack) -> Iterator[Remote]:
    yield _remote(stack)
    stack.sql("TRUNCATE public.queued_runs, public.queued_attempts, public.settings, public.fleet_claims")


def _remote(stack: Stack) -> Remote:
    return Remote(Target(url=stack.url, key=stack.secret_key), timeout_seconds=30)


def _add(remote: Remote, job: str = "job", **more: Any) -> int:
    added = remote.rpc("lsh_queue_add", {"p_nonce": str(uuid.uuid4()), "p_job": job, **more})
    return int(added["id"])


class Host:
    """A host that works on the queue by hand."""

    def __init__(self, remote: Remote, name: str = "a", *, lease: float = 60) -> None:
        self.remote, self.name, self.id, self.lease = remote, name, str(uuid.uuid4()), lease

    def step(self, slots: int = 10, *, running: Any = (), ended: Any = (), **more: Any) -> dict[str, Any]:
        request = {
            "p_host": self.id, "p_name": self.name, "p_scope": "system", "p_slots": slots, "p_offers": {"job": 100},
            "p_running": list(running), "p_lease_seconds": self.lease, **more,
            "p_ended": [{"token": token, "result": result, "exit_status": 0} for token, result in ended],
        }  # fmt: skip
        answer: dict[str, Any] = self.remote.rpc("lsh_queue_step", request)
        return answer

    def taken(self, **more: Any) -> list[int]:
        return [row["id"] for row in self.step(**more)["run"]]


def _states(stack: Stack) -> dict[int, str]:
    rows = stack.sql("SELECT id, state FROM public.queued_runs").splitlines()
    return {int(number): state for number, state in (row.split("|") for row in rows)}


def test_of_many_hosts_one_wins_each_instant(stack: Stack, remote: Remote) -> None:
    hosts = [(_remote(stack), str(uuid.uuid4())) for _ in range(8)]
    noon = datetime.now(UTC).replace(microsecond=0)
    last = 0
    with ThreadPoolExecutor(len(hosts)) as pool:
        for minute in range(40):
            instant = (noon - timedelta(minutes=40 - minute)).isoformat()

            def claim(asker: tuple[Remote, str], instant: str = instant) -> tuple[dict[str, Any], dict[str, Any]]:
                request = {"p_host": asker[1], "p_name": asker[1], "p_scope": "system", "p_job": "nightly"}
                request |= {"p_instant": instant, "p_claimant": str(uuid.uuid4())}
                # who has got no answer asks again, and is told the same
                return asker[0].rpc("lsh_fleet_claim", request), asker[0].rpc("lsh_fleet_claim", request)

            answers = list(pool.map(claim, hosts))
            assert all(first == again for first, again in answers)
            won = [first for first, _ in answers if first["won"]]
            assert len(won) == 1
            assert won[0]["token"] > last  # fencing tokens grow
            last = won[0]["token"]
            assert all(first["won"] or "makes the run of" in first["reason"] for first, _ in answers)


def test_claims_far_from_now_are_refused(remote: Remote) -> None:
    """A host whose clock is wrong takes no other's run."""
    request = {"p_host": str(uuid.uuid4()), "p_name": "a", "p_scope": "system", "p_job": "x"}
    for away, word in ((timedelta(minutes=2), "ahead"), (timedelta(days=-61), "60 days")):
        instant = (datetime.now(UTC) + away).isoformat()
        answer = remote.rpc("lsh_fleet_claim", request | {"p_instant": instant, "p_claimant": str(uuid.uuid4())})
        assert not answer["won"]
        assert word in answer["reason"]


def test_the_order_and_whom_a_run_is_for(stack: Stack, remote: Remote) -> None:
    host = Host(remote)
    low, high, later = _add(remote, p_priority=1), _add(remote, p_priority=9), _add(remote, p_user="b")
    elsewhere, tagged = _add(remote, p_host="z", p_user="c"), _add(remote, p_tags=["gpu"], p_user="c")
    not_offered, future = _add(remote, "other", p_user="d"), _add(remote, p_run_at="2099-01-01", p_user="d")
    theirs = _add(remote, p_scope="user:bob", p_user="d")
    assert host.taken() == [high, later, low]
    assert host.taken(slots=0) == [high, later, low]  # no answer came: they are told again
    assert Host(remote, "z").taken() == [elsewhere]
    assert Host(remote).taken(p_tags=["gpu", "disk"]) == [tagged]
    assert Host(remote).taken() == []
    assert Host(remote).taken(p_scope="user:bob") == [theirs]
    states = _states(stack)
    assert {states[not_offered], states[future]} == {"queued"}


def test_no_more_than_the_limits_and_what_a_host_has_room_for(remote: Remote) -> None:
    for user in ("a", "a", "a", "b", "b", "b"):
        _add(remote, p_user=user)
    host = Host(remote)
    assert len(host.taken(p_offers={"job": 1})) == 1
    first = host.step(slots=0)["run"][0]
    assert len(Host(remote).taken(p_offers={"job": 100, "other": 3})) == 3  # two of each user, with the first
    assert Host(remote).taken() == []
    remote.rpc("lsh_queue_set_limits", {"p_limits": {"user": 3, "global": 5}, "p_by": "me"})
    assert len(Host(remote).taken()) == 1
    host.step(slots=0, ended=[(first["token"], "success")])
    assert len(Host(remote).taken()) == 1
    remote.rpc("lsh_queue_set_limits", {"p_limits": {"user": None, "global": None}, "p_by": "me"})
    for _ in range(4):
        _add(remote, p_user="a")
    assert len(Host(remote).taken()) == 4


def test_ends_retries_and_hosts_that_are_late(stack: Stack, remote: Remote) -> None:
    once, again = _add(remote), _add(remote, p_retries=1)
    host, other = Host(remote), Host(remote, "b")
    tokens = {row["id"]: row["token"] for row in host.step()["run"]}
    stack.sql("UPDATE public.queued_runs SET lease_until = now() - interval '1 second'")
    assert other.taken() == []  # it is released now, and tried again in a second
    assert _states(stack) == {once: "lost", again: "queued"}
    stack.sql("UPDATE public.queued_runs SET run_at = now()")
    (row,) = other.step()["run"]
    assert (row["id"], row["attempt"]) == (again, 2)
    assert row["token"] > max(tokens.values())
    # the first host was cut off: what it has to tell comes too late
    assert set(host.step(running=tokens.values())["gone"]) == set(tokens.values())
    host.step(ended=[(token, "success") for token in tokens.values()])
    assert _states(stack) == {once: "lost", again: "running"}
    other.step(ended=[(row["token"], "exit-code")], slots=0)
    assert _states(stack)[again] == "failed"
    attempts = stack.sql(f"SELECT result FROM public.queued_attempts WHERE queued_run = {again} ORDER BY token")
    assert attempts.splitlines() == ["lost", "exit-code"]


def test_given_back_is_no_attempt(stack: Stack, remote: Remote) -> None:
    number = _add(remote)
    host = Host(remote)
    (row,) = host.step()["run"]
    host.step(ended=[(row["token"], "released")], slots=0)
    stack.sql("UPDATE public.queued_runs SET run_at = now()")
    (row,) = host.step()["run"]
    assert (row["id"], row["attempt"]) == (number, 1)


def test_cancel(stack: Stack, remote: Remote) -> None:
    host = Host(remote)
    waiting, running = _add(remote, p_run_at="2099-01-01"), _add(remote, p_retries=3)
    (row,) = host.step()["run"]
    words = [remote.rpc("lsh_queue_cancel", {"p_id": each}) for each in (waiting, running, 10**9)]
    assert words == ["cancelled", "cancelling", None]
    assert host.step(running=[row["token"]])["cancel"] == [row["token"]]
    host.step(ended=[(row["token"], "signal")], slots=0)
    assert _states(stack) == {waiting: "cancelled", running: "cancelled"}
    assert remote.rpc("lsh_queue_cancel", {"p_id": running}) == "cancelled"


def test_added_once(remote: Remote) -> None:
    request = {"p_nonce": str(uuid.uuid4()), "p_job": "job", "p_key": "backup/monday"}
    first = remote.rpc("lsh_queue_add", request)
    assert first["added"]
    assert remote.rpc("lsh_queue_add", request) == first
    assert remote.rpc("lsh_queue_add", request | {"p_nonce": str(uuid.uuid4())}) == first | {"added": False}


def test_who_may(stack: Stack, remote: Remote) -> None:
    _add(remote)
    for key in (stack.anon_key, stack.publishable_key):
        stranger = Remote(Target(url=stack.url, key=key))
        with pytest.raises(RemoteForbidden):
            _add(stranger)
        with pytest.raises(RemoteForbidden):
            Host(stranger).step()
        with pytest.raises(RemoteForbidden):
            list(stranger.select("queued_runs"))
    claims = '{"role": "authenticated", "app_metadata": {"lsh_tenant": "%s"}}'
    count = "SET request.jwt.claims = '" + claims + "'; SELECT count(*) FROM public.queued_runs;"
    assert [stack.sql(count % tenant, role="authenticated") for tenant in ("default", "other")] == ["1", "0"]
    with pytest.raises(RuntimeError, match="permission denied"):
        stack.sql("SELECT public.lsh_queue_cancel(1)", role="authenticated")
    for wrong in ({"p_priority": 11}, {"p_params": "text"}, {"p_retries": -1}):
        with pytest.raises(RemoteError):
            _add(remote, **wrong)
    uncommented = """
        SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relname IN ('fleet_claims', 'queued_runs', 'queued_attempts') AND a.attnum > 0
        AND col_description(c.oid, a.attnum) IS NULL"""
    assert stack.sql(uncommented) == ""


class Workers:
    """Processes that are hosts. Each dies now and then; some come back as they were, some never."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack, self.folder = stack, folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.deaths = 0

    def start(self, host: str) -> None:
        command = [sys.executable, "-m", "tests.supabase.fleet_worker", self.stack.url, host, f"{self.folder}/{host}"]
        environment = {**os.environ, "SUPABASE_KEY": self.stack.secret_key}
        self.running[host] = subprocess.Popen([*command, "8", "2"], cwd=PROJECT, env=environment)

    def kill_one(self) -> None:
        host = random.choice(list(self.running))
        self.end(host)
        self.deaths += 1
        self.start(host if random.random() < 0.5 else str(uuid.uuid4()))

    def end(self, host: str) -> None:
        process = self.running.pop(host)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def truth(self) -> list[list[str]]:
        """The lines of all; one that a death has cut off is none."""
        files = [path.read_text() for path in self.folder.iterdir()]
        return [line.split() for text in files for line in text.split("\n")[:-1]]


def most_at_once(spans: list[tuple[float, float]]) -> int:
    steps = sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans])
    now = most = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


def test_each_run_once_while_hosts_die(stack: Stack, remote: Remote, tmp_path: Path) -> None:
    count, users = 1000 * TIMES, 30
    remote.rpc("lsh_queue_set_limits", {"p_limits": {"user": PER_USER, "global": TOTAL}, "p_by": "me"})
    stack.sql(f"""
        INSERT INTO public.queued_runs (nonce, job, user_name, priority, retries)
        SELECT gen_random_uuid(), 'job', 'user' || n % {users}, n % 11, CASE n % 2 WHEN 0 THEN 0 ELSE 20 END
        FROM generate_series(1, {count}) AS n""")
    workers = Workers(stack, tmp_path)
    try:
        for _ in range(5):
            workers.start(str(uuid.uuid4()))
        left = "SELECT count(*) FROM public.queued_runs WHERE state IN ('queued', 'running')"
        until = time.monotonic() + 120 * TIMES
        while stack.sql(left) != "0":
            assert time.monotonic() < until
            time.sleep(random.uniform(0.2, 1.2))
            workers.kill_one()
        truth = workers.truth()
    finally:
        for host in list(workers.running):
            workers.end(host)
    rows = stack.sql("SELECT id, user_name, retries, state, token FROM public.queued_runs").splitlines()
    assert len(rows) == count
    attempts = defaultdict(list)
    spans_of: dict[str, list[tuple[float, float]]] = defaultdict(list)
    queried = """
        SELECT a.queued_run, a.token, a.result, q.user_name,
            extract(epoch FROM a.claimed_at), extract(epoch FROM a.ended_at)
        FROM public.queued_attempts a JOIN public.queued_runs q ON q.id = a.queued_run ORDER BY a.token"""
    for number, token, result, user, claimed, ended in (line.split("|") for line in stack.sql(queried).splitlines()):
        attempts[number].append((token, result))
        spans_of[user].append((float(claimed), float(ended)))
    began = Counter(line[1] for line in truth if line[0] == "begin")
    ended_tokens = Counter(line[1] for line in truth if line[0] == "end")
    assert max(began.values()) == max(ended_tokens.values()) == 1  # no attempt is made twice
    told = Counter[str]()
    for number, _, retries, state, token in (row.split("|") for row in rows):
        told[state] += 1
        *before, last = attempts[number]
        assert last[0] == token
        assert {result for _, result in before} <= {"lost"}  # tried again only where its host had died
        assert len(before) <= int(retries)
        assert (state, last[1]) in (("succeeded", "success"), ("lost", "lost"))
        assert state == "succeeded" or retries == "0"
        assert (ended_tokens[token] == 1) or state == "lost"
    assert told["succeeded"] > count / 2
    assert {user: most_at_once(spans) for user, spans in spans_of.items() if most_at_once(spans) > PER_USER} == {}
    assert most_at_once([span for spans in spans_of.values() for span in spans]) <= TOTAL
    print(f"{count} runs, {workers.deaths} deaths, {dict(told)}, {sum(map(len, attempts.values()))} attempts")
