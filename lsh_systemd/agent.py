"""The agent: follows the journal and keeps the ledger up to date. Run by lsh-agent.service (Type=notify)."""

import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

from lsh_systemd import daemons, ledger
from lsh_systemd.alertrule import Rule
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
    stuck, alerts = _Stuck(scope), _Alerts(scope)
    try:
        changes = Journal(scope).changes(lambda: min(longest, stuck.look(), alerts.look(stuck.now)))
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


class _Alerts:
    """Has alerts sent when they are due, by a unit that may use the network and that ends when it is done."""

    def __init__(self, scope: Scope) -> None:
        self._scope, self._manager = scope, Manager(scope)
        self._missed = Missed(scope, self._manager)
        self._told = ""
        self._asked_for: set[tuple[int, int]] = set()
        self._started, self._pause = 0.0, _SENDING_SECONDS
        self._on = True  # whether the store may have to be told that there are no rules any more

    def look(self, stuck: Sequence[Going]) -> float:
        """The seconds until something is due. ``stuck``: the runs that are."""
        try:
            rules = rules_of(self._scope)
            self._told = ""
            if not rules and not self._on:
                return math.inf
            return self._look(rules, stuck)
        except LshError as error:
            if error.message != self._told:  # once: a mistake in a file may stay there for long
                self._told = error.message
                print(f"<3>alerts: {error.message}", file=sys.stderr, flush=True)
            return _RETRY_SECONDS * 6

    def _look(self, rules: Sequence[Rule], stuck: Sequence[Going]) -> float:
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
            alerts.stuck(stuck, now)
            waiting = alerts.due(now)
            later = [each for each in (missed, alerts.next_digest()) if each is not None]
        finally:
            store.close()
        if not any(each.at_usec <= now for each in waiting):
            times = [*(each.at_usec for each in waiting), *later]
            return max(0.0, (min(times) - now) / 1e6) if times else math.inf
        if self._manager.get(daemons.ALERT, UNIT, "ActiveState") not in ("inactive", "failed"):
            return _SENDING_SECONDS
        # Where it ends without having done anything, it is started less and less often. (Its end wakes us, too.)
        what = {(each.alerts[0].id, each.state.tries) for each in waiting}
        if what != self._asked_for:
            self._asked_for, self._pause = what, _SENDING_SECONDS
        elif (left := self._started + self._pause - time.monotonic()) > 0:
            return left
        else:
            self._pause = min(2 * self._pause, 3600.0)
        self._started = time.monotonic()
        self._manager.start(daemons.ALERT)
        return self._pause


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
