"""The journal's entries, folded into runs. Pure; what each entry tells is described in ``run``."""

import json
import re
from collections.abc import Callable, Iterable

from lsh_systemd import audit, said
from lsh_systemd.run import (
    CHANGED,
    FAILURE_RESULT,
    FINISHED,
    LAST_USEC,
    MARK,
    PROCESS_EXIT,
    RECORD,
    STARTING,
    UNSURE,
    Entry,
    Run,
)
from lsh_systemd.scope import Scope
from lsh_systemd.unit import id_of_unit, is_run_unit

_INVOCATION_ID = re.compile(r"[0-9a-f]{32}")
_RESULTS = frozenset(
    "success protocol timeout exit-code signal core-dump watchdog oom-kill start-limit-hit resources "
    "exec-condition".split()
)
# Between a message's sending and journald's taking it: more than this is no delay but a change of the clock.
_CLOCK_WAS_SET_USEC = 1_000_000
_TRIGGERS = frozenset({"timer", "manual", "retry", "queue", "catch-up", "path", "hook", "api"})
_SIGNAL = re.compile(r"[A-Z0-9+-]{1,12}")


class Fold:
    """Folds journal entries, in their order, into runs.

    ``last`` gives the newest known run of a unit, ``known`` says whether a unit is a job of ours (a foreign
    lsh-x.service leaves "starting" messages too), ``trusted`` whether a record of the unit may come from that uid,
    ``find`` the known run of an id.
    """

    def __init__(
        self,
        scope: Scope,
        *,
        uid: int,
        last: Callable[[str], Run | None],
        known: Callable[[str], bool],
        trusted: Callable[[str, int], bool],
        find: Callable[[str], Run | None] = lambda run_id: None,
    ) -> None:
        self._scope, self._uid, self._known, self._trusted = scope, uid, known, trusted
        self._look_up, self._find = last, find
        self._last: dict[str, Run | None] = {}
        self._marks: dict[str, Entry] = {}  # of runs that nothing else has told of yet
        self.changed: dict[str, Run] = {}
        self.ended: str | None = None
        self.changes: dict[str, audit.Change] = {}

    def feed(self, entries: Iterable[Entry]) -> None:
        """Take the entries in; the runs that they began, ended or completed are then in ``changed``, by id, the run
        that the last of them ended in ``ended``, and what was done to jobs in ``changes``."""
        for entry in entries:
            self.ended = None
            kind = entry.get("MESSAGE_ID")
            if kind == RECORD:
                self._record(entry)
            elif kind == MARK:
                self._mark(entry)
            elif kind == CHANGED:
                self._change(entry)
            elif self._is_from_manager(entry):
                self._manager_message(kind, entry)

    def _record(self, entry: Entry) -> None:
        unit, run_id, result = self._signed(entry), entry.get("LSH_INVOCATION_ID", ""), entry.get("LSH_RESULT", "")
        complete = self._is_from_master(entry)
        if unit and result == "skipped" and complete:
            self._skipped(unit, run_id, entry)
        if not unit or result not in _RESULTS:
            return
        before = self._latest(unit, run_id)
        if not complete and (before is None or before.id != run_id):
            return  # only of a start that systemd itself has told of
        run = before if before and before.id == run_id else self._begun(unit, run_id, entry)
        if run.result not in (None, "lost"):  # "lost" was but a conclusion
            return
        trigger, trigger_usec = self._trigger(entry, run)
        told = said.parse(entry.get("LSH_SAID", ""))
        run = run.but(
            started_usec=run.started_usec or _started(entry),
            trigger=trigger,
            trigger_usec=trigger_usec,
            cpu_usec=_number(entry.get("LSH_CPU_USEC")),
            memory_peak_bytes=_number(entry.get("LSH_MEMORY_PEAK")),
            io_read_bytes=_number(entry.get("LSH_IO_READ")),
            io_write_bytes=_number(entry.get("LSH_IO_WRITTEN")),
            pid=_number(entry.get("_PID")),
            message=told.message,
            metrics=json.dumps(dict(told.metrics)),
            progress=told.progress,
        )
        if complete:
            run = _exited(run, entry.get("LSH_EXIT_CODE", ""), entry.get("LSH_EXIT_STATUS", ""))
            self._end(run, result, entry)
        else:
            self._put(run)

    def _skipped(self, unit: str, run_id: str, entry: Entry) -> None:
        """A start that was due and not made: a run of the tick that saw so, beside the unit's own runs."""
        when, job_id = _when(entry), id_of_unit(unit)
        self.changed[run_id] = Run(
            id=run_id,
            job=job_id,
            unit=f"lsh-tick@{job_id}.service",
            host=entry.get("_HOSTNAME", ""),
            boot_id=entry.get("_BOOT_ID", ""),
            trigger="timer",
            started_usec=when,
            ended_usec=when,
            duration_usec=0,
            result="skipped",
            reason=entry.get("LSH_REASON") or None,
        )

    def _manager_message(self, kind: str | None, entry: Entry) -> None:
        unit = entry.get("UNIT") or entry.get("USER_UNIT") or ""
        run_id = entry.get("INVOCATION_ID") or entry.get("USER_INVOCATION_ID") or ""
        if not is_run_unit(unit) or not _INVOCATION_ID.fullmatch(run_id) or not self._known(unit):
            return
        run = self._latest(unit, run_id)
        # One that fails before it can begin (a missing EnvironmentFile=) has no "starting": only its failure is told.
        if kind in (STARTING, FAILURE_RESULT) and (not run or run.id != run_id):
            run = self._begun(unit, run_id, entry)
            monotonic = _number(entry.get("__MONOTONIC_TIMESTAMP"))
            run = run.but(started_usec=_when(entry), started_monotonic_usec=monotonic)
            self._put(run)
        if kind == STARTING:
            return
        if not run or run.id != run_id:
            return
        if run.result not in (None, "lost"):
            self._last_word(run, kind, entry)
        elif kind == PROCESS_EXIT:
            if run.exit_status is None and run.signal is None:  # the first: ExecStopPost= may fail after the command
                self._put(_exited(run, entry.get("EXIT_CODE", ""), entry.get("EXIT_STATUS", "")))
        elif kind == FAILURE_RESULT and entry.get("UNIT_RESULT") in _RESULTS:
            self._end(run.but(trigger=run.trigger or UNSURE), entry["UNIT_RESULT"], entry)
        elif kind == FINISHED and entry.get("JOB_RESULT", "done") == "done":
            run = _exited(run, "exited", "0").but(trigger=run.trigger or UNSURE)
            self._end(run, "success", entry)

    def _last_word(self, run: Run, kind: str | None, entry: Entry) -> None:
        """The record has told the end, but in the job's environment: whether it failed, systemd knows best."""
        if kind == FINISHED and entry.get("JOB_RESULT", "done") == "done" and run.result not in ("success", "skipped"):
            self._put(run.but(result="success"))
        elif kind == FAILURE_RESULT and entry.get("UNIT_RESULT") in _RESULTS and run.result != entry["UNIT_RESULT"]:
            self._put(run.but(result=entry["UNIT_RESULT"]))

    def _begun(self, unit: str, run_id: str, entry: Entry) -> Run:
        """A new run of the unit. systemd runs a unit once at a time, so one still open has lost its record."""
        before = self._latest(unit)
        if before and before.result is None:
            self._put(before.but(result="lost"))
        boot_id = entry.get("_BOOT_ID", "")
        mark = self._marks.pop(run_id, None)
        run = Run(
            id=run_id,
            job=id_of_unit(unit),
            unit=unit,
            host=entry.get("_HOSTNAME", ""),
            boot_id=boot_id,
            # The newest trigger that an earlier run of this boot has had, 0 for none; None where no such run is known.
            trigger_usec=(before.trigger_usec or 0) if before and before.boot_id == boot_id else None,
        )
        return self._marked(run, mark) if mark and self._signed(mark) == unit else run

    def _end(self, run: Run, result: str, entry: Entry) -> None:
        ended, self.ended = _ended(entry), run.id
        self._put(
            run.but(
                ended_usec=ended,
                duration_usec=_duration(run, ended, _number(entry.get("__MONOTONIC_TIMESTAMP"))),
                result="skipped" if result == "exec-condition" else result,
            )
        )

    def _trigger(self, entry: Entry, run: Run) -> tuple[str, int | None]:
        """What started the run, as far as its environment tells; and the trigger's time, for the next one to compare.

        systemd sets TRIGGER_UNIT= and TRIGGER_TIMER_REALTIME_USEC= at the first start by a trigger and leaves them as
        they are at all later starts, by whatever, until it drops the unit from memory (seen on 252 and 262). So none
        or a new one is certain; an old one says nothing.
        """
        unit, usec = entry.get("LSH_TRIGGER_UNIT", ""), _number(entry.get("LSH_TRIGGER_USEC"))
        if run.trigger:
            return run.trigger, usec if unit else run.trigger_usec
        if not unit:
            return "manual", run.trigger_usec
        if unit.endswith((".path", ".socket")):
            return UNSURE, run.trigger_usec
        if run.trigger_usec is None or usec == run.trigger_usec:
            return UNSURE, usec
        return "timer", usec

    def _mark(self, entry: Entry) -> None:
        """lshctl says what it has started. The mark follows the start; it may even follow the record of a short run."""
        unit, run_id = self._signed(entry), entry.get("LSH_INVOCATION_ID", "")
        if not unit or entry.get("LSH_TRIGGER") not in _TRIGGERS:
            return
        run = self._latest(unit, run_id)
        if run and run.id == run_id:
            self._put(self._marked(run, entry))
        else:  # of a unit for one run, which has taken its file away since, "starting" does not count
            self._marks[run_id] = entry

    def _marked(self, run: Run, entry: Entry) -> Run:
        first = entry.get("LSH_FIRST", "")
        return run.but(
            trigger=entry.get("LSH_TRIGGER"),
            due_usec=_number(entry.get("LSH_DUE")),
            attempt=_number(entry.get("LSH_ATTEMPT")) or 1,
            first_id=first if _INVOCATION_ID.fullmatch(first) else None,
            triggered_by=audit.name_of(entry.get("LSH_BY", "")) if self._is_from_master(entry) else None,
        )

    def _change(self, entry: Entry) -> None:
        if entry.get("LSH_SCOPE") == self._scope and self._is_from_master(entry):
            change = audit.from_entry(entry, _when(entry) or 0)
            if change:
                self.changes[change.id] = change

    def _signed(self, entry: Entry) -> str | None:
        """The unit that an entry of ours is about; None where it is malformed or its sender is not to be believed."""
        unit, uid = entry.get("LSH_UNIT", ""), _number(entry.get("_UID"))
        well_formed = is_run_unit(unit) and _INVOCATION_ID.fullmatch(entry.get("LSH_INVOCATION_ID", ""))
        if entry.get("LSH_SCOPE") != self._scope or not well_formed or uid is None or not self._trusted(unit, uid):
            return None
        return unit

    def _latest(self, unit: str, run_id: str = "") -> Run | None:
        """The unit's newest run; or the one of that id, where it is known: after the clock was set back, the newest by
        its start is one from before that."""
        if unit not in self._last:
            self._last[unit] = self._look_up(unit)
        run = self._last[unit]
        if run_id and (run is None or run.id != run_id):
            known = self.changed.get(run_id) or self._find(run_id)
            return known if known and known.unit == unit else run
        return run

    def _put(self, run: Run) -> None:
        self._last[run.unit] = run
        self.changed[run.id] = run

    def _is_from_master(self, entry: Entry) -> bool:
        """Whether the sender is whom the scope belongs to: root, or the user."""
        return entry.get("_UID") == ("0" if self._scope is Scope.SYSTEM else str(self._uid))

    def _is_from_manager(self, entry: Entry) -> bool:
        if self._scope is Scope.SYSTEM:
            return entry.get("_PID") == "1" and "UNIT" in entry
        return entry.get("_UID") == str(self._uid) and "USER_UNIT" in entry


