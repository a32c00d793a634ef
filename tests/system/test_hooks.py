"""What follows a run, and what a run waits for: exactly once, with the right words, across a reboot too."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.system.lsh import Lsh
from tests.system.machine import Machine, eventually

NewMachine = Callable[..., Machine]

TELL = 'echo "$LSH_JOB $LSH_RUN_ID $LSH_RESULT $LSH_EXIT_STATUS/$LSH_SIGNAL $(id -un)" >>'
HOSTILE = r"""; $(touch /tmp/owned) `touch /tmp/owned` %n %i ${HOME} "q" 'q' \ \n [Service] 漢"""


def lines(lsh: Lsh, path: str) -> list[str]:
    return lsh.machine.read(path).splitlines() if lsh.machine.exists(path) else []


def all_ended(lsh: Lsh, job: str, count: int) -> list[dict[str, Any]]:
    """Just so many runs, also after a while in which another one would have come."""
    lsh.ended(job, count)
    time.sleep(0.7)
    runs = lsh.runs(job)
    assert len(runs) == count, runs
    return runs


# Kinds of ends: the job's options and command, how the hook is told of it.
FAILURES = {
    "exit": ((), "exit 3", "exit-code 3/"),
    "signal": ((), "kill -9 $$", "signal /KILL"),
    "timeout": (("--timeout", "1s"), "sleep 60", "timeout /TERM"),
    "no environment": (("--env-file", "/nowhere/at/all"), "true", "resources /"),
    "condition": (("--condition", "exit 255"), "true", "exit-code /"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_is_told_once(lsh: Lsh, kind: str) -> None:
    options, command, told = FAILURES[kind]
    bad, good = lsh.new_path(), lsh.new_path()
    job = lsh.add(*options, "--on-failure", f"{TELL} {bad}", "--on-success", f"{TELL} {good}", "--", command)
    first, second = lsh.run(job, check=False), lsh.run(job, check=False)
    # One that cannot even begin never leaves the state "failed": systemd tells of the first time only.
    told_of = (first,) if told == "resources /" else (first, second)
    eventually(lambda: len(lines(lsh, bad)) >= len(told_of))
    time.sleep(0.5)
    assert lines(lsh, bad) == [f"{job} {run['id']} {told} {lsh.user}" for run in told_of]
    assert lines(lsh, good) == []
    lsh.check_fresh()


def test_a_success_is_told_once_and_hooks_stand_alone(lsh: Lsh) -> None:
    """One that fails does not keep the next from running; what they write is in the journal, and none of the job's."""
    good, bad = lsh.new_path(), lsh.new_path()
    job = lsh.add(
        "--on-success", "echo hooked; exit 1", "--on-success", f"{TELL} {good}", "--on-failure", f"touch {bad}",
        "--", "echo mine",
    )  # fmt: skip
    run = lsh.run(job)
    assert run["output"] == "mine\n"
    eventually(lambda: lines(lsh, good))
    time.sleep(0.5)
    assert lines(lsh, good) == [f"{job} {run['id']} success 0/ {lsh.user}"]
    assert not lsh.machine.exists(bad)
    told = lsh.machine.journal(f"SYSLOG_IDENTIFIER=lsh-{job}.success", "_TRANSPORT=stdout")
    assert [each["MESSAGE"] for each in told] == ["hooked"]
    folder = "/run/lsh/hooks" if lsh.scope == "system" else "/run/user/1000/lsh/hooks"
    assert lsh.machine.run("ls", folder).stdout == ""


def test_hooks_of_another_users_job_run_as_that_user(machine: Machine) -> None:
    lsh = Lsh(machine, "system")
    machine.add_user("bob")
    told, other = lsh.new_path(), lsh.add("--", "id -un")
    job = lsh.add("--run-as", "bob", "--on-failure", f"{TELL} {told}", "--on-failure", other, "--", "exit 1")
    run = lsh.run(job, check=False)
    (hooked,) = lsh.ended(other)
    assert (hooked["trigger"], hooked["output"]) == ("hook", "root\n")
    assert lines(lsh, told) == [f"{job} {run['id']} exit-code 1/ bob"]
    lsh.clean()


