"""How much of the machine our daemons could reach, as systemd reckons it: 0 is nothing, 10 all."""

import re
from pathlib import Path

from tests.system.machine import Machine

UNITS = Path(__file__).resolve().parents[2] / "units"
# What runs for a while, or talks to somebody outside: 2.0 or better on each systemd.
DAEMONS = {
    "lsh-agent.service": 1.6,
    "lsh-alert.service": 2.0,
    "lsh-api.service": 1.6,
    "lsh-ask@.service": 2.0,
    "lsh-catch-up.service": 1.6,
    "lsh-claim@.service": 2.0,
    "lsh-fleet.service": 2.0,
    "lsh-prune.service": 1.6,
    "lsh-queue.service": 1.4,
    "lsh-refresh.service": 1.8,
    "lsh-sync.service": 2.0,
    "lsh-tell-end@.service": 2.0,
    "lsh-tell-start@.service": 2.0,
}
# Scripts of a few lines between two runs of a job, which only talk to systemd: see CONTRIBUTING.
SCRIPTS = {"lsh-after@.service", "lsh-failed@.service", "lsh-succeeded@.service", "lsh-tick@.service"}


def test_what_our_daemons_could_reach(machine: Machine) -> None:
    shipped = {path.name for path in UNITS.glob("*.service") if ".user." not in path.name}
    assert shipped == DAEMONS.keys() | SCRIPTS
    assert max(DAEMONS.values()) <= 2.0
    machine.run("mkdir", "-p", "/tmp/exposure")
    found = {}
    for name in DAEMONS:
        machine.write(f"/tmp/exposure/{name}", (UNITS / name).read_text())
        command = ("systemd-analyze", "security", "--offline=true", "--no-pager", f"/tmp/exposure/{name}")
        told = re.search(r"Overall exposure level for \S+: ([0-9.]+)", machine.run(*command).stdout)
        assert told, name
        found[name] = float(told[1])
    machine.run("rm", "-r", "/tmp/exposure")
    assert {name: level for name, level in found.items() if level > DAEMONS[name]} == {}
