"""--once-in-fleet: of all hosts that have the job, one makes the run of each scheduled time, the first that asks.

Supabase keeps a row for each job and time (packaging/supabase/migrations/*_claims.sql). A claim is asked for before the
run begins, and is never given to another host afterwards: where its host dies, that time has no run, or half of one.
"""

import contextlib
import os
import socket
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from lsh_systemd import analyze, connect, host, unit
from lsh_systemd.errors import LshError
from lsh_systemd.jobs import Found
from lsh_systemd.manager import RUNNING_STATES, TIMER, UNIT, Manager
from lsh_systemd.queue import Queue
from lsh_systemd.remote import RemoteAway
from lsh_systemd.run import rfc3339
from lsh_systemd.scope import Scope
from lsh_systemd.text import escape_controls

# Three times at most: what has been claimed by a request whose answer was lost is told again.
_TRIES = 3
_TIMEOUT_SECONDS = 5.0
_PAUSE_SECONDS = 1.0
# How far back the newest scheduled time may lie.
_SPANS = [timedelta(minutes=1), timedelta(hours=1), timedelta(days=1), timedelta(days=32), timedelta(days=61)]
_BATCH = 100
# As much of a reason as the journal is to have.
_LONGEST_REASON = 500
# How reasons begin: ours, and one that lsh_fleet_claim gives.
UNASKED = "Supabase could not be asked"
CLOCK_AHEAD = "this host's clock is ahead"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether the run is made here: not where there is a ``reason``. Without a ``token``, nobody could be asked."""

    token: int | None = None
    reason: str | None = None


def decide(scope: Scope, found: Found, manager: Manager) -> Verdict:
    """Ask for the run of the job's newest scheduled time, now that its timer has elapsed."""
    job = found.valid_job
    if reason := _busy(scope, found, manager):
        return Verdict(reason=reason)  # another host may have the time to make it
    elapsed = manager.get(found.timer, TIMER, "LastTriggerUSec") or time.time_ns() // 1000
    instant = newest_instant(unit.on_calendar(found.pair.timer), datetime.fromtimestamp(elapsed / 1e6, UTC))
    if instant is None:
        return Verdict(reason="its schedule had no time in the last 61 days")
    try:
        answer = _ask(scope, found.id, instant)
    except LshError as error:
        if job.fleet_unreachable == "run":
            return Verdict()
        return Verdict(reason=escape_controls(f"{UNASKED}: {error.message}", keep=""))
    if answer.get("won") is True and type(answer.get("token")) is int:
        return Verdict(token=answer["token"])
    return Verdict(reason=escape_controls(str(answer.get("reason"))[:_LONGEST_REASON], keep=""))


def _busy(scope: Scope, found: Found, manager: Manager) -> str | None:
    """Why a run that was claimed now would not be begun (libexec/tick), nor wait for its turn."""
    overlap = found.valid_job.overlap
    if overlap in ("queue", "skip") and manager.get(found.service, UNIT, "ActiveState") in RUNNING_STATES:
        return "the run before still went on"
    if overlap != "replace" and Queue(scope).of(found.id):
        return "the run before still waited for its turn"
    return None


def newest_instant(lines: Sequence[str], until: datetime) -> datetime | None:
    """The newest instant of the OnCalendar= lines that is not after ``until``; None where it is too long ago."""
    for span in _SPANS:
        after, newest = until - span, None
        while past := [each for each in analyze.instants(lines, after=after, count=_BATCH) if each <= until]:
            after = newest = past[-1]
            if len(past) < _BATCH:
                break
        if newest:
            return newest
    return None


def _ask(scope: Scope, job: str, instant: datetime) -> dict[str, Any]:
    request = {
        "p_host": host.machine(),
        "p_name": socket.gethostname(),
        "p_scope": host.owner(scope),
        "p_job": job,
        "p_instant": rfc3339(round(instant.timestamp() * 1e6)),
        "p_claimant": str(uuid.UUID(os.environ.get("INVOCATION_ID") or uuid.uuid4().hex)),
    }
    remote = connect.connect(scope, timeout_seconds=_TIMEOUT_SECONDS)
    for _ in range(_TRIES - 1):
        with contextlib.suppress(RemoteAway):
            return dict(remote.rpc("lsh_fleet_claim", request))
        time.sleep(_PAUSE_SECONDS)
    return dict(remote.rpc("lsh_fleet_claim", request))
