"""What reports and lists of runs cost with a million runs in the store, beside a store that has none; no machine is
booted. Nothing passes or fails by time: the aims are printed beside the figures.

LSH_BENCH_RUNS (1000000) says how many runs there are: of 50 jobs, over a year, some with output and metrics.
"""

import itertools
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lsh_systemd.figures import Figures
from lsh_systemd.report import Reporter
from lsh_systemd.rollup import DAY_USEC
from lsh_systemd.run import Run
from lsh_systemd.store import Store

RUNS = int(os.environ.get("LSH_BENCH_RUNS", "1000000"))
JOBS = 50
ROUNDS = 7
BATCH = 1000
PROJECT = Path(__file__).resolve().parents[2]
COMMANDS = (
    ("runs",),
    ("runs", "job-7"),
    ("runs", "--failed"),
    ("report",),
    ("report", "--json"),
    ("report", "--since", "-90d", "--json"),
    ("report", "job-7"),
    ("report", "--all"),
    ("stats",),
    ("insights",),
)


def year(count: int, jobs: int = JOBS) -> Iterator[Run]:
    """So many runs of the year up to now, in their order, of job-0, job-1 …"""
    rng = random.Random(1)
    end = time.time_ns() // 1000
    results = ["success"] * 94 + ["exit-code"] * 3 + ["timeout", "signal", "skipped"]
    for number in range(count):
        job, result = number % jobs, rng.choice(results)
        took = int(rng.lognormvariate(14 + job % 7, 0.5))
        output = b"a line of output\n" * rng.choice((0, 0, 1, 5, 40))
        yield Run(
            id=f"{rng.getrandbits(128):032x}",
            job=f"job-{job}",
            unit=f"lsh-job-{job}.service",
            host="bench",
            boot_id="b" * 32,
            trigger="timer",
            started_usec=(at := end - 365 * DAY_USEC + 365 * DAY_USEC * number // count),
            ended_usec=at + took,
            duration_usec=None if result == "skipped" else took,
            result=result,
            cpu_usec=took // 3,
            memory_peak_bytes=rng.randrange(2**12, 2**18) * 4096,
            output=output,
            output_bytes=len(output),
            message=f"item {number} refused" if result == "exit-code" else None,
            metrics='{"rows": 17}' if job % 10 == 0 else "{}",
        )


def fill(path: Path, runs: Iterator[Run]) -> list[float]:
    """Write the runs in batches as collecting does; how long each batch took, in seconds."""
    store, times = Store(path), []
    while batch := list(itertools.islice(runs, BATCH)):
        began = time.perf_counter()
        with store.transaction():
            store.put(batch)
        times.append(time.perf_counter() - began)
    store.close()
    return times


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of state: of a store with all the runs, and of one with a run of each job."""
    full, empty = (tmp_path_factory.mktemp(name) for name in ("full", "empty"))
    times = fill(full / "lsh/lsh.db", year(RUNS))
    fill(empty / "lsh/lsh.db", year(JOBS))
    tenth = len(times) // 10 or 1
    first, last = (statistics.mean(each) / BATCH * 1e6 for each in (times[:tenth], times[-tenth:]))
    print(f"\n{RUNS} runs of {JOBS} jobs")
    print(f"  writing a run, the last tenth / the first   {last / first:6.2f}   ({last:.0f} µs / {first:.0f} µs)")
    return full, empty


def seconds(state: Path, *arguments: str) -> float:
    """What a command takes of processor time, which what else the machine does changes little."""
    environment = {**os.environ, "XDG_STATE_HOME": str(state), "XDG_CONFIG_HOME": "/nonexistent"}
    before = os.times()
    command = [sys.executable, "-m", "lsh_systemd.cli", "--user", *arguments]
    subprocess.run(command, cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


def test_commands(stores: tuple[Path, Path]) -> None:
    full, empty = stores
    print(f"\nlshctl, a process each, processor time, medians of {ROUNDS}")
    for arguments in COMMANDS:
        rounds = [(seconds(full, *arguments), seconds(empty, *arguments)) for _ in range(ROUNDS)]
        many, few = (statistics.median(column) for column in zip(*rounds, strict=True))
        shown = " ".join(arguments)
        print(f"  {shown:30} {RUNS} / {JOBS}    {many / few:6.2f}   (+{(many - few) * 1e3:.0f} ms; aim: +300 ms)")


def test_beside_reading_all_runs(stores: tuple[Path, Path]) -> None:
    store = Store(stores[0] / "lsh/lsh.db")
    began = time.perf_counter()
    reports = Reporter(Figures(store.query)).jobs()
    ours = time.perf_counter() - began
    began = time.perf_counter()
    read = sum(1 for _ in store.query("SELECT job, started_usec, result, duration_usec, cpu_usec FROM runs"))
    theirs = time.perf_counter() - began
    assert sum(report["runs"] for report in reports) == read
    print(f"  all reports / reading the columns alone     {ours / theirs:6.2f}   ({ours:.2f} s / {theirs:.2f} s)")
