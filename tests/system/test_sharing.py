"""A fleet that shares its work: three machines, one of which dies, and a Supabase that goes away."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.supabase.stack import PROJECT, Stack
from tests.system import roots
from tests.system.lsh import Lsh, seconds
from tests.system.machine import Machine, eventually

NewMachine = Callable[..., Machine]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """One with the tables, for these tests to break."""
    with Stack() as stack:
        for file in sorted((PROJECT / "packaging/supabase/migrations").glob("*.sql")):
            stack.sql(file.read_text())
        stack.stop("postgrest")  # it reads the schema anew when it feels like it
        stack.start("postgrest")
        yield stack


@pytest.fixture
def fleet(new_machine: NewMachine, stack: Stack) -> list[Lsh]:
    """Three machines, with each systemd at least one, that know the stack."""
    suites = [*roots.SUITES, *roots.SUITES, *roots.SUITES][:3]
    return [member(new_machine(suite), stack) for suite in suites]


def member(machine: Machine, stack: Stack, more: str = "") -> Lsh:
    machine.run("mkdir", "-p", "/etc/lsh")
    machine.write("/etc/lsh/lsh.toml", f'[supabase]\nurl = "{stack.url}"\n{more}')
    machine.write("/etc/lsh/supabase.key", stack.secret_key)
    machine.run("chmod", "600", "/etc/lsh/supabase.key")
    return Lsh(machine, "system")


def by_instant(fleet: list[Lsh], job: str, every: int) -> dict[int, list[dict[str, Any]]]:
    """The runs of all hosts, by the scheduled time that they fall to."""
    found = defaultdict(list)
    for lsh in fleet:
        for run in lsh.runs(job):
            if run["result"]:
                found[int(seconds(run["started_at"]) // every)].append(run)
    return dict(sorted(found.items()))


def test_once_in_the_fleet(fleet: list[Lsh], stack: Stack) -> None:
    """Each time has one run, with a token that grows; also when the one that makes it has died."""
    for lsh in fleet:
        for name, policy in (("nightly", "skip"), ("either", "run")):
            options = ("--calendar", "*:*:0/5", "--once-in-fleet", "--fleet-unreachable", policy)
            lsh.add(*options, "--", "echo token=$LSH_FENCING_TOKEN", name=name)
    every = 5

    def instants(hosts: int, since: float = 0) -> list[list[dict[str, Any]]]:
        """What became of those times that all hosts have told of."""
        found = [runs for at, runs in by_instant(fleet, "nightly", every).items() if at * every >= since]
        return [runs for runs in found if len(runs) == hosts]

    eventually(lambda: len(instants(3)) >= 3, timeout=40)
    tokens = []
    for runs in instants(3):
        assert Counter(run["result"] for run in runs) == {"success": 1, "skipped": 2}
        tokens += [int(run["output"].removeprefix("token=")) for run in runs if run["result"] == "success"]
        assert all("makes the run of" in run["reason"] for run in runs if run["result"] == "skipped")
    assert tokens == sorted(set(tokens))
    assert {run["trigger"] for runs in instants(3) for run in runs} == {"timer"}
    # by hand it runs, whatever the fleet does, and has no token
    assert fleet[0].run("nightly")["output"] == "token=\n"

    dead = fleet.pop(0)
    dead.machine.kill()
    since = time.time() + every
    eventually(lambda: len(instants(2, since)) >= 3, timeout=40)
    for runs in instants(2, since):
        assert Counter(run["result"] for run in runs) == {"success": 1, "skipped": 1}

    stack.stop("nginx")
    since = time.time() + 2 * every
    eventually(lambda: len(instants(2, since)) >= 2, timeout=40)
    for runs in instants(2, since):
        assert {run["result"] for run in runs} == {"skipped"}
        assert all(run["reason"].startswith("Supabase could not be asked: ") for run in runs)
    for lsh in fleet:
        told = [run for run in lsh.runs("either") if run["result"] and seconds(run["started_at"]) > since]
        assert {(run["result"], run["output"]) for run in told} == {("success", "token=\n")}
    stack.start("nginx")
    since = time.time() + 2 * every
    eventually(lambda: any(run["result"] == "success" for runs in instants(2, since) for run in runs), timeout=40)
    for lsh in fleet:  # the key is nowhere but in its file
        shown = lsh.machine.run(
            "sh", "-c", "systemctl show '*'; journalctl; cat /proc/[0-9]*/cmdline /etc/systemd/system/*"
        )
        assert stack.secret_key not in shown.stdout
