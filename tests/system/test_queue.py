"""Overlap, caps and the queue: what happens when a job is due while it, or too much else, runs."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.system.lsh import Lsh, seconds
from tests.system.machine import Machine, eventually


def overlaps(runs: list[dict[str, Any]]) -> int:
    """The most runs that were going on at the same moment."""
    began = [(seconds(run["started_at"]), 1) for run in runs]
    ended = [(seconds(run["ended_at"]), -1) for run in runs]
    most = now = 0
    for _, step in sorted(began + ended, key=lambda each: (each[0], each[1])):
        now += step
        most = max(most, now)
    return most


@pytest.fixture
def unlimited(lsh: Lsh) -> Any:
    yield lsh
    lsh("limits", "set", "--global", "none", "--user", "none", "--group", "db=none")


def test_a_time_that_comes_while_the_run_before_goes_on_is_skipped(lsh: Lsh) -> None:
    job = lsh.add("--calendar", "*:*:*", "--overlap", "skip", "--", "sleep 2.75")
    eventually(lambda: sum(run["result"] == "success" for run in lsh.runs(job)) >= 2, timeout=20)
    lsh("disable", job)
    runs = [run for run in lsh.runs(job) if run["result"]]
    skipped = [run for run in runs if run["result"] == "skipped"]
    made = [run for run in runs if run["result"] == "success"]
    assert len(skipped) >= 3
    assert {run["reason"] for run in skipped} == {"the run before still went on"}
    assert {run["trigger"] for run in runs} == {"timer"}
    assert overlaps(made) == 1
    for run in made[1:]:  # never the one that systemd has remembered: that would begin as the one before ends
        assert seconds(run["started_at"]) % 1 < 0.75


def test_a_run_is_replaced_by_the_next(lsh: Lsh) -> None:
    job = lsh.add("--calendar", "*:*:0/2", "--overlap", "replace", "--", "trap 'exit 7' TERM; sleep 30 & wait")
    runs = lsh.ended(job, 2, timeout=20)
    lsh("disable", job)
    lsh("stop", job)
    ended = [run for run in runs if run["result"]]
    assert [run["trigger"] for run in ended[:2]] == ["timer", "timer"]
    for run in ended[:2]:
        assert run["duration_seconds"] == pytest.approx(2, abs=0.7)


def test_no_more_than_the_cap_and_none_is_lost(unlimited: Lsh) -> None:
    lsh = unlimited
    lsh("limits", "set", "--group", "db=2")
    jobs = [lsh.add("--group", "db", "--", "sleep 0.5") for _ in range(8)]
    free = lsh.add("--", "true")
    for job in jobs:
        assert "in the queue" in lsh("start", job).stdout
    assert lsh.run(free)["result"] == "success"  # no cap, no waiting
    told = [lsh.ended(job) for job in jobs]
    runs = [run for each in told for run in each]
    assert len(runs) == len(jobs)
    assert {run["result"] for run in runs} == {"success"}
    assert overlaps(runs) == 2
    assert {run["trigger"] for run in runs} <= {"manual", "queue"}
    assert lsh.json("queue") == []


def test_the_queue_goes_by_priority_and_age_and_can_be_changed(unlimited: Lsh) -> None:
    lsh = unlimited
    lsh("limits", "set", "--global", "1")
    first = lsh.add("--", "sleep 300")
    low, high, normal, gone, last = (
        lsh.add("--priority", priority, "--", "true") for priority in ("2", "8", "5", "5", "0")
    )
    lsh("start", first)
    eventually(lambda: [row["job"] for row in lsh.json("queue")] == [first])
    for job in (low, high, normal, gone, last):
        lsh("start", job)
    rows = lsh.json("queue")
    assert [(row["job"], row["state"]) for row in rows] == [
        (first, "running"), *((job, "waiting") for job in (high, normal, gone, low, last)),
    ]  # fmt: skip
    assert {row["waits_for"] for row in rows[1:]} == {"global"}
    lsh("queue", "remove", gone)
    lsh("queue", "promote", last)
    lsh.told_off("queue", "promote", gone)
    lsh("stop", first)
    began = {job: seconds(lsh.ended(job)[0]["started_at"]) for job in (high, normal, low, last)}
    assert sorted(began, key=lambda job: began[job]) == [last, high, normal, low]
    (run,) = lsh.runs(low)
    assert run["trigger"] == "queue"
    assert lsh.json("report", low)["wait_mean"] == pytest.approx(began[low] - seconds(run["due_at"]), abs=1e-3)
    assert lsh.runs(gone) == []


def test_timers_of_capped_jobs_wait_too(unlimited: Lsh) -> None:
    lsh = unlimited
    lsh("limits", "set", "--global", "1")
    jobs = [lsh.add("--calendar", "*:*:0/4", "--", "sleep 1.2") for _ in range(3)]
    eventually(lambda: all(len([run for run in lsh.runs(job) if run["result"]]) >= 2 for job in jobs), timeout=30)
    for job in jobs:
        lsh("disable", job)
    runs = [run for job in jobs for run in lsh.runs(job) if run["result"]]
    assert {run["trigger"] for run in runs} <= {"queue", "timer"}
    assert overlaps(runs) == 1
    lsh("limits", "set", "--global", "none")
    assert "Unit=" not in lsh.read(f"lsh-{jobs[0]}.timer")


# Ends the dispatcher whenever it has noted a start; frozen first, so that the run it may have asked for has ended and
# is forgotten by systemd before the next dispatcher looks.
_DEATHS = """
import os, pathlib, signal, subprocess, sys, time
queue, *systemctl = pathlib.Path(sys.argv[1]), "systemctl", sys.argv[2]
seen = set()
def waiting():
    return {path.name: path for path in queue.iterdir() if path.name[0] != "."}