def test_a_hook_may_be_a_job(lsh: Lsh) -> None:
    name = lsh.new_name()
    other = lsh.add("--", "true", name=name)
    job = lsh.add("--on-success", name, "--on-failure", f"job:{name}", "--", "test ! -e /tmp/bad")
    assert lsh.json("show", job)["definition"]["on_success"] == [f"job:{other}"]
    lsh.run(job)
    assert [run["trigger"] for run in all_ended(lsh, other, 1)] == ["hook"]


def test_hostile_hooks_and_names(lsh: Lsh) -> None:
    """What stands in a hook is the shell's to read, and a name is nobody's."""
    told = lsh.new_path()
    name = f"{lsh.new_name()} {HOSTILE}"
    quoted = "'" + HOSTILE.replace("'", "'\\''") + "'"
    lsh(
        "add", name, "--on-success", f"printf '%s\\n' {quoted} >>{told}", "--condition", f"test {quoted} != x",
        "--", "true",
    )  # fmt: skip
    job = next(each["id"] for each in lsh.json("list") if each["name"] == name)
    lsh.run(job)
    eventually(lambda: lines(lsh, told))
    assert lines(lsh, told) == [HOSTILE]
    assert not lsh.machine.exists("/tmp/owned")


def test_condition(lsh: Lsh) -> None:
    flag, good, bad = lsh.new_path(), lsh.new_path(), lsh.new_path()
    job = lsh.add(
        "--condition", f"test -e {flag}", "--on-success", f"echo >>{good}", "--on-failure", f"echo >>{bad}",
        "--", "echo ran",
    )  # fmt: skip
    skipped = lsh.run(job, check=False)
    assert (skipped["result"], skipped["output"]) == ("skipped", "")
    assert lsh.json("show", job)["state"] == "manual"
    lsh.machine.run("touch", flag)
    assert (lsh.run(job)["output"]) == "ran\n"
    eventually(lambda: len(lines(lsh, good)) == 1)
    lsh("set", job, "--condition", "kill -9 $$")
    assert lsh.run(job, check=False)["result"] == "signal"
    eventually(lambda: len(lines(lsh, bad)) == 1)
    assert len(lines(lsh, good)) == 1


def test_a_chain(lsh: Lsh) -> None:
    first = lsh.add("--", "true")
    second = lsh.add("--after", first, "--", "true")
    third = lsh.add("--after", second, "--", "true")
    assert {each["id"]: (each["schedule"], each["state"]) for each in lsh.json("list")} == {
        first: (None, "manual"),
        second: (f"after {first}", "waiting"),
        third: (f"after {second}", "waiting"),
    }
    assert f"after {first}" in lsh.told_off("next", second)
    lsh.run(first)
    (run,) = all_ended(lsh, third, 1)
    assert run["trigger"] == "hook"
    assert [len(lsh.runs(job)) for job in (first, second)] == [1, 1]
    lsh.run(first)
    all_ended(lsh, third, 2)
    assert lsh.json("graph")["edges"] == sorted(
        [
            {"from": first, "to": second, "kind": "after"},
            {"from": second, "to": third, "kind": "after"},
        ],
        key=lambda edge: edge["from"],
    )
    assert lsh("graph").stdout == f"{first}\n└─ {second} (after)\n   └─ {third} (after)\n"
    assert f'"{first}" -> "{second}" [label="after"];' in lsh("graph", "--dot").stdout
    lsh.check_fresh()


def test_a_failure_is_followed_by_none(lsh: Lsh) -> None:
    first = lsh.add("--condition", "test ! -e /tmp/never", "--", "exit 1")
    second = lsh.add("--after", first, "--", "true")
    lsh.run(first, check=False)
    lsh("set", first, "--condition", "false", "--", "true")
    assert lsh.run(first, check=False)["result"] == "skipped"
    time.sleep(1)
    assert lsh.runs(second) == []


def test_a_diamond(lsh: Lsh) -> None:
    top = lsh.add("--", "true")
    left, right = lsh.add("--after", top, "--", "true"), lsh.add("--after", top, "--", "sleep 0.5")
    bottom = lsh.add("--after", left, "--after", right, "--", "true")
    for count in (1, 2, 3):
        lsh.run(top)
        all_ended(lsh, bottom, count)
    lsh.run(left)
    lsh.run(left)
    time.sleep(0.7)
    assert len(lsh.runs(bottom)) == 3
    lsh.run(right)
    all_ended(lsh, bottom, 4)


