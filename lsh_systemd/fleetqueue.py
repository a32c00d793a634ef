"""lsh-fleet.service: makes runs that somebody has put into the fleet's queue, and ends when there are none.

Each step is one call (lsh_queue_step): it tells which runs have ended and which go on, which keeps this host's lease on
them, and is given new ones. What is given is written down before it is begun, so that whoever comes after a crash knows
what may have run: nothing is begun twice. A run whose lease could not be kept is ended, as another host may make it.
"""

import socket
import sys
import time
from dataclasses import replace
from datetime import datetime
from typing import Any

from lsh_systemd import caps, config, cputime, host, ledger, sharing
from lsh_systemd.control import Control
from lsh_systemd.daemons import FLEET_TIMER
from lsh_systemd.dispatch import Dispatcher
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.heldruns import Held, HeldRuns, sound
from lsh_systemd.job import Job
from lsh_systemd.manager import RUNNING_STATES, UNIT
from lsh_systemd.remote import Remote, RemoteAway, RemoteError
from lsh_systemd.run import Cause, Run
from lsh_systemd.scope import unit_dir
from lsh_systemd.text import escape_controls
from lsh_systemd.unit import instances
from lsh_systemd.unitdir import UnitDir

LEASE_SECONDS = 60.0
# How often the lease is renewed, how long that may take, and when a run is ended for which it could not be done: early
# enough, whatever the network does meanwhile, for its end to come before the lease's.
_BEAT_SECONDS = 5.0
TIMEOUT_SECONDS = 8.0
_GIVE_UP_SECONDS = 35.0
# How long the journal may take to tell how a run has ended.
_PATIENCE_SECONDS = 30.0
_PAUSE_SECONDS = 0.5
_AWAY_SECONDS = 2.0
_LONGEST_MESSAGE = 500
# A pattern of a job's may take exponential time on some values, which are others'.
_CHECK_SECONDS = 0.25


