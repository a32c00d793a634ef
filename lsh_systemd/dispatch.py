"""lsh-queue.service: starts what waits in the queue as the caps allow, and ends when nothing waits.

The path unit starts it while the queue's folder is not empty: whatever dies, what waits is looked at again. What
runs is systemd's word each time, so that no slot is lost or counted twice.
"""

import getpass
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lsh_systemd import caps, sharing
from lsh_systemd.control import Control
from lsh_systemd.errors import LshError
from lsh_systemd.heldruns import HeldRuns
from lsh_systemd.job import Job
from lsh_systemd.manager import RUNNING_STATES, UNIT
from lsh_systemd.queue import Entry, Queue
from lsh_systemd.queueing import Caps
from lsh_systemd.run import Cause
from lsh_systemd.scope import starting_file, work_dir
from lsh_systemd.unit import id_of_unit, instances, is_run_unit

if TYPE_CHECKING:
    from lsh_systemd.jobs import Found

# How long a change of the queue or of the caps may go unseen; the end of a job wakes at once.
_PAUSE_SECONDS = 0.1
# A run that was started later than this after it came has waited.
_WAITED_USEC = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Place:
    """What runs or waits. ``position``: from 1 on in the queue; ``waits_for``: the caps that are reached."""

    job: str
    state: str
    since_usec: int | None
    trigger: str | None = None
    position: int | None = None
    waits_for: str = ""


def overview(control: Control) -> list[Place]:
    """What runs, then what waits in its order."""
    dispatcher = Dispatcher(control)
    limits, running = caps.load(control.scope), dispatcher.running()
    taken = dispatcher.taken(running, limits)
    began = {
        job_id: control.manager.get(f"lsh-{job_id}.service", UNIT, "InactiveExitTimestamp") for job_id in set(running)
    }
    places = [Place(job=each, state="running", since_usec=began[each] or None) for each in sorted(set(running))]
    queue = Queue(control.scope)
    for position, entry in enumerate(queue.entries(), 1):
        job, full = dispatcher.job(entry.job), queue.read(entry)
        reached = [name for name, cap in limits.of(job, dispatcher.owner).items() if taken[name] >= cap] if job else []
        places.append(
            Place(
                job=entry.job,
                state="waiting",
                since_usec=entry.since_usec,
                trigger=full.trigger if full else None,
                position=position,
                waits_for=", ".join(reached) or ("its run in progress" if entry.job in running else ""),
            )
        )
    return places


class Dispatcher:
    """Works on the queue of one scope."""

    def __init__(self, control: Control) -> None:
        self._control, self._queue = control, Queue(control.scope)
        self.owner = getpass.getuser()
        self._known: dict[str, Found | None] = {}

    def run(self) -> None:
        """Start what waits, until nothing does."""
        while entries := self._queue.entries():
            if not self.step(entries):
                self._control.manager.wait_for_end_of_a_job(_PAUSE_SECONDS)

    def step(self, entries: list[Entry]) -> bool:
        """Start what may be started now; whether anything was."""
        limits = caps.load(self._control.scope)
        running = self.running()
        taken = self.taken(running, limits)
        started = False
        for entry in entries:
            job = self.job(entry.job)
            if job is None:
                print(f"{entry.job}: there is no such job any more", file=sys.stderr)
                self._queue.remove(entry)
                continue
            bound = limits.of(job, self.owner)
            if (entry.job in running and job.overlap != "parallel") or any(
                taken[name] >= cap for name, cap in bound.items()
            ):
                continue
            if self._start(entry):
                running.append(entry.job)
                taken.update(list(bound))  # one each: of a mapping, update would add up the caps
                started = True
        return started

    def taken(self, running: list[str], limits: Caps) -> Counter[str]:
        """How many of the running jobs count for each cap."""
        return Counter(name for job_id in running if (job := self.job(job_id)) for name in limits.of(job, self.owner))

    def running(self) -> list[str]:
        """The jobs that run, each once for each of its runs."""
        units = self._control.manager.units("lsh-*.service", states=RUNNING_STATES)
        return [id_of_unit(name) for name in units if is_run_unit(name)]

    def job(self, job_id: str) -> Job | None:
        if job_id not in self._known:
            self._known[job_id] = self._control.jobs.find(job_id)
        found = self._known[job_id]
        return found.job if found else None

    def _start(self, entry: Entry) -> bool:
        """Start the run and take it out of the queue; whether it was started."""
        # Read anew: while it waited, the job may have been changed or removed.
        found, full = self._control.jobs.find(entry.job), self._queue.read(entry)
        self._known[entry.job] = found
        if found is None or full is None:
            return False
        try:
            started = self._start_once(found, full)
        except FileNotFoundError:  # taken out, or promoted, just now
            return False
        except LshError as error:
            # What systemd refuses it would have refused without a queue, too: told, and not tried again for ever.
            print(f"{entry.job}: not started: {error.message}", file=sys.stderr)
            started = False
        self._queue.remove(entry)
        return started

    def _start_once(self, found: "Found", entry: Entry) -> bool:
        """Start the run; not one that a dispatcher which died then had asked systemd for."""
        control, token = self._control, _number(entry, "token")
        if self._was_started(entry):
            print(f"{entry.job}: was started already", file=sys.stderr)
            return False

        attempt = _number(entry, "attempt")
        beside = token if found.valid_job.overlap == "parallel" else None

        def note(unit: str, before: str) -> None:
            given = HeldRuns(control.scope)
            if token is not None:
                given.give(unit, sharing.environment_file({sharing.TOKEN: str(token)}))
            elif entry.trigger != "retry":  # which has that of the attempt before
                given.take_back(unit)
            mark = starting_file(control.scope, unit)
            _leave(mark, "")
            if attempt:
                _leave(mark.with_name("attempt"), f"{attempt}\n")
            self._queue.note_start(entry, unit, before)

        waited = time.time_ns() // 1000 - entry.since_usec > _WAITED_USEC
        trigger = "queue" if waited and entry.trigger not in ("retry", "catch-up") else entry.trigger
        cause = Cause(
            trigger,
            due_usec=entry.since_usec if trigger == "queue" else _number(entry, "due"),
            attempt=attempt or 1,
            first_id=entry.fields.get("first"),
            by=entry.fields.get("by"),
        )
        if beside is not None:  # what it was given is for that unit alone
            note(instances(found.id, beside), "")
            control.start_beside(found, beside, cause)
            return True
        run_id = control.start(found, cause, note=note)
        if attempt:
            state = work_dir(control.scope) / "retry"
            (state / f"{entry.job}.current").write_text(f"{run_id} {attempt} {cause.first_id}\n")
        return True

    def _was_started(self, entry: Entry) -> bool:
        """Whether systemd has made the run whose start is noted. It knows the run by its id while that goes on; when
        it has ended, the unit may have been forgotten, but with its runtime folder went the file that was put there."""
        unit, before = entry.fields.get("starting"), entry.fields.get("before")
        if unit is None:
            return False
        self._control.manager.pin(unit)  # first: what ends now leaves one trace or the other
        ran = self._control.invocation_id(unit) not in ("", before)
        return ran or not starting_file(self._control.scope, unit).exists()


def _leave(file: Path, text: str) -> None:
    """A new file in the unit's runtime folder: should a run have come in between, that is its user's, links and all."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.unlink(missing_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644), "w") as stream:
            stream.write(text)
    except OSError as error:
        raise LshError(f"cannot write {file}: {error.strerror}") from None


def _number(entry: Entry, name: str) -> int | None:
    text = entry.fields.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None
