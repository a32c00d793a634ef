"""Schedules that time has made stale: rendered anew where the zone, its rules or the year have changed since.

A timer's UTC lines make up for the changes of the clock of the coming years, by the rules as they were known when it
was written; and a job without a zone of its own was written for the machine's zone of that day.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from lsh_systemd.control import Control
from lsh_systemd.errors import LshError
from lsh_systemd.jobs import Found
from lsh_systemd.schedule import ScheduleOver


@dataclass(frozen=True, kw_only=True)
class Stale:
    """A job whose files would be written differently today. ``problem`` says why they cannot be."""

    found: Found
    files: dict[str, str]
    problem: str | None = None


def stale(control: Control) -> Iterator[Stale]:
    """All stale jobs. Those that end with the boot are left as they are, and so are files that were edited by hand."""
    for found in control.jobs.all():
        if found.transient or found.job is None or found.changed:
            continue
        try:
            files = control.render(found.job)
        except ScheduleOver:
            continue
        except LshError as error:  # its user or its calendar file is gone
            yield Stale(found=found, files=found.files, problem=error.message)
            continue
        if files != found.files:
            yield Stale(found=found, files=files)
