"""lshctl explain on a machine without a systemd: the drawing, --name, and the jobs that start at the same minute."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lsh_systemd import crowd, unit
from lsh_systemd.jobfile import from_plain
from lsh_systemd.scope import Scope
from lsh_systemd.unitdir import UnitDir

Explain = Callable[..., str]
NOON = ("--tz", "Europe/Berlin", "--from", "2027-01-04 12:00")


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UnitDir:
    """The folder of a user's own units."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    return UnitDir(tmp_path / "config/systemd/user")


def add(folder: UnitDir, name: str, schedule: str | Iterable[str], *, enabled: bool = True, **settings: Any) -> None:
    """The files of a job, as lshctl add leaves them."""
    schedules = [schedule] if isinstance(schedule, str) else [*schedule]
    job = from_plain({"name": name, "command": "true", "schedule": schedules, **settings})
    now = datetime(2027, 1, 4, 12, tzinfo=UTC)
    folder.write(unit.render(job, scope=Scope.USER, recorder="/bin/true", now=now, local_zone="Europe/Berlin"))
    if enabled:
        folder.enable(job.timer)


@pytest.fixture
def explain(units: UnitDir) -> Explain:
    def call(*arguments: str, **environment: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "lsh_systemd.cli", "--user", "explain", *arguments],
            env={**os.environ, "PYTHONUTF8": "0", "PYTHONIOENCODING": "utf-8", **environment},
            capture_output=True, check=True, encoding="utf-8",
        ).stdout  # fmt: skip

    return call


def warnings(explain: Explain, *arguments: str) -> str:
    return " ".join(json.loads(explain(*arguments, *NOON, "--json"))["warnings"])


def test_the_drawing_follows_the_instants(explain: Explain) -> None:
    shown = explain("0 9 * * 1-5", *NOON)
    assert shown.index("  Mon 2027-01-11 09:00:00 CET\n\n") < shown.index("  Tue 2027-01-05  ··················█······")
    assert max(map(len, shown.splitlines())) <= 100
    assert "█ runs" in shown and "#" not in shown


def test_the_drawing_is_ascii_where_blocks_cannot_be_written(explain: Explain) -> None:
    for encoding in ("ascii", "latin-1"):
        shown = explain("0 9 * * 1-5", *NOON, PYTHONIOENCODING=encoding)
        assert "  Tue 2027-01-05  ..................#......" in shown and shown.isascii()


def test_no_drawing_in_json(explain: Explain) -> None:
    told = json.loads(explain("0 9 * * *", *NOON, "--json"))
    assert set(told) == {"expression", "timezone", "calendar", "next", "description", "warnings"}


def test_name_is_what_h_is_hashed_from(explain: Explain) -> None:
    hours = {
        name: re.findall(r"At (..:..)", explain("H H * * *", "--name", name))[0] for name in ("a", "b", "Daily Backup")
    }
    assert len(set(hours.values())) == 3
    job = from_plain({"name": "Daily Backup", "command": "true", "schedule": ["H H * * *"]})
    line = unit.calendar_lines(job, now=datetime.now(UTC), local_zone="UTC")[0]
    assert line == f"*-*-* {hours['Daily Backup']}:00"
    assert explain("H H * * *", "--name", "daily-backup") == explain("H H * * *", "--name", "Daily Backup")


def test_h_without_a_name_is_told(explain: Explain) -> None:
    for text in ("H 2 * * *", "0 H(2-5) * * *", "0 0 1,H * *", "h/20 * * * *"):
        assert "--name NAME" in warnings(explain, text), text
        assert "--name NAME" not in warnings(explain, text, "--name", "x"), text
    for text in ("0 0 * mar thu", "0 0 1 1 1", "@hourly"):
        assert "--name" not in warnings(explain, text)


def test_many_at_the_same_minute(explain: Explain, units: UnitDir) -> None:
    for number in range(4):
        add(units, f"nightly {number}", "0 2 * * *")
    assert "start at" not in warnings(explain, "0 2 * * *")  # four are not many
    add(units, "in UTC", "0 1 * * *", timezone="UTC")  # the same minute in Berlin's winter
    want = "5 other jobs of yours start at 2027-01-05 02:00, too: to spread the load, write H 2 * * *"
    zone = ("--tz", "Europe/Berlin")
    for number in range(4):
        add(units, f"nightly {number}", "0 2 * * *", timezone="Europe/Berlin")
    assert want in warnings(explain, "0 2 * * *", *zone)
    assert want in explain("0 2 * * *", *NOON)
    assert "start at" not in warnings(explain, "1 2 * * *")
    # the busiest one is named
    add(units, "sixth", "0 3 * * *", timezone="Europe/Berlin")
    add(units, "seventh", ["0 3 * * *", "0 2 6 1 *"], timezone="Europe/Berlin")
    assert "6 other jobs of yours start at 2027-01-06 02:00, too" in warnings(explain, "0 2-3 * * *")


