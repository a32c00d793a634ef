"""What is amiss with this host's part in its fleet: jobs that never run, or run unguarded, and nobody would notice."""

import time
from collections.abc import Iterator, Mapping, Sequence

from lsh_systemd import claims, config, connect, daemons, ledger, remote
from lsh_systemd.control import Control
from lsh_systemd.errors import LshError
from lsh_systemd.finding import Finding
from lsh_systemd.heldruns import HeldRuns
from lsh_systemd.jobs import Found
from lsh_systemd.manager import SERVICE, TIMER, UNIT, Manager
from lsh_systemd.run import Run
from lsh_systemd.scope import Scope, unit_dir
from lsh_systemd.unitdir import UnitDir

# How many looks into the queue may come to nothing, and for how long, before it is worth a word.
_LOOKS, _SILENT_SECONDS = 3, 300.0


def examine(control: Control) -> Iterator[Finding]:
    """What is found, in the order in which it should be mended. Asks the fleet nothing: `supabase test` does."""
    jobs = [found for found in control.jobs.all() if found.job]
    once = [found for found in jobs if found.valid_job.once_in_fleet and found.pair.enabled]
    offered = [found.id for found in jobs if found.valid_job.from_fleet]
    joined = UnitDir(unit_dir(control.scope)).is_enabled(daemons.FLEET_TIMER)
    if not (once or offered or joined):
        return
    if problem := _no_project(control.scope):
        what = _unasked(once) or ["no runs of the fleet's queue are made here"]
        message = f"{problem.message}: {'; '.join(what)}"
        yield Finding(check="fleet", level="error", message=message, fix=problem.hint)
        return
    yield from _queue(control, joined=joined, offered=offered)
    yield from _claims(control, once)


def _no_project(scope: Scope) -> LshError | None:
    try:
        connect.target(scope)
    except LshError as error:
        return error
    return None if remote.is_there() else LshError("Supabase's library is not installed", hint=remote.INSTALL)


def _unasked(once: Sequence[Found]) -> list[str]:
    """What becomes of --once-in-fleet jobs for which nobody can be asked."""
    words = {"skip": "never run", "run": "run on each host"}
    by_policy = {policy: [each.id for each in once if each.valid_job.fleet_unreachable == policy] for policy in words}
    return [f"{_named(ids)} {words[policy]}" for policy, ids in by_policy.items() if ids]


def _queue(control: Control, *, joined: bool, offered: Sequence[str]) -> Iterator[Finding]:
    call, manager = f"lshctl --{control.scope}", control.manager
    if not joined:
        if offered:
            message = f"this host offers {_named(offered)} to the fleet and has not joined it: it makes no queued runs"
            yield Finding(check="fleet", level="warning", message=message, fix=f"{call} fleet join")
        return
    if not offered:
        message = "this host has joined the fleet and offers it no job"
        yield Finding(check="fleet", level="warning", message=message, fix="lshctl add … --from-fleet, or fleet leave")
    elif config.load(control.scope).fleet.slots == 0:
        message = f"{config.path(control.scope)} leaves no slots for queued runs: none are made"
        yield Finding(check="fleet", level="warning", message=message, fix="[fleet] slots = 4")
    if (state := manager.get(daemons.FLEET_TIMER, UNIT, "ActiveState")) != "active":
        message = f"this host has joined the fleet, but {daemons.FLEET_TIMER} is {state}: it makes no queued runs"
        yield Finding(check="fleet", level="error", message=message, fix=f"{call} fleet join")
        return
    failed = manager.get(daemons.FLEET, SERVICE, "Result") not in ("success", "")
    silent = _silence_seconds(control)
    if failed or silent:
        heard = f"the fleet was last heard of {silent:.0f} s ago" if silent else f"{daemons.FLEET} has failed"
        log = f"journalctl {'' if control.scope is Scope.SYSTEM else '--user '}-u {daemons.FLEET}"
        message, fix = f"{heard}: queued runs wait", f"{call} supabase test; {log}"
        yield Finding(check="fleet", level="error", message=message, fix=fix)


def _silence_seconds(control: Control) -> float | None:
    """How long the fleet has not been heard of (since it was joined in this boot), if that is longer than it should."""
    since = HeldRuns(control.scope).heard()
    if since is None:
        since = control.manager.get(daemons.FLEET_TIMER, UNIT, "ActiveEnterTimestampMonotonic") / 1e6
    silent = time.monotonic() - since
    return silent if silent > max(_SILENT_SECONDS, _LOOKS * _poll_seconds(control.manager)) else None


def _poll_seconds(manager: Manager) -> float:
    """How long after one look the next comes, as its timer has it."""
    spans = {base: usec for base, usec, _ in manager.get(daemons.FLEET_TIMER, TIMER, "TimersMonotonic")}
    return float(spans.get("OnUnitInactiveUSec", 0)) / 1e6


def _claims(control: Control, once: Sequence[Found]) -> Iterator[Finding]:
    """--once-in-fleet jobs whose last time had no run for want of an answer, or of a clock that is right."""
    last = _last_runs(control) if once else {}
    reasons = {each.id: (last[each.id].reason or "") for each in once if each.id in last}
    if ids := [job for job, reason in reasons.items() if reason.startswith(claims.UNASKED)]:
        message = f"{_named(ids)} had no run at the last time: {reasons[ids[0]]}"
        fix = f"lshctl --{control.scope} supabase test"
        yield Finding(check="fleet", level="error", message=message, fix=fix)
    if ids := [job for job, reason in reasons.items() if reason.startswith(claims.CLOCK_AHEAD)]:
        message = f"{_named(ids)} had no run at the last time: {reasons[ids[0]]}"
        yield Finding(check="fleet", level="error", message=message, fix="sudo timedatectl set-ntp true")


def _last_runs(control: Control) -> Mapping[str, Run]:
    try:
        return ledger.current(control.scope, control.jobs).last_runs()
    except LshError:  # told of by another check
        return {}


def _named(ids: Sequence[str]) -> str:
    return ", ".join(ids[:5]) + (" …" if len(ids) > 5 else "")
