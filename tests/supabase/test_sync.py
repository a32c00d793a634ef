"""The ledger → a real Supabase, over a line that fails in every way: nothing is lost, nothing is there twice."""

import contextlib
import json
import random
import signal
import socket
import threading
import tracemalloc
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from lsh_systemd.audit import Change
from lsh_systemd.job import Job
from lsh_systemd.mirrored import OUTPUT_BYTES, Row, job_row
from lsh_systemd.outbox import Outbox
from lsh_systemd.remote import Remote, RemoteAway, RemoteForbidden, RemoteOutdated, Target
from lsh_systemd.run import Run
from lsh_systemd.store import Store
from lsh_systemd.unsent import Progress
from tests.supabase.project import NOW, Host
from tests.supabase.stack import Stack
from tests.supabase.troubled import Troubled


def test_all_of_a_run_is_there(host: Host) -> None:
    """With what changed afterwards, and for a ledger that was there first."""
    host.unsent.turn_off()
    first = host.run(cpu_usec=12, memory_peak_bytes=4096, trigger="timer", trigger_usec=NOW, triggered_by="bob")
    going = host.run(1, result=None, ended_usec=None, duration_usec=None, exit_status=None, output=b"")
    host.turn_on()
    assert host.sync() == {"runs": 2}
    told = json.loads(host.there("json_agg(runs ORDER BY started_at)"))
    assert told[0]["id"] == str(uuid.UUID(first.id))
    expected = {
        "job": "job-1", "unit": "lsh-job-1.service", "scope": "system", "hostname": "host-1", "trigger": "timer",
        "triggered_by": "bob", "result": "success",
    }  # fmt: skip
    assert {name: told[0][name] for name in expected} == expected
    assert (told[0]["cpu_usec"], told[0]["memory_peak_bytes"], told[0]["metrics"]) == (12, 4096, {"rows": 3})
    assert told[0]["started_at"].startswith("2026-11-22T06:41:51") and told[1]["result"] is None
    assert host.sync() == {}
    host.put(replace(going, result="timeout", ended_usec=NOW + 9, message="too long", output=b"late"))
    assert host.sync() == {"runs": 1}
    host.check_all_there()
    # What is pruned here stays there, and a job that was renamed takes its runs along.
    with host.store.transaction():
        host.store.drop_output([first.id])
    host.store.rename("job-1", "job-2")
    assert host.sync() == {"renames": 1, "runs": 2}
    assert host.there("DISTINCT job") == "job-2" and host.there(table="run_output") == "2"


def test_jobs_alerts_and_changes_are_mirrored(host: Host) -> None:
    def row(job: Job) -> Row:
        return job_row(job, id="backup", host=host.id, scope="system", enabled=True, state="waiting", next_at=None)

    job = Job(name="Backup", command="tar", schedule=("0 2 * * *",), env={"TOKEN": "s3cret"}, stdin="s3cret")
    host.jobs = {"backup": row(job)}
    host.sync()
    assert json.loads(host.there("definition", "jobs")) == {
        "name": "Backup", "command": "tar", "schedule": ["0 2 * * *"], "env": {"TOKEN": "***"}, "stdin": "***"
    }  # fmt: skip
    assert host.sync() == {}
    host.jobs = {}
    assert host.sync() == {"jobs": 1}
    assert host.there("removed_at IS NOT NULL", "jobs") == "t"
    host.jobs = {"backup": row(replace(job, command="tar -c"))}
    host.sync()
    assert host.there("command, removed_at IS NULL", "jobs") == "tar -c|t"
    run = host.run()
    outbox = Outbox(host.store)
    with host.store.transaction():
        outbox.add(
            rule="ops", targets=1, event="failure", job="backup", run_id=run.id, title="t", body="b", now_usec=NOW
        )
        host.store.put_changes([
            Change(id=uuid.uuid4().hex, at_usec=NOW, job="", verb="limits", actor="bob", uid=1, via="cli",
                   difference='{"user": [null, "a\\u0000b"]}')
        ])  # fmt: skip
    assert host.sync() == {"runs": 1, "alerts": 1, "audit": 1}
    outbox.settle(outbox.history(0), "sent")
    assert host.sync() == {"alerts": 1}
    assert host.there("state, done_at IS NOT NULL", "alerts") == "sent|t"
    assert host.there("actor, job IS NULL, difference ->> 'user'", "audit") == 'bob|t|[null, "a\ufffdb"]'


