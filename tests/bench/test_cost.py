"""What lshctl costs, as ratios against a baseline in the same run on the same machine. Nothing passes or fails by time.

LSH_BENCH_JOBS (5000) says how many jobs make a machine full.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from lsh_systemd import unit
from lsh_systemd.jobfile import from_plain
from lsh_systemd.scope import Scope
from tests.system.machine import Machine

JOBS = int(os.environ.get("LSH_BENCH_JOBS", "5000"))
ROUNDS = 15
UNITS = "/etc/systemd/system"


def median(action: Callable[[int], object]) -> float:
    """The median of several rounds, in seconds."""
    times = []
    for number in range(ROUNDS):
        began = time.perf_counter()
        action(number)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def fill(machine: Machine, count: int) -> None:
    """Give the machine so many jobs, without going through lshctl for each."""
    names = []
    for number in range(count):
        job = from_plain({"name": f"fill {number}", "command": "true", "schedule": "0 3 * * *"})
        files = unit.render(job, scope=Scope.SYSTEM, recorder="/bin/true", now=datetime.now(UTC), local_zone="UTC")
        for name, text in files.items():
            machine.write(f"{UNITS}/{name}", text)
        names.append(job.timer)
    for start in range(0, count, 1000):
        machine.run("systemctl", "start", *names[start : start + 1000], timeout=300)


@pytest.fixture
def full(new_machine: Callable[..., Machine], suite: str) -> Iterator[Machine]:
    """A machine of its own, empty at first."""
    yield new_machine(suite)


def add(machine: Machine, prefix: str) -> float:
    return median(
        lambda n: machine.run("lshctl", "add", f"{prefix} {n}", "--schedule", "5 4 * * *", "--", "true", timeout=120)
    )


def test_add_and_list(full: Machine) -> None:
    fill(full, 10)
    add(full, "warm")
    few = add(full, "few")
    listing_few = median(lambda n: full.run("lshctl", "list", "--json"))
    fill(full, JOBS)
    many = add(full, "many")
    listing = median(lambda n: full.run("lshctl", "list", "--json", timeout=300))
    timers = median(lambda n: full.run("systemctl", "list-timers", "--all", timeout=300))
    start = median(lambda n: full.run("lshctl", "--version"))
    print(f"\nsystemd {full.systemd_version}, {JOBS} jobs, medians of {ROUNDS}")
    print(
        f"  add with {JOBS} jobs / with 10              {many / few:6.2f}   ({many * 1e3:.0f} ms / {few * 1e3:.0f} ms)"
    )
    print(
        f"  list {JOBS} / systemctl list-timers          {listing / timers:6.2f}   ({listing:.2f} s / {timers:.2f} s)"
    )
    print(f"  list 10 / lshctl --version                  {listing_few / start:6.2f}")


def test_a_run_beside_a_bare_one(full: Machine) -> None:
    full.write(f"{UNITS}/bare.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c true\n")
    full.run("lshctl", "add", "recorded", "--", "true")
    bare = median(lambda n: full.run("systemctl", "start", "bare.service"))
    recorded = median(lambda n: full.run("systemctl", "start", "lsh-recorded.service"))
    script = "for i in $(seq 200); do systemctl start {}; done; cat /sys/fs/cgroup/system.slice/cpu.stat | head -n 1"

    def cpu(name: str) -> float:
        before = full.run("sh", "-c", "head -n 1 /sys/fs/cgroup/system.slice/cpu.stat").stdout.split()[1]
        after = full.run("sh", "-c", script.format(name), timeout=300).stdout.split()[1]
        return (int(after) - int(before)) / 200 / 1e3

    bare_cpu, recorded_cpu = cpu("bare.service"), cpu("lsh-recorded.service")
    print(f"\nsystemd {full.systemd_version}, medians of {ROUNDS}")
    print(f"  a recorded run / a bare one, elapsed        {recorded / bare:6.2f}")
    print(f"  CPU of a run's units                        {recorded_cpu:6.2f} ms / {bare_cpu:.2f} ms")


FLOOR = """
import json, sys, time
from gi.repository import Gio, GLib

def call(method, signature, *arguments):
    name, path = "org.freedesktop.systemd1", "/org/freedesktop/systemd1"
    bus.call_sync(name, path, f"{name}.Manager", method, GLib.Variant(signature, arguments), None, 0, 300000, None)

bus, units = Gio.bus_get_sync(Gio.BusType.SYSTEM), json.load(open(sys.argv[1]))
began = time.monotonic()
for name, text in units.items():
    with open(f"/etc/systemd/system/{name}", "w") as file:
        file.write(text)
timers = [name for name in units if name.endswith(".timer")]
call("EnableUnitFiles", "(asbb)", timers, False, False)
for name in timers:
    call("StartUnit", "(ss)", name, "replace")
print(time.monotonic() - began)
"""


def test_apply(full: Machine) -> None:
    """A thousand jobs at once, beside writing the same files and starting the timers one by one; and applying again.
    Medians of three rounds: what slows the machine slows one of them, not all."""
    floors, firsts, agains = [], [], []
    for number in range(3):
        jobs = {f"bench {number} {n}": {"command": "true", "schedule": f"{n % 60} 3 * * *"} for n in range(1000)}
        full.write("/tmp/jobs.json", json.dumps({"jobs": jobs}))
        units = {}
        for name, plain in jobs.items():
            job = from_plain({"name": f"floor {name}", **plain})
            units |= unit.render(job, scope=Scope.SYSTEM, recorder="/bin/true", now=datetime.now(UTC), local_zone="UTC")
        full.write("/tmp/floor.json", json.dumps(units))
        floors.append(float(full.run("python3", "-c", FLOOR, "/tmp/floor.json", timeout=300).stdout))
        for took in (firsts, agains):
            began = time.perf_counter()
            full.run("lshctl", "apply", "-f", "/tmp/jobs.json", timeout=300)
            took.append(time.perf_counter() - began)
        full.run("systemctl", "stop", "lsh-floor-*.timer", "lsh-bench-*.timer", timeout=300)
        full.run("sh", "-c", f"find {UNITS} -name 'lsh-floor-*' -delete; find {UNITS} -name 'lsh-bench-*' -delete")
    floor, first, again = map(statistics.median, (floors, firsts, agains))
    print(f"\nsystemd {full.systemd_version}, apply of 1000 jobs, medians of {len(floors)}; the aims are 1 and 0.1")
    print(f"  apply / write, enable and start each         {first / floor:6.2f}   ({first:.2f} s / {floor:.2f} s)")
    print(f"  apply again / apply                          {again / first:6.2f}   ({again:.2f} s)")
