"""What the ledger tells of many runs: whose they are, which were asked for, what they come to; and what was lost."""

import math
import time
from collections.abc import Callable
from typing import Any

import pytest

from lsh_systemd.run import RECORD
from tests.system.lsh import Lsh, seconds
from tests.system.machine import Machine, eventually

NewMachine = Callable[..., Machine]


def test_a_machine_that_dies_loses_the_run_not_its_start(new_machine: NewMachine, suite: str) -> None:
    machine = new_machine(suite)
    both = [Lsh(machine, scope) for scope in ("system", "user")]
    started: dict[str, dict[str, Any]] = {}
    for lsh in both:
        lsh("add", "long", "--", "sleep 1000")
        lsh("add", "short", "--", "true")
        lsh("start", "long")
        lsh.run("short")
        (started[lsh.scope],) = eventually(lambda lsh=lsh: lsh.runs("long"))  # type: ignore[misc]
        assert started[lsh.scope]["result"] is None
    machine.run("journalctl", "--sync")
    machine.kill()
    machine.boot()
    for lsh in both:
        (lost,) = lsh.runs("long")
        assert lost == {**started[lsh.scope], "result": "lost"}
        assert lsh.json("show", "long")["state"] == "manual"
        assert [run["result"] for run in lsh.runs("short")] == ["success"]
        lsh("start", "long")
        assert [run["result"] for run in eventually(lambda lsh=lsh: lsh.runs("long")[1:])] == [None]  # type: ignore[misc]
        lsh("stop", "long")


def test_the_same_name_in_three_places(machine: Machine) -> None:
    """root's job, bob's and carol's of one name are three jobs; nobody sees another's runs."""
    machine.add_user("carol")
    system, bob = Lsh(machine, "system"), Lsh(machine, "user")
    name = bob.new_name()
    for lsh in (system, bob):
        lsh.add("--", f"echo {lsh.user}", name=name)
    machine.run("lshctl", "add", name, "--", "echo carol", user="carol")
    machine.run("lshctl", "start", "--wait", name, user="carol")
    for lsh in (system, bob):
        lsh.run(name)
        assert [run["output"] for run in lsh.runs(name)] == [f"{lsh.user}\n"]
    (told,) = machine.run("lshctl", "runs", name, "--json", user="carol").json()
    assert told["output"] == "carol\n"
    machine.run("lshctl", "remove", name, user="carol")
    for lsh in (system, bob):
        lsh.clean()


def test_a_forged_record_is_not_believed(machine: Machine) -> None:
    """Anybody may write such an entry; only root's counts for the machine's jobs, and only bob's own for his."""
    system, bob = Lsh(machine, "system"), Lsh(machine, "user")
    name = bob.new_name()
    for lsh in (system, bob):
        lsh.add("--", "true", name=name)
    for scope, forger in (("system", "bob"), ("user", "root")):
        fields = {
            "MESSAGE_ID": RECORD,
            "MESSAGE": "run ended",
            "LSH_SCOPE": scope,
            "LSH_UNIT": f"lsh-{name}.service",
            "LSH_INVOCATION_ID": "0123456789abcdef" * 2,
            "LSH_RESULT": "success",
            "LSH_STARTED": f"{time.time():.6f}",
        }
        entry = "".join(f"{key}={value}\n" for key, value in fields.items())
        machine.run("logger", "--journald", input=entry, user=forger)
    for lsh in (system, bob):
        run = lsh.run(name)
        assert [each["id"] for each in lsh.runs(name)] == [run["id"]]
        lsh.clean()


def test_runs_can_be_chosen(lsh: Lsh) -> None:
    job, other = lsh.add("--", "echo $$"), lsh.add("--", "true")
    ids = [lsh.run(job)["id"] for _ in range(3)]
    lsh.run(other)
    assert [run["id"] for run in lsh.json("runs", job)] == ids[::-1]
    assert [run["id"] for run in lsh.json("runs", job, "--limit", "2")] == ids[:0:-1]
    assert [run["job"] for run in lsh.json("runs", "--limit", "1")] == [other]
    all_of_them = lsh.json("runs", job, "--limit", "0")
    assert lsh.json("runs", "--id", ids[1][:12]) == all_of_them[1]
    since = seconds(all_of_them[1]["started_at"])
    at = f"@{math.floor(since * 1e6) / 1e6:.6f}"
    assert [run["id"] for run in lsh.json("runs", job, "--since", at)] == ids[:0:-1]
    assert lsh.json("runs", job, "--since", "+1h") == []
    for wrong in (["--id", "xyz"], ["--id", "f" * 32], ["--since", "whenever"], ["--limit", "-1"], ["no-such-job"]):
        lsh.refused("runs", *wrong)