class Worker:
    """Works on the queue for one scope of this host."""

    def __init__(self, control: Control, remote: Remote) -> None:
        self._control, self._remote = control, remote
        self._held = HeldRuns(control.scope)
        self._boot_id = host.facts()["boot_id"]
        heard = self._held.heard()
        self._heard = time.monotonic() if heard is None else heard
        self._quiet_since: dict[int, float] = {}  # token → since when its unit is known to have ended, unexplained

    def run(self) -> None:
        """Ask for work, and see to it until there is none. Raises RemoteError where nothing runs and trying again would
        not help, LshError where somebody else sees to it."""
        with self._held.locked():
            while True:
                changed = False
                try:
                    changed = self.step()
                except RemoteError as error:
                    if not self._held.all() and not isinstance(error, RemoteAway):
                        raise
                    _warn(error.message)
                    if not self._held.all():
                        return
                    if time.monotonic() - self._heard > _GIVE_UP_SECONDS:
                        self._end_all()
                    time.sleep(_AWAY_SECONDS)
                if not self._held.all():
                    return
                if not changed:
                    self._wait()

    def step(self) -> bool:
        """Tell what has happened, hear what is to be done, and do it; whether anything has changed."""
        held = self._held.all()
        ended = self._ended(held)
        going_on = [each for each in held if each.token not in ended]
        slots = config.load(self._control.scope).fleet.slots - len(going_on) if self._is_member() else 0
        asked = time.monotonic()
        answer = self._remote.rpc(
            "lsh_queue_step",
            {
                "p_host": host.machine(),
                "p_name": socket.gethostname(),
                "p_scope": host.owner(self._control.scope),
                "p_slots": max(0, slots),
                "p_offers": self._offers() if slots > 0 else {},
                "p_tags": config.load(self._control.scope).fleet.tags,
                "p_running": [each.token for each in going_on],
                "p_ended": list(ended.values()),
                "p_lease_seconds": LEASE_SECONDS,
            },
        )
        if not isinstance(answer, dict) or not all(
            isinstance(answer.get(each), list) for each in ("gone", "cancel", "run")
        ):
            raise RemoteError("the fleet's queue answers with something else", hint="lshctl supabase test")
        self._heard = asked
        self._held.note_heard(asked)
        for each in held:
            if each.token in ended:
                self._forget(each)
        for each in going_on:
            if each.token in answer["gone"] or each.token in answer["cancel"]:
                self._stop(each)
            if each.token in answer["gone"]:
                self._forget(each)
        given = [self._take(row) for row in answer["run"]]
        for each in [*(each for each in going_on if not each.begun), *given]:
            if time.monotonic() - asked > _BEAT_SECONDS:
                break  # the others when the lease has been renewed
            self._begin(each)
        return bool(ended or given)

    def _is_member(self) -> bool:
        """Whether this host takes new runs: not after `lshctl fleet leave`."""
        return UnitDir(unit_dir(self._control.scope)).is_enabled(FLEET_TIMER)

    def _offers(self) -> dict[str, int]:
        """How many more runs of each job there is room for under this host's own caps."""
        dispatcher = Dispatcher(self._control)
        limits = caps.load(self._control.scope)
        taken = dispatcher.taken(dispatcher.running(), limits)
        room = {}
        for found in self._control.jobs.all():
            if found.job and found.job.from_fleet:
                free = [cap - taken[name] for name, cap in limits.of(found.job, dispatcher.owner).items()]
                room[found.id] = min([*free, 1000])
        return {job: count for job, count in room.items() if count > 0}

    def _is_full(self, job: Job) -> bool:
        limits, dispatcher = caps.load(self._control.scope), Dispatcher(self._control)
        bound = limits.of(job, dispatcher.owner)
        taken = dispatcher.taken(dispatcher.running(), limits) if bound else {}
        return any(taken[name] >= cap for name, cap in bound.items())

    def _take(self, row: Any) -> Held:
        held = taken(row, boot_id=self._boot_id)
        self._held.keep(held)
        return held

    def _begin(self, held: Held) -> None:
        """Start the run; where that cannot be, note why, for the next step to tell."""
        try:
            found = self._control.jobs.get(held.job)
            given = _given(found.valid_job, held)
        except LshError as error:
            message = escape_controls(error.message, keep="")
            self._held.keep(replace(held, verdict="refused", message=message))
            return
        if self._is_full(found.valid_job):  # others of its group have been quicker
            self._held.keep(replace(held, verdict="released"))
            return
        self._held.give(instances(held.job, held.token), sharing.environment_file(given))
        self._held.keep(replace(held, begun=True, boot_id=self._boot_id))
        due = round(datetime.fromisoformat(held.created_at).timestamp() * 1e6)
        try:
            self._control.start_beside(found, held.token, Cause("queue", due_usec=due, by=held.created_by))
        except LshError as error:  # the ledger will tell whether it has run
            _warn(f"run {held.id} ({held.job}): {error.message}")

    def _ended(self, held: list[Held]) -> dict[int, dict[str, Any]]:
        """What there is to tell of those that have come to an end, by token."""
        ended = {each.token: _told(each, each.verdict) for each in held if each.verdict}
        quiet = [each for each in held if each.begun and not self._goes_on(each)]
        if not quiet:
            return ended
        store = ledger.current(self._control.scope, self._control.jobs)
        for each in quiet:
            run = store.last_of_unit(instances(each.job, each.token))
            if run and run.result is not None:
                ended[each.token] = _told(each, run.result, run)
            elif each.boot_id != self._boot_id or self._is_silent(each):
                ended[each.token] = _told(each, "lost", run)
        store.close()
        return ended

    def _goes_on(self, held: Held) -> bool:
        if held.boot_id != self._boot_id:
            return False
        return self._control.manager.get(instances(held.job, held.token), UNIT, "ActiveState") in RUNNING_STATES

    def _is_silent(self, held: Held) -> bool:
        since = self._quiet_since.setdefault(held.token, time.monotonic())
        return time.monotonic() - since > _PATIENCE_SECONDS

    def _wait(self) -> None:
        """Until a run has ended, or it is time to be heard of."""
        until = time.monotonic() + _BEAT_SECONDS
        while (left := until - time.monotonic()) > 0:
            self._control.manager.wait_for_end_of_a_job(min(left, _PAUSE_SECONDS))
            if any(not each.begun or not self._goes_on(each) for each in self._held.all()):
                return

    def _stop(self, held: Held) -> None:
        unit = instances(held.job, held.token)
        if self._goes_on(held):
            self._control.manager.stop(unit)

    def _end_all(self) -> None:
        """Nobody has heard of this host for so long that its runs are, or will soon be, another's."""
        for each in self._held.all():
            if not each.begun:
                self._forget(each)
            elif self._goes_on(each):
                self._stop(each)
                _warn(f"run {each.id} ({each.job}) is ended: its lease could not be kept")

    def _forget(self, held: Held) -> None:
        self._held.forget(held, instances(held.job, held.token))
        self._quiet_since.pop(held.token, None)


def taken(row: Any, *, boot_id: str) -> Held:
    """The run that the fleet's queue gives this host. Raises RemoteError for a row that is none."""
    names = ("id", "token", "job", "params", "user", "attempt", "created_at", "created_by")
    try:
        return sound({name: row[name] for name in names} | {"boot_id": boot_id})
    except (KeyError, TypeError, ValueError):
        raise RemoteError("the fleet's queue gives a run that is none", hint="lshctl supabase test") from None


def _given(job: Job, held: Held) -> dict[str, str]:
    """The variables of a run. Raises BadInput for one that the job does not take."""
    if not job.from_fleet:
        raise BadInput(f"{job.id} is not offered to the fleet")
    try:
        with cputime.bounded(_CHECK_SECONDS):
            params = sharing.check_params(job, held.params)
    except TimeoutError as error:
        raise BadInput(f"matching the parameters takes {error}", hint="a pattern with fewer repetitions") from None
    return {
        sharing.TOKEN: str(held.token),
        "LSH_QUEUE_ID": str(held.id),
        "LSH_QUEUE_USER": sharing.check_value("user", held.user),
        **params,
    }


def _told(held: Held, result: str, run: Run | None = None) -> dict[str, Any]:
    message = run.message if run else held.message
    return {
        "token": held.token,
        "result": result,
        "run": run.id if run else None,
        "exit_status": run.exit_status if run else None,
        "message": message and message[:_LONGEST_MESSAGE].replace("\0", ""),
    }


def _warn(text: str) -> None:
    print(f"<4>{escape_controls(text, keep='')}", file=sys.stderr, flush=True)