def noted(path):
    try:
        return b"starting=" in path.read_bytes()
    except FileNotFoundError:
        return False
while waiting():
    asked = subprocess.check_output([*systemctl, "show", "--value", "--property=MainPID", "lsh-queue.service"])
    new = []
    while int(asked) and os.path.exists(f"/proc/{int(asked)}") and waiting() and not new:
        new = [name for name, path in waiting().items() if name not in seen and noted(path)]
    if new:
        time.sleep(len(seen) % 3 * 0.002)
        os.kill(int(asked), signal.SIGSTOP)
        time.sleep(0.3)
        os.kill(int(asked), signal.SIGKILL)
        seen.update(new)
print(len(seen))
"""


def test_what_waits_outlives_the_dispatcher(unlimited: Lsh) -> None:
    """Each job is started, and once, wherever its dispatcher dies."""
    lsh = unlimited
    lsh("limits", "set", "--group", "db=1")
    jobs = [lsh.add("--group", "db", "--", "true") for _ in range(6)]
    lsh.systemctl("stop", "lsh-queue.path")  # until the one that ends it looks
    for job in jobs:
        lsh("start", job)
    lsh.systemctl("start", "lsh-queue.path")
    queue = "/var/lib/lsh/queue" if lsh.scope == "system" else "/home/bob/.local/state/lsh/queue"
    deaths = lsh.machine.run("python3", "-c", _DEATHS, queue, f"--{lsh.scope}", user=lsh.user, timeout=60).stdout
    assert int(deaths) >= 3
    assert lsh.run(lsh.add("--", "true"))["result"] == "success"  # its record is the last to be written
    assert {job: len(lsh.runs(job)) for job in jobs} == dict.fromkeys(jobs, 1)
    assert overlaps([run for job in jobs for run in lsh.runs(job)]) == 1


@pytest.mark.parametrize(
    "argv",
    [
        ("limits", "set"),
        ("limits", "set", "--global", "0"),
        ("limits", "set", "--global", "many"),
        ("limits", "set", "--group", "db"),
        ("limits", "set", "--group", "=1"),
        ("add", "x", "--overlap", "sometimes", "--schedule", "@daily", "--", "true"),
        ("add", "x", "--overlap", "skip", "--", "true"),
        ("add", "x", "--group", "a=b", "--", "true"),
        ("queue", "remove", "nosuchjob"),
    ],
)
def test_refused(lsh: Lsh, argv: tuple[str, ...]) -> None:
    lsh.refused(*argv, status=2)


def test_a_stuck_run_is_shown_told_and_ended(lsh: Lsh) -> None:
    job = lsh.add("--stuck-after", "2s", "--", "sleep 300")
    other = lsh.add("--", "sleep 300")
    lsh("agent", "enable")
    try:
        lsh("start", job)
        lsh("start", other)
        assert {each["state"] for each in lsh.json("list")} == {"running"}
        assert eventually(lambda: lsh.json("show", job)["state"] == "stuck")
        eventually(lambda: f"{job} is stuck: it has run for" in lsh.machine.journal_text())
        assert lsh("reset-stuck", "--dry-run").stdout.startswith(f"Would end {job}, ")
        assert lsh("reset-stuck").stdout.startswith(f"{job}: ended after ")
        assert lsh.ended(job)[0]["signal"] == "TERM"
        assert lsh.json("show", other)["state"] == "running"
        assert lsh("reset-stuck").stdout == "No run is stuck.\n"
        assert lsh("reset-stuck", "--older-than", "1s").stdout.startswith(f"{other}: ended after ")
        warnings = [line for line in lsh.machine.journal_text().splitlines() if f"{job} is stuck" in line]
        assert len(warnings) == 1
    finally:
        lsh("agent", "disable")


def test_a_run_that_ignores_sigterm_is_killed_after_its_grace(lsh: Lsh) -> None:
    job = lsh.add("--timeout", "1s", "--grace", "1s", "--", "trap '' TERM; sleep 300 & while :; do wait; done")
    run = lsh.run(job, check=False)
    assert (run["result"], run["signal"]) == ("timeout", "KILL")
    assert run["duration_seconds"] == pytest.approx(2, abs=0.8)
    assert lsh.machine.run("pgrep", "-f", "sleep 300", check=False).returncode == 1


def test_runs_side_by_side(lsh: Lsh) -> None:
    job = lsh.add("--calendar", "*:*:0/2", "--overlap", "parallel", "--", "echo $$; sleep 5; echo $$")
    eventually(lambda: sum(run["result"] == "success" for run in lsh.runs(job)) >= 3, timeout=30)
    assert lsh.json("show", job)["state"] == "running"
    lsh("disable", job)
    by_hand = lsh.json("start", job)["id"]
    assert by_hand not in {run["id"] for run in lsh.runs(job) if run["result"]}
    lsh("stop", job)
    eventually(lambda: lsh.json("show", job)["state"] != "running")
    runs = lsh.runs(job)
    made = [run for run in runs if run["result"] == "success"]
    assert all(run["result"] for run in runs)
    assert overlaps(made) >= 2
    for run in made:  # each has its own lines
        first, last = run["output"].splitlines()
        assert first == last
    assert len({run["output"] for run in made}) == len(made)
    assert {run["trigger"] for run in made} == {"timer"}
    assert {run["job"] for run in runs} == {job}
    lsh("set", job, "--overlap", "queue")
    assert f"{lsh.folder}/lsh-{job}@.service" not in lsh.files()
    lsh.refused("set", job, "--overlap", "parallel", "--retries", "2")


def test_runs_side_by_side_keep_to_the_cap(unlimited: Lsh) -> None:
    lsh = unlimited
    lsh("limits", "set", "--group", "db=2")
    job = lsh.add("--calendar", "*:*:*", "--overlap", "parallel", "--group", "db", "--", "sleep 2.5")
    eventually(lambda: sum(run["result"] == "success" for run in lsh.runs(job)) >= 5, timeout=40)
    lsh("disable", job)
    lsh("queue", "remove", job, check=False)
    lsh("stop", job)
    assert overlaps([run for run in lsh.runs(job) if run["result"]]) == 2


def test_what_waits_outlives_the_machine(new_machine: Callable[..., Machine], suite: str) -> None:
    lsh = Lsh(new_machine(suite), "system")
    lsh("limits", "set", "--global", "1")
    jobs = [lsh.add("--", "sleep 2") for _ in range(4)]
    for job in jobs:
        lsh("start", job)
    lsh.ended(jobs[0])
    lsh.machine.kill()
    lsh.machine.boot()
    eventually(lambda: lsh.json("queue") == [], timeout=40)
    runs = [run for job in jobs for run in lsh.runs(job)]
    # the one that died with the machine has had its run; each of the others has one
    assert sorted(run["job"] for run in runs) == sorted(jobs)
    assert sum(run["result"] == "lost" for run in runs) <= 1
    assert overlaps([run for run in runs if run["ended_at"]]) == 1


def test_doctor_tells_when_nothing_would_start_what_waits(unlimited: Lsh) -> None:
    lsh = unlimited
    lsh("limits", "set", "--global", "1")
    lsh.add("--", "true")  # brings the units that the queue needs

    def finding() -> dict[str, Any]:
        return next(each for each in lsh("doctor", "--json", check=False).json() if each["check"] == "queue")

    assert finding()["level"] == "ok"
    lsh.systemctl("stop", "lsh-queue.path")
    assert finding()["level"] == "error"
    lsh.systemctl(*finding()["fix"].split()[2:])
    assert finding()["level"] == "ok"


def test_a_start_that_systemd_refuses_is_told_and_not_tried_for_ever(unlimited: Lsh) -> None:
    lsh = unlimited
    lsh("limits", "set", "--global", "1")
    first, broken, fine = (lsh.add("--", command) for command in ("sleep 300", "true", "true"))
    lsh("start", first)
    eventually(lambda: [row["state"] for row in lsh.json("queue")] == ["running"])
    for job in (broken, fine):
        lsh("start", job)
    text = lsh.read(f"lsh-{broken}.service")
    lsh.write(f"lsh-{broken}.service", text.replace("Type=oneshot", "Type=oneshot\nExecStart=/bin/true\nType=simple"))
    lsh.systemctl("daemon-reload")
    rows = lsh.json("queue")
    assert [row["job"] for row in rows[1:]] == [broken, fine]
    assert all(seconds(row["since"]) > 0 for row in rows)
    lsh("stop", first)
    assert lsh.ended(fine)[0]["result"] == "success"
    assert lsh.json("queue") == []
    assert lsh.runs(broken) == []


def test_a_removed_job_leaves_nothing_that_waits(unlimited: Lsh) -> None:
    lsh = unlimited
    lsh("limits", "set", "--global", "1")
    first, job, other = (lsh.add("--", command) for command in ("sleep 300", "true", "true"))
    lsh("start", first)
    eventually(lambda: [row["state"] for row in lsh.json("queue")] == ["running"])
    lsh("start", job)
    lsh("start", other)
    lsh("remove", job)
    new = lsh.new_name()
    lsh("rename", other, new)
    assert [row["job"] for row in lsh.json("queue")[1:]] == [new]
    lsh("add", job, "--", "true")
    lsh("stop", first)
    assert lsh.ended(new)[0]["result"] == "success"
    assert lsh.runs(job) == []
