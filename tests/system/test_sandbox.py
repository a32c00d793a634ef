"""Isolation: what a job in each sandbox can and cannot do, on a real systemd; and its record is complete anyway."""

import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from lsh_systemd.run import RECORD
from tests.system.lsh import Lsh, seconds
from tests.system.machine import Machine

NewMachine = Callable[..., Machine]
LEVELS = ("none", "standard", "strict")


def places(lsh: Lsh) -> tuple[str, str, str]:
    """Folders that the scope's user may write to: one outside of the homes, one in a home, one in /tmp."""
    home = "/home/bob" if lsh.scope == "user" else "/home/owned by root"
    made = (f"/srv/{lsh.user} a", f"{home}/out", f"/tmp/{lsh.user}-out")
    for path in made:
        lsh.machine.run("mkdir", "-p", path)
        lsh.machine.run("chown", lsh.user, path)
    return made


def writes(*paths: str) -> str:
    """A command that tells in which of the folders it can make a file, and then ends as it should."""
    each = " ".join(map(shlex.quote, paths))
    return f'for d in {each}; do (: >"$d/made") 2>/dev/null && echo "$d" && rm "$d/made"; done; true'


def check_complete(lsh: Lsh, run: dict[str, Any], *, uid: int | None) -> None:
    """All that a record can tell is there, and it is one."""
    found = lsh.machine.journal(f"MESSAGE_ID={RECORD}", f"LSH_INVOCATION_ID={run['id']}")
    (entry,) = found
    if uid is not None:
        assert entry["_UID"] == str(uid)
    assert entry["LSH_STARTED"]
    assert seconds(run["started_at"]) <= seconds(run["ended_at"])
    assert run["cpu_seconds"] > 0
    assert run["trigger"] == "manual"


@pytest.mark.parametrize("level", LEVELS)
def test_a_job_writes_where_it_may(lsh: Lsh, level: str) -> None:
    """Without write paths in its own /tmp only; with one in that as well. Its output and record are whole."""
    outside, home, tmp = places(lsh)
    uid = 0 if lsh.scope == "system" else 1000
    job = lsh.add("--sandbox", level, "--", writes(outside, home, tmp, "/tmp"))
    run = lsh.run(job)
    check_complete(lsh, run, uid=uid)
    everywhere = [outside, home, tmp, "/tmp"]
    assert run["output"].splitlines() == (everywhere if level == "none" else ["/tmp"])
    if level == "none":
        return
    for path in (outside, home, tmp):
        lsh("set", job, "--write-path", path)
        run = lsh.run(job)
        check_complete(lsh, run, uid=uid)
        assert run["output"].splitlines() == [path, "/tmp"]
    lsh.machine.write(f"{outside}/kept", "", user=lsh.user)
    lsh("set", job, "--write-path", outside, "--working-dir", outside, "--", "touch new; ls; pwd")
    assert lsh.run(job)["output"] == f"kept\nnew\n{outside}\n"
    assert lsh.machine.exists(f"{outside}/new")
    lsh.machine.run("rm", "-r", outside)


@pytest.mark.parametrize("level", LEVELS)
def test_homes_are_seen_or_not(lsh: Lsh, level: str) -> None:
    lsh.machine.add_user("bob")
    _, home, _ = places(lsh)
    lsh.machine.write(f"{home}/secret", "to be kept\n", user=lsh.user)
    job = lsh.add("--sandbox", level, "--", f"cat '{home}/secret'")
    run = lsh.run(job, check=False)
    if level != "strict":
        assert run["output"] == "to be kept\n"
        return
    assert (run["result"], run["exit_status"]) == ("exit-code", 1)
    (hint,) = lsh.json("show", job)["hints"]
    assert hint["fix"] == f"lshctl --{lsh.scope} set {job} --sandbox standard"
    lsh("set", job, "--working-dir", home, "--", "cat secret; (: >secret) 2>/dev/null || echo kept")
    assert lsh.run(job)["output"] == "to be kept\nkept\n"


