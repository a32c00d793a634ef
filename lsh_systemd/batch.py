"""Many jobs made, changed and removed at once: all or none, with one reload at most.

While it goes on, a list of its jobs lies in the work folder. Who dies leaves it there, and the next batch brings what
it finds of those jobs to a good end, whatever state they are in.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from lsh_systemd import audit, daemons, follow, progress, unit
from lsh_systemd.control import Control, JobExists
from lsh_systemd.errors import BadInput, LshError, refused
from lsh_systemd.job import PREFIX, Job
from lsh_systemd.jobs import Found
from lsh_systemd.manager import FORGET_SECONDS, RUNNING_STATES, UNIT, ManagerError
from lsh_systemd.scope import Scope, work_dir
from lsh_systemd.unitdir import sync_folder

# How long systemd may take to start or stop a hundred timers.
_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Change:
    """What becomes of one job: it is made (``found`` is None), changed, or removed (``job`` is None).

    ``enabled``: whether its schedule counts afterwards. ``files``: its unit files, as ``Control.render`` makes them.
    """

    job: Job | None
    found: Found | None = None
    enabled: bool = True
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        job = self.job or self.found
        assert job is not None
        return job.id

    @property
    def new_timer(self) -> bool:
        """Whether the timer's text changes."""
        before = self.found.pair.timer if self.found else ""
        return self.job is not None and self.files.get(self.job.timer, "") != before

    @property
    def same_files(self) -> bool:
        return self.found is not None and self.files == self.found.files

    @property
    def stops(self) -> bool:
        """Whether its timer and the like are stopped first. The span of --every counts from the timer's start: where
        only the service changes, the timer goes on."""
        if self.found is None:
            return False
        return (
            self.job is None
            or not self.enabled
            or self.new_timer
            or not self.job.interval
            or self.job.activators != self.found.activators
        )

    @property
    def starts(self) -> tuple[str, ...]:
        """The units to be started at its end."""
        if self.job is None or not self.enabled:
            return ()
        # A timer whose OnBootSec= is over elapses the moment it starts: leave that to the next boot.
        return tuple(name for name in self.job.activators if not (self.job.on_boot and name == self.job.timer))

    @property
    def goes(self) -> tuple[str, ...]:
        """The files that it takes away, the service last: without that, nobody would know the others for the job's."""
        if self.found is None:
            return ()
        others = unit.other_files(self.found.job) if self.found.job else ()
        gone = dict.fromkeys((self.found.timer, *self.found.files, *others)).keys() - self.files.keys()
        return (*sorted(gone - {self.found.service}), *({self.found.service} & gone))


def unfinished(scope: Scope) -> frozenset[str]:
    """The jobs of a batch that was cut off, or goes on."""
    try:
        return frozenset(_list(scope).read_text().split())
    except (OSError, ValueError):
        return frozenset()


