"""Runs that should have been and were not: what a timer's own calendar expected, a grace, and no run.

Found also afterwards: when the machine was off or slept, the timer was stopped behind our back, or the agent did not
run. What came late (after a sleep, from a queue, made up for at boot) is not missed, nor what fell due while the job
still ran.
"""

import hashlib
import json
import os
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from lsh_systemd import analyze
from lsh_systemd.alertrule import Rule
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.job import Job
from lsh_systemd.jobs import Found, Jobs
from lsh_systemd.manager import TIMER, UNIT, Manager
from lsh_systemd.outbox import Outbox
from lsh_systemd.queue import Queue
from lsh_systemd.run import Run
from lsh_systemd.scope import Scope
from lsh_systemd.stamps import Stamps
from lsh_systemd.store import Store
from lsh_systemd.unit import on_calendar

_USEC = timedelta(microseconds=1)
# How long systemd and catching up may take to start what a boot or the end of a sleep makes due.
_SETTLE_USEC = 60_000_000
# A job that goes on missing its times is told of again after so long.
_AGAIN_USEC = 86_400_000_000
# Instants are asked for in batches, and no more than these: of a job of each second, a day.
_FEW, _MANY, _MOST = 50, 5000, 90_000
# Started by these, a run makes up for all that was due before it.
_LATE = frozenset({"catch-up", "queue"})


@dataclass(frozen=True, kw_only=True)
class _Expected:
    """A job whose times are to be kept, those after ``base`` up to ``until`` (µs); ``slack``: how late a run may be."""

    found: Found
    base: int
    until: int
    slack: int


def unanswered(times: Sequence[int], runs: Sequence[Run], now_usec: int) -> list[int]:
    """Those of a schedule's times (µs, in order) that no run answers for.

    A run answers for the newest time before its start, and for those that came while it went on, or, where it was held
    up or made up for them, for all before it.
    """
    answered: set[int] = set()
    for run in runs:
        if run.started_usec is None or run.result == "missed":
            continue
        began = bisect_right(times, run.started_usec)
        first = 0 if run.trigger in _LATE else max(0, began - 1)
        answered.update(times[first : bisect_right(times, run.ended_usec or now_usec)])
    return [each for each in times if each not in answered]