def test_no_network_is_none(lsh: Lsh) -> None:
    """Not even that of the machine itself; and nothing but the network is taken away."""
    connect = (
        'python3 -c \'import socket, sys\ntry: socket.create_connection(("127.0.0.1", 1))\n'
        'except OSError as error: sys.exit(f"{error.strerror}")\''
    )
    assert "Connection refused" in lsh.run(lsh.add("--", connect), check=False)["output"]
    job = lsh.add("--network", "none", "--", connect)
    run = lsh.run(job, check=False)
    assert run["output"] == "Address family not supported by protocol\n"
    check_complete(lsh, run, uid=0 if lsh.scope == "system" else 1000)
    (hint,) = lsh.json("show", job)["hints"]
    assert hint["fix"] == f"lshctl --{lsh.scope} set {job} --network host"
    outside, *_ = places(lsh)
    assert lsh.run(lsh.add("--network", "none", "--", writes(outside)))["output"] == f"{outside}\n"


def test_strict_is_strict_and_none_is_open(lsh: Lsh) -> None:
    """systemd's own judgement of the units as they are loaded, and of the files alone."""
    exposure = {}
    for level in LEVELS:
        unit = f"lsh-{lsh.add('--sandbox', level, '--', 'true')}.service"
        for argv in ([unit], ["--offline=yes", f"{lsh.folder}/{unit}"]):
            told = lsh.machine.run(
                "systemd-analyze", f"--{lsh.scope}", "security", "--no-pager", *argv, user=lsh.user, check=False
            )
            (score,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", told.stdout)
            exposure[level, len(argv)] = float(score)
    assert all(exposure["strict", way] <= 2.0 for way in (1, 2)), exposure
    assert all(exposure["strict", way] < exposure["standard", way] < exposure["none", way] for way in (1, 2))


@pytest.mark.parametrize(
    ("level", "command", "lifted"),
    [
        ("standard", ": >/srv/made_for_it/made", "--write-path /srv/made_for_it"),
        ("strict", "python3 -c 'import os; os.nice(-1)'", "--sandbox standard"),
        ("strict", "python3 -c 'import socket; socket.socket(socket.AF_NETLINK)'", "--sandbox standard"),
    ],
)
def test_the_protection_that_stopped_a_job_is_named(lsh: Lsh, level: str, command: str, lifted: str) -> None:
    lsh.machine.run("install", "-d", "-o", lsh.user, "/srv/made_for_it")
    job = lsh.add("--sandbox", level, "--", command)
    run = lsh.run(job, check=False)
    assert run["result"] == "exit-code", run
    check_complete(lsh, run, uid=None)
    assert [hint["fix"] for hint in lsh.json("show", job)["hints"]] == [f"lshctl --{lsh.scope} set {job} {lifted}"]
    assert f"lshctl --{lsh.scope} set {job} {lifted}" in lsh("show", job).stdout
    findings = [each for each in lsh("doctor", "--json", check=False).json() if each["check"] == f"job {job}"]
    assert [each["fix"] for each in findings] == [f"lshctl --{lsh.scope} set {job} {lifted}"]


def test_a_write_path_that_is_not_there(lsh: Lsh) -> None:
    """No run can begin then, as with a missing working directory: it is said at once, and of each run."""
    job = lsh.new_name()
    said = lsh("add", job, "--sandbox", "standard", "--write-path", "/nonexistent", "--", "true").stderr
    assert said == "lshctl: --write-path /nonexistent: there is no /nonexistent, and without it no run can begin\n"
    run = lsh.run(job, check=False)
    assert (run["result"], run["exit_status"], run["trigger"]) == ("exit-code", 226, "manual")
    assert seconds(run["started_at"]) <= seconds(run["ended_at"])
    (hint,) = lsh.json("show", job)["hints"]
    assert hint["fix"] == f"lshctl --{lsh.scope} set {job} --write-path PATH"


@pytest.mark.parametrize("level", LEVELS)
def test_as_another_user(machine: Machine, level: str) -> None:
    """The recorder runs in the sandbox then, as that user: measurements, times and output are there all the same."""
    lsh = Lsh(machine, "system")
    machine.add_user("bob")
    machine.run("install", "-d", "-o", "bob", "/srv/bob")
    box = ["--sandbox", level] + ([] if level == "none" else ["--write-path", "/srv/bob"])
    job = lsh.add("--run-as", "bob", *box, "--", f"id -un; {writes('/srv/bob', '/srv')}")
    run = lsh.run(job)
    assert run["output"] == "bob\n/srv/bob\n"
    check_complete(lsh, run, uid=1000)
    lsh.clean()


@pytest.mark.parametrize("level", LEVELS)
def test_as_a_user_that_comes_and_goes(machine: Machine, level: str) -> None:
    lsh = Lsh(machine, "system")
    machine.run("install", "-d", "-m", "1777", "/srv/all")
    job = lsh.add(
        "--dynamic-user", "--sandbox", level, "--write-path", "/srv/all", "--", f"id -u; {writes('/srv/all', '/var')}"
    )
    run = lsh.run(job)
    uid, written = run["output"].splitlines()
    assert 61184 <= int(uid) <= 65519
    assert written == "/srv/all"
    check_complete(lsh, run, uid=int(uid))
    assert "--dynamic-user needs --system" in Lsh(machine, "user").refused(
        "add", lsh.new_name(), "--dynamic-user", "--", "true"
    )
    lsh.clean()


@pytest.mark.parametrize("level", ["standard", "strict"])
def test_the_recorder_stays_inside_where_the_job_could_mislead_it(lsh: Lsh, level: str) -> None:
    outside, *_ = places(lsh)
    lsh.machine.write(f"{outside}/env", "A=b\n", user=lsh.user)
    job = lsh.add("--sandbox", level, "--env-file", f"{outside}/env", "--", "echo $A")
    run = lsh.run(job)
    assert (run["result"], run["output"]) == ("success", "b\n")
    (entry,) = lsh.machine.journal(f"MESSAGE_ID={RECORD}", f"LSH_INVOCATION_ID={run['id']}")
    assert entry["_UID"] == ("0" if lsh.scope == "system" else "1000")
    assert seconds(run["started_at"]) <= seconds(run["ended_at"])


def test_a_single_run_in_a_sandbox_leaves_nothing_behind(lsh: Lsh) -> None:
    before = lsh.files()
    result = lsh("run", "--sandbox", "strict", "--network", "none", "--", ": >/etc/x", check=False)
    assert result.returncode == 2
    assert "Read-only file system" in result.stdout or "Permission denied" in result.stdout
    assert lsh.files() == before


def test_a_user_manager_without_user_namespaces(new_machine: NewMachine, suite: str) -> None:
    """It says what it cannot do; the job runs, with what is left; and doctor says so as well."""
    machine = new_machine(suite)
    lsh = Lsh(machine, "user")
    before = lsh.add("--sandbox", "strict", "--", "true")
    assert lsh.run(before)["result"] == "success"
    machine.write("/etc/systemd/system/user@.service.d/no.conf", "[Service]\nRestrictNamespaces=~user\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "user@1000.service")
    name = lsh.new_name()
    connect = (
        "python3 -c 'import socket; socket.socket(socket.AF_INET)' 2>&1 | tail -n 1; : >$HOME/made && echo written"
    )
    said = lsh("add", name, "--sandbox", "strict", "--network", "none", "--write-path", "/srv", "--", connect)
    assert "--sandbox strict protects no files: your user manager may not make user namespaces" in said.stderr
    output = lsh.run(name)["output"]
    assert "Address family not supported" in output
    assert output.endswith("written\n")
    (finding,) = [each for each in lsh("doctor", "--json", check=False).json() if each["check"] == f"job {name}"]
    assert "protects no files" in finding["message"]
    # One from before, written for user namespaces, cannot begin, and is told why.
    run = lsh.run(before, check=False)
    assert (run["result"], run["exit_status"]) == ("exit-code", 217)
    (hint,) = lsh.json("show", before)["hints"]
    assert "217/USER" in hint["reason"]
