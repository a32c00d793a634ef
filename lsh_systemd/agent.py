"""The agent: follows the journal and keeps the ledger up to date. Run by lsh-agent.service (Type=notify)."""

import math
import os
import signal
import sys
import time
from abc import ABC, abstractmethod
from types import FrameType

from lsh_systemd import connect, daemons, host, ledger
from lsh_systemd.alerts import Alerts, rules_of
from lsh_systemd.collector import SETTLE_SECONDS
from lsh_systemd.errors import LshError
from lsh_systemd.jobs import Jobs
from lsh_systemd.journal import Journal
from lsh_systemd.manager import UNIT, Manager
from lsh_systemd.missed import Missed
from lsh_systemd.scope import Scope
from lsh_systemd.span import format_span
from lsh_systemd.store import Store
from lsh_systemd.stuck import Going, going
from lsh_systemd.unsent import Unsent

# How long to wait after a failure (a full disk, say) before trying again.
_RETRY_SECONDS = 10.0
# How far the agent may stay behind in a journal that has nothing for it, before what it has not looked at is dropped.
_LOOK_SECONDS = 240.0
# How often to look whether what is being sent has been sent.
_SENDING_SECONDS = 2.0


class _Stopped(Exception):
    """systemd asked the agent to end."""


def run(scope: Scope) -> None:
    """Collect until SIGTERM. A store that cannot be written now is tried again; the journal keeps what is to come."""
    signal.signal(signal.SIGTERM, _stop)
    longest = _watchdog_seconds() / 2
    stuck = _Stuck(scope)
    alerts, reports = _Alerts(scope, stuck), _Reports(scope)
    try:
        changes = Journal(scope).changes(lambda: min(longest, stuck.look(), alerts.look(), reports.look()))
        # Ready to follow; a store that cannot be written now is no reason for systemd to give up on the agent.
        _notify("READY=1")
        _collect(scope)
        looked = time.monotonic()
        for changed in changes:
            _notify("WATCHDOG=1")
            # (where nothing is to be collected, the place in the journal goes on all the same)
            if changed or time.monotonic() - looked > _LOOK_SECONDS:
                looked = time.monotonic()
                # A burst of entries is collected in one go, and its last lines of output are in.
                time.sleep(SETTLE_SECONDS)
                _collect(scope)
    except _Stopped:
        _notify("STOPPING=1")


class _Stuck:
    """Tells, once each, of the runs that are stuck."""

    def __init__(self, scope: Scope) -> None:
        self._manager, self._jobs = Manager(scope), Jobs(scope)
        self._told: set[str] = set()
        self.now: list[Going] = []

    def look(self) -> float:
        """The seconds until the next run in progress will be stuck; those that are now are in ``now``."""
        try:
            runs = list(going(self._manager, self._jobs.all()))
        except LshError as error:
            print(error.message, file=sys.stderr, flush=True)
            return _RETRY_SECONDS
        self.now = [run for run in runs if run.stuck]
        for run in self.now:
            if run.run_id not in self._told:
                # <4>: a warning, as the journal reads it
                text = f"{run.found.id} is stuck: it has run for {format_span(run.lasting)}"
                print(f"<4>{text}; lshctl reset-stuck ends it", file=sys.stderr, flush=True)
        self._told = {run.run_id for run in self.now}
        return min((run.seconds_left for run in runs if run.seconds_left is not None), default=math.inf)


