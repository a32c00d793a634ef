"""The expressions of systemd's own test of its calendar, through ``--calendar`` and the installed systemd."""

import json
import os
import re
import subprocess
from dataclasses import dataclass, replace
from datetime import datetime

import pytest

from lsh_systemd import analyze, unit
from lsh_systemd.errors import BadInput
from lsh_systemd.jobfile import from_plain
from tests.corpus import FOLDER
from tests.tools import needs

pytestmark = needs("systemd-analyze")


@dataclass(frozen=True, kw_only=True)
class Row:
    expression: str
    zone: str
    after: str
    theirs: str
    ours: str
    reason: str


TEXT = (FOLDER / "calendarspec.tsv").read_text(encoding="utf-8").splitlines()
REASONS = {found[1] for line in TEXT if (found := re.match(r"#: (\S+) ", line))}
NAMES = tuple(Row.__dataclass_fields__)
CELLS = [dict(zip(NAMES, line.split("\t"), strict=True)) for line in TEXT if not line.startswith("#")]
ROWS = [Row(**{**cells, "expression": json.loads(cells["expression"])}) for cells in CELLS]


def said_by(arguments: list[str], zone: str) -> str | None:
    """What systemd-analyze calendar says on a machine in this zone; None where it refuses."""
    # a name with a comma is a rule of its own, not a zone's name
    environment = {**os.environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0", "TZ": zone if "," in zone else f":{zone}"}
    done = subprocess.run(
        ["systemd-analyze", "calendar", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout if done.returncode == 0 else None


def by_systemd(row: Row) -> str:
    """What the installed systemd makes of it, told as the row tells it."""
    if row.after == "-":
        said = said_by(["--", row.expression], "UTC")
        if said is None:
            return "refused"
        # where there is nothing to put in order, only this form is told
        found = re.search(r"(?:Normalized form|Original form): (.*)\n(?!Normalized)", said)
        return found[1] if found else said
    said = said_by([f"--base-time={row.after[:-1].replace('T', ' ')} UTC", "--", row.expression], row.zone)
    if said is None or "Next elapse: never" in said:
        return "refused" if said is None else "never"
    found = re.search(r"\(in UTC\): \w+ (\S+) (\S+) UTC", said) or re.search(r"Next elapse: \w+ (\S+) (\S+) ", said)
    return f"{found[1]}T{found[2]}Z" if found else said


def by_us(row: Row) -> str:
    """The same through our own door: the checks of the job, then those of systemd, then the instants that we read."""
    try:
        job = from_plain({"name": "x", "command": "true", "calendar": [row.expression]})
        analyze.normalized(unit.calendar_specs(job))
    except BadInput:
        return "refused"
    if row.after == "-" or not _names_its_zone(row.expression):  # our reader's local zone is the machine's
        return by_systemd(row)
    after = datetime.fromisoformat(row.after)
    found = analyze.instants(job.calendar, after=after, count=1)
    return f"{found[0]:%Y-%m-%dT%H:%M:%S}Z" if found else "never"


def _names_its_zone(expression: str) -> bool:
    return bool(re.search(r" (UTC|\w+/\w+)$", expression))


def to_the_second(told: str) -> str:
    """systemd-analyze shows no more."""
    return re.sub(r"(T\d\d:\d\d:\d\d)\.\d+Z", r"\1Z", told)


def complain(row: Row) -> str:
    if (row.ours == "=") is not (row.reason == "same") or row.reason not in {*REASONS, "same"}:
        return "a row that differs has one of the reasons above, any other has 'same'"
    theirs = to_the_second(row.theirs)
    if (found := by_systemd(row)) != theirs:
        return f"the installed systemd makes {found!r} of it"
    ours = by_us(row)
    if ours != (theirs if row.ours == "=" else row.ours):
        return f"we make {ours!r} of it"
    return "it is as theirs: write =" if row.ours == theirs else ""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: repr(row.expression))
def test_as_the_row_says(row: Row) -> None:
    assert complain(row) == ""


def test_every_reason_is_used() -> None:
    assert {row.reason for row in ROWS} - {"same"} == REASONS


def test_a_row_that_is_wrong_fails() -> None:
    form = next(row for row in ROWS if row.theirs == "*-*-* *:02/3:00")
    instant = next(row for row in ROWS if row.theirs == "2017-05-29T00:00:00Z")
    for row, change in (
        (form, {"theirs": "*-*-* *:02/3:01"}),
        (form, {"theirs": "refused"}),
        (form, {"ours": "refused", "reason": "at-sign"}),
        (form, {"reason": "at-sign"}),
        (instant, {"theirs": "2017-05-22T00:00:00Z"}),
        (instant, {"theirs": "never"}),
    ):
        assert complain(row) == "" and complain(replace(row, **change)) != "", change