@pytest.mark.parametrize("trouble", ["500", "429:1", "503", "committed", "cut"])
def test_a_line_that_fails_for_a_while(host: Host, line: Troubled, trouble: str) -> None:
    host.fill(1200)
    line.troubles = ["", trouble, "", trouble, "", trouble]
    host.sync()
    host.check_all_there()
    assert line.troubles == []


def test_nothing_is_lost_while_it_is_away(host: Host, line: Troubled, stack: Stack) -> None:
    """However often it is tried, with the ledger written to all the time, and what waits is taken in order."""
    host.fill(700)
    line.always = "503:3600"
    with pytest.raises(RemoteAway):
        host.sync()
    progress = host.unsent.progress()
    assert progress.tries == 1 and "503" in (progress.error or "")
    assert progress.next_usec - progress.ended_usec >= 3600e6
    line.always = None
    stack.stop("postgres")
    for _ in range(2):
        host.run(message="meanwhile")
        with pytest.raises(RemoteAway):
            host.sync()
    assert host.unsent.progress().tries == 3
    stack.start("postgres")
    host.sync()
    host.check_all_there()
    assert host.unsent.progress().tries == 0
    assert [each["error"] is None for each in host.unsent.history()] == [True, False, False, False]
    assert len(host.unsent.history(search="503")) == 1


def test_the_ledger_is_not_held_while_the_network_is_waited_for(host: Host, line: Troubled) -> None:
    host.fill(1000)
    line.always, line.patience = "committed", 3.0  # each request ends in its time-out
    outcome: list[Exception] = []

    def try_it() -> None:
        try:
            Host.of(host).sync()
        except RemoteAway as error:
            outcome.append(error)

    thread = threading.Thread(target=try_it)
    thread.start()
    host.store.query("PRAGMA busy_timeout = 0")  # whoever is kept waiting fails
    while thread.is_alive():
        host.run(message="meanwhile")
        thread.join(0.05)
    assert outcome
    line.always = None
    host.sync()
    host.check_all_there()


def test_what_changes_while_it_is_sent_is_sent_again(host: Host) -> None:
    run = host.run(result=None)
    page = host.unsent.page("runs", 0, 10)
    host.put(replace(run, message="newer"))
    host.unsent.settle([version for version, _, _ in page])
    assert host.unsent.waiting() == {"runs": 1}
    host.sync()
    host.check_all_there()


def test_a_late_request_does_not_reopen_a_run(host: Host) -> None:
    run = host.run()
    host.sync()
    remote = Remote(Target(url=host.stack.url, key=host.key))
    remote.upsert(
        "runs", [{"host": host.id, "id": run.id, "job": "job-1", "unit": "u", "result": None}], on_conflict="host,id"
    )
    assert host.there("result") == "success"


def test_poison_is_set_aside_and_all_others_go(host: Host, stack: Stack) -> None:
    host.fill(1000)
    odd = host.run(message="a\0b", output=b"\0\xff\xfe", metrics='{"a\\u0000": 1, "b\\ud800": 2}')
    long = host.run(output=b"x" * 10_000_000, output_bytes=10_000_000)
    packed = host.run(output=b"".join(b"%d\n" % number for number in range(1_500_000)))
    wrong = host.run(exit_status=2**40)
    nameless = host.run(id="not-a-run")
    host.sync()
    refused = {each.id: each.reason for each in host.unsent.refused()}
    assert refused.keys() == {wrong.id, nameless.id}
    assert "out of range" in refused[wrong.id]
    assert host.there() == "1003" and host.unsent.waiting() == {}
    told = host.stack.sql(f"SELECT message, metrics FROM runs WHERE id = '{odd.id}'")
    assert told.startswith("a\ufffdb") and '"a\ufffd": 1' in told
    for run in (long, packed):
        size, left_out = host.stack.sql(
            f"SELECT octet_length(output), output LIKE '%bytes left out%' FROM run_output WHERE run = '{run.id}'"
        ).split("|")
        assert OUTPUT_BYTES <= int(size) < OUTPUT_BYTES + 100 and left_out == "t"
    # It stays aside until somebody asks, or it changes.
    assert host.sync() == {}
    assert host.unsent.retry() == 2
    host.put(replace(wrong, exit_status=3))
    assert host.sync() == {"runs": 1}
    assert [each.id for each in host.unsent.refused()] == [nameless.id]