class _Duty(ABC):
    """Something that a unit of ours does over the network, when it is due; the unit ends when it is done."""

    unit: str

    def __init__(self, scope: Scope) -> None:
        self._scope, self._manager = scope, Manager(scope)
        self._told = ""
        self._asked_for: object = None
        self._started, self._pause = 0.0, _SENDING_SECONDS
        self._on = True  # whether the store may have to be told that nothing is to be done any more

    def look(self) -> float:
        """The seconds until something is due; what is due now is begun."""
        try:
            seconds = self._look()
            self._told = ""
            return seconds
        except LshError as error:
            if error.message != self._told:  # once: a mistake in a file may stay there for long
                self._told = error.message
                print(f"<3>{self.unit}: {error.message}", file=sys.stderr, flush=True)
            return _RETRY_SECONDS * 6

    @abstractmethod
    def _look(self) -> float:
        """The same, by the kind of duty; what cannot be asked raises LshError."""

    def _start(self, what: object) -> float:
        """Start the unit, for ``what``; the seconds until it is worth another look."""
        if self._manager.get(self.unit, UNIT, "ActiveState") not in ("inactive", "failed"):
            return _SENDING_SECONDS
        # Where it ends without having done anything, it is started less and less often. (Its end wakes us, too.)
        if what != self._asked_for:
            self._asked_for, self._pause = what, _SENDING_SECONDS
        elif (left := self._started + self._pause - time.monotonic()) > 0:
            return left
        else:
            self._pause = min(2 * self._pause, 3600.0)
        self._started = time.monotonic()
        self._manager.start(self.unit)
        return self._pause


class _Alerts(_Duty):
    """Has alerts sent when they are due."""

    unit = daemons.ALERT

    def __init__(self, scope: Scope, stuck: _Stuck) -> None:
        super().__init__(scope)
        self._stuck = stuck
        self._missed = Missed(scope, self._manager)

    def _look(self) -> float:
        rules = rules_of(self._scope)
        if not rules and not self._on:
            return math.inf
        store = Store(ledger.path(self._scope))
        try:
            self._on = bool(rules)
            jobs = Jobs(self._scope)
            alerts = Alerts(self._scope, store=store, jobs=jobs, rules=rules)
            if not rules:
                alerts.outbox.turn_off()
                return math.inf
            now = time.time_ns() // 1000
            missed = self._missed.look(store, jobs, rules, now)
            alerts.step(now)
            alerts.stuck(self._stuck.now, now)
            waiting = alerts.due(now)
            later = [each for each in (missed, alerts.next_digest()) if each is not None]
        finally:
            store.close()
        if not any(each.at_usec <= now for each in waiting):
            times = [*(each.at_usec for each in waiting), *later]
            return max(0.0, (min(times) - now) / 1e6) if times else math.inf
        return self._start({(each.alerts[0].id, each.state.tries) for each in waiting})


class _Reports(_Duty):
    """Has what is new sent to Supabase, where a project is set."""

    unit = daemons.SYNC

    def _look(self) -> float:
        url = connect.url(self._scope)
        if url is None and not self._on:
            return math.inf
        store = Store(ledger.path(self._scope))
        try:
            self._on = url is not None
            unsent = Unsent(store)
            if url is None:
                unsent.turn_off()
                return math.inf
            unsent.turn_on(host.machine(), url)
            now, progress = time.time_ns() // 1000, unsent.progress()
            left = (unsent.due_usec(now) - now) / 1e6
        finally:
            store.close()
        return left if left > 0 else self._start(progress)


def _collect(scope: Scope) -> None:
    while True:
        try:
            ledger.mended(ledger.path(scope), lambda: _collect_once(scope))
            _notify("STATUS=Collecting runs")
            return
        except LshError as error:
            print(f"{error.message}; trying again in {_RETRY_SECONDS:g} s", file=sys.stderr, flush=True)
            _notify(f"WATCHDOG=1\nSTATUS=Waiting: {error.message}")
            time.sleep(_RETRY_SECONDS)


def _collect_once(scope: Scope) -> None:
    store = Store(ledger.path(scope))
    try:
        ledger.collect(scope, store, Jobs(scope))
    finally:
        store.close()


def _notify(message: str) -> None:
    from systemd import daemon

    daemon.notify(message)


def _watchdog_seconds() -> float:
    """How often systemd wants to hear from us."""
    usec = os.environ.get("WATCHDOG_USEC", "")
    return int(usec) / 1e6 if usec.isdecimal() else 3600.0


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stopped
