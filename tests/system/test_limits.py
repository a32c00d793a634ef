"""Limits that a kernel really enforces: a container has no cgroup controllers, a machine with its own kernel has."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.lsh import Lsh
from tests.system.uml import UmlMachine, only_on

pytestmark = only_on("forky")
MEBI = 2**20


@pytest.fixture(scope="module")
def lsh(uml: UmlMachine) -> Iterator[Lsh]:
    lsh = Lsh(uml, "system")
    yield lsh
    lsh.clean()


def only_run(lsh: Lsh, job: str) -> dict[str, Any]:
    """The job's run, started now."""
    lsh.systemctl("start", f"lsh-{job}.service", check=False)
    (run,) = lsh.ended(job, timeout=60)
    return run


def test_a_job_that_wants_more_memory_is_killed(lsh: Lsh) -> None:
    job = lsh.add("--memory-max", "32M", "--", "python3 -c 'bytearray(200 << 20)'")
    run = only_run(lsh, job)
    assert run["result"] == "oom-kill", run
    assert 28 * MEBI <= run["memory_peak_bytes"] <= 32 * MEBI, run


def test_a_job_gets_its_share_of_the_cpu(lsh: Lsh) -> None:
    job = lsh.add("--cpu-quota", "20%", "--", "timeout 5 sh -c 'while :; do :; done' || true")
    run = only_run(lsh, job)
    assert run["result"] == "success", run
    assert run["cpu_seconds"] / run["duration_seconds"] == pytest.approx(0.20, abs=0.03), run
