"""What keeping the ledger costs: a backlog beside journalctl, and the agent at rest. Nothing passes or fails by time.

LSH_BENCH_RUNS (100000) says how large the backlog is.
"""

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from lsh_systemd.run import FINISHED, RECORD, STARTING
from tests.system.machine import Machine
from tests.tools import needs

RUNS = int(os.environ.get("LSH_BENCH_RUNS", "100000"))
REMOTE = "/lib/systemd/systemd-journal-remote"
JOBS = 50
BOOT = "a" * 32
SYSTEMD = {
    "_PID": "1", "_UID": "0", "_COMM": "systemd", "_EXE": "/usr/lib/systemd/systemd", "_CMDLINE": "/sbin/init",
    "_SYSTEMD_CGROUP": "/init.scope", "_SYSTEMD_UNIT": "init.scope", "_TRANSPORT": "journal", "PRIORITY": "6",
    "SYSLOG_IDENTIFIER": "systemd", "CODE_FILE": "src/core/job.c", "CODE_LINE": "616", "JOB_TYPE": "start",
}  # fmt: skip


def entries(runs: int) -> Iterator[tuple[int, dict[str, object]]]:
    """What the journal has of so many runs of fifty jobs, fifty runs a second, as (µs, fields)."""
    draw = random.Random(1)
    began = time.time_ns() // 1000 - runs * 20_000 - 600_000_000
    for number in range(runs):
        job, at, pid = f"job-{number % JOBS}", began + number * 20_000, 1000 + 4 * number
        unit, run_id = f"lsh-{job}.service", f"{draw.getrandbits(128):032x}"
        told = {**SYSTEMD, "UNIT": unit, "INVOCATION_ID": run_id}
        own = {
            "_UID": "0", "_SYSTEMD_CGROUP": f"/system.slice/{unit}", "_SYSTEMD_UNIT": unit,
            "_SYSTEMD_INVOCATION_ID": run_id, "SYSLOG_IDENTIFIER": f"lsh-{job}",
        }  # fmt: skip
        yield at, {**told, "MESSAGE_ID": STARTING, "MESSAGE": f"Starting {unit} - {job}...", "JOB_ID": number}
        line = {"_TRANSPORT": "stdout", "_PID": pid, "_COMM": "sh", "PRIORITY": "6", "MESSAGE": f"hello {number}"}
        yield at + 3000, {**own, **line, "_STREAM_ID": f"{draw.getrandbits(128):032x}"}
        record = {
            "_TRANSPORT": "journal", "_PID": pid + 2, "_COMM": "logger", "PRIORITY": "7", "MESSAGE_ID": RECORD,
            "MESSAGE": "run ended: success (exited 0)", "LSH_SCOPE": "system", "LSH_UNIT": unit,
            "LSH_INVOCATION_ID": run_id, "LSH_RESULT": "success", "LSH_EXIT_CODE": "exited", "LSH_EXIT_STATUS": "0",
            "LSH_STARTED": f"{at / 1e6:.6f}", "LSH_ENDED": f"{at / 1e6 + 0.0055:.6f}", "LSH_CPU_USEC": "3000",
            "LSH_MEMORY_PEAK": "409600", "LSH_IO_READ": "0", "LSH_IO_WRITTEN": "0", "LSH_PID": pid + 1,
            "LSH_TRIGGER_UNIT": f"lsh-{job}.timer", "LSH_TRIGGER_USEC": at - 500,
        }  # fmt: skip
        yield at + 6000, {**own, **record}
        done = {"MESSAGE_ID": FINISHED, "MESSAGE": f"Finished {unit} - {job}.", "JOB_RESULT": "done"}
        yield at + 7000, {**told, **done}


