"""lshctl apply and diff: the machine's jobs become those of the files, all or none, whatever dies in between."""

import json
import subprocess
from typing import Any

import pytest

from tests.system.lsh import Lsh
from tests.system.machine import Machine
from tests.system.uml import only_on

FILE = """\
project: {n}
vars: {{who: "bob & co"}}
defaults: {{tags: [nightly]}}
jobs:
  {n}-a:
    schedule: "0 2 * * *"
    command: echo {{{{ who }}}}
  {n}-b:
    every: 2h
    after: [{n}-a]
    command: ["true"]
  {n}-c:
    enabled: false
    calendar: Mon *-*-* 09:00
    command: echo c
"""


def path(lsh: Lsh, text: str, *, name: str = "jobs.yaml") -> str:
    file = f"{lsh.new_path()}/{name}"
    lsh.machine.write(file, text, user=lsh.user)
    return file


def applied(lsh: Lsh, *argv: str) -> dict[str, str]:
    """Apply; job → what was done."""
    return {job["id"]: job["action"] for job in lsh.json("apply", *argv)["jobs"]}


def definition(lsh: Lsh, job: str) -> dict[str, Any]:
    told: dict[str, Any] = lsh.json("show", job)["definition"]
    return told


def timers(lsh: Lsh, n: str) -> dict[str, tuple[str, str]]:
    told = {}
    for job in "abc":
        shown = lsh.show(f"lsh-{n}-{job}.timer", "ActiveState", "UnitFileState")
        told[job] = (shown["ActiveState"], shown["UnitFileState"])
    return told


def test_the_machine_becomes_as_described_and_stays_so(lsh: Lsh) -> None:
    n = lsh.new_name()
    file = path(lsh, FILE.format(n=n))
    before = lsh.files()
    dry = lsh("apply", "-f", file, "--dry-run", check=False)
    assert dry.returncode == 3 and f"+ {n}-a" in dry.stdout and lsh.files() == before

    assert applied(lsh, "-f", file) == dict.fromkeys([f"{n}-{job}" for job in "abc"], "add")
    assert timers(lsh, n) == {"a": ("active", "enabled"), "b": ("active", "enabled"), "c": ("inactive", "disabled")}
    assert lsh.show(f"lsh-{n}-b.after.path", "ActiveState") == {"ActiveState": "active"}
    lsh.check_fresh()
    assert lsh.run(f"{n}-a")["output"].strip() == "bob & co"
    after = lsh.files()
    assert set(applied(lsh, "-f", file, "--prune").values()) == {"unchanged"}
    assert lsh("diff", "-f", file).stdout == "Nothing to change: 3 jobs as described.\n"
    assert lsh.files() == after

    # What drifts is told and put right; what the file has changed is changed; what it lacks goes.
    lsh("set", f"{n}-a", "--timeout", "5m")
    lsh("disable", f"{n}-a")
    hand = lsh.add("--schedule", "0 1 * * *", "--", "true")
    text = FILE.format(n=n).replace("every: 2h", "every: 3h").partition(f"  {n}-c:")[0]
    lsh.machine.write(file, text, user=lsh.user)
    drift = lsh("diff", "-f", file, "--prune", check=False)
    assert drift.returncode == 3
    assert drift.stdout.splitlines() == [
        f"~ {n}-a",
        "    timeout: 5min → -",
        "    enabled: false → true",
        f"~ {n}-b",
        "    every: 2h → 3h",
        f"- {n}-c",
        "2 to change, 1 to remove, 0 unchanged.",
    ]
    assert applied(lsh, "-f", file, "--prune") == {f"{n}-a": "change", f"{n}-b": "change", f"{n}-c": "remove"}
    assert timers(lsh, n)["a"] == timers(lsh, n)["b"] == ("active", "enabled")
    assert "timeout" not in definition(lsh, f"{n}-a") and definition(lsh, f"{n}-b")["every"] == "3h"
    ids = [job["id"] for job in lsh.json("list")]
    assert hand in ids and f"{n}-c" not in ids
    lsh.check_fresh()
    verbs = [change["verb"] for change in lsh.json("audit", f"{n}-a")]
    assert verbs == ["apply", "disable", "set", "apply"]


