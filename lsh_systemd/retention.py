"""How much of the ledger is kept: which runs and changes may go, and their removal a few at a time."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from lsh_systemd import progress
from lsh_systemd.config import Config
from lsh_systemd.jobs import Found, Jobs
from lsh_systemd.scope import Scope
from lsh_systemd.stamps import Stamps
from lsh_systemd.store import Ended, Store

# Rows that go in one transaction: nobody who wants to write waits long.
_BATCH = 500
_NO_LIMIT = 2**62


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Runs that began before ``before_usec`` go, those of which the same job has ``keep`` newer ones, the output of
    those that began before ``output_before_usec``, and changes made before ``changes_before_usec`` (µs since 1970)."""

    before_usec: int
    keep: int
    output_before_usec: int
    changes_before_usec: int


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """How many runs go, of how many others the output goes, the bytes of output that were stored of both, and how many
    entries of the audit go."""

    runs: int
    outputs: int
    output_bytes: int
    changes: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def limits(settings: Config, *, older_than: timedelta | None = None, keep: int | None = None) -> Limits:
    """What the settings say, or in their place what was asked for: of runs, not of who changed what."""
    now = time.time_ns() // 1000

    def before(days: int) -> int:
        return now - days * 86_400_000_000 if days else -_NO_LIMIT

    return Limits(
        before_usec=before(settings.keep_days) if older_than is None else now - older_than // timedelta(microseconds=1),
        keep=(settings.keep_runs if keep is None else keep) or _NO_LIMIT,
        output_before_usec=before(settings.keep_output_days),
        changes_before_usec=before(settings.keep_days),
    )


def removable(
    beyond: Iterable[Ended], limits: Limits, *, jobs: Collection[str], needed: Mapping[str, int]
) -> tuple[list[Ended], list[Ended]]:
    """Of the runs beyond the limits: those that go, and those whose output does.

    Of a job that there is, the newest run stays, whole: what started the next one is told by it. So do those that began
    at a time in ``needed`` (job → µs since 1970) or later. A job that is gone leaves nothing for ever.
    """
    runs: list[Ended] = []
    outputs: list[Ended] = []
    for each in beyond:
        if each.job in jobs and (each.is_newest or each.at_usec >= needed.get(each.job, _NO_LIMIT)):
            continue
        (runs if each.at_usec < limits.before_usec or each.newer >= limits.keep else outputs).append(each)
    return runs, outputs


def prune(store: Store, jobs: Jobs, limits: Limits, *, job: str | None = None, dry_run: bool = False) -> Pruned:
    """Remove from the ledger (of a job) what is beyond the limits, and make its file smaller."""
    found = jobs.all()
    beyond = store.beyond(
        before_usec=limits.before_usec, keep=limits.keep, output_before_usec=limits.output_before_usec, job=job
    )
    runs, outputs = removable(
        beyond, limits, jobs={each.id for each in found}, needed=_needed(store, jobs.scope, found)
    )
    changes = store.changes_before(limits.changes_before_usec, job=job)
    if not dry_run:
        with store.transaction():
            store.drop_changes_before(limits.changes_before_usec, job=job)
        _in_batches(store, store.drop, runs)
        _in_batches(store, store.drop_output, outputs)
        store.shrink()
    size = sum(each.stored_bytes for each in (*runs, *outputs))
    return Pruned(runs=len(runs), outputs=len(outputs), output_bytes=size, changes=changes)


def _needed(store: Store, scope: Scope, jobs: Iterable[Found]) -> dict[str, int]:
    """From when on the runs of a job have to stay: those since its stamp tell which times --catch-up all has made up
    for, and the one before may answer for the first of them."""
    needed = {}
    for found in jobs:
        # A job whose file is spoilt may be of that kind.
        since = Stamps(scope).read(found.timer) if found.job is None or found.job.caught_up_by_us else None
        if since is not None:
            before = store.last_of_unit(found.service, before_usec=since)
            needed[found.id] = (before.started_usec if before else None) or since
    return needed


def _in_batches(store: Store, remove: Callable[[Iterable[str]], None], runs: Sequence[Ended]) -> None:
    for start in progress.each("removing runs", range(0, len(runs), _BATCH)):
        with store.transaction():
            remove(each.id for each in runs[start : start + _BATCH])
