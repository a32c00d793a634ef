"""Runs that go on for longer than they should: a job without a --timeout may still say when it is stuck."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from lsh_systemd.jobs import Found
from lsh_systemd.manager import RUNNING_STATES, UNIT, Manager, UnitState
from lsh_systemd.unit import id_of_unit, is_run_unit


@dataclass(frozen=True, kw_only=True)
class Going:
    """A run in progress; ``limit``: after how long the job calls it stuck, None where it does not say."""

    found: Found
    run_id: str
    seconds: float
    limit: timedelta | None

    @property
    def stuck(self) -> bool:
        return self.limit is not None and self.seconds >= self.limit.total_seconds()

    @property
    def lasting(self) -> timedelta:
        """How long it has gone on, in whole seconds."""
        return timedelta(seconds=round(self.seconds))

    @property
    def seconds_left(self) -> float | None:
        """Until it is stuck; None where it never is, or is already."""
        return None if self.limit is None or self.stuck else self.limit.total_seconds() - self.seconds


def going(manager: Manager, jobs: Iterable[Found], *, units: Mapping[str, UnitState] | None = None) -> Iterator[Going]:
    """The runs in progress of these jobs; ``units``: those not at rest, where they are known."""
    if units is None:
        units = manager.units("lsh-*.service", states=RUNNING_STATES)
    running = [name for name, each in units.items() if each.active in RUNNING_STATES and is_run_unit(name)]
    by_id = {found.id: found for found in jobs} if running else {}
    for name in running:
        found = by_id.get(id_of_unit(name))
        if found is None or found.job is None:
            continue
        began, run_id = manager.get_many([(name, UNIT, "InactiveExitTimestampMonotonic"), (name, UNIT, "InvocationID")])
        seconds = time.clock_gettime(time.CLOCK_MONOTONIC) - (began or 0) / 1e6
        if began and run_id is not None:
            yield Going(found=found, run_id=bytes(run_id).hex(), seconds=seconds, limit=found.job.stuck_after)