def reloads(lsh: Lsh) -> int:
    """How often this manager says it has read all unit files again."""
    user = lsh.machine.run("systemctl", "show", "--property=MainPID", "--value", "user@1000.service").stdout.strip()
    said = lsh.machine.journal(f"_PID={1 if lsh.scope == 'system' else user}")
    return sum(str(entry.get("MESSAGE")) in ("Reloading.", "Reloading...") for entry in said)


def test_many_jobs_take_one_reload_at_most(lsh: Lsh) -> None:
    n = lsh.new_name()
    jobs: dict[str, Any] = {f"{n}-{at}": {"schedule": f"{at} 3 * * *", "command": "sleep 1000"} for at in range(40)}
    jobs[f"{n}-a"] = {"every": "2h", "after": [f"{n}-0", f"{n}-1"], "command": "true"}
    jobs[f"{n}-3"] |= {"once_in_fleet": True, "from_fleet": True, "params": ["P=[a-z]{3}"]}
    lsh.add("--schedule", "0 1 * * *", "--", "true", name=f"{n}-2")

    def reloads_of_applying(action: str, jobs: dict[str, Any]) -> int:
        file, before = path(lsh, json.dumps({"project": n, "jobs": jobs}), name="jobs.json"), reloads(lsh)
        done = applied(lsh, "-f", file, "--prune")
        assert len(done) == 41 and list(done.values()).count(action) >= 40
        return reloads(lsh) - before

    assert reloads_of_applying("add", jobs) <= 1
    assert definition(lsh, f"{n}-3")["params"] == ["P=[a-z]{3}"]
    claim = f"lsh-claim@{n}-3.service"
    assert lsh.show(claim, "LoadState") == {"LoadState": "loaded"}  # which its timer starts
    assert lsh.show(f"lsh-{n}-3.timer", "Unit") == {"Unit": claim}
    lsh("start", f"{n}-0")
    changed = {job: {**plain, "command": "true", "nice": 1} for job, plain in jobs.items()}
    assert reloads_of_applying("change", changed) == 1  # whose run goes on, systemd does not forget
    lsh.check_fresh()
    assert lsh.show(f"lsh-{n}-0.service", "ActiveState") == {"ActiveState": "activating"}
    lsh("stop", f"{n}-0")
    assert reloads_of_applying("remove", {}) <= 1
    lsh.check_fresh()
    assert not [file for file in lsh.files() if f"/lsh-{n}-" in file]


