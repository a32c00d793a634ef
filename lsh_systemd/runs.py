"""The verbs on runs: start, restart, stop."""

import contextlib
import time
from collections.abc import Callable

from lsh_systemd.audit import Actor
from lsh_systemd.errors import refused
from lsh_systemd.heldruns import HeldRuns
from lsh_systemd.jobs import Found, Jobs
from lsh_systemd.journal import Journal
from lsh_systemd.manager import RUNNING_STATES, SERVICE, UNIT, Manager, ManagerError
from lsh_systemd.queue import Queue
from lsh_systemd.run import Cause, rfc3339
from lsh_systemd.scope import Scope, due_dir, work_dir
from lsh_systemd.unit import instances

# How long systemd may take to begin a run; it is a matter of milliseconds.
_START_SECONDS = 10.0


class Runs:
    """What lshctl and the API do to the runs of one scope. ``actor``: on whose behalf."""

    def __init__(self, scope: Scope, *, manager: Manager, jobs: Jobs, journal: Journal, actor: Actor) -> None:
        self.scope, self.manager, self.jobs, self.journal, self.actor = scope, manager, jobs, journal, actor

    def start(
        self, found: Found, cause: Cause | None = None, *, note: Callable[[str, str], None] = lambda unit, before: None
    ) -> str:
        """Start the job now, without waiting for its end; the run's id. One that runs already is not started again.
        Without a cause, it is the actor who wants it. ``note``: called with the unit and the id of its run before,
        just before systemd is asked."""
        service = found.service
        self.manager.pin(service)
        before = self.invocation_id(service)
        if self._is_busy(service):
            if found.valid_job.overlap != "parallel":
                return before
            service, before = instances(found.id, time.time_ns() // 1000), ""
            self.manager.pin(service)
        if cause is None:
            HeldRuns(self.scope).take_back(service)  # what the last run was given that the fleet wanted
        if cause and cause.trigger == "catch-up" and cause.due_usec is not None and found.valid_job.catch_up == "all":
            self._tell_due(found.id, cause.due_usec)
        note(service, before)
        self.manager.start(service)
        return self._begun(service, before, cause or Cause(by=self.actor.name))

    def start_beside(self, found: Found, number: int, cause: Cause) -> str:
        """Start a run in a unit of its own, lsh-JOB@NUMBER.service; its id."""
        service = instances(found.id, number)
        self.manager.pin(service)
        try:
            self.manager.start(service)
            return self._begun(service, "", cause)
        finally:
            self.manager.unpin(service)

    def restart(self, found: Found) -> str:
        """End the run in progress, where there is one, and start the job; the new run's id."""
        self.manager.pin(found.service)
        before = self.invocation_id(found.service)
        HeldRuns(self.scope).take_back(found.service)
        self.manager.restart(found.service)
        return self._begun(found.service, before, Cause(by=self.actor.name))

    def stop(self, found: Found) -> bool:
        """End the run in progress, or the wait for a retry; whether there was either. The schedule goes on."""
        retrying = self.cancel_retry(found)
        running = self._running_units(found)
        for service in running:
            self.manager.stop(service)
        for service in running:
            self.manager.wait(service, {"inactive", "failed"}, seconds=100)
        return retrying or bool(running)

    def forget_waiting(self, found: Found) -> None:
        """A new job of the same name must not have the start that this one waited for, nor its attempts."""
        if entry := Queue(self.scope).of(found.id):
            Queue(self.scope).remove(entry)
        for ending in (".current", ".lock"):
            with contextlib.suppress(OSError):
                (work_dir(self.scope) / "retry" / f"{found.id}{ending}").unlink()

    def is_running(self, found: Found) -> bool:
        return bool(self._running_units(found))

    def _running_units(self, found: Found) -> list[str]:
        """The units of the job's runs in progress: more than one where they may overlap."""
        units = [found.service] if self._is_busy(found.service) else []
        if found.job and found.job.has_instances:
            units += self.manager.units(instances(found.id, "*"), states=RUNNING_STATES)
        return units

    def _is_busy(self, service: str) -> bool:
        return self.manager.get(service, UNIT, "ActiveState") in RUNNING_STATES

    def cancel_retry(self, found: Found) -> bool:
        """Take back the retry that is pending; whether there was one."""
        pending = work_dir(self.scope) / "retry" / found.id
        try:
            pending.unlink()
        except OSError:
            return False
        for name in self.manager.units(f"lsh-{found.id}.retry*.timer"):
            self.manager.stop(name)
        return True

    def invocation_id(self, service: str) -> str:
        """The id of the unit's run, of the last one where it does not run; empty where systemd knows none."""
        return bytes(self.manager.get(service, UNIT, "InvocationID")).hex()

    def _begun(self, service: str, before: str, cause: Cause) -> str:
        """The id of the run that was asked for, marked with what asked.

        systemd gives a run its id when it takes the start from its queue, a moment after the call.
        """
        until, pause = time.monotonic() + _START_SECONDS, 0.001
        while (now := self.invocation_id(service)) == before:
            if time.monotonic() > until:
                result = self.manager.get(service, SERVICE, "Result")
                raise ManagerError(f"systemd did not start {service} ({result})", hint=f"systemctl status {service}")
            time.sleep(pause)
            pause = min(pause * 2, 0.1)
        self.journal.mark(now, service, cause)
        return now

    def _tell_due(self, job_id: str, due_usec: int) -> None:
        """Write what the unit reads as an EnvironmentFile=, and removes at the end of the run."""
        folder = due_dir(self.scope)
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o755)
            (folder / job_id).write_text(f"LSH_SCHEDULED_AT={rfc3339(due_usec)}\n")
        except OSError as error:
            raise refused(f"cannot write {folder / job_id}: {error.strerror}", error) from None

    def forget_due(self, found: Found) -> bool:
        """Take away what the job's last catch-up run was told, now that it has ended; False while the job runs. (The
        unit does so itself where it may: at once, but as root.)"""
        if self.is_running(found):
            return False
        with contextlib.suppress(OSError):
            (due_dir(self.scope) / found.id).unlink()
        return True