def test_a_report_is_what_the_runs_come_to(lsh: Lsh) -> None:
    """The figures reckoned up here, from `runs --json` alone."""
    count = "read n < /tmp/n-$USER$UID || n=0; echo $((n + 1)) > /tmp/n-$USER$UID"
    job = lsh.add("--", f"{count}; test $((n % 3)) != 2 || {{ echo not again; false; }}")
    for _ in range(6):
        lsh.systemctl("start", f"lsh-{job}.service", check=False)
    runs = lsh.ended(job, 6)
    report = lsh.json("report", job)
    durations = sorted(run["duration_seconds"] for run in runs)
    successes = [run["result"] == "success" for run in runs]
    cpu = [run["cpu_seconds"] for run in runs if run["cpu_seconds"] is not None]
    memory = [run["memory_peak_bytes"] for run in runs if run["memory_peak_bytes"] is not None]
    assert report.pop("trend") == {
        "success_rate_change": pytest.approx((sum(successes[3:]) - sum(successes[:3])) / 3),
        "duration_p50_ratio": pytest.approx(
            sorted(run["duration_seconds"] for run in runs[3:])[1]
            / sorted(run["duration_seconds"] for run in runs[:3])[1]
        ),
    }
    expected = {
        "job": job,
        "runs": 6,
        "successes": 4,
        "success_rate": pytest.approx(4 / 6),
        "duration_p50": durations[2],  # nearest rank: the 3rd of 6, and the last
        "duration_p95": durations[5],
        "duration_p99": durations[5],
        "duration_mean": pytest.approx(sum(durations) / 6),
        "cpu_seconds_mean": pytest.approx(sum(cpu) / len(cpu)) if cpu else None,
        "memory_peak_max": max(memory, default=None),
        "failures_by_result": {"exit-code": 2},
        "duration_max": durations[5],
        "skipped": 0,
        "retries": 0,
        "first_run": runs[0]["started_at"],
        "last_run": runs[5]["started_at"],
    }
    assert {key: report[key] for key in expected} == expected
    assert [(each["result"], each["message"], each["runs"]) for each in report["failures"]] == [
        ("exit-code", "not again", 2)
    ]
    assert next(each for each in lsh.json("report") if each["job"] == job)["runs"] == 6
    lsh.machine.run("sh", "-c", "rm -f /tmp/n-*")
    _every_form_of_it(lsh, job, runs)


def _every_form_of_it(lsh: Lsh, job: str, runs: list[dict[str, Any]]) -> None:
    """The same figures, however they are asked for."""
    third = runs[2]["started_at"]
    assert [lsh.json("report", job, option, third)["runs"] for option in ("--since", "--until")] == [4, 2]
    assert lsh.json("report", job, "--since", third)["before"]["runs"] <= 2
    whole = lsh.json("report", "--all", "--by", "hour")
    assert whole["overall"]["runs"] == sum(each["runs"] for each in whole["jobs"])
    assert whole["overall"]["runs"] == sum(each["runs"] for each in whole["buckets"])
    assert lsh.json("stats")["runs"] >= 6
    assert [run["result"] for run in lsh.json("runs", job, "--failed")] == ["exit-code"] * 2
    assert lsh.json("runs", job, "--result", "success", "--until", third) == [runs[1], runs[0]]
    found = [each for each in lsh.json("insights") if each["job"] == job]
    assert [each["kind"] for each in found] == ["failures"] and "not again" in found[0]["message"]
    assert "not again" in lsh("report", job).stdout
    for form in ("csv", "markdown", "html"):
        assert job in lsh("report", "--all", "--format", form).stdout
    assert len(lsh("runs", job, "--format", "csv").stdout.splitlines()) == 7
    lsh.refused("report", job, "--all")
    lsh.refused("report", "--since", "-1h", "--until", "-2h")
