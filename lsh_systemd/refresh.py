"""Schedules that time has made stale: rendered anew where the zone, its rules or the year have changed since.

A timer's UTC lines make up for the changes of the clock of the coming years, by the rules as they were known when it
was written; and a job without a zone of its own was written for the machine's zone of that day.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lsh_systemd import caps
from lsh_systemd.control import Control
from lsh_systemd.errors import LshError
from lsh_systemd.jobs import Found
from lsh_systemd.queueing import Caps
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


def change_caps(control: Control, new: Caps, collect: Callable[[], object]) -> list[str]:
    """Set how much may run at once: the caps count from now on, and the jobs that they bind get other timers, which ask
    before they start them. The jobs of which that could not be done, each with the reason."""
    old = caps.load(control.scope)
    caps.save(control.scope, new)
    before, after = dict(old.named()), dict(new.named())
    differ = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    control.note("limits set", "", {name: (before.get(name), after.get(name)) for name in differ})
    collect()  # first: what the timers started is told by the files they had
    problems = []
    for job in list(stale(control)):
        if job.problem:
            problems.append(f"{job.found.id}: {job.problem}")
        else:
            control.update(job.found, job.found.valid_job, verb=None)
    return problems
