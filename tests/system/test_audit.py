"""Who changed which job, and who started it: told once, by those who may, and without what is secret."""

from typing import Any

import pytest

from lsh_systemd.run import CHANGED, MARK
from tests.system.lsh import Lsh
from tests.system.machine import Machine

SECRET = "hunter2-and-more"


@pytest.fixture
def person(lsh: Lsh) -> str:
    """Who lshctl's caller is there: where these tests run in a login's session, the kernel tells of that one."""
    told = lsh.machine.run("cat", "/proc/self/loginuid", user=lsh.user, check=False).stdout.strip()
    if told in ("", str(2**32 - 1)):
        return lsh.user
    return lsh.machine.run("sh", "-c", f"id -nu {told} 2>/dev/null || echo {told}").stdout.strip()


def changes(lsh: Lsh, *argv: str) -> list[dict[str, Any]]:
    """What `audit --json` tells, the oldest first."""
    told: list[dict[str, Any]] = lsh.json("audit", *argv, "--limit", "0")
    return told[::-1]


def test_each_change_is_told_once_with_its_difference(lsh: Lsh, person: str) -> None:
    name, new = lsh.new_name(), lsh.new_name()
    lsh("add", name, "--env", f"PASSWORD={SECRET}", "--stdin", SECRET, "--every", "1h", "--disabled", "--", "true")
    lsh("set", name, "--timeout", "5m", "--env", f"PASSWORD={SECRET}2", "--unset", "stdin", "--", "false")
    lsh("set", name, "--timeout", "5m")  # nothing changes
    lsh.refused("set", name, "--timeout", "never")
    lsh("set", name, "--timeout", "6m", "--dry-run")
    lsh("edit", name, env={"EDITOR": "sed -i s/5min/7min/", "VISUAL": None})
    lsh("enable", name)
    lsh("rename", name, new)
    lsh("disable", new)
    lsh("run", "--", "true")  # no job, and no change
    lsh("remove", new)
    expected = [
        ("add", name, None, {"name": [None, name], "command": [None, "true"], "every": [None, "1h"],
                             "env.PASSWORD": [None, "***"], "stdin": [None, "***"], "enabled": [None, False]}),
        ("set", name, None, {"timeout": [None, "5min"], "command": ["true", "false"], "stdin": ["***", None],
                             "env.PASSWORD": ["***", "***"]}),
        ("edit", name, None, {"timeout": ["5min", "7min"]}),
        ("enable", name, None, {"enabled": [False, True]}),
        ("rename", new, name, {"name": [name, new]}),
        ("disable", new, None, {"enabled": [True, False]}),
        ("remove", new, None, {"name": [new, None], "command": ["false", None], "every": ["1h", None],
                               "timeout": ["7min", None], "env.PASSWORD": ["***", None]}),
    ]  # fmt: skip
    told = changes(lsh, new)
    assert [(each["verb"], each["job"], each["before"], each["difference"]) for each in told] == expected
    assert {(each["actor"], each["via"]) for each in told} == {(person, "cli")}
    assert changes(lsh, name) == told[:5]  # by its old name: up to its new one
    assert [each["verb"] for each in changes(lsh, new, "--since", told[4]["at"])] == ["rename", "disable", "remove"]
    assert [each["verb"] for each in lsh.json("audit", "--limit", "2")] == ["remove", "disable"]
    assert SECRET not in lsh.machine.run("journalctl", "-o", "export", f"MESSAGE_ID={CHANGED}").stdout
    shown = lsh("audit", new).stdout
    assert "timeout: 5min → 7min" in shown and SECRET not in shown
    lsh.refused("audit", "no-such-job")


def test_what_is_no_job_s_is_told_too(lsh: Lsh, person: str) -> None:
    before = len(changes(lsh))
    lsh("secrets", "set", "audited", input=SECRET)
    lsh("secrets", "rotate", "audited", input=f"{SECRET}2")
    lsh("secrets", "remove", "audited")
    lsh.machine.run("lshctl", f"--{lsh.scope}", "limits", "set", "--global", "7", user=lsh.user)
    lsh.machine.run("lshctl", f"--{lsh.scope}", "limits", "set", "--global", "none", user=lsh.user)
    imported = lsh.new_path()
    lsh.machine.write(imported, "# job: audited import\n0 1 * * * true\n")
    lsh.machine.run("lshctl", f"--{lsh.scope}", "import", "crontab", imported, user=lsh.user)
    rule = ("--to", "json://127.0.0.1:9/s3cret")
    for argv in (("add", "ops", *rule), ("mute", "--job", "audited-import"), ("unmute", "--job", "audited-import")):
        lsh("alerts", *argv)
    lsh("alerts", "remove", "ops")
    told = changes(lsh)[before:]
    assert [(each["verb"], each["job"]) for each in told] == [
        ("secrets set", None),
        ("secrets rotate", None),
        ("secrets remove", None),
        ("limits set", None),
        ("limits set", None),
        ("import", "audited-import"),
        ("alerts add", None),
        ("alerts mute", "audited-import"),
        ("alerts unmute", "audited-import"),
        ("alerts remove", None),
    ]
    assert "s3cret" not in str(told)
    assert [each["difference"] for each in told[:5]] == [
        {"secret": [None, "audited"]},
        {"secret": ["audited", "audited"]},
        {"secret": ["audited", None]},
        {"global": [None, 7]},
        {"global": [7, None]},
    ]
    assert told[5]["difference"]["schedule"] == [None, ["0 1 * * *"]]
    assert {each["actor"] for each in told} == {person}


