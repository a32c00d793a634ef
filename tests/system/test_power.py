"""Power cuts: what the ledger has told of stays told, whenever the cord is pulled."""

import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.system.lsh import Lsh
from tests.system.machine import eventually
from tests.system.uml import UmlMachine, only_on

INTEGRITY = """
import sqlite3
db = sqlite3.connect("/var/lib/lsh/lsh.db")
print(db.execute("PRAGMA integrity_check").fetchone()[0])
"""


@only_on("bookworm")
def test_the_cord_is_pulled_again_and_again(uml: UmlMachine) -> None:
    """Every run that lshctl has shown as ended is there afterwards as it was; the others are whole, or lost with their
    start; the store opens by itself, and what comes later is collected, wherever the journal's end has gone."""
    lsh = Lsh(uml, "system")
    lsh("agent", "enable")
    job = lsh.add("--every", "1s", "--", "echo $INVOCATION_ID; sleep 0.3")
    sure: dict[str, dict[str, Any]] = {}
    seed = random.Random(8)
    for behind in (
        timedelta(0),
        timedelta(minutes=10),
    ):  # without a clock of its own, a machine goes on from an old time
        before = len(sure)
        eventually(lambda: len(ended(lsh, job)) > before + 2, timeout=60)  # noqa: B023
        sure = ended(lsh, job)
        time.sleep(seed.uniform(0, 1.5))
        clock = datetime.fromtimestamp(uml.clock(), UTC) - behind
        uml.kill()
        uml.boot(clock=clock)
        assert uml.run("python3", "-c", INTEGRITY).stdout == "ok\n"
        runs = {run["id"]: run for run in lsh.runs(job)}
        assert {run_id: runs.get(run_id) for run_id in sure} == sure
        over = [run for run in runs.values() if run["result"] is not None]
        assert {run["result"] for run in over} <= {"success", "lost"}
        for run in over:
            if run["result"] == "success":
                assert run["duration_seconds"] > 0
                assert run["output"] == f"{run['id']}\n"
    before = len(sure)
    eventually(lambda: len(ended(lsh, job)) > before + 2, timeout=60)
    told = lsh("doctor", "--json", check=False).json()
    assert [each for each in told if each["check"] == "store" and each["level"] != "ok"] == []
    lsh("remove", job)
    lsh("agent", "disable")


def ended(lsh: Lsh, job: str) -> dict[str, dict[str, Any]]:
    return {run["id"]: run for run in lsh.runs(job) if run["result"] == "success"}