class Batch(Control):
    """Control, for many jobs at a time."""

    def unfinished(self) -> frozenset[str]:
        """The jobs of a batch that was cut off: what there is of them may be a half."""
        return unfinished(self.scope)

    def check_free(self, jobs: Iterable[Job]) -> dict[str, JobExists]:
        """Job's id → why it cannot be made: a unit file of somebody else has its name."""
        taken: dict[str, Path] = {}
        for folder in reversed(self.manager.unit_path):
            with contextlib.suppress(OSError):
                names = [entry.name for entry in os.scandir(folder) if entry.name.startswith(PREFIX)]
                taken |= {name: folder / name for name in names}
        refused = {}
        for job in jobs:
            for name in (job.unit, job.timer, *unit.other_files(job)):
                if name in taken:
                    refused[job.id] = JobExists(
                        f"{taken[name]} is there already and not ours", hint="choose another name"
                    )
                    break
        return refused

    def carry_out(
        self,
        changes: Sequence[Change],
        *,
        verb: str,
        force: bool = False,
        finish: Callable[[], None] = lambda: None,
    ) -> None:
        """Make all the changes; whatever fails, all is as it was before. ``verb``: what is noted of each.

        ``force``: also where files were edited by hand. ``finish`` is called last, and may fail, too. Raises LshError,
        and JobExists or BadInput where a job is no longer as the changes have found it.
        """
        if not changes:
            finish()
            return
        jobs = [change.job for change in changes if change.job]
        helpers = [unit.helpers(job, capped=self.is_capped(job)) for job in jobs]
        daemons.provide(self.manager, dict.fromkeys(name for names in helpers for name in names))
        with self.jobs.lasting.locked():
            cut_off = self.unfinished()
            self._check_as_found(changes, cut_off, force=force)
            if cut_off:
                self.jobs.lasting.sweep(PREFIX)
            self._write_list(cut_off | {change.id for change in changes})
            active = self._active(changes)
            try:
                self._make(changes, reload=bool(cut_off))
                finish()
            except BaseException:  # Ctrl-C too
                whole = self._take_back(changes, active)
                self._write_list(cut_off if whole else cut_off | {change.id for change in changes})
                raise
            left = cut_off - {change.id for change in changes}
            self._write_list(each for each in left if (found := self.jobs.find(each)) and not self._is_whole(found))
        self._note_all(changes, verb)

    def _make(self, changes: Sequence[Change], *, reload: bool) -> None:
        folder, gone = self.jobs.lasting, [change for change in changes if change.job is None and change.found]
        # First: on a read-only file system nothing is changed.
        folder.set_enabled({name: False for each in changes if each.found for name in _all_activators(each)})
        busy = self._busy(gone)
        failed = self.manager.units(f"{PREFIX}*", states=["failed"])
        for change in gone:
            if change.found and change.found.service in failed:
                self.manager.reset_failed(change.found.service)
        self._stop_all(change for change in changes if change.stops)
        for change in progress.each("preparing", changes):
            self._prepare(change)
        folder.write({name: text for change in changes for name, text in change.files.items()})
        folder.remove(*(name for change in changes if change.id not in busy for name in change.goes))
        wanted = [change.job for change in changes if change.job and change.enabled]
        folder.set_enabled({name: True for job in wanted for name in job.activators})
        followed = {other for each in changes for job in _both(each) for other in job.after}
        stale = follow.provide(self.manager, folder, self.jobs, followed, reload=False)
        if reload or stale or not self._forgotten(changes, busy):
            self.manager.reload()
        self._start_all([change for change in changes if change.starts])
        self._check_all_loaded([change.job for change in changes if change.job and not change.starts])
        # A reload would take the end of a run in progress from it, and so its record: not before.
        folder.remove(*(name for change in gone if change.id in busy for name in change.goes))
        for change in gone:
            self._forget(change)

    def _prepare(self, change: Change) -> None:
        """What is kept of a job beside its files."""
        job, found = change.job, change.found
        if job is None:
            return
        if found is None:
            self.stamps.forget(job.timer)
        old = found.job if found else None
        wakes = found is None or (change.enabled and not found.pair.enabled)  # what was missed meanwhile stays missed
        if wakes or (change.new_timer and (job != old or job.persistent)):
            self._restamp(job)
        if wakes or old is None or bool(job.after) != bool(old.after):
            follow.begin_anew(self.scope, job)
        if change.enabled:
            self.stamps.wake(job.timer)
            return
        if job.has_timer:
            self.stamps.rest(job.timer)
        if found:
            self.cancel_retry(found)

    def _forget(self, change: Change) -> None:
        assert change.found
        self.cancel_retry(change.found)
        self.stamps.forget(change.found.timer)
        self.forget_waiting(change.found)
        follow.forget(self.scope, change.id)

    def _stop_all(self, changes: Iterable[Change]) -> None:
        loaded = self.manager.units(f"{PREFIX}*")
        names = [name for change in changes for name in _all_activators(change) if name in loaded]
        for name in self.manager.stop_many(names, seconds=_SECONDS):
            raise ManagerError(f"systemd did not stop {name}", hint=f"systemctl status {name} says why")

    def _start_all(self, changes: Sequence[Change]) -> None:
        """Start what starts the jobs. Units are looked at only where that fails: it would have systemd read them once
        more."""
        starts = [name for change in changes for name in change.starts]
        try:
            left = self.manager.start_many(starts, seconds=_SECONDS)
        except ManagerError:
            if not self._check_all_loaded([change.job for change in changes if change.job]):
                raise
            left = self.manager.start_many(starts, seconds=_SECONDS)
        if left:  # as in Control: a start limit
            for name in left:
                self.manager.reset_failed(name)
            left = self.manager.start_many([*left], seconds=_SECONDS)
        for name in left:
            self._check_all_loaded([change.job for change in changes if change.job and name in change.starts])
            raise ManagerError(f"systemd did not start {name}", hint=f"systemctl status {name} says why")

    def _forgotten(self, changes: Sequence[Change], busy: frozenset[str]) -> bool:
        """Wait until systemd has nothing in memory of what was there under these names; False where it keeps some.

        What nothing holds in memory is read anew when needed: no reload, which takes 1 s for 1,000 jobs."""
        names = {
            name
            for change in changes
            if change.id not in busy and not change.same_files
            for name in (f"{PREFIX}{change.id}.service", *_all_activators(change), *change.files)
        }
        until = time.monotonic() + FORGET_SECONDS
        while names & self.manager.units(f"{PREFIX}*").keys():
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True

    def _check_all_loaded(self, jobs: Sequence[Job]) -> bool:
        """Let systemd read the units; whether that took a reload. Raises ManagerError, with its reason, where it does
        not take one."""
        names = [name for job in jobs for name in (job.unit, *job.activators)]
        states = self.manager.get_many([(name, UNIT, "LoadState") for name in names])
        reload = "not-found" in states
        if reload:  # a file system that did not show the change of the folder
            self.manager.reload()
            states = self.manager.get_many([(name, UNIT, "LoadState") for name in names])
        for name, state in zip(names, states, strict=True):
            if state != "loaded":
                _, reason = self.manager.get(name, UNIT, "LoadError")
                raise ManagerError(f"systemd did not take {name} ({state}): {reason or 'see the journal'}")
        return reload

    def _active(self, changes: Sequence[Change]) -> list[str]:
        """Those units of jobs that are there already that are active."""
        loaded = self.manager.units(f"{PREFIX}*", states=["active"])
        return [name for change in changes if change.found for name in _all_activators(change) if name in loaded]

    def _busy(self, changes: Sequence[Change]) -> frozenset[str]:
        running = self.manager.units(f"{PREFIX}*", states=RUNNING_STATES)
        return frozenset(change.id for change in changes if change.found and change.found.service in running)

    def _is_whole(self, found: Found) -> bool:
        """Whether nothing is left to be done for the job: its files are as written, and what is enabled is active."""
        if found.job is None or found.changed:
            return False
        starts = Change(job=found.job, found=found, enabled=found.pair.enabled, files={}).starts
        return all(self.manager.get(name, UNIT, "ActiveState") == "active" for name in starts)

    def _take_back(self, changes: Sequence[Change], active: Sequence[str]) -> bool:
        """Everything as it was; whether that could be done. Each step on its own: the one that failed may be the one
        that cannot be undone."""
        folder = self.jobs.lasting
        made = [change for change in changes if change.found is None and change.job]
        others = [(change, change.found) for change in changes if change.found]
        links = {name: False for change in changes for name in _all_activators(change)}
        links |= {name: found.pair.enabled for _, found in others for name in found.activators}
        before = {name: text for _, found in others for name, text in found.files.items()}
        new = {name for change, _ in others for name in change.files} - before.keys()
        followed = {other for each in changes for job in _both(each) for other in job.after}
        steps: list[Callable[[], object]] = [
            lambda: self._stop_all(changes),
            lambda: folder.write(before),
            lambda: folder.remove(*new, *(name for change in made for name in reversed([*change.files]))),
            lambda: folder.set_enabled(links),
            *(partial(self.stamps.rest, found.timer) for _, found in others if not found.pair.enabled),
            lambda: follow.provide(self.manager, folder, self.jobs, followed, reload=False),
            self.manager.reload if others else lambda: None,
            lambda: self.manager.start_many(active, seconds=_SECONDS),
        ]
        whole = True
        for step in steps:
            try:
                step()
            except LshError:
                whole = False
        return whole

    def _check_as_found(self, changes: Sequence[Change], cut_off: frozenset[str], *, force: bool) -> None:
        """Raise where somebody else has changed a job since, or has edited its files."""
        for change in changes:
            now = self.jobs.find(change.id)
            if (now.files if now else None) != (change.found.files if change.found else None):
                raise LshError(f"{change.id} was changed by somebody else just now", hint="try again")
            if now and now.changed and not force and change.id not in cut_off:
                raise BadInput(
                    f"the unit files of {change.id} were edited by hand; this would undo that",
                    hint=f"put the edit into a drop-in (systemctl edit {now.service}), or use --force",
                )

    def _note_all(self, changes: Sequence[Change], verb: str) -> None:
        entries = []
        for change in changes:
            before = change.found.pair.enabled if change.found else None
            told = dict(audit.difference(change.found.job if change.found else None, change.job))
            if change.job and change.job.activators and change.enabled != (True if before is None else before):
                told["enabled"] = (before, change.enabled)
            entries.append(self.entry(verb, change.id, told))
        self.journal.tell_all(entries)

    def _write_list(self, ids: Iterable[str]) -> None:
        path, text = _list(self.scope), "".join(f"{each}\n" for each in sorted(ids))
        try:
            if not text:
                path.unlink(missing_ok=True)
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".new")
            with temporary.open("w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
        except OSError as error:
            raise refused(f"cannot write {path}: {error.strerror}", error) from None


def _list(scope: Scope) -> Path:
    return work_dir(scope) / "applying"


def _all_activators(change: Change) -> tuple[str, ...]:
    """The units that start the job by themselves, before and after."""
    found, job = change.found, change.job
    names = (*((found.timer, *found.activators) if found else ()), *(job.activators if job else ()))
    return tuple(dict.fromkeys(names))


def _both(change: Change) -> Iterator[Job]:
    """The job before and after, where there is one."""
    yield from filter(None, (change.found.job if change.found else None, change.job))
