"""Names of jobs in Supabase: runs follow a rename there, whatever happens meanwhile."""

import contextlib
import random
import threading
import time
import uuid
from pathlib import Path

import pytest

from lsh_systemd.outbox import Outbox
from lsh_systemd.remote import RemoteAway
from lsh_systemd.run import Run
from tests.supabase.project import Host
from tests.supabase.troubled import Troubled


def test_a_job_that_is_renamed_takes_along_what_was_pruned_here(host: Host, line: Troubled, tmp_path: Path) -> None:
    """Told late, told twice, and with another job that has the old name since."""
    old, kept = _now_run(host, "a"), _now_run(host, "a")
    stranger = Host(host.stack, tmp_path / "other.db", name="host-2")
    theirs = _now_run(stranger, "a")
    outbox = Outbox(host.store)
    with host.store.transaction():
        outbox.add(rule="r", targets=1, event="failure", job="a", run_id=old.id, title="", body="",
                   now_usec=time.time_ns() // 1000)  # fmt: skip
    stranger.sync()
    host.sync()
    with host.store.transaction():
        host.store.drop([old.id])
    host.store.rename("a", "b")
    new = _now_run(host, "a")
    line.troubles = ["", "cut", "", ""]  # the host's row goes through; of the rename, nobody hears that it is done
    assert host.sync() == {"renames": 1, "runs": 2, "alerts": 1}
    assert _names(host) == {old.id: "b", kept.id: "b", new.id: "a"}
    assert host.there("job", "alerts") == "b"
    assert _names(stranger) == {theirs.id: "a"}
    assert host.sync() == {} and not host.unsent.is_waiting()


def test_many_rows_of_a_renamed_job_go_piece_by_piece(host: Host) -> None:
    host.fill(300)
    host.sync()
    with host.store.transaction():
        host.store.drop([run.id for run in host.store.runs(job="job-3")])
    host.store.rename("job-3", "later")
    host.stack.sql(f"UPDATE runs SET started_at = now() - interval '1 day' WHERE host = '{host.id}'")
    assert host.sync(batch=1)["renames"] == 1
    assert host.there("count(*) FILTER (WHERE job = 'later'), count(*) FILTER (WHERE job = 'job-3')") == "43|0"


@pytest.mark.parametrize("seed", range(3))
def test_names_follow_whatever_happens_meanwhile(host: Host, line: Troubled, seed: int) -> None:
    """Jobs are renamed, swap their names and are pruned here while their runs are sent over a line that fails."""
    draw, ids = random.Random(seed), "abcd"
    line.patience = 0.1
    names: dict[str, str] = {}  # of each run, as this host has named its job last
    stop = threading.Event()

    def send() -> None:
        mine = Host.of(host)
        while not stop.is_set():
            line.troubles = [draw.choice(["", "", "", "500", "cut"]) for _ in range(10)]
            with contextlib.suppress(RemoteAway):
                mine.sync(batch=2)

    thread = threading.Thread(target=send)
    thread.start()

    def settled() -> list[str]:
        waiting = {row[0] for row in host.store.query("SELECT id FROM sync_outbox")}
        return [run.id for run in host.store.runs() if run.id not in waiting]

    for number in range(60):
        before, after = draw.sample(ids, 2)
        what = "prune" if number % 12 == 11 else draw.choice(["run", "run", "run", "rename"])
        if what == "run":
            names[_now_run(host, before).id] = before
        elif what == "rename":
            host.store.rename(before, after)
            names = {run: after if name == before else name for run, name in names.items()}
        else:
            while not settled():
                assert thread.is_alive()
                time.sleep(0.05)
            with host.store.transaction():
                host.store.drop([run for run in settled() if draw.random() < 0.5])
    stop.set()
    thread.join()
    line.troubles = []
    host.sync()
    assert _names(host) == names
    assert len(host.store.runs()) < len(names)


def _now_run(host: Host, job: str) -> Run:
    """One that begins now: a rename is about what was before it."""
    began = time.time_ns() // 1000
    return host.run(job=job, started_usec=began, ended_usec=began, output=b"")


def _names(host: Host) -> dict[str, str]:
    told = (line.split("|") for line in host.there("id, job").splitlines())
    return {uuid.UUID(run).hex: job for run, job in told}