def write(runs: int, file: IO[str]) -> None:
    """In the journal's export format."""
    first = 0
    for number, (at, fields) in enumerate(entries(runs), 1):
        first = first or at
        place = f"s={BOOT};i={number:x};b={BOOT};m={at - first + 5_000_000:x};t={at:x};x={number:x}"
        file.write(f"__CURSOR={place}\n__REALTIME_TIMESTAMP={at}\n__MONOTONIC_TIMESTAMP={at - first + 5_000_000}\n")
        file.write(f"_BOOT_ID={BOOT}\n_HOSTNAME=host\n")
        file.writelines(f"{name}={value}\n" for name, value in fields.items())
        file.write("\n")


@needs(REMOTE)
def test_a_backlog(new_machine: Callable[..., Machine], suite: str, tmp_path: Path) -> None:
    machine = new_machine(suite)
    for number in range(JOBS):
        machine.run("lshctl", "add", f"job-{number}", "--schedule", "0 3 * * *", "--", "true")
    machine.run("lshctl", "runs")
    with subprocess.Popen([REMOTE, "-o", tmp_path / "backlog.journal", "-"], stdin=-1, text=True) as remote:
        assert remote.stdin
        write(RUNS, remote.stdin)
        remote.stdin.close()
    (folder,) = (machine.disk / "var/log/journal").iterdir()
    for number, file in enumerate(sorted(tmp_path.glob("*.journal"))):
        shutil.copy(file, folder / f"system@{number}.journal")

    def took(*argv: str) -> float:
        began = time.perf_counter()
        machine.run("sh", "-c", '"$@" >/dev/null', "sh", *argv, timeout=600)
        return time.perf_counter() - began

    printing = min(took("journalctl", "--output=json", f"_BOOT_ID={BOOT}") for _ in range(2))
    collecting = took("lshctl", "runs", "--limit", "1")
    start = took("lshctl", "runs", "--limit", "1")
    (newest,) = machine.run("lshctl", "runs", "--limit", "1", "--json").json()
    assert newest["output"] == f"hello {RUNS - 1}\n"
    print(f"\nsystemd {machine.systemd_version}, a backlog of {RUNS} runs")
    ratio = (collecting - start) / printing
    print(f"  collect / journalctl --output=json          {ratio:6.2f}   ({collecting:.1f} s / {printing:.1f} s)")


SAFE = """
import sqlite3, subprocess, statistics, time
taken = []
for _ in range(10):
    time.sleep(2)
    before = time.time_ns() // 1000
    subprocess.run(["systemctl", "start", "lsh-job.service"], check=True)
    while True:
        db = sqlite3.connect("file:/var/lib/lsh/lsh.db?mode=ro", uri=True)
        rows = db.execute("SELECT ended_usec FROM runs WHERE result != '' AND started_usec > ?", (before - 50_000,))
        if (found := rows.fetchone()):
            break
        time.sleep(0.01)
    taken.append(time.time() - found[0] / 1e6)
print(statistics.median(taken), max(taken))
"""


def test_the_agent_at_rest(new_machine: Callable[..., Machine], suite: str) -> None:
    machine = new_machine(suite)
    machine.run("lshctl", "add", "job", "--schedule", "0 3 * * *", "--", "true")
    machine.run("lshctl", "agent", "enable")
    for _ in range(3):
        machine.run("lshctl", "start", "--wait", "job")
    time.sleep(5)
    pid = machine.run("systemctl", "show", "--property=MainPID", "--value", "lsh-agent.service").stdout.strip()

    def status(name: str) -> int:
        lines = machine.read(f"/proc/{pid}/status").splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:")))

    before = status("voluntary_ctxt_switches")
    time.sleep(20)
    print(f"\nsystemd {machine.systemd_version}, the agent at rest")
    print(f"  wake-ups in 20 s                            {status('voluntary_ctxt_switches') - before:6d}")
    print(f"  memory of its own                           {status('RssAnon') / 1024:6.1f} MiB")
    median, worst = machine.run("python3", "-c", SAFE, timeout=120).stdout.split()
    print(f"  from a run's end to its being on disk       {float(median):6.2f} s, at worst {float(worst):.2f} s")