def test_what_the_server_chokes_on_holds_up_nothing_else(host: Host, line: Troubled) -> None:
    """It answers with an error of its own each time: nobody can tell that from one that will pass."""
    bad = host.run(message="choke")
    host.fill(5)
    line.chokes_on = b"choke"
    host.unsent.set_progress(Progress(tries=9))  # by then batches are of one row
    for _ in range(2):
        with pytest.raises(RemoteAway):
            host.sync()
    assert host.there() == "5"
    line.chokes_on = None
    host.sync()
    host.check_all_there()
    assert host.there("count(*)", f"(SELECT * FROM runs WHERE id = '{bad.id}') AS runs") == "1"


def test_requests_and_memory_stay_small(host: Host, line: Troubled) -> None:
    """However much waits, and however long the outputs are."""
    draw = random.Random(1)
    runs = [
        Run(id=uuid.uuid4().hex, job="long", unit="u", result="success", started_usec=NOW + number,
            output=draw.randbytes(30_000).hex().encode(), output_bytes=60_000)
        for number in range(400)
    ]  # fmt: skip
    host.put(*runs)
    total = sum(run.output_bytes for run in runs)
    host.sync()  # (what is imported and kept the first time is no matter here)
    with host.store.transaction():
        host.store.query("UPDATE runs SET message = 'anew'")
    del runs
    host.url = host.stack.url  # without the line, whose copies would count
    tracemalloc.start()
    host.sync()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    host.check_all_there()
    assert line.largest < 2_000_000 and total > 20_000_000
    assert peak < total / 3, f"{peak / 2**20:.0f} MiB"


def test_a_schema_that_is_behind_or_ahead(host: Host, stack: Stack) -> None:
    host.run()
    stack.sql("DELETE FROM lsh_schema WHERE version >= '20261122000200'")
    with pytest.raises(RemoteOutdated) as caught:
        host.sync()
    assert "migrate" in (caught.value.hint or "")
    assert host.there() == "0" and host.unsent.waiting() == {"runs": 1}
    stack.sql("INSERT INTO lsh_schema (version) VALUES ('20261122000200'), ('20991231000000')")
    host.sync()
    host.check_all_there()


def test_a_key_that_was_revoked(host: Host, stack: Stack) -> None:
    host.run()
    host.key, good = "sb_secret_gone", host.key
    with pytest.raises(RemoteForbidden):
        host.sync()
    assert "sb_secret_gone" not in (host.unsent.progress().error or "")
    host.key = good
    host.sync()
    host.check_all_there()


def test_another_project_gets_all_and_a_restored_ledger_tells_nothing_twice(host: Host, stack: Stack) -> None:
    host.fill(3)
    host.sync()
    host.url = stack.url
    host.turn_on()
    assert host.unsent.waiting() == {"runs": 3}
    host.id = str(uuid.uuid4())
    host.turn_on()
    assert host.unsent.waiting() == {}
    host.run()
    assert host.sync() == {"runs": 1}


def test_a_line_that_is_cut_while_we_write() -> None:
    """Which would be a signal, in a process that ends by SIGPIPE, as lshctl's commands do."""
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    server.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        remote = Remote(Target(url=url, key="sb_secret_x"), timeout_seconds=5)
        with pytest.raises(RemoteAway):
            remote.upsert("runs", [{"id": "x" * 100, "job": "y" * 5_000_000}], on_conflict="id")
        remote.close()
        server.shutdown(socket.SHUT_RDWR)
    assert signal.signal(signal.SIGPIPE, before) is signal.SIG_DFL


def test_a_job_that_went_with_the_ledger_is_marked_as_well(host: Host) -> None:
    """The ledger was made anew (damage): it knows no more which jobs have been sent."""
    rows = [job_row(Job(name=each, command="true"), id=each, host=host.id, scope="system") for each in ("a", "b")]
    host.jobs = {row["id"]: row for row in rows}
    host.sync()
    host.unsent.turn_off()
    host.turn_on()
    del host.jobs["b"]
    host.sync()
    assert host.there("id, removed_at IS NULL", "jobs").splitlines() == ["a|t", "b|f"]


def test_nothing_is_noted_where_nothing_is_set(tmp_path: Path) -> None:
    store = Store(tmp_path / "lsh.db")
    with store.transaction():
        store.put([Run(id="a" * 32, job="a", unit="u", result="success")])
    assert store.query("SELECT count(*) FROM sync_outbox") == [(0,)]
