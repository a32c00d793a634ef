"""The verbs that change jobs: each either done as a whole or taken back."""

import contextlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property, partial

from lsh_systemd import analyze, audit, caps, daemons, follow, hooks, limits, probe, sandbox, secrecy, unit
from lsh_systemd.audit import Actor
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.job import Job
from lsh_systemd.jobs import Found, Jobs
from lsh_systemd.journal import Journal
from lsh_systemd.manager import UNIT, Manager, ManagerError
from lsh_systemd.queue import Queue
from lsh_systemd.runs import Runs
from lsh_systemd.scope import Scope
from lsh_systemd.stamps import Stamps
from lsh_systemd.trust import check_user_exists
from lsh_systemd.underway import UnderWay
from lsh_systemd.unitdir import UnitDir

# How long systemd may take to start a timer; it is a matter of milliseconds.
_START_SECONDS = 10.0


class JobExists(BadInput):
    """A job or a foreign unit of that name is there already."""


class Control(Runs):
    """What lshctl and the API do to the jobs of one scope."""

    def __init__(self, scope: Scope, *, manager: Manager, jobs: Jobs, journal: Journal, actor: Actor) -> None:
        super().__init__(scope, manager=manager, jobs=jobs, journal=journal, actor=actor)
        self.stamps = Stamps(scope)
        self.under_way = UnderWay(scope)

    def note(self, verb: str, job: str, changed: audit.Difference, *, before: str | None = None) -> None:
        """Leave in the journal who has done what: see ``audit``. The verbs here do so themselves."""
        self.journal.tell(self.entry(verb, job, changed, before=before))

    def entry(self, verb: str, job: str, changed: audit.Difference, *, before: str | None = None) -> dict[str, str]:
        """What ``note`` leaves in the journal."""
        change_id = secrets.token_hex(16)
        return audit.fields(self.actor, verb, job, changed, scope=str(self.scope), change_id=change_id, before=before)

    def render(self, job: Job, *, once: bool = False) -> dict[str, str]:
        """The unit files that the job would get. Raises BadInput for what systemd or this machine would not take."""
        now, local_zone = datetime.now(UTC), analyze.local_zone()
        known = limits.known(job, now=now, local_zone=local_zone)
        known = replace(known, capped=not once and self.is_capped(job))
        if job.secrets:
            known = replace(known, plain_secrets=secrecy.plain_secrets(job, self.scope, self.manager))
        if job.run_as is not None:
            check_user_exists(job.run_as)
        recorder = str(daemons.script("record"))
        return unit.render(
            job,
            scope=self.scope,
            recorder=recorder,
            now=now,
            local_zone=local_zone,
            known=known,
            once=once,
            namespaces=self.namespaces(job),
        )

    def namespaces(self, job: Job) -> bool:
        """Whether what the job's isolation needs of the kernel can be had."""
        return self.scope is Scope.SYSTEM or not sandbox.needs_namespaces(job) or self._user_namespaces

    @cached_property
    def _user_namespaces(self) -> bool:
        return probe.user_namespaces()

    def is_capped(self, job: Job) -> bool:
        """Whether the job may have to wait in the queue."""
        return bool(caps.load(self.scope).of(job, ""))

    def add(
        self,
        job: Job,
        *,
        enabled: bool = True,
        transient: bool = False,
        once: bool = False,
        verb: str | None = "add",
    ) -> int | None:
        """Make the job's units and start its timer; the next elapse as systemd tells it (µs since 1970).

        Raises JobExists; on any other failure all is as it was before. ``verb`` is what is noted of it in the journal;
        None leaves that to the caller.
        """
        self.check_new(job, transient=transient)
        files = self.render(job, once=once)
        daemons.provide(self.manager, unit.helpers(job, capped=not once and self.is_capped(job)))
        folder = self.jobs.transient if transient else self.jobs.lasting
        with self.under_way.held(job.id) as note, folder.locked():
            self._check_free(job)
            note("add", "enabled" if enabled else "disabled")
            with self._undone_on_failure(folder, job):
                self.stamps.forget(job.timer)
                self._restamp(job)
                follow.begin_anew(self.scope, job)
                self._write_new(folder, job, files)
                follow.provide(self.manager, folder, self.jobs, job.after)
                if enabled:
                    self._activate(folder, job)
                elif job.has_timer:
                    self.stamps.rest(job.timer)
            if verb and not once:
                more = {} if enabled else {"enabled": (None, False)}
                more |= {"transient": (None, True)} if transient else {}
                self.note(verb, job.id, audit.difference(None, job) | more)
        return self.next_elapse(job.timer) if enabled and job.has_timer else None

    def check_new(self, job: Job, *, transient: bool) -> None:
        """Raise BadInput or JobExists where ``add`` would."""
        if transient and job.on_boot:
            raise BadInput("--on-boot and --transient exclude each other: a transient job ends with the boot")
        self.check_time(job)
        self.check_secrets(job)
        self._check_free(job)
        follow.check(self.jobs, job)

    def check_time(self, job: Job) -> None:
        """Raise BadInput where the job's only time is over."""
        if job.at and job.at <= datetime.now(UTC):
            raise BadInput(f"{job.at:%Y-%m-%d %H:%M:%S} UTC is over", hint="--at takes a time to come")

    def check_secrets(self, job: Job, before: Job | None = None) -> None:
        """Raise BadInput for a secret that is not there, or of no use as the job wants it; what it had stays."""
        if before is None or (job.secrets, job.ping) != (before.secrets, before.ping):
            secrecy.check(job, self.scope, self.manager)

    def update(self, found: Found, job: Job, *, force: bool = False, verb: str | None = "set") -> int | None:
        """Give the job a new definition under the same id; the next elapse. ``verb`` as in ``add``.

        Where its files were edited by hand, that needs ``force``: the edit would be lost.
        """
        if job.id != found.id:
            raise ValueError("an update keeps the id; use rename")
        self.check_secrets(job, found.job)
        follow.check(self.jobs, job, old=found)
        files = self.render(job)
        daemons.provide(self.manager, unit.helpers(job, capped=self.is_capped(job)))
        with self.under_way.held(job.id, "set"), found.dir.locked():
            found = self._unchanged_since(found, force=force)
            if files != found.files:
                self._swap(found, job, files)
                follow.provide(self.manager, found.dir, self.jobs, {*job.after, *found.valid_job.after})
                if verb:
                    self.note(verb, job.id, audit.difference(found.job, job))
        return self.next_elapse(job.timer) if job.has_timer else None

    def rename(self, found: Found, name: str, *, carry_over: Callable[[str, str], object]) -> Found:
        """Give the job a new name, and so new unit files. ``carry_over`` is called with the old and the new id when
        that is done, and renames what is kept of the job elsewhere."""
        old = found.valid_job
        job = replace(old, name=name)
        if job.id == found.id:
            self.update(found, job, verb="rename")
            return self.jobs.get(name)
        if self.is_running(found):
            raise LshError(f"{found.id} is running", hint=f"wait, or lshctl stop {found.id}")
        self.check_renamed(found, job)
        files = self.render(job)
        for other in follow.followers(self.jobs, found.id):
            self._unchanged_since(other, force=False)
        with self.under_way.held(found.id) as note:
            with found.dir.locked():
                found = self._unchanged_since(found, force=False)
                self._check_free(job)
                note("rename", job.id, "enabled" if found.pair.enabled else "disabled")
                self._put_beside(found, job, files)
                self._take_away(found)
                self._have_forgotten(found)
            after = self.jobs.get(name)
            self.renamed(before=old, old=found.id, after=after, carry_over=carry_over)
        return after

    def _put_beside(self, found: Found, job: Job, files: Mapping[str, str]) -> None:
        """Have the job there under its new name as it is under its old one."""
        was_active = self._is_active(found)
        with self._undone_on_failure(found.dir, job):
            self._write_new(found.dir, job, files)
            self.stamps.move(found.timer, job.timer)
            self._stop(found.activators)
            follow.rename(self.scope, found.id, job.id)
            Queue(self.scope).rename(found.id, job.id)
            if found.pair.enabled:
                self._enable(found.dir, job)
            if was_active:
                self._start_activators(job)

    def renamed(self, *, before: Job | None, old: str, after: Found, carry_over: Callable[[str, str], object]) -> None:
        """What follows when a job has its new name."""
        self.note("rename", after.id, audit.difference(before, after.job) if before else {}, before=old)
        for other in follow.followers(self.jobs, old):
            self.update(other, hooks.renamed(other.valid_job, old, after.id), verb="rename")
        follow.provide(self.manager, after.dir, self.jobs, after.valid_job.after)
        carry_over(old, after.id)

    def check_renamed(self, found: Found, job: Job) -> None:
        """Raise BadInput or JobExists where the job cannot get that name."""
        self._check_free(job)
        follow.check(self.jobs, job, old=found)

    def remove(self, found: Found, *, verb: str | None = "remove") -> None:
        """End the job's schedule and delete its unit files. A run in progress goes on to its end. ``verb`` as in
        ``add``."""
        with self.under_way.held(found.id, "remove"), found.dir.locked():
            # A reload would take the end of a run in progress from it, and so its record.
            reload = not self.is_running(found)
            self._take_away(found)
            self.stamps.forget(found.timer)
            self.forget_waiting(found)
            follow.forget(self.scope, found.id)
            after = found.job.after if found.job else ()
            follow.provide(self.manager, found.dir, self.jobs, after, reload=reload)
            if reload:
                self._have_forgotten(found)
            if verb and not unit.is_once(found.pair.service):
                self.note(verb, found.id, audit.difference(found.job, None))

    def enable(self, found: Found) -> int | None:
        """Let the schedule count, now and after a reboot; the next elapse. What was missed meanwhile stays missed."""
        job = found.valid_job
        if not job.activators:
            raise BadInput(f"{found.id} has no schedule", hint=f"lshctl set {found.id} --schedule …")
        with self.under_way.held(found.id, "enable"), found.dir.locked():
            self._restamp(job)
            if not found.pair.enabled:
                follow.begin_anew(self.scope, job)
            self._activate(found.dir, job)
        self.note("enable", found.id, {} if found.pair.enabled else {"enabled": (False, True)})
        return self.next_elapse(found.timer) if job.has_timer else None

    def disable(self, found: Found) -> None:
        """Let the schedule rest until ``enable``; a run in progress goes on."""
        with self.under_way.held(found.id, "disable"), found.dir.locked():
            for name in found.activators:  # first: on a read-only file system nothing is changed
                found.dir.disable(name)
            self._stop(found.activators)
            self.stamps.rest(found.timer)
        self.cancel_retry(found)
        self.note("disable", found.id, {"enabled": (True, False)} if found.pair.enabled else {})

    def next_elapse(self, timer: str) -> int | None:
        return self.manager.next_elapses([timer])[0]

    def _swap(self, found: Found, job: Job, files: Mapping[str, str]) -> None:
        """Put new files in the place of old ones and let systemd see them, with as little as will do."""
        timer_changed = files.get(job.timer, "") != found.pair.timer
        was_active = self._is_active(found)
        # The span of --every counts from the timer's start: where only the service changes, the timer goes on.
        if timer_changed or not job.interval or job.activators != found.activators:
            self._stop(found.activators)
            # A unit that nothing holds in memory is read anew when needed: no reload, which takes 1 s for 1,000 jobs.
            names = [found.service, *found.activators]
            forgotten = self.manager.wait_forgotten(names)
        else:
            forgotten = False
        try:
            # A timer that was only rendered anew has still to make up for what it had missed.
            if timer_changed and (job != found.job or job.persistent):
                self._restamp(job)
            if bool(job.after) != bool(found.valid_job.after):
                follow.begin_anew(self.scope, job)
            self._put_in_place(found, job, files, reload=not forgotten)
            self._check_loaded(job)
            if was_active or found.pair.enabled or not found.activators:
                self._start_activators(job)
        except BaseException:
            with contextlib.suppress(LshError):
                self._put_in_place(found, found.valid_job, found.files, reload=True)
            if was_active:  # also where the disk is full, and the old files are still there
                with contextlib.suppress(LshError):
                    self._start_activators(found.valid_job)
            raise

    def _write_new(self, folder: UnitDir, job: Job, files: Mapping[str, str]) -> None:
        stale = any(self.manager.is_loaded(name) for name in (job.unit, job.timer, *job.activators))
        folder.write(files)
        if stale:  # the last run of a removed job of this name still goes on
            self.manager.reload()
        self._check_loaded(job)

    def _put_in_place(self, found: Found, job: Job, files: Mapping[str, str], *, reload: bool) -> None:
        found.dir.write(files)
        for name in {found.timer, *found.files, *unit.other_files(found.valid_job)} - files.keys():
            found.dir.disable(name)
            found.dir.remove(name)
        if found.pair.enabled or not found.activators:
            self._enable(found.dir, job)
        if reload:
            self.manager.reload()

    def _take_away(self, found: Found) -> None:
        for name in {found.timer, *found.activators}:  # first: on a read-only file system nothing is changed
            found.dir.disable(name)
        self._stop((found.timer, *found.activators))
        self.cancel_retry(found)
        # the service last: without it, nobody would know the others for the job's
        found.dir.remove(*({found.timer, *found.files} - {found.service}), found.service)
        with contextlib.suppress(ManagerError):  # it was not in memory, or had not failed
            self.manager.reset_failed(found.service)

    def _have_forgotten(self, found: Found) -> None:
        """What a reload has found in timers.target.wants, and units that name each other, stay in memory (seen)."""
        if not self.manager.wait_forgotten([found.service, *found.activators]):
            self.manager.reload()

    def _activate(self, folder: UnitDir, job: Job) -> None:
        self._enable(folder, job)
        self._start_activators(job)

    def _enable(self, folder: UnitDir, job: Job) -> None:
        self.stamps.wake(job.timer)
        for name in job.activators:
            folder.enable(name)

    def _start_activators(self, job: Job) -> None:
        for name in job.activators:
            if job.on_boot and name == job.timer:
                continue  # a timer whose OnBootSec= is over elapses the moment it starts: leave that to the next boot
            if not self._starts(name):
                self.manager.reset_failed(name)  # more than five changes within ten seconds are a start limit hit
                if not self._starts(name):
                    raise ManagerError(f"systemd did not start {name}", hint=f"systemctl status {name} says why")

    def _starts(self, name: str) -> bool:
        self.manager.start(name)
        return self.manager.wait(name, {"active", "failed"}, seconds=_START_SECONDS) == "active"

    def _stop(self, names: Iterable[str]) -> None:
        for name in filter(self.manager.is_loaded, names):
            self.manager.stop(name)
            self.manager.wait(name, {"inactive", "failed"}, seconds=_START_SECONDS)

    def _is_active(self, found: Found) -> bool:
        names = (found.timer, *found.activators)
        return any(self.manager.get(name, UNIT, "ActiveState") == "active" for name in dict.fromkeys(names))

    def _check_loaded(self, job: Job) -> None:
        """Let systemd read the job's units; raise ManagerError, with its reason, where it does not take one."""
        for name in (job.unit, *job.activators):
            if self.manager.get(name, UNIT, "LoadState") == "not-found":
                self.manager.reload()  # a file system that did not show the change of the folder (hostfs: seen)
            state = self.manager.get(name, UNIT, "LoadState")
            if state != "loaded":
                _, reason = self.manager.get(name, UNIT, "LoadError")
                raise ManagerError(f"systemd did not take {name} ({state}): {reason or 'see the journal'}")

    def _check_free(self, job: Job) -> None:
        if self.jobs.find(job.id):
            raise JobExists(
                f"there is a job {job.id} already", hint=f"lshctl set {job.id} changes it; or choose another name"
            )
        path = self.jobs.foreign(job, self.manager.unit_path)
        if path and self.jobs.find(job.id):  # added by somebody else since the first look
            raise JobExists(f"there is a job {job.id} already", hint="choose another name")
        if path:
            raise JobExists(f"{path} is there already and not ours", hint="choose another name")

    def _unchanged_since(self, found: Found, *, force: bool) -> Found:
        """The job as it is now that the lock is held."""
        now = self.jobs.get(found.id)
        if now.files != found.files:
            raise LshError(f"{found.id} was changed by somebody else just now", hint="look at it and try again")
        if now.changed and not force:
            raise BadInput(
                f"the unit files of {found.id} were edited by hand; this would undo that",
                hint=f"put the edit into a drop-in (systemctl edit {found.service}), or use --force",
            )
        return now

    @contextlib.contextmanager
    def _undone_on_failure(self, folder: UnitDir, job: Job) -> Iterator[None]:
        try:
            yield
        except BaseException:  # Ctrl-C too
            # Each on its own: the step that failed may well be the one that cannot be undone.
            steps: list[Callable[[], object]] = [
                lambda: self._stop(job.activators),
                *(partial(folder.disable, name) for name in job.activators),
                lambda: folder.remove(job.unit, job.timer, *unit.other_files(job)),
                lambda: follow.provide(self.manager, folder, self.jobs, job.after),
            ]
            for undo in steps:
                with contextlib.suppress(LshError):
                    undo()
            raise

    def _restamp(self, job: Job) -> None:
        """What was missed until now is not to be made up for."""
        (self.stamps.make if job.caught_up_by_us else self.stamps.renew)(job.timer)
