"""Every run, however it began and ended, is on record once, with what is true of it."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from lsh_systemd.run import RECORD
from tests.system.lsh import Lsh, seconds
from tests.system.machine import Machine, eventually

# Command → how its run ends: result, exit status, signal.
ENDINGS = {
    "true": ("success", 0, None),
    "exit 3": ("exit-code", 3, None),
    "kill -KILL $$": ("signal", None, "KILL"),
    "kill -TERM $$": ("signal", None, "TERM"),
    "ulimit -c 0; kill -SEGV $$": ("signal", None, "SEGV"),
    "exit 255": ("exit-code", 255, None),
}


@pytest.fixture(scope="module", params=["agent-off", "agent-on"])
def agent(machine: Machine, request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether agents collect the runs, root's and bob's, or lshctl does so as it looks at them."""
    both = [Lsh(machine, scope) for scope in ("system", "user")]
    on = request.param == "agent-on"
    for lsh in both:
        if on:
            lsh("agent", "enable")
        assert lsh("agent", "status", "--json").json() == {"state": "active" if on else "inactive"}
    yield on
    for lsh in both:
        if on:
            lsh("agent", "disable")


def records(lsh: Lsh, job: str) -> list[str]:
    """The ids in the records that the job's runs have left in the journal."""
    uid = "0" if lsh.user == "root" else lsh.machine.run("id", "--user", lsh.user).stdout.strip()
    found = lsh.machine.journal(f"MESSAGE_ID={RECORD}", f"LSH_UNIT=lsh-{job}.service", f"_UID={uid}")
    return [entry["LSH_INVOCATION_ID"] for entry in found]


def check_times(run: dict[str, Any], *, since: float, at_least: float = 0) -> None:
    """The run's times lie between the test's own, in their order, and tell its duration."""
    started, ended = seconds(run["started_at"]), seconds(run["ended_at"])
    assert since - 0.001 <= started <= ended <= time.time()
    # systemd counts from before its "starting" is logged
    assert at_least - 0.1 <= run["duration_seconds"] == pytest.approx(ended - started, abs=0.05)


@pytest.mark.usefixtures("agent")
def test_every_ending_is_told_as_it_was(lsh: Lsh) -> None:
    host = lsh.machine.run("hostname").stdout.strip()
    for command, (result, exit_status, signal) in ENDINGS.items():
        since, job = time.time(), lsh.add("--", command)
        told = lsh.run(job, check=False)
        invocation = lsh.show(f"lsh-{job}.service", "InvocationID", "Result")
        (run,) = lsh.ended(job)
        assert run == told
        assert (run["result"], run["exit_status"], run["signal"]) == (result, exit_status, signal), command
        assert (run["id"], run["job"], run["host"]) == (invocation["InvocationID"] or run["id"], job, host)
        assert (run["trigger"], run["attempt"]) == ("manual", 1)
        assert run["cpu_seconds"] is None or 0 < run["cpu_seconds"] < 5
        check_times(run, since=since)
        assert records(lsh, job) == [run["id"]]


@pytest.mark.usefixtures("agent")
def test_runs_that_systemd_ends(lsh: Lsh) -> None:
    """Timed out; stopped; its folder missing, where the record cannot be written either: systemd's messages tell."""
    since, late = time.time(), lsh.add("--timeout", "1s", "--", "sleep 60")
    missing = lsh.add("--working-dir", "/nonexistent", "--", "true")
    stopped = lsh.add("--", "sleep 60")
    lsh("start", late)
    lsh("start", stopped)
    lsh("stop", stopped)
    run = lsh.run(missing, check=False)
    assert (run["result"], run["exit_status"]) == ("exit-code", 200)  # EXIT_CHDIR of systemd.exec(5)
    (run,) = lsh.ended(stopped)
    assert (run["result"], run["signal"]) == ("signal", "TERM")
    (run,) = lsh.ended(late)
    assert (run["result"], run["signal"]) == ("timeout", "TERM")
    check_times(run, since=since, at_least=1)
    assert [len(records(lsh, job)) for job in (late, stopped, missing)] == [1, 1, 0]
    assert [len(lsh.runs(job)) for job in (late, stopped, missing)] == [1, 1, 1]


