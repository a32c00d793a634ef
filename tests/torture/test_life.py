"""`make torture`: lives of jobs drawn from a seed, one after the other, until the time is over."""

import itertools
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system import roots
from tests.system.machine import Machine
from tests.torture.life import STATES, Life
from tests.torture.steps import step

SUITES = (os.environ.get("LSH_SUITES") or " ".join(roots.ALL_SUITES)).split()
STEPS = 60  # of one life
ROOM = "160M"  # what lshctl has to keep its state; doctor warns of less than 100


def test_lives() -> None:
    """Each has a seed of its own, which says systemd and scope, too: a failure can be repeated at once."""
    first = int(os.environ.get("LSH_TORTURE_SEED") or time.time_ns() // 1000)
    began = time.monotonic()
    for seed in itertools.count(first):
        live(seed)
        if time.monotonic() - began > float(os.environ["LSH_TORTURE_SECONDS"]):
            break
    print(f"lives of seeds {first} to {seed}")


def live(seed: int) -> None:
    suite, scope = SUITES[seed % len(SUITES)], ("system", "user")[seed // len(SUITES) % 2]
    print(f"\nseed {seed}: {suite}, {scope}", flush=True)
    with small_disk() as disk, Machine(suite, nspawn_options=(f"--bind={disk}:{STATES[scope]}",)) as machine:
        life = Life(machine, scope, seed)
        machine.run("sh", "-c", "test ! -e /home/bob || chown -R bob: /home/bob")
        try:
            for number in range(1, STEPS + 1):
                step(life)
                if number % 5 == 0:
                    life.note("- look")
                    life.check()
        except BaseException:
            print(*life.log, f"Again: make torture SECONDS=1 SEED={seed}", sep="\n")
            raise


@contextmanager
def small_disk() -> Iterator[Path]:
    """A disk that can be filled, and that outlives the machine's boots."""
    with tempfile.TemporaryDirectory(prefix="lsh-torture-") as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM},mode=755", "tmpfs", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


if "LSH_TORTURE_SECONDS" not in os.environ:
    pytest.skip("make torture runs it", allow_module_level=True)
