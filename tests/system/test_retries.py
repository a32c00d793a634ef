"""Retries: so many, so long apart, and only where they are wanted."""

import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.system.lsh import Lsh, seconds
from tests.system.machine import Machine, eventually

NewMachine = Callable[..., Machine]


def all_over(lsh: Lsh, job: str) -> bool:
    """Nothing runs, and no retry will come."""
    return bool(lsh.json("show", job)["state"] == "failed")


def gaps(runs: list[dict[str, Any]]) -> list[float]:
    """The seconds from the end of each run to the start of the next."""
    return [seconds(after["started_at"]) - seconds(run["ended_at"]) for run, after in itertools.pairwise(runs)]


def test_exactly_so_many_and_so_long_apart(lsh: Lsh) -> None:
    job = lsh.add("--retries", "4", "--retry-delay", "500ms", "--retry-max-delay", "1500ms", "--", "exit 3")
    lsh("start", job)
    shown = eventually(lambda: (told := lsh.json("show", job))["state"] == "retrying" and told["next"] and told)
    assert seconds(shown["next"]) > seconds(lsh.runs(job)[0]["ended_at"])
    runs = lsh.ended(job, 5, timeout=25)
    eventually(lambda: all_over(lsh, job))
    time.sleep(2)
    runs = lsh.runs(job)
    assert [run["attempt"] for run in runs] == [1, 2, 3, 4, 5]
    assert [run["trigger"] for run in runs] == ["manual", "retry", "retry", "retry", "retry"]
    assert [run["first_id"] for run in runs] == [None] + 4 * [runs[0]["id"]]
    for gap, wanted in zip(gaps(runs), (0.5, 1, 1.5, 1.5), strict=True):
        assert wanted - 0.05 < gap < wanted + 5  # systemd-run takes its time on a busy machine
    lsh("start", job)  # anew, with all of its retries
    lsh.ended(job, 7, timeout=25)
    # (which attempt it was may be noted a moment after the end of a short run)
    runs = eventually(lambda: (told := lsh.runs(job))[6]["attempt"] == 2 and told)
    assert runs[5]["attempt"] == 1
    assert runs[6]["first_id"] == runs[5]["id"]
    lsh("stop", job)


def test_a_success_ends_it(lsh: Lsh) -> None:
    mark = f"/tmp/{lsh.scope}-tries"
    job = lsh.add("--retries", "5", "--retry-delay", "300ms", "--", f"echo x >>{mark}; [ $(wc -l <{mark}) -ge 3 ]")
    lsh("start", job)
    lsh.ended(job, 3, timeout=20)
    time.sleep(1.5)
    # which attempt it was may be noted a moment after the end of a short run
    told = [(run["result"], run["attempt"]) for run in lsh.runs(job)]
    assert told == [("exit-code", 1), ("exit-code", 2), ("success", 3)]
    lsh.machine.run("rm", mark)


@pytest.mark.parametrize(
    ("options", "command", "runs"),
    [
        (("--no-retry-exit", "64,78"), "exit 78", 1),
        (("--no-retry-exit", "64,78"), "exit 1", 2),
        (("--retry-on", "exit-code"), "kill -TERM $$", 1),
        (("--retry-on", "signal:TERM"), "kill -TERM $$", 2),
        (("--retry-on", "signal:KILL,timeout"), "kill -TERM $$", 1),
        (("--retry-on", "signal"), "kill -KILL $$", 2),
        (("--retry-on", "timeout", "--timeout", "500ms"), "sleep 60", 2),
        (("--retry-on", "exit-code", "--timeout", "500ms"), "sleep 60", 1),
        ((), "true", 1),
    ],
)
def test_only_on_what_is_wanted(lsh: Lsh, options: tuple[str, ...], command: str, runs: int) -> None:
    job = lsh.add("--retries", "1", "--retry-delay", "100ms", *options, "--", command)
    lsh("start", job)
    lsh.ended(job, runs)
    time.sleep(1.5)
    assert len(lsh.runs(job)) == runs


def test_a_scheduled_time_during_the_wait_is_one_run_and_begins_anew(lsh: Lsh) -> None:
    job = lsh.add("--calendar", "*:*:0/4", "--retries", "3", "--retry-delay", "6s", "--", "exit 1")
    runs = lsh.ended(job, 4, timeout=40)[:4]
    lsh("disable", job)
    assert {run["attempt"] for run in runs} == {1}  # the wait never came to its end
    assert {run["trigger"] for run in runs} == {"timer"}
    for gap in gaps(runs):
        assert gap == pytest.approx(4, abs=1)
    count = len(lsh.runs(job))
    time.sleep(7)
    assert len(lsh.runs(job)) == count  # disable takes the pending one back


def test_stop_takes_the_pending_one_back(lsh: Lsh) -> None:
    job = lsh.add("--retries", "3", "--retry-delay", "2s", "--", "exit 1")
    lsh("start", job)
    eventually(lambda: lsh.json("show", job)["state"] == "retrying")
    assert "stopped" in lsh("stop", job).stdout
    assert lsh.json("show", job)["state"] == "failed"
    time.sleep(3)
    assert len(lsh.runs(job)) == 1


def test_a_retry_outlives_a_reboot(new_machine: NewMachine, suite: str) -> None:
    lsh = Lsh(new_machine(suite), "system")
    job = lsh.add("--retries", "1", "--retry-delay", "8s", "--retry-max-delay", "8s", "--", "exit 1")
    calm = lsh.add("--retries", "1", "--retry-delay", "8s", "--retry-max-delay", "8s", "--", "exit 1")
    for each in (job, calm):
        lsh("start", each)
    eventually(lambda: {each["state"] for each in lsh.json("list")} == {"retrying"})
    lsh("stop", calm)
    lsh.machine.kill()
    lsh.machine.boot()
    runs = eventually(lambda: (told := lsh.ended(job, 2, timeout=30))[1]["attempt"] == 2 and told)
    assert [(run["attempt"], run["trigger"]) for run in runs] == [(1, "manual"), (2, "retry")]
    assert runs[1]["first_id"] == runs[0]["id"]
    time.sleep(2)
    assert (len(lsh.runs(job)), len(lsh.runs(calm))) == (2, 1)


def test_what_fails_before_it_begins_is_tried_again_too(lsh: Lsh) -> None:
    job = lsh.add("--retries", "2", "--retry-delay", "300ms", "--env-file", "/nonexistent", "--", "true")
    lsh("start", job, check=False)
    runs = lsh.ended(job, 3, timeout=20)
    time.sleep(1.5)
    assert [run["attempt"] for run in lsh.runs(job)] == [1, 2, 3]
    assert {run["result"] for run in runs} == {"resources"}
