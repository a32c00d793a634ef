"""What would come of a form: unit files, coming instants, warnings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lsh_systemd import analyze, unit
from lsh_systemd.errors import LshError
from lsh_systemd.job import Job

COMING = 5


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """``coming``: µs since 1970. ``preview``: whether it was asked for, and nothing stood in the way."""

    problem: LshError | None = None
    preview: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    coming: list[int] = field(default_factory=list)


def previewed(job: Job, files: Mapping[str, str], warnings: list[str]) -> Outcome:
    return Outcome(preview=True, files=files, warnings=warnings, coming=_coming(job, files))


def instants(lines: list[str]) -> list[int]:
    """The next ones of lines of OnCalendar=, as systemd reads them."""
    found = analyze.instants(lines, after=datetime.now(UTC), count=COMING)
    return [round(each.timestamp() * 1e6) for each in found]


def _coming(job: Job, files: Mapping[str, str]) -> list[int]:
    lines = [line for name, text in files.items() if name.endswith(".timer") for line in unit.on_calendar(text)]
    if lines or not job.interval:
        return instants(lines) if lines else []
    now, step = datetime.now(UTC), job.interval  # were it made now
    return [round((now + each * step).timestamp() * 1e6) for each in range(1, COMING + 1)]