def test_only_what_came_since_the_last_start_counts(lsh: Lsh) -> None:
    left, right = lsh.add("--", "true"), lsh.add("--", "true")
    job = lsh.add("--after", left, "--after", right, "--", "true")
    lsh.run(left)
    time.sleep(0.5)
    lsh.run(job)
    lsh.run(right)
    assert [run["trigger"] for run in all_ended(lsh, job, 1)] == ["manual"]
    lsh.run(left)
    assert [run["trigger"] for run in all_ended(lsh, job, 2)] == ["manual", "hook"]


def test_a_round_that_is_complete_while_the_job_runs_is_not_lost(lsh: Lsh) -> None:
    first = lsh.add("--", "true")
    second = lsh.add("--after", first, "--", "sleep 4")
    lsh.systemctl("start", f"lsh-{first}.service")
    eventually(lambda: lsh.show(f"lsh-{second}.service", "ActiveState") == {"ActiveState": "activating"})
    lsh.systemctl("start", f"lsh-{first}.service")
    lsh.systemctl("start", f"lsh-{first}.service")
    lsh.systemctl("daemon-reload")
    assert [run["trigger"] for run in all_ended(lsh, second, 2)] == ["hook", "hook"]


def test_many_successes_at_once(lsh: Lsh) -> None:
    firsts = [lsh.add("--", "true") for _ in range(4)]
    job = lsh.add(*(word for first in firsts for word in ("--after", first)), "--", "true")
    for count in (1, 2, 3):
        lsh.systemctl("start", *(f"lsh-{first}.service" for first in firsts))
        all_ended(lsh, job, count)


@pytest.mark.parametrize("scope", ["system", "user"])
def test_a_reboot_in_between(new_machine: NewMachine, suite: str, scope: str) -> None:
    lsh = Lsh(new_machine(suite), scope)
    left, right = lsh.add("--", "true"), lsh.add("--", "true")
    job = lsh.add("--after", left, "--after", right, "--", "true")
    lsh.run(left)
    time.sleep(0.5)
    lsh.machine.reboot()
    assert lsh.json("show", job)["state"] == "waiting"
    lsh.run(right)
    assert [run["trigger"] for run in all_ended(lsh, job, 1)] == ["hook"]
    # Complete while the job ran, and then the machine died.
    lsh("set", job, "--", "sleep 6")
    for _ in range(2):
        lsh.systemctl("start", f"lsh-{left}.service", f"lsh-{right}.service")
        eventually(lambda: lsh.show(f"lsh-{job}.service", "ActiveState") == {"ActiveState": "activating"})
    time.sleep(0.5)
    lsh.machine.kill()
    lsh.machine.boot()
    runs = all_ended(lsh, job, 3)
    assert [(run["trigger"], run["result"]) for run in runs] == [
        ("hook", "success"),
        ("hook", "lost"),
        ("hook", "success"),
    ]
    lsh.machine.reboot()
    time.sleep(1)
    assert len(lsh.runs(job)) == 3


def test_a_cycle_is_refused_with_its_path(lsh: Lsh) -> None:
    one = lsh.add("--", "true")
    two = lsh.add("--after", one, "--", "true")
    three = lsh.add("--after", two, "--", "true")
    assert f"{one} → {two} → {three} → {one}" in lsh.refused("set", one, "--after", three)
    assert f"{three} → {one} → {two} → {three}" in lsh.refused("set", three, "--on-success", one)
    assert f"{one} → {one}" in lsh.refused("set", one, "--on-failure", f"job:{one}")
    assert "itself" in lsh.refused("set", one, "--after", one)
    # A name that others still wait for: only a job that itself follows none of them may take it.
    lsh("remove", one, "--force")
    assert f"{one} → {two} → {three} → {one}" in lsh.refused("add", one, "--after", three, "--", "true")
    four = lsh.add("--after", three, "--", "true")
    assert f"{one} → {two} → {three} → {one}" in lsh.refused("rename", four, one)