@pytest.mark.usefixtures("agent")
def test_what_systemd_alone_can_tell(lsh: Lsh) -> None:
    """Without its EnvironmentFile= not even the record can be written: systemd's own message is taken."""
    since, job = time.time(), lsh.add("--env-file", "/nonexistent", "--", "true")
    run = lsh.run(job, check=False)
    assert (run["result"], run["exit_status"], run["trigger"]) == ("resources", None, "manual")
    lsh.systemctl("start", f"lsh-{job}.service", check=False)
    first, second = lsh.ended(job, 2)
    assert first == run
    assert (second["result"], second["trigger"]) == ("resources", "manual")
    check_times(second, since=since)
    assert records(lsh, job) == []


@pytest.mark.usefixtures("agent")
def test_a_timer_s_runs_are_all_there_once(lsh: Lsh) -> None:
    since, job = time.time(), lsh.add("--every", "1s", "--", "echo tick")
    lsh.ended(job, 3)
    lsh("disable", job)
    runs = lsh.runs(job)
    eventually(lambda: lsh.show(f"lsh-{job}.service", "ActiveState")["ActiveState"] == "inactive")
    runs = lsh.ended(job, len(runs))
    assert [run["id"] for run in runs] == records(lsh, job)
    assert len({run["id"] for run in runs}) == len(runs) >= 3
    assert {(run["trigger"], run["result"], run["output"]) for run in runs} == {("timer", "success", "tick\n")}
    starts = [seconds(run["started_at"]) for run in runs]
    assert starts == sorted(starts)
    assert starts[0] >= since + 1
    for run in runs:
        check_times(run, since=since)


@pytest.mark.usefixtures("agent")
def test_a_trigger_is_what_it_was(lsh: Lsh) -> None:
    """A start by hand keeps the old trigger in its environment: it is told from the timer's all the same."""
    job = lsh.add("--at", "+2s", "--", "true")
    (by_timer,) = lsh.ended(job)
    due = seconds(by_timer["started_at"])
    lsh.run(job)
    eventually(lambda: time.time() > due + 2.5)  # farther from the instant than a timer is ever late
    lsh.systemctl("start", f"lsh-{job}.service")
    assert [run["trigger"] for run in lsh.ended(job, 3)] == ["timer", "manual", "manual"]


@pytest.mark.usefixtures("agent")
def test_a_run_in_progress_is_running(lsh: Lsh) -> None:
    since, job = time.time(), lsh.add("--", "echo begun; sleep 60")
    started = lsh("start", job, "--json").json()
    (run,) = eventually(lambda: lsh.runs(job))
    assert (run["id"], run["job"]) == (started["id"], job)
    unknown = ("ended_at", "duration_seconds", "result", "exit_status", "signal", "cpu_seconds")
    assert [run[key] for key in unknown] == [None] * len(unknown)
    assert since <= seconds(run["started_at"]) <= time.time()
    assert lsh.json("show", job)["state"] == "running"
    assert "running" in lsh("runs", job).stdout
    assert lsh("start", job).stdout == f"{job}: runs already, run {started['id']}.\n"
    lsh("stop", job)
    (run,) = lsh.ended(job)
    assert run["id"] == started["id"]


def test_an_agent_collects_by_itself(machine: Machine, agent: bool, scope: str) -> None:
    """With the agent on, a run is in the ledger without anybody's looking; with it off, the journal keeps it."""
    lsh = Lsh(machine, scope)
    job = lsh.add("--", "true")
    lsh.systemctl("start", f"lsh-{job}.service")
    store = "/var/lib/lsh/lsh.db" if scope == "system" else "/home/bob/.local/state/lsh/lsh.db"
    count = (
        "import sqlite3, sys; db = sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True); "
        "print(db.execute('SELECT count(*) FROM runs WHERE job = ?', sys.argv[2:]).fetchone()[0])"
    )

    def collected() -> bool:
        return machine.run("python3", "-c", count, store, job, user=lsh.user, check=False).stdout == "1\n"

    if agent:
        eventually(collected)
    else:
        assert not collected()
    assert len(lsh.ended(job)) == 1
    assert collected()
    lsh.clean()