class Missed:
    """Looks for missed runs of the jobs that a rule wants them told of, and puts each into the ledger."""

    def __init__(self, scope: Scope, manager: Manager) -> None:
        self._scope, self._manager = scope, manager
        # Job → what its calendar was, and when there is next something to look at (µs): asking systemd is not free.
        self._looked: dict[str, tuple[object, int]] = {}
        self._slept, self._awake_since = _slept_seconds(), 0

    def look(self, store: Store, jobs: Jobs, rules: Sequence[Rule], now_usec: int) -> int | None:
        """Put into the store what was missed until now; when to look again (µs), None: there is nothing to expect."""
        if not any("missed" in rule.on for rule in rules):
            return None
        if (slept := _slept_seconds()) > self._slept + 1:
            self._awake_since = now_usec
        self._slept = slept
        outbox = Outbox(store)
        checked = outbox.missed_checked()
        wakes = []
        for found in jobs.all():
            grace = [rule.grace for rule in rules if "missed" in rule.on and rule.covers(found.id, found.job)]
            if grace and found.job and found.job.has_timer:
                try:
                    wake = self._look_at(found, found.job, max(grace), checked.get(found.id), store, now_usec)
                except BadInput:  # a calendar that systemd does not take: doctor tells; the others are looked at
                    continue
                except LshError:  # systemd does not answer now: no reason not to tell of what is known
                    wake = now_usec + _SETTLE_USEC
                wakes += [] if wake is None else [wake]
        return min(wakes, default=None)

    def _look_at(
        self, found: Found, job: Job, grace: timedelta, checked: int | None, store: Store, now_usec: int
    ) -> int | None:
        outbox, lines = Outbox(store), self._lines(found)
        rests = not found.pair.enabled and (checked is None or Stamps(self._scope).rests(found.timer))
        if rests or not (lines or job.interval):
            return None
        if checked is None or checked > now_usec:  # new to us; or the clock was set back
            outbox.set_missed_checked(found.id, checked := now_usec)
        key = (lines, job.interval, found.written_usec(), found.pair.enabled, grace)
        known, wake = self._looked.get(found.id, (None, 0))
        if known == key and now_usec < wake:
            return wake
        slack = (grace + (job.jitter or timedelta())) // _USEC
        base = max(checked, found.written_usec(), found.enabled_usec())
        expected = _Expected(found=found, base=base, until=now_usec - slack, slack=slack)
        wake = self._judge(expected, job, lines, store, now_usec)
        self._looked[found.id] = (key, wake)
        return wake

    def _lines(self, found: Found) -> list[str]:
        """The timer's calendar: its file's, or, with an administrator's drop-in, what systemd has made of both."""
        if any(path.parent.name == f"{found.timer}.d" for path in found.drop_ins()):
            return [line for _, line, _ in self._manager.get(found.timer, TIMER, "TimersCalendar")]
        return on_calendar(found.pair.timer)

    def _judge(self, expected: _Expected, job: Job, lines: list[str], store: Store, now_usec: int) -> int:
        """Find what was missed; when to look again."""
        found = expected.found
        runs = store.runs(job=found.id, since_usec=expected.base, output=False)
        runs += [run for run in [store.last_of_unit(found.service, before_usec=expected.base)] if run]
        times, following = _intervals(expected, runs, job.interval) if job.interval else _instants(lines, expected)
        again = (following or now_usec + _AGAIN_USEC) + expected.slack
        late = unanswered(times, runs, now_usec)
        if late and (held := self._held(found, job, expected.slack, store, now_usec)):
            return min(held, again)
        with store.transaction():
            store.put(self._told(found, late, runs, store, now_usec))
            if times:
                Outbox(store).set_missed_checked(found.id, times[-1])
        return again

    def _held(self, found: Found, job: Job, slack: int, store: Store, now_usec: int) -> int | None:
        """Until when there is no judging: something may yet make up for it, or it was told not long ago."""
        active = int(self._manager.get(found.timer, UNIT, "ActiveEnterTimestamp") or 0)
        spread = (job.catch_up_spread or timedelta()) // _USEC
        until = self._awake_since + _SETTLE_USEC if self._awake_since else 0
        if job.catch_up != "none":
            until = max(until, active + _SETTLE_USEC + spread)
        if job.interval:  # after a boot it counts from there
            until = max(until, active + job.interval // _USEC + slack)
        if Queue(self._scope).of(found.id):
            until = max(until, now_usec + _SETTLE_USEC)
        told = store.last_of_unit(_beside(found.id))
        last = store.last_of_unit(found.service)
        if (
            told
            and told.result == "missed"
            and told.ended_usec
            and (last is None or (last.started_usec or 0) < told.ended_usec)
        ):
            until = max(until, min(told.ended_usec, now_usec) + _AGAIN_USEC)
        return until if until > now_usec else None

    def _told(self, found: Found, late: Sequence[int], runs: Sequence[Run], store: Store, now_usec: int) -> list[Run]:
        """The times that were missed as runs: one more for those of which nothing has been told, and the last one with
        those that came after it before the job ran again."""
        told = store.last_of_unit(_beside(found.id))
        if not told or told.result != "missed" or (told.ended_usec or 0) < now_usec - _AGAIN_USEC:
            return [self._run(found.id, late, now_usec)] if late else []
        due = told.due_usec or 0
        since = min((run.started_usec for run in runs if run.started_usec and run.started_usec > due), default=now_usec)
        more, others = [each for each in late if each < since], [each for each in late if each >= since]
        count = json.loads(told.metrics).get("missed", 1) + len(more)
        longer = [replace(told, reason=_reason(due, more[-1], count), metrics=_metrics(count))] if more else []
        return longer + ([self._run(found.id, others, now_usec)] if others else [])

    def _run(self, job_id: str, late: Sequence[int], now_usec: int) -> Run:
        """One for all these times."""
        key = f"{self._scope} {job_id} {late[0]} {now_usec}"
        return Run(
            id=hashlib.sha256(key.encode()).hexdigest()[:32],
            job=job_id,
            unit=_beside(job_id),
            host=os.uname().nodename,
            trigger="timer",
            started_usec=late[0],
            ended_usec=now_usec,
            due_usec=late[0],
            result="missed",
            reason=_reason(late[0], late[-1], len(late)),
            metrics=_metrics(len(late)),
        )


def _instants(lines: list[str], expected: _Expected) -> tuple[list[int], int | None]:
    """The calendar's times after base and up to until, and the next one."""
    times: list[int] = []
    start, count = expected.base, _FEW
    while len(times) < _MOST:
        batch = [
            round(at.timestamp() * 1e6)
            for at in analyze.instants(lines, after=datetime.fromtimestamp(start / 1e6, UTC), count=count)
        ]
        times += [each for each in batch if start < each <= expected.until]
        following = next((each for each in batch if each > max(start, expected.until)), None)
        if following or len(batch) < count:
            return times, following
        start, count = batch[-1], _MANY
    # More than can be counted: what comes after now goes on from now.
    return times, expected.until + 1


def _intervals(expected: _Expected, runs: Sequence[Run], interval: timedelta) -> tuple[list[int], int | None]:
    """The same for --every, which counts from the start of the run before, or the end of one that took longer."""
    step = interval // _USEC
    if any(run.running for run in runs):
        return [], expected.until + expected.slack + step
    real = [run for run in runs if run.result != "missed"]
    last = max([expected.base, *(max((run.started_usec or 0) + step, run.ended_usec or 0) - step for run in real)])
    count = max(0, (expected.until - last) // step)
    times = [last + step * number for number in range(1, min(count, _MOST) + 1)]
    return times, last + step * (count + 1)


def _reason(first: int, last: int, count: int) -> str:
    if count == 1:
        return f"the run of {_utc(first)} did not come"
    return f"{count}{' or more' if count >= _MOST else ''} runs, from {_utc(first)} to {_utc(last)}, did not come"


def _metrics(count: int) -> str:
    return json.dumps({"missed": count})


def _beside(job_id: str) -> str:
    """A unit that is not the job's own: what has never run must not be taken for its last run."""
    return f"lsh-tick@{job_id}.service"


def _slept_seconds() -> float:
    """How long the machine has slept since it was booted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


def _utc(usec: int) -> str:
    return f"{datetime.fromtimestamp(usec / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"