def test_who_does_not_count(explain: Explain, units: UnitDir) -> None:
    zone: dict[str, Any] = {"timezone": "Europe/Berlin"}
    for number in range(5):
        add(units, f"job {number}", "0 2 * * *", **zone)
    assert "5 other jobs" in warnings(explain, "0 2 * * *")
    assert "start at" not in warnings(explain, "0 2 * * *", "--name", "Job 3")  # the job itself
    add(units, "resting", "0 2 * * *", enabled=False, **zone)
    add(units, "spread", "0 2 * * *", jitter="10m", **zone)
    add(units, "hashed", "H(1-59) 2 * * *", **zone)
    assert "5 other jobs" in warnings(explain, "0 2 * * *")
    # what somebody has edited
    (units.path / "lsh-job-0.timer").write_text("# cron: nonsense (Mars/Olympus)\n# cron: 0 2 * * * (Mars/Olympus)\n")
    assert "start at" not in warnings(explain, "0 2 * * *")
    (units.path / "lsh-job-0.timer").write_text(
        "# new: line\n# cron: 0 2 * * * (Europe/Berlin)\n# not: 1\nOnCalendar=x\n"
    )
    assert "5 other jobs" in warnings(explain, "0 2 * * *")
    (units.path / "lsh-job-1.timer").unlink()
    assert "start at" not in warnings(explain, "0 2 * * *")


@pytest.mark.parametrize(
    ("at", "schedule", "starts"),
    [
        ("2027-03-28T01:00Z", "30 2 * * *", True),  # made up at the end of the gap
        ("2027-03-28T01:00Z", "30 2 * * 1", False),
        ("2027-10-31T00:30Z", "30 2 * * *", True),
        ("2027-10-31T01:30Z", "30 2 * * *", False),  # the second 02:30
        ("2027-10-31T01:30Z", "*/30 2 * * *", True),
        ("2027-01-05T01:00Z", "0 2 * * * 15", True),  # within the minute
        ("2027-01-05T01:00Z", "@daily", False),
        ("2027-01-04T23:00Z", "@daily", True),
    ],
)
def test_when_a_job_starts(units: UnitDir, at: str, schedule: str, starts: bool) -> None:
    """By cron's rule, changes of the clock included."""
    for number in range(5):
        add(units, f"job {number}", schedule, timezone="Europe/Berlin", seconds=True)
    told = crowd.warnings("0 2 * * *", [datetime.fromisoformat(at)], zone="UTC", scope=Scope.USER, local_zone="UTC")
    assert bool([*told]) is starts


@pytest.mark.parametrize(
    ("text", "way"),
    [
        ("0 2 * * *", "write H 2 * * * ("),
        ("@daily", "write H 0 * * * ("),
        ("*/15 * * * *", "write H/15 * * * * ("),
        ("*/90 * * * *", "load, use --jitter"),
        ("* * * * *", "load, use --jitter"),
        ("0,30 * * * *", "load, use --jitter"),
    ],
)
def test_the_way_out(units: UnitDir, text: str, way: str) -> None:
    for number in range(5):
        add(units, f"job {number}", "* * * * *")
    at = datetime(2027, 1, 4, tzinfo=UTC)
    (told,) = crowd.warnings(text, [at], zone="UTC", scope=Scope.USER, local_zone="UTC")
    assert way in told


def test_no_units_at_all(explain: Explain, tmp_path: Path) -> None:
    assert "Every minute" in explain("* * * * *")
    assert "Every minute" in explain("* * * * *", XDG_CONFIG_HOME="/dev/null", XDG_RUNTIME_DIR="/dev/null")


@pytest.mark.parametrize("start", ["9990-01-01T00:00:00Z", "9996-06-01T00:00:00Z", "9999-12-31T23:59:59Z"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Pacific/Auckland"])
def test_the_end_of_time(explain: Explain, zone: str, start: str) -> None:
    assert "Every 15 minutes" in explain("*/15 * * * *", "--tz", zone, "--from", start)
    assert "At 02:30 every day" in explain("30 2 * * *", "--tz", zone, "--from", start)