def test_who_started_a_run(lsh: Lsh, person: str) -> None:
    job = lsh.add("--", "true")
    assert lsh.run(job)["triggered_by"] == person
    bob = Lsh(lsh.machine, "user").user
    lsh("restart", job, env={"SUDO_UID": "1000", "SUDO_USER": bob})
    behind_sudo = bob if person == "root" else person  # where the kernel knows who logged in, that counts
    assert [run["triggered_by"] for run in lsh.ended(job, 2)] == [person, behind_sudo]
    lsh.systemctl("start", f"lsh-{job}.service")
    assert lsh.ended(job, 3)[2]["triggered_by"] is None
    assert lsh("run", "--json", "--", "true").json()["triggered_by"] == person
    lsh.machine.run("lshctl", f"--{lsh.scope}", "limits", "set", "--global", "9", user=lsh.user)
    try:
        assert lsh.run(lsh.add("--", "true"))["triggered_by"] == person
    finally:
        lsh.machine.run("lshctl", f"--{lsh.scope}", "limits", "set", "--global", "none", user=lsh.user)
    other = lsh.add("--on-success", job, "--", "true")
    lsh.run(other)
    assert lsh.ended(job, 4)[3]["triggered_by"] is None


def forge(machine: Machine, user: str, **fields: str) -> None:
    machine.run("logger", "--journald", input="".join(f"{key}={value}\n" for key, value in fields.items()), user=user)


def test_a_forged_word_is_not_believed(machine: Machine) -> None:
    """Another user's change, or word on who started a run, does not count; nor does what is malformed."""
    system, bob = Lsh(machine, "system"), Lsh(machine, "user")
    machine.add_user("carol")
    fields = {
        "MESSAGE_ID": CHANGED, "LSH_CHANGE": "0123456789abcdef" * 2, "LSH_JOB": "x", "LSH_VERB": "remove",
        "LSH_UID": "0", "LSH_ACTOR": "root", "LSH_VIA": "cli", "LSH_DIFF": "{}",
    }  # fmt: skip
    before = {lsh: changes(lsh) for lsh in (system, bob)}
    forge(machine, "bob", **fields, LSH_SCOPE="system")
    forge(machine, "root", **fields, LSH_SCOPE="user")
    for wrong in (
        {"LSH_DIFF": "[]"}, {"LSH_DIFF": '{"a": 1}'}, {"LSH_DIFF": "[" * 50_000}, {"LSH_UID": "x"}, {"LSH_JOB": "../x"},
        {"LSH_CHANGE": "1"}, {"LSH_VERB": "\x1b[2J"}, {"LSH_DIFF": '{"a": ["' + "x" * 10**6 + '", 1]}'},
    ):  # fmt: skip
        forge(machine, "root", **(fields | wrong), LSH_SCOPE="system")
    for lsh in (system, bob):
        assert changes(lsh) == before[lsh]
    controls = {"LSH_ACTOR": "\x1b[2J", "LSH_DIFF": '{"a\\u001b[2J": ["\\u001b[2J", "\\u001b[2J"]}'}
    forge(machine, "root", **(fields | controls), LSH_SCOPE="system")
    assert "\x1b" not in system("audit").stdout
    assert changes(system)[-1]["actor"] == "0"
    # Whose the run is may tell of its numbers, not who started it.
    job = system.add("--run-as", "carol", "--", "sleep 1000")
    system("start", job)
    run = system.runs(job)[0]
    mark = {"MESSAGE_ID": MARK, "LSH_SCOPE": "system", "LSH_UNIT": f"lsh-{job}.service", "LSH_TRIGGER": "manual"}
    forge(machine, "carol", **mark, LSH_INVOCATION_ID=run["id"], LSH_BY="somebody")
    system("stop", job)
    assert system.ended(job)[0]["triggered_by"] != "somebody"
    system.clean()


def test_collected_twice_it_is_told_once_and_without_a_journal_it_is_done(machine: Machine) -> None:
    lsh = Lsh(machine, "system")
    job = lsh.add("--every", "1h", "--", "true")
    lsh("disable", job)
    before = changes(lsh)
    forget = "import sqlite3; c = sqlite3.connect('/var/lib/lsh/lsh.db'); c.execute('DELETE FROM state'); c.commit()"
    machine.run("python3", "-c", forget)
    assert changes(lsh) == before
    machine.run("sh", "-c", "rm -f /var/lib/lsh/lsh.db*")
    assert changes(lsh) == before
    gone = "--property=TemporaryFileSystem=/run/systemd/journal"
    machine.run("systemd-run", "--quiet", "--wait", gone, "--", "lshctl", "enable", job)
    assert lsh.json("show", job)["enabled"]
    assert changes(lsh) == before
    lsh.clean()
