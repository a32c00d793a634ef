"""What was missed while nobody could look: with the machine off, and when the clock jumps."""

from datetime import UTC, datetime
from typing import Any

from tests.system.booted import eventually
from tests.system.lsh import Lsh
from tests.system.uml import UmlMachine, only_on

DAILY = ("--schedule", "30 2 * * *", "--tz", "UTC")


@only_on("bookworm")
def test_missed_while_the_machine_was_off(uml: UmlMachine) -> None:
    """One for all that was missed; none for what boot makes up for, or what rests. A year's jump is no storm."""
    uml.set_clock(datetime(2029, 1, 10, 12, tzinfo=UTC))
    lsh = Lsh(uml, "system")
    lsh.add(*DAILY, "--", "true", name="daily")
    lsh.add(*DAILY, "--persistent", "--", "true", name="made-up")
    lsh.add(*DAILY, "--disabled", "--", "true", name="resting")
    lsh.add("--every", "1h", "--", "true", name="hourly")
    lsh("alerts", "add", "ops", "--on", "missed", "--to", "json://127.0.0.1:9")
    lsh("agent", "enable")

    def missed() -> dict[str, list[dict[str, Any]]]:
        told: dict[str, list[dict[str, Any]]] = {}
        for run in lsh.json("runs", "--limit", "0")[::-1]:
            if run["result"] == "missed":
                told.setdefault(run["job"], []).append(run)
        return told

    eventually(lambda: lsh.systemctl("is-active", "lsh-agent.service", check=False).stdout == "active\n", timeout=60)
    assert missed() == {}
    uml.power_off()
    uml.boot(clock=datetime(2029, 1, 13, 12, tzinfo=UTC))  # three times later
    eventually(lambda: "daily" in missed(), timeout=120)
    (run,) = missed()["daily"]
    assert (run["due_at"], run["metrics"]) == ("2029-01-11T02:30:00.000000Z", {"missed": 3})
    assert missed().keys() == {"daily"}
    uml.set_clock(datetime(2030, 1, 13, 12, tzinfo=UTC))
    lsh.systemctl("restart", "lsh-agent.service")
    eventually(lambda: len(missed()["daily"]) > 1, timeout=120)
    assert [run["metrics"] for run in missed()["daily"]][1]["missed"] > 360
    assert len(missed()["daily"]) == 2 and len(missed().get("hourly", [])) <= 1 and "resting" not in missed()
    lsh("alerts", "remove", "ops")
    lsh("agent", "disable")
    lsh.clean()
