"""lshctl apply and diff: the machine's jobs become those of the files, all or none, whatever dies in between."""

import json
from typing import Any

from tests.system.lsh import Lsh

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
