"""How the jobs are: systemd's word on each, beside what their files and the ledger say."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lsh_systemd import hooks
from lsh_systemd.job import Job
from lsh_systemd.jobfile import to_plain
from lsh_systemd.jobs import Found
from lsh_systemd.manager import RUNNING_STATES, Manager, UnitState
from lsh_systemd.run import Run, rfc3339
from lsh_systemd.said import progress_json
from lsh_systemd.span import format_span
from lsh_systemd.stuck import going
from lsh_systemd.unit import id_of_unit

_NOT_AT_REST = RUNNING_STATES | {"failed"}
# The timer of a pending retry: see libexec/retry.
_RETRY = re.compile(r"lsh-([a-z0-9-]+)\.retry[0-9]+\.timer")


@dataclass(frozen=True, kw_only=True)
class Status:
    """``state``: running, stuck (for longer than it should), failed (its last run), retrying (failed, and will be tried
    again at ``next_usec``), waiting (for a time, a path, a socket or other jobs), elapsed (nothing to come), disabled,
    stopped (its timer rests though it is enabled), manual (nothing but a hand starts it), invalid (its files tell no
    job)."""

    found: Found
    state: str
    next_usec: int | None
    last_run: Run | None

    def to_json(self) -> dict[str, Any]:
        """The shape that ``list --json`` promises."""
        job, last = self.found.job, self.last_run
        return {
            "id": self.found.id,
            "name": job.name if job else None,
            "schedule": schedule_text(job) if job else None,
            "timezone": job.timezone if job else None,
            "command": job.command_line if job else None,
            "enabled": self.found.pair.enabled,
            "state": self.state,
            "next": rfc3339(self.next_usec),
            "progress": progress_json(last.progress, last.message) if last and last.running else None,
            "last_run": {key: value for key, value in last.to_json().items() if key != "output"} if last else None,
            "transient": self.found.transient,
            "changed": self.found.changed,
            "category": job.category if job else None,
            "tags": list(job.tags) if job else [],
        }

    def to_detailed_json(self) -> dict[str, Any]:
        """The same with the whole definition and the files that hold it."""
        files = [str(self.found.dir.path / name) for name in self.found.files]
        definition = to_plain(self.found.job) if self.found.job else None
        return {
            **self.to_json(),
            "definition": definition,
            "unit_files": files,
            "drop_ins": [str(path) for path in self.found.drop_ins()],
            "problem": self.found.problem,
        }


def overview(found: Sequence[Found], *, manager: Manager, last_runs: Mapping[str, Run]) -> list[Status]:
    """The status of each job, asked of systemd in two rounds however many there are."""
    # Not those that rest: of a thousand jobs that would be two thousand lines, where half will do.
    units = manager.units("lsh-*", states=_NOT_AT_REST) if found else {}
    timers = {each.id: each.timer for each in found if _is_active(units.get(each.timer))}
    retries = {match[1]: name for name in units if (match := _RETRY.fullmatch(name))}
    timers |= {each.id: retries[each.id] for each in found if each.id in retries}
    elapses = dict(zip(timers, manager.next_elapses(list(timers.values())), strict=True))
    beside = {id_of_unit(name) for name, each in units.items() if "@" in name and each.active in RUNNING_STATES}
    stuck = {run.found.id for run in going(manager, found, units=units) if run.stuck}
    return [
        Status(
            found=each,
            state=_state(
                each,
                units,
                elapses.get(each.id),
                beside=each.id in beside,
                stuck=each.id in stuck,
                retrying=each.id in retries,
            ),
            next_usec=elapses.get(each.id),
            last_run=last_runs.get(each.id),
        )
        for each in found
    ]


def schedule_text(job: Job) -> str | None:
    """What starts the job, as it was given, in one line."""
    clock = _clock_text(job)
    return "; ".join([*([clock] if clock else []), *hooks.waits_for(job)]) or None


def _clock_text(job: Job) -> str | None:
    if job.schedule or job.calendar:
        return "; ".join(job.schedule or job.calendar)
    if job.every:
        return f"@every {format_span(job.every)}" + (f" from {job.anchor:%Y-%m-%d %H:%M}" if job.anchor else "")
    if job.at:
        return f"{job.at:%Y-%m-%d %H:%M:%S} UTC"
    return "@reboot" if job.on_boot else None


def _is_active(state: UnitState | None) -> bool:
    return state is not None and state.active == "active"


def _state(
    found: Found, units: Mapping[str, UnitState], elapse: int | None, *, beside: bool, stuck: bool, retrying: bool
) -> str:
    service = units.get(found.service)
    if beside or (service and service.active in RUNNING_STATES):
        return "stuck" if stuck else "running"
    if found.job is None:
        return "invalid"
    if service and service.active == "failed":
        return "retrying" if retrying else "failed"
    if not found.job.activators:
        return "manual"
    if found.job.on_boot and found.pair.enabled:
        return "waiting"
    if any(_is_active(units.get(name)) for name in found.activators if name != found.timer):
        return "waiting"
    if _is_active(units.get(found.timer)):
        return "waiting" if elapse else "elapsed"
    if not found.pair.enabled:
        return "disabled"
    return "stopped"
