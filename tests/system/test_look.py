"""Looking at jobs and runs: the JSON that other programs rely on, and text that cannot play tricks on a terminal."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.system.lsh import TIMER, Lsh, seconds
from tests.system.machine import Machine, eventually

LIST_KEYS = {"id", "name", "schedule", "timezone", "command", "enabled", "state", "next", "last_run"}
RUN_KEYS = set(
    "id job host trigger attempt started_at ended_at duration_seconds result exit_status signal cpu_seconds "
    "memory_peak_bytes io_read_bytes io_write_bytes output".split()
)
REPORT_KEYS = set(
    "job runs successes success_rate duration_p50 duration_p95 duration_p99 duration_mean cpu_seconds_mean "
    "memory_peak_max failures_by_result trend".split()
)
EXPLAIN_KEYS = {"expression", "timezone", "calendar", "next", "description", "warnings"}
# What would move a cursor, change a colour, turn a line around or begin one of its own.
TRICKS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]")


def test_json_has_the_keys_that_were_promised(lsh: Lsh) -> None:
    job = lsh.add("--schedule", "0 2 * * *", "--tz", "Europe/Berlin", "--", "echo hi")
    run = lsh.run(job)
    (told,) = [each for each in lsh.json("list") if each["id"] == job]
    assert told.keys() >= LIST_KEYS
    assert (told["schedule"], told["timezone"], told["command"]) == ("0 2 * * *", "Europe/Berlin", "echo hi")
    assert (told["enabled"], told["state"]) == (True, "waiting")
    assert told["last_run"]["id"] == run["id"]
    assert run.keys() >= RUN_KEYS
    assert lsh.json("report", job).keys() >= REPORT_KEYS
    assert lsh.json("show", job).keys() >= told.keys()
    assert lsh.json("show", job)["definition"]["schedule"] == ["0 2 * * *"]


def test_states_are_told_apart(lsh: Lsh) -> None:
    failed, manual = lsh.add("--every", "1h", "--", "false"), lsh.add("--", "true")
    disabled, stopped = lsh.add("--every", "1h", "--disabled", "--", "true"), lsh.add("--every", "1h", "--", "true")
    boot, elapsed = lsh.add("--on-boot", "--", "true"), lsh.add("--at", "+3s", "--", "true")
    running = lsh.add("--", "sleep 60")
    lsh.run(failed, check=False)
    lsh("start", running)
    lsh.systemctl("stop", f"lsh-{stopped}.timer")
    lsh.ended(elapsed)
    states = {each["id"]: each["state"] for each in lsh.json("list")}
    expected = {failed: "failed", manual: "manual", disabled: "disabled", stopped: "stopped"}
    expected |= {boot: "waiting", elapsed: "elapsed", running: "running"}
    assert {job: states[job] for job in expected} == expected
    lsh("stop", running)


def test_list_can_be_narrowed(lsh: Lsh) -> None:
    one, other = lsh.add("--tag", "a b", "--category", "c", "--", "true"), lsh.add("--tag", "x", "--", "true")
    assert [each["id"] for each in lsh.json("list", "--tag", "a b")] == [one]
    assert [each["id"] for each in lsh.json("list", "--category", "c")] == [one]
    assert [each["id"] for each in lsh.json("list", "--tag", "x")] == [other]
    assert lsh.json("list", "--tag", "none") == []


def test_next_is_in_order_and_systemds_own(lsh: Lsh) -> None:
    later, sooner = (lsh.add("--at", f"2099-01-0{day} 00:00", "--", "true") for day in (2, 1))
    rows = [each for each in lsh.json("next") if each["id"] in (later, sooner)]
    assert rows == [
        {"id": sooner, "next": "2099-01-01T00:00:00.000000Z"},
        {"id": later, "next": "2099-01-02T00:00:00.000000Z"},
    ]
    job = lsh.add("--schedule", "0 2 * * *", "--", "true")
    elapse = lsh.loaded(f"lsh-{job}.timer", TIMER, "NextElapseUSecRealtime")["NextElapseUSecRealtime"]
    instants = [seconds(each) for each in lsh.json("next", job, "-n", "3")["next"]]
    assert instants == [elapse / 1e6 + day * 86400 for day in range(3)]
    assert f"{datetime.fromtimestamp(elapse / 1e6, UTC):%Y-%m-%d} 02:00:00" in lsh("next", job).stdout


def test_explain_is_what_a_timer_would_do(lsh: Lsh) -> None:
    told = lsh.json("explain", "0 3 13 * 5", "--tz", "UTC", "--from", "2026-11-01 00:00:00", "--next", "4")
    assert told.keys() == EXPLAIN_KEYS
    assert (told["expression"], told["timezone"]) == ("0 3 13 * 5", "UTC")
    days = [datetime(2026, 11, 6, 3, tzinfo=UTC) + timedelta(days=7 * week) for week in range(4)]
    assert [seconds(each) for each in told["next"]] == [day.timestamp() for day in days]  # the 13th is a Friday
    job = lsh.add("--schedule", "0 3 13 * 5", "--", "true")
    loaded = lsh.loaded(f"lsh-{job}.timer", TIMER, "TimersCalendar")["TimersCalendar"]
    assert sorted(spec for _, spec, _ in loaded) == sorted(lsh.json("explain", "0 3 13 * 5")["calendar"])
    lsh.refused("explain", "61 * * * *")
    lsh.refused("explain", "* * * * *", "--tz", "Mars/Olympus")


def test_logs_of_a_job_and_of_one_run(lsh: Lsh) -> None:
    # Long enough for journald to see which unit a line is from: --run goes by that.
    job = lsh.add("--", 'echo "line of $INVOCATION_ID"; echo last; sleep 0.3')
    first, second = lsh.run(job)["id"], lsh.run(job)["id"]
    shown = lsh("logs", job).stdout
    assert f"line of {first}" in shown and f"line of {second}" in shown
    only = lsh("logs", job, "--run", second[:10]).stdout
    assert f"line of {second}" in only and first not in only
    entries = [json.loads(line) for line in lsh("logs", job, "--json").stdout.splitlines()]
    assert f"line of {first}" in [entry["MESSAGE"] for entry in entries]
    assert len(lsh("logs", job, "-n", "2").stdout.splitlines()) == 2
    lsh.told_off("logs", "no-such-job")


def test_logs_are_followed(lsh: Lsh, tmp_path: Path) -> None:
    job, shown = lsh.add("--", "echo followed $INVOCATION_ID"), tmp_path / "shown"
    first = lsh.run(job)["id"]
    with shown.open("w") as file:
        process = lsh.popen("logs", "-f", job, stdout=file.fileno())
    try:
        eventually(lambda: f"followed {first}" in shown.read_text())
        second = lsh.run(job)["id"]
        eventually(lambda: f"followed {second}" in shown.read_text())
    finally:
        process.interrupt()
        process.wait(10)


def test_nothing_told_can_play_tricks(lsh: Lsh) -> None:
    """A command may hold any character, and write any; a unit edited by hand may say anything."""
    nasty = "\x1b]0;owned\x07\x1b[31mred\x1b[0m \u202egnp.exe\u2066 \x9b31m\r"
    job = lsh.add("--env", "A=\u202ex", "--", f"printf %s '{nasty}'; exit 1")
    run = lsh.run(job, check=False)["id"]
    edited = lsh.add("--", "true")
    lsh.write(f"lsh-{edited}.service", lsh.read(f"lsh-{edited}.service").replace('Command="', 'Bogus\x1b[31m="'))
    lsh.systemctl("daemon-reload")
    for argv in (
        ["list"],
        ["show", job],
        ["show", edited],
        ["runs", job],
        ["runs", "--id", run],
        ["logs", job],
        ["doctor"],
    ):
        result = lsh(*argv, check=False)
        assert not TRICKS.search(result.stdout + result.stderr), (argv, ascii(result.stdout))
    assert "invalid" in lsh("list").stdout
    assert "\\u202e" in lsh("show", job).stdout


def test_doctor_knows_what_is_amiss(lsh: Lsh) -> None:
    findings = {each["check"]: each for each in lsh("doctor", "--json", check=False).json()}
    assert findings.keys() >= set("manager access lingering recorder journal agent settings store clock jobs".split())
    assert findings["agent"]["level"] == "warning"
    assert findings["agent"]["fix"] == f"lshctl --{lsh.scope} agent enable"
    for check in ("manager", "access", "lingering", "recorder", "journal", "settings", "store"):
        assert findings[check]["level"] == "ok", findings[check]
    job = lsh.add("--every", "1h", "--", "true")
    lsh.systemctl("stop", f"lsh-{job}.timer")
    result = lsh("doctor", check=False)
    assert result.returncode == 1
    assert (
        f"job {job}: it is enabled, but lsh-{job}.timer does not run\n      lshctl --{lsh.scope} enable {job}\n"
        in result.stdout
    )
    lsh("enable", job)
    assert f"job {job}" not in lsh("doctor").stdout


def test_doctor_of_a_user_without_a_manager(machine: Machine) -> None:
    machine.add_user("dave", linger=False)
    result = machine.run("lshctl", "doctor", user="dave", check=False)
    assert result.returncode == 1
    assert "sudo loginctl enable-linger dave" in result.stdout
    assert "Traceback" not in result.stderr
    said = machine.run("lshctl", "add", "x", "--", "true", user="dave", check=False)
    assert said.returncode == 1
    assert "enable-linger" in said.stderr
    assert len(said.stderr.splitlines()) <= 2
    assert not machine.exists("/home/dave/.config/systemd/user/lsh-x.service")


def test_the_unit_of_a_job_is_found_by_its_name(lsh: Lsh) -> None:
    job = lsh.add("--every", "1h", "--", "true")
    assert lsh.json("show", job.upper())["id"] == job
    assert "did you mean" in lsh.told_off("show", f"{job}x")
    eventually(lambda: job in lsh("list").stdout)
