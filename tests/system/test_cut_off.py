"""lshctl killed at each of its steps: what it was told, told again, leaves a whole job or none."""

import itertools

import pytest

from tests.system.lsh import Lsh
from tests.system.uml import only_on

# Dies before the Nth time that it renames, links or removes a file; exit status 0 where it came to its end before.
DYING = """
import os, signal, sys
left = int(sys.argv.pop(1))
def count(event, arguments):
    global left
    if event in ("os.rename", "os.symlink", "os.remove"):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.argv[0] = "lshctl"
from lsh_systemd.cli import main
sys.addaudithook(count)
main()
"""
ADD = (
    *("add", "--schedule", "0 3 * * *", "--when-path", "/tmp/x", "--catch-up", "all", "--retries", "1"),
    *("--on-failure", "command:true", "cut", "true"),
)
# verb → its words, and those that bring back what it begins with
VERBS = {
    "add": (ADD, ("remove", "cut")),
    "set": (("set", "cut", "--schedule", "0 4 * * *", "--", "false"), ("set", "cut", "--schedule", "0 3 * * *")),
    "disable": (("disable", "cut"), ("enable", "cut")),
    "rename": (("rename", "cut", "cut anew"), ("rename", "cut anew", "cut")),
    "remove": (("remove", "cut"), ADD),
}


@only_on("forky")
@pytest.mark.parametrize(("verb", "scope"), [*zip(VERBS, itertools.cycle(("system", "user")), strict=False)])
def test_told_again(lsh: Lsh, verb: str) -> None:
    argv, back = VERBS[verb]
    if verb != "add":
        lsh(*ADD)
    steps = 0
    while not dies(lsh, steps, argv):
        steps += 1
        again = lsh(*argv, check=False)
        assert again.returncode == 0 or (
            again.returncode == 2 and ("already" in again.stderr or "there is no job" in again.stderr)
        ), again
        check(lsh, verb)
        lsh(*back)
    assert steps >= 3
    check(lsh, verb)


def dies(lsh: Lsh, step: int, argv: tuple[str, ...]) -> bool:
    """lshctl, killed at this step; whether it came to its end before."""
    command = ("python3", "-c", DYING, str(step), *argv)
    done = lsh.machine.run(*command, user=lsh.user, check=False, env={"PYTHONPATH": "/opt/lsh/project"})
    assert done.returncode in (0, -9, 137), done
    return done.returncode == 0


def check(lsh: Lsh, verb: str) -> None:
    """The verb has done all of its work, whoever did it: systemd's view and the files are those of the job."""
    jobs = {job["id"]: job for job in lsh.json("list")}
    name = {"rename": "cut-anew", "remove": None}.get(verb, "cut")
    assert list(jobs) == ([name] if name else [])
    units = [f"lsh-{name}{ending}" for ending in (".timer", ".path", ".service", ".failure@.service")] if name else []
    found = {path.rsplit("/", 1)[1] for path in lsh.files() if "/lsh-cut" in path or "/.lsh-cut" in path}
    assert found == set(units)
    if name:
        assert (jobs[name]["enabled"], jobs[name]["changed"]) == (verb != "disable", False)
        assert verb != "set" or (jobs[name]["schedule"][:9], jobs[name]["command"]) == ("0 4 * * *", "false")
    for unit in units[:2]:
        shown = lsh.show(unit, "ActiveState", "NeedDaemonReload")
        assert shown == {"ActiveState": "inactive" if verb == "disable" else "active", "NeedDaemonReload": "no"}
    state = "/var/lib/lsh" if lsh.scope == "system" else "/home/bob/.local/state/lsh"
    assert lsh.machine.run("ls", f"{state}/under-way").stdout == ""