def _duration(run: Run, ended: int | None, monotonic: int | None) -> int | None:
    """How long the run took. Both of its times are the senders' own; where the clock was set in between, they differ
    by something else, and the monotonic times at which journald took the entries have to do."""
    if run.started_usec is None or ended is None:
        return None
    by_clock = ended - run.started_usec
    if monotonic is None or run.started_monotonic_usec is None:
        return max(0, by_clock)
    elapsed = monotonic - run.started_monotonic_usec
    return by_clock if abs(by_clock - elapsed) < _CLOCK_WAS_SET_USEC else elapsed


def _exited(run: Run, code: str, status: str) -> Run:
    """The run with how its process ended: systemd's $EXIT_CODE and $EXIT_STATUS."""
    return run.but(
        exit_status=_number(status) if code == "exited" else None,
        signal=status if code in ("killed", "dumped") and _SIGNAL.fullmatch(status) else None,
    )


def _when(entry: Entry) -> int | None:
    """When the sender sent it, else when journald took it; µs since 1970."""
    return _number(entry.get("_SOURCE_REALTIME_TIMESTAMP")) or _number(entry.get("__REALTIME_TIMESTAMP"))


def _started(entry: Entry) -> int | None:
    """LSH_STARTED in µs; none where it lies after the record itself."""
    started, told = _usec(entry.get("LSH_STARTED", "")), _when(entry)
    return started if started and told and started <= told + _CLOCK_WAS_SET_USEC else None


def _ended(entry: Entry) -> int | None:
    """LSH_ENDED in µs, where it lies between the start and the record, as it must; else when the record was sent."""
    ended, told = _usec(entry.get("LSH_ENDED", "")), _when(entry)
    started = _usec(entry.get("LSH_STARTED", "")) or 0
    return ended if ended and told and started <= ended <= told else told


def _usec(text: str) -> int | None:
    """ "1795329711.402521" → µs."""
    whole, _, fraction = text.partition(".")
    seconds, micros = _number(whole), _number(fraction[:6].ljust(6, "0"))
    return None if seconds is None or micros is None else seconds * 1_000_000 + micros


def _number(text: str | None) -> int | None:
    """A count or a time; None for anything else, or beyond what a store and a date can hold."""
    number = int(text) if text and text.isascii() and text.isdecimal() and len(text) < 19 else None
    return number if number is not None and number <= LAST_USEC else None