def test_names_are_followed_and_kept(lsh: Lsh) -> None:
    first = lsh.add("--", "true")
    second = lsh.add("--after", first, "--", "true")
    third = lsh.add("--on-success", f"job:{first}", "--", "true")
    assert "stays" in lsh.refused("remove", first)
    assert "runs after it" in lsh.refused("remove", first, third)
    assert "starts it (on-success)" in lsh.refused("remove", first, second)
    new = lsh.new_name()
    lsh("rename", first, new)
    assert lsh.json("show", second)["definition"]["after"] == [new]
    assert lsh.json("show", third)["definition"]["on_success"] == [f"job:{new}"]
    assert lsh.json("show", new)["drop_ins"] == []
    assert [path for path in lsh.files() if f"lsh-{first}." in path] == []
    lsh.run(third)
    all_ended(lsh, second, 1)
    lsh("remove", new, "--force")
    assert lsh.json("show", second)["state"] == "waiting"
    told = {each["check"]: each["message"] for each in lsh("doctor", "--json", check=False).json()}
    assert f"it runs after {new}, which is not there" in told[f"job {second}"]
    assert "which is not there" in told[f"job {third}"]
    lsh("set", second, "--timeout", "1m")  # what it names has gone, and that is known
    lsh("remove", second, third)
    assert [path for path in lsh.files() if f"lsh-{new}." in path or f"lsh-{second}." in path] == []
    lsh.check_fresh()


def test_a_round_goes_along_with_a_new_name(lsh: Lsh) -> None:
    left, right = lsh.add("--", "true"), lsh.add("--", "true")
    job = lsh.add("--after", left, "--after", right, "--", "true")
    lsh.run(left)
    time.sleep(0.5)
    names = [lsh.new_name() for _ in range(3)]
    for old, new in zip((left, job, right), names, strict=True):
        lsh("rename", old, new)
    lsh.run(names[2])
    assert [run["trigger"] for run in all_ended(lsh, names[1], 1)] == ["hook"]


def test_disabled_jobs_follow_none(lsh: Lsh) -> None:
    first = lsh.add("--", "true")
    second = lsh.add("--after", first, "--", "true")
    lsh("disable", second)
    assert lsh.json("show", second)["state"] == "disabled"
    lsh.run(first)
    time.sleep(0.7)
    lsh("enable", second)
    time.sleep(0.7)
    assert lsh.runs(second) == []
    lsh.run(first)
    all_ended(lsh, second, 1)
    lsh("set", second, "--unset", "after")
    assert lsh.json("show", second)["state"] == "manual"
    assert [path for path in lsh.files() if f"lsh-{second}.after" in path or f"lsh-{first}.service.d" in path] == []
    lsh.run(first)
    time.sleep(0.7)
    assert len(lsh.runs(second)) == 1
    lsh.check_fresh()


def test_refused(lsh: Lsh) -> None:
    for argv in (
        ("--after", "no-such-job"),
        ("--on-failure", "no-such-job"),
        ("--on-success", "job:no such job"),
        ("--on-success", ""),
        ("--on-success", "command: "),
        ("--when-path", "/tmp/../etc"),
        ("--when-path", "/tmp/a\nb"),
        ("--when-socket", "0"),
        ("--when-socket", "70000"),
        ("--when-socket", "relative/path"),
        ("--when-socket", "/run/" + "x" * 200),
        ("--condition", " "),
    ):
        lsh.refused("add", lsh.new_name(), *argv, "--", "true")
    lsh("add", "Two Words", "--", "true")
    assert "job:two-words" in lsh.refused("add", lsh.new_name(), "--on-success", "Two Words", "--", "true")
    assert "command:reboot" in lsh.refused("add", lsh.new_name(), "--on-success", "reboot", "--", "true")
    lsh.add("--on-success", "command:true", "--on-failure", "job:Two Words", "--", "true")


def test_jobs_without_hooks_pay_nothing(lsh: Lsh) -> None:
    job = lsh.add("--", "true")
    text = lsh.read(f"lsh-{job}.service")
    assert [word for word in ("OnSuccess", "OnFailure", "ExecCondition") if word in text] == []