def test_every_error_is_told_with_its_place_and_nothing_is_made(lsh: Lsh) -> None:
    n = lsh.new_name()
    text = f"jobs:\n- name: {n}\n  schedule: 61 * * * *\n  command: x\n- name: {n}-b\n  comand: x\n"
    first, second = path(lsh, text), path(lsh, f"[jobs.{n}-c]\ncommand = 'x'\nrun_as = 'nobody-{n}'\n", name="b.toml")
    before = lsh.files()
    result = lsh("apply", "-f", first, "-f", second, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    lines = result.stderr.splitlines()
    assert [line.split(" ")[0] for line in lines[:-1]] == [
        f"{first}:3:3:",
        f"{first}:5:3:",
        f"{first}:6:3:",
        f"{second}:1:1:",
    ]
    assert lines[-1] == "lshctl: 4 errors in job files; nothing was changed"
    assert lsh.files() == before


def test_a_failure_takes_all_back_and_a_killed_apply_is_finished_by_the_next(lsh: Lsh) -> None:
    n = lsh.new_name()
    file = path(lsh, FILE.format(n=n))
    lsh.add("--schedule", "0 1 * * *", "--", "true", name=f"{n}-a")
    # An administrator's drop-in with which systemd does not take one of the timers.
    lsh.write(f"lsh-{n}-c.timer.d/broken.conf", "[Timer]\nOnCalendar=\n")
    before = lsh.files()
    said = lsh("apply", "-f", file, check=False)
    assert said.returncode == 1 and "systemd did not take" in said.stderr
    assert lsh.files() == before
    assert lsh.show(f"lsh-{n}-a.timer", "ActiveState") == {"ActiveState": "active"}
    lsh.machine.run("rm", "-r", f"{lsh.folder}/lsh-{n}-c.timer.d", user=lsh.user)

    jobs = {f"{n}-{at}": {"schedule": f"{at % 60} 3 * * *", "command": f"echo {at}"} for at in range(60)}
    many = path(lsh, json.dumps({"project": n, "jobs": jobs}), name="many.json")
    cut = 'timeout -s KILL "$0" lshctl apply -f "$1" --prune; exit 0'
    for seconds in ("0.6", "0.8", "1", "1.3"):  # somewhere in the middle, on a machine of any speed
        lsh.machine.run("sh", "-c", cut, seconds, many, user=lsh.user, check=False)
    applied(lsh, "-f", many, "--prune")
    assert set(applied(lsh, "-f", many, "--prune").values()) == {"unchanged"}
    listed = {job["id"]: job["state"] for job in lsh.json("list") if job["id"].startswith(f"{n}-")}
    assert {job: listed[job] for job in jobs} == dict.fromkeys(jobs, "waiting")
    assert not [name for name in lsh.files() if "/." in name.removeprefix("/home/bob/.config")]
    lsh.check_fresh()
    assert set(applied(lsh, "-f", path(lsh, f"project: {n}\n"), "--prune").values()) == {"remove"}


def test_what_is_exported_is_applied_as_the_same_jobs(lsh: Lsh) -> None:
    n = lsh.new_name()
    lsh.add("--schedule", "0 2 * * *", "--env", "A=b c", "--retries", "2", "--", "echo '{{ x }}' $A %n", name=f"{n}-a")
    lsh.add("--every", "2h", "--disabled", "--no-shell", "--", "/bin/true", "a b", name=f"{n}-b")
    lsh.add("--on-boot", "--description=ü", "--", "true", name=f"{n}-c")
    ids = [f"{n}-{job}" for job in "abc"]
    before = {job: lsh.json("show", job) for job in ids}
    for form in ("yaml", "toml", "json"):
        file = path(lsh, lsh("export", "--format", form, *ids).stdout, name=f"jobs.{form}")
        lsh("remove", *ids)
        assert set(applied(lsh, "-f", file).values()) == {"add"}
        for job in ids:
            told = lsh.json("show", job)
            assert told["definition"].pop("applied") == "default"
            before[job]["definition"].pop("applied", None)
            assert (told["definition"], told["enabled"]) == (before[job]["definition"], before[job]["enabled"])
    units = lsh("export", "--format", "systemd", ids[0]).stdout
    assert units.startswith(f"# {lsh.folder}/lsh-{ids[0]}.service\n") and "OnCalendar=" in units
    head, *rows = lsh("export", "--format", "csv", *ids).stdout.splitlines()
    assert head.startswith("id,name,schedule") and len(rows) == 3


@only_on("forky")
@pytest.mark.parametrize("scope", ["system"], indirect=True)
def test_ctrl_c_at_a_terminal_takes_all_back_and_leaves_it_tidy(lsh: Lsh) -> None:
    n = lsh.new_name()
    jobs = {f"{n}-{at}": {"schedule": f"{at % 60} 3 * * *", "command": "true"} for at in range(600)}
    before, file = lsh.files(), path(lsh, json.dumps({"jobs": jobs}), name="jobs.json")
    argv = ("script", "--quiet", "--return", "--flush", "--command", f"lshctl apply -f {file}", "/dev/null")
    text = ""
    assert isinstance(lsh.machine, Machine)
    with lsh.machine.popen(*argv, env={"TERM": "xterm"}, stdin=subprocess.PIPE) as terminal:
        assert terminal.stdin and terminal.stdout
        while "starting" not in text:
            more = terminal.stdout.read(1)
            assert more, text
            text += more
        terminal.stdin.write("\x03")
        terminal.stdin.flush()
        text += terminal.stdout.read()
    assert terminal.returncode == 130 and "%  starting" in text
    assert text.endswith("\n\x1b[Kinterrupted\n"), text[-200:]  # read as text: \r is \n
    assert lsh.files() == before
    lsh.check_fresh()
