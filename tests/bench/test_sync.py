"""What sending the ledger to Supabase costs, beside posting the same rows by httpx alone. Nothing passes or fails by
time.

LSH_BENCH_ROWS (20000) says how many runs there are; each has two lines of output, a row of its own.
"""

import os
import random
import time
import uuid
from pathlib import Path

import httpx

from lsh_systemd import mirrored
from lsh_systemd.run import Run
from lsh_systemd.unsent import Unsent
from tests.supabase.project import NOW, Host, migrated
from tests.supabase.stack import Stack

RUNS = int(os.environ.get("LSH_BENCH_ROWS", "20000"))
BATCH = 500
ROUNDS = 3


def _run(draw: random.Random, number: int) -> Run:
    began = NOW + number * 1_000_000
    text = f"2026-11-22 begin {number}\nwrote {draw.randrange(10**6)} rows in {draw.random():.3f} s, all is well\n" * 4
    return Run(
        id=uuid.UUID(int=draw.getrandbits(128)).hex, job=f"job-{number % 50}", unit=f"lsh-job-{number % 50}.service",
        host="host", boot_id="a" * 32, trigger="timer", trigger_usec=began - 500, started_usec=began,
        started_monotonic_usec=number, ended_usec=began + 5500, duration_usec=5500, result="success", exit_status=0,
        cpu_usec=3000, memory_peak_bytes=409600, io_read_bytes=0, io_write_bytes=0, pid=1000 + number,
        output=text.encode(), output_bytes=len(text), message="all is well", metrics='{"rows": 12}',
    )  # fmt: skip


def _raw(stack: Stack, tables: dict[str, list[mirrored.Row]]) -> float:
    headers = {
        "apikey": stack.secret_key, "Authorization": f"Bearer {stack.secret_key}",
        "Prefer": "resolution=merge-duplicates,return=minimal",
    }  # fmt: skip
    began = time.perf_counter()
    with httpx.Client(base_url=stack.url, headers=headers, timeout=60) as client:
        for table, rows in tables.items():
            key = "host,run" if table == "run_output" else "host,id"
            for start in range(0, len(rows), BATCH):
                part = rows[start : start + BATCH]
                client.post(f"/rest/v1/{table}?on_conflict={key}", json=part).raise_for_status()
    return time.perf_counter() - began


def test_rows_a_second(tmp_path: Path) -> None:
    draw = random.Random(1)
    with migrated() as stack:
        host = Host(stack, tmp_path / "lsh.db")
        host.patience_seconds = 60
        host.put(*(_run(draw, number) for number in range(RUNS)))
        host.sync()
        tables = _rows(host.unsent, host)
        ours, raw = [], []
        for _ in range(ROUNDS):
            stack.sql("TRUNCATE runs, run_output; CHECKPOINT")
            raw.append(_raw(stack, tables))
            stack.sql("TRUNCATE runs, run_output; CHECKPOINT")
            host.unsent.turn_off()
            host.turn_on()
            began = time.perf_counter()
            host.sync()
            ours.append(time.perf_counter() - began)
        assert (host.there(), host.there(table="run_output")) == (str(RUNS), str(RUNS))
    rows = 2 * RUNS
    print(f"\n{RUNS} runs and their output to Supabase, {rows} rows in batches of {BATCH}")
    print(
        f"  sync / raw httpx, rows a second              {min(raw) / min(ours):6.2f}   "
        f"({rows / min(ours):.0f} / {rows / min(raw):.0f} a second)"
    )


def _rows(unsent: Unsent, host: Host) -> dict[str, list[mirrored.Row]]:
    """What is sent, as rows."""
    unsent.turn_off()
    host.turn_on()
    pages = unsent.page("runs", 0, RUNS)
    runs = [mirrored.run_row(values, host=host.id, scope="system") for _, _, values in pages if values is not None]
    found = unsent.outputs([row["id"] for row in runs])
    return {"runs": runs, "run_output": [mirrored.output_row(*each, host=host.id) for each in found]}
