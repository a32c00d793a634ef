"""What requests work with: the parts that the command line works with, too."""

import contextlib
import operator
import os
import subprocess
import sys
import threading
import time
from functools import cached_property
from pathlib import Path
from typing import Any

import anyio.from_thread
import anyio.to_thread
from fastapi import Request

from lsh_systemd import daemons, ledger, midway
from lsh_systemd.api import policy
from lsh_systemd.api.access import Caller, Forbidden
from lsh_systemd.api.following import FollowingManager
from lsh_systemd.api.recent import Recent
from lsh_systemd.audit import Actor
from lsh_systemd.config import Api
from lsh_systemd.control import Control
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.job import Job, job_id
from lsh_systemd.jobs import Found, JobNotFound, Jobs
from lsh_systemd.journal import Journal
from lsh_systemd.manager import RUNNING_STATES, UNIT, ManagerError
from lsh_systemd.sayings import told
from lsh_systemd.scope import Scope
from lsh_systemd.status import Status, overview
from lsh_systemd.store import Store
from lsh_systemd.text import visible
from lsh_systemd.unit import is_run_unit

# Without the agent, the journal is read for requests, but not more often than this.
_COLLECT_SECONDS = 1.0
_COLLECT_TIMEOUT = 300.0
# How often a damaged store is seen to.
_MEND_SECONDS = 30.0
# What no sign tells of is looked at so often.
_LOOK_SECONDS = 1.0
# So long answers are kept that are still true: by then the clock may have been set.
_KEPT_SECONDS = 10.0


class Parts:
    """The parts of one scope. A store is a thread's own, as SQLite wants it; the rest keeps nothing."""

    def __init__(self, scope: Scope) -> None:
        self.scope, self.manager, self.jobs = scope, FollowingManager(scope), Jobs(scope, keep=True)
        self.began, self._ledger = time.time(), ledger.path(scope)
        self.recent: Recent[tuple[bytes, dict[str, str]]] = Recent(seconds=_KEPT_SECONDS)
        self.looked: Recent[list[Status]] = Recent(seconds=_KEPT_SECONDS)
        self.attention: Recent[list[dict[str, Any]]] = Recent(seconds=30.0)  # of days: half a minute changes little
        self._looking, self._looked_at, self._turns = threading.Lock(), 0.0, 0
        self._found: list[Found] = []
        self._own = threading.local()
        self._collecting = threading.Lock()
        self._collected = 0.0
        self._mending, self._mended = threading.Lock(), float("-inf")

    def forget(self) -> None:
        """Something is changed here: what is asked from now on is looked up."""
        self.recent.forget()
        self.looked.forget()

    async def sign(self) -> object:
        """Another one whenever jobs, their units or the ledger have changed; within a second also for what a hand has
        written into a file that was there, and for how far a run says that it is. Always made on the server's own
        thread, as versions are a connection's."""
        if self.manager.is_due and not self._looking.locked():  # one looks for all
            await anyio.to_thread.run_sync(self._look)
        store = self.ledger()
        return id(store), store.version(), self.jobs.written(), self.manager.changes, self._turns

    def _look(self) -> None:
        with self._looking:
            try:
                self.manager.listen()
                if time.monotonic() - self._looked_at < _LOOK_SECONDS:
                    return
                units = self.manager.units("lsh-*.service", states=RUNNING_STATES)
                quiet = self.agent_runs() and not any(map(is_run_unit, units))
                found = self.jobs.all()  # those that have not changed are the same objects
                same = len(found) == len(self._found) and all(map(operator.is_, found, self._found))
                self._turns += not (quiet and same)
                self._found = found
            except LshError:  # what asks for more will tell
                self._turns += 1
            self._looked_at = time.monotonic()

    def settings(self) -> Api:
        return policy.settings(self.scope)

    def store(self) -> Store:
        """The ledger as it stands; where no agent keeps it up to date, up to date all the same."""
        if not self.agent_runs():
            self.collect(at_most_every=_COLLECT_SECONDS)
        return self.ledger()

    def ledger(self) -> Store:
        """This thread's connection; a new one where the file has been replaced (restored, or mended)."""
        inode = _inode(self._ledger)
        store, known = getattr(self._own, "store", (None, None))
        if store is None or known != inode:
            if store is not None:
                store.close()
            store = Store(self._ledger)
            self._own.store = (store, _inode(self._ledger))
        assert isinstance(store, Store)
        return store

    def collect(self, *, at_most_every: float = 0.0) -> None:
        """Bring the ledger up to date, in a process of its own: libsystemd may die of a journal file that is truncated
        under it, and a process with threads is not to be forked."""
        with self._collecting:
            if time.monotonic() - self._collected < at_most_every:
                return
            command = [sys.executable, "-m", "lsh_systemd.cli", f"--{self.scope}", "agent", "collect"]
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, check=False, timeout=_COLLECT_TIMEOUT, cwd="/"
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise LshError(f"cannot collect runs: {error}") from None
            self._collected = time.monotonic()
        if done.returncode != 0:
            print(f"<4>{done.stderr.strip()[:1000]}", file=sys.stderr, flush=True)

    def mend(self) -> None:
        """Have a damaged store set aside and made anew, by the unit that looks after it daily."""
        with self._mending:
            if time.monotonic() - self._mended < _MEND_SECONDS:
                return
            self._mended = time.monotonic()
        with contextlib.suppress(LshError):  # it is told, and tried again
            daemons.provide(self.manager, [daemons.PRUNE])
            self.manager.start(daemons.PRUNE)

    def agent_runs(self) -> bool:
        try:
            return bool(self.manager.get(daemons.AGENT, UNIT, "ActiveState") == "active")
        except ManagerError:
            return False

    def control(self, caller: Caller) -> Control:
        actor = Actor(name=caller.signature, uid=os.getuid(), via="api")
        control = Control(self.scope, manager=self.manager, jobs=self.jobs, journal=Journal(self.scope), actor=actor)
        for line in midway.finish(control, lambda old, new: midway.carry_over(control, self.store(), old, new)):
            print(f"<5>{line}", file=sys.stderr, flush=True)
        return control


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


