"""Journal → store: every run exactly once, in steps that each end in one transaction."""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lsh_systemd.fold import Fold, attribute
from lsh_systemd.journal import LATE_USEC, Journal
from lsh_systemd.run import UNSURE, Output, Run
from lsh_systemd.store import Store

# The last lines of a run's output may come in after its record (see journal.LATE_USEC): a run waits for a later step
# until both its record and its newest line are so old.
SETTLE_SECONDS = 0.2
# While journald has not read a run's output to its end, it may pause (to rotate or sync its files).
LAG_SECONDS = 5.0
_BATCH = 1000


def quiet_seconds(journal: Journal, run: Run, *, late: bool) -> float:
    """How long nothing must have come of an ended run for its output to be whole. ``late``: lines came after it."""
    is_open = journal.has_open_stream(run)
    return LAG_SECONDS if is_open or (is_open is None and late) else SETTLE_SECONDS


class _Unsettled(Exception):
    """The output of a run that has just ended is still coming in."""


class Collector:
    """Moves what the journal tells of runs into the store. ``output_limit`` is in bytes for one run."""

    def __init__(
        self,
        *,
        journal: Journal,
        store: Store,
        known: Callable[[str], bool],
        trusted: Callable[[str, int], bool],
        triggers: Callable[[str, list[Run], Run | None], list[str]],
        output_limit: int,
    ) -> None:
        self._journal, self._store, self._output_limit = journal, store, output_limit
        self._known, self._trusted, self._triggers = known, trusted, triggers
        self.settling = False

    def collect(self) -> int:
        """Collect all that is in the journal now, records of this very moment included; the number of changes."""
        total = 0
        while True:
            changed = self.step()
            if changed:
                total += changed
            elif self.settling:
                time.sleep(SETTLE_SECONDS)
            else:
                return total

    def step(self) -> int:
        """One batch: fold what is new, read its runs' output, and store both with the cursor. What was changed."""
        try:
            return self._step()
        except _Unsettled:
            self.settling = True
            return 0

    def _step(self) -> int:
        with self._store.transaction():
            fold = Fold(
                self._journal.scope,
                uid=self._journal.uid,
                last=self._store.last_of_unit,
                known=lambda unit: self._known(unit) or self._store.knows(unit),
                trusted=self._trusted,
            )
            cursor, at_end = self._feed(fold)
            changed = self._with_output(self._with_trigger(list(fold.changed.values())))
            self._store.put(changed)
            self._store.put_changes(fold.changes.values())
            if cursor is not None:
                self._store.set_cursor(cursor)
            if at_end:
                changed += self._bury_the_lost()
        return len(changed) + len(fold.changes)

    def _feed(self, fold: Fold) -> tuple[str | None, bool]:
        """Feed a batch; the cursor of its last entry, and whether the journal has no more."""
        self.settling = False
        settled = (time.time() - SETTLE_SECONDS) * 1e6
        now = time.time() * 1e6
        cursor = None
        for count, (at, realtime, entry) in enumerate(self._journal.events(self._store.cursor())):
            if count >= _BATCH:
                return cursor, False
            if settled < realtime <= now:  # one from the future was written before the clock was set back
                self.settling = True
                return cursor, False
            fold.feed([entry])
            cursor = at
        return cursor, True

    def _with_trigger(self, runs: list[Run]) -> list[Run]:
        """Settle what started those runs whose environment could not tell."""
        sure = {run.id: run for run in runs}
        by_unit: dict[str, list[Run]] = defaultdict(list)
        for run in runs:
            by_unit[run.unit].append(run)
        for unit, group in by_unit.items():
            unsure = [run for run in group if run.trigger == UNSURE]
            if not unsure:
                continue
            before = self._store.last_of_unit(unit, before_usec=group[0].started_usec)
            for run, trigger in zip(group, self._triggers(unit, group, before), strict=True):
                if run.trigger == UNSURE:
                    sure[run.id] = replace(run, trigger=trigger)
        return list(sure.values())

    def _with_output(self, runs: list[Run]) -> list[Run]:
        by_unit: dict[str, list[Run]] = defaultdict(list)
        for run in runs:
            by_unit[run.unit].append(run)
        before = {
            unit: self._store.last_of_unit(unit, before_usec=group[0].started_usec) for unit, group in by_unit.items()
        }
        outputs: dict[str, Output] = defaultdict(lambda: Output(self._output_limit))
        newest: dict[str, int] = {}
        now = time.time() * 1e6  # before reading: that takes a while, and what comes in meanwhile is not read
        for entry, message in self._journal.output(runs):
            unit = f"{entry.get('SYSLOG_IDENTIFIER', '')}.service"
            writer = attribute(entry, by_unit.get(unit, []), before.get(unit))
            if writer:
                outputs[writer.id].add(message, entry.get("_LINE_BREAK"))
                newest[writer.id] = int(entry["__REALTIME_TIMESTAMP"])
        for run in runs:
            # Not for ever: something that a run left behind may go on writing.
            line, end = newest.get(run.id, 0), run.ended_usec
            if end is None or not now - LATE_USEC < end <= now:
                continue
            if now - quiet_seconds(self._journal, run, late=line > end) * 1e6 < max(line, end):
                raise _Unsettled
        return [
            replace(run, output=outputs[run.id].bytes(), output_bytes=outputs[run.id].size)
            if run.id in outputs
            else run
            for run in runs
        ]

    def _bury_the_lost(self) -> list[Run]:
        """Runs that had no end when their boot ended have died with the machine."""
        open_runs = self._store.open_runs()
        if not open_runs:
            return []
        # In a container, a hardened service is shown the boot ID of its host (seen on 252): ask the journal, too.
        kernels = Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
        this_boot = {kernels, self._journal.newest_boot_id()}
        lost = [replace(run, result="lost") for run in open_runs if run.boot_id not in this_boot]
        self._store.put(lost)
        return lost