class Desk:
    """What one request works with: the parts, as far as its caller may see."""

    def __init__(self, request: Request) -> None:
        self.parts: Parts = request.app.state.parts
        self.caller: Caller = request.state.caller
        self.scope = self.parts.scope

    @cached_property
    def control(self) -> Control:
        return self.parts.control(self.caller)

    def store(self) -> Store:
        return self.parts.store()

    def all(self) -> list[Found]:
        return [found for found in self.parts.jobs.all() if self.caller.sees(found.id, found.job)]

    def for_all(self) -> None:
        """Raise Forbidden for a key that is for some jobs only."""
        if self.caller.jobs:
            raise Forbidden("this is about all jobs, and the key is for some only")

    def job(self, name: str) -> Found:
        """Raises JobNotFound, also for a job that the key is not for: that it is there is not told."""
        found = self.parts.jobs.find(name)
        if found is None or not self.caller.sees(found.id, found.job):
            raise JobNotFound(f"there is no job {visible(name)}", hint="GET /jobs lists them")
        return found

    def known(self, name: str) -> str:
        """The id of a job that there is, or that there was and left runs."""
        try:
            return self.job(name).id
        except JobNotFound:
            try:
                wanted = job_id(name)
            except BadInput:
                wanted = ""
            gone = wanted and self.parts.jobs.find(wanted) is None and self.caller.sees(wanted, None)
            if gone and self.store().runs(job=wanted, limit=1, output=False):
                return wanted
            raise

    def may_make(self, job: Job) -> None:
        """Raise Forbidden for a job that the key would not be for."""
        if not self.caller.sees(job.id, job):
            raise Forbidden("this key is not for such a job", hint="its jobs: " + ", ".join(self.caller.jobs))

    def statuses(self, found: list[Found]) -> list[Status]:
        runs = self.store().last_runs([each.id for each in found])
        last_runs = {each.id: told(self.scope, runs[each.id]) for each in found if each.id in runs}
        return overview(found, manager=self.parts.manager, last_runs=last_runs)

    def all_statuses(self) -> list[Status]:
        """Those of all jobs that the key is for, by id."""
        return self.parts.looked.get(
            self.caller.jobs, lambda: self.statuses(self.all()), anyio.from_thread.run(self.parts.sign)
        )

    def seen_ids(self) -> set[str] | None:
        """The ids of the jobs that the key is for; None where it is for all, also for those that are gone."""
        return None if not self.caller.jobs else {found.id for found in self.all()}


async def desk(request: Request) -> Desk:  # async: no thread is needed for it
    return Desk(request)
