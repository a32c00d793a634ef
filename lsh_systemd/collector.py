"""Journal → store: every run exactly once, in steps that each end in one transaction."""

import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from lsh_systemd import progress
from lsh_systemd.fold import Fold
from lsh_systemd.gap import Gap
from lsh_systemd.journal import LATE_USEC, Journal, boot_of
from lsh_systemd.run import UNSURE, Output, Run
from lsh_systemd.store import Store
from lsh_systemd.writers import Writers

# The last lines of a run's output may come in after its record (see journal.LATE_USEC): a run waits for a later step
# until both its record and its newest line are so old.
SETTLE_SECONDS = 0.2
# While journald has not read a run's output to its end, it may pause (to rotate or sync its files).
LAG_SECONDS = 5.0
# The more entries at a time, the less output is looked at twice (see journal.LATE_USEC); but it is all held in memory.
_BATCH = 30_000
_MOST_OUTPUT_BYTES = 16_000_000


def quiet_seconds(journal: Journal, run: Run, *, told_usec: float, late: bool) -> float:
    """How long nothing must have come of an ended run for its output to be whole. ``told_usec``: when the journal told
    of the end; ``late``: lines came after it."""
    is_open = journal.has_open_stream(run, told_usec)
    return LAG_SECONDS if is_open or (is_open is None and late) else SETTLE_SECONDS


class _TooMuch(Exception):
    """Only so many of the batch's entries may be taken this time."""

    def __init__(self, entries: int, first_usec: int) -> None:
        self.entries, self.first_usec = entries, first_usec


class Collector:
    """Moves what the journal tells of runs into the store. ``output_limit`` is in bytes for one run."""

    def __init__(
        self,
        *,
        journal: Journal,
        store: Store,
        known: Callable[[str], bool],
        trusted: Callable[[str, int], bool],
        triggers: Callable[[str, list[tuple[Run, Run | None]]], list[str]],
        output_limit: int,
        on_gap: Callable[[Gap], None],
    ) -> None:
        self._journal, self._store, self._output_limit = journal, store, output_limit
        self._known, self._trusted, self._triggers = known, trusted, triggers
        self._on_gap = on_gap
        self.settling = False
        self._first_usec = 0  # when the first entry that was looked at was written
        self._left: int | None = None  # when the first entry was written that was not taken (µs since 1970)

    def collect(self) -> int:
        """Collect all that is in the journal now, records of this very moment included; the number of changes."""
        try:
            return self._collect()
        finally:
            progress.tell("reading the journal", 1, 1)

    def _collect(self) -> int:
        total, asked = 0, time.time() * 1e6
        while True:
            changed = self.step()
            total += changed
            # The messages of all units end up here: on a busy machine there is always one more.
            if self._left is not None and asked < self._left <= time.time() * 1e6:
                return total
            if not changed:
                if not self.settling:
                    return total
                time.sleep(SETTLE_SECONDS)

    def step(self) -> int:
        """One batch: fold what is new, read its runs' output, and store both with the cursor. The runs changed."""
        entries = _BATCH
        while True:
            try:
                changed = self._step(entries)
                self.settling = self.settling or entries < _BATCH
                return changed
            except _TooMuch as too_much:
                entries = too_much.entries
                if entries == 0:  # the output of the very next run is still coming in
                    self.settling, self._left = True, too_much.first_usec
                    return 0

    def _step(self, entries: int) -> int:
        with self._store.transaction():
            gap = self._new_gap()
            fold = Fold(
                self._journal.scope,
                uid=self._journal.uid,
                last=self._store.last_of_unit,
                find=lambda run_id: next(iter(self._store.run(run_id)), None),
                known=lambda unit: self._known(unit) or self._store.knows(unit),
                trusted=self._trusted,
            )
            batch = self._feed(fold, entries)
            changed = self._with_output(self._with_trigger(list(fold.changed.values())), batch)
            self._store.put(changed)
            self._store.put_changes(fold.changes.values())
            if batch.cursor is not None:
                self._store.set_cursor(batch.cursor)
            self._store.add_boots(batch.boots)
            if batch.is_last:
                changed += self._bury_the_lost()
        if gap:
            self._on_gap(gap)
        return len(changed) + len(fold.changes)

    def _feed(self, fold: Fold, most: int) -> "_Batch":
        """Feed so many entries at most."""
        self.settling, self._left = False, None
        settled = (time.time() - SETTLE_SECONDS) * 1e6
        now = time.time() * 1e6
        batch = _Batch()
        cursor, known = self._store.cursor(), self._store.boots()
        boots = self._journal.boots(besides=known)
        tails = {each: self._journal.tail(each) for each in [*([boot_of(cursor)] if cursor else []), *boots]}
        for at, realtime, entry in self._journal.events(cursor, boots):
            self._left = realtime
            self._first_usec = self._first_usec or realtime
            progress.tell("reading the journal", realtime - self._first_usec, now - self._first_usec)
            batch.first_usec = batch.first_usec or realtime
            if batch.entries >= most:
                return batch
            if settled < realtime <= now:  # one from the future was written before the clock was set back
                self.settling = True
                return batch
            fold.feed([entry])
            batch.take(at, realtime, fold.ended, entry["_BOOT_ID"])
        batch.is_last, self._left = True, None
        # Not this one, until something of it has been read: the cursor may still be in an earlier one.
        batch.boots.update(set(boots) - self._this_boot())
        # All up to here has been looked at, and may be dropped by the journal.
        if place := batch.cursor or cursor:
            batch.cursor = tails.get(boot_of(place)) or place
        return batch

    def _new_gap(self) -> Gap | None:
        cursor = self._store.cursor()
        gap = self._journal.gap(cursor) if cursor else None
        return gap if gap and self._store.add_gap(gap) else None

    def _with_trigger(self, runs: list[Run]) -> list[Run]:
        """Settle what started those runs whose environment could not tell."""
        sure = {run.id: run for run in runs}
        by_unit: dict[str, list[Run]] = defaultdict(list)
        for run in runs:
            by_unit[run.unit].append(run)
        for unit, group in by_unit.items():
            before = self._store.last_of_unit(unit, before_usec=group[0].started_usec)
            unsure = [pair for pair in zip(group, [before, *group], strict=False) if pair[0].trigger == UNSURE]
            if unsure:
                for (run, _), trigger in zip(unsure, self._triggers(unit, unsure), strict=True):
                    sure[run.id] = run.but(trigger=trigger)
        return list(sure.values())

    def _with_output(self, runs: list[Run], batch: "_Batch") -> list[Run]:
        by_unit: dict[str, list[Run]] = defaultdict(list)
        for run in runs:
            by_unit[run.unit].append(run)
        writers = {
            unit: Writers(group, self._store.last_of_unit(unit, before_usec=group[0].started_usec))
            for unit, group in by_unit.items()
        }
        outputs: dict[str, Output] = defaultdict(lambda: Output(self._output_limit))
        newest: dict[str, int] = {}
        held = 0
        now = time.time() * 1e6  # before reading: that takes a while, and what comes in meanwhile is not read
        for entry, message in self._journal.output(runs):
            of_unit = writers.get(f"{entry.get('SYSLOG_IDENTIFIER', '')}.service")
            writer = of_unit.of(entry) if of_unit else None
            if writer:
                held += outputs[writer.id].add(message, entry.get("_LINE_BREAK"))
                if held > _MOST_OUTPUT_BYTES and batch.entries > 1:
                    raise _TooMuch(batch.entries // 2, batch.first_usec)
                newest[writer.id] = int(entry["__REALTIME_TIMESTAMP"])
        unsettled = [
            batch.before_end[run.id]
            for run in runs
            if run.id in batch.before_end and self._is_unsettled(run, batch.told[run.id], newest.get(run.id, 0), now)
        ]
        if unsettled:
            raise _TooMuch(min(unsettled), batch.first_usec)
        # Of a run that is known already, the journal may have dropped some of its output since.
        return [
            run.but(output=outputs[run.id].bytes(), output_bytes=outputs[run.id].size)
            if run.id in outputs and outputs[run.id].size >= run.output_bytes
            else run
            for run in runs
        ]

    def _is_unsettled(self, run: Run, told: int, line: int, now: float) -> bool:
        """Whether more of an ended run's output may come in. ``told`` is when the journal told of its end, ``line`` the
        time of its newest line. Not for ever: something that a run left behind may go on writing."""
        if not now - LATE_USEC < told <= now or max(line, told) < now - LAG_SECONDS * 1e6:
            return False
        quiet = quiet_seconds(self._journal, run, told_usec=told, late=line > told)
        return now - quiet * 1e6 < max(line, told)

    def _this_boot(self) -> set[str | None]:
        # In a container, a hardened service is shown the boot ID of its host (seen on 252): ask the journal, too.
        kernels = Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
        return {kernels, self._journal.newest_boot_id()}

    def _bury_the_lost(self) -> list[Run]:
        """Runs that had no end when their boot ended have died with the machine."""
        open_runs = self._store.open_runs()
        if not open_runs:
            return []
        this_boot = self._this_boot()
        lost = [run.but(result="lost") for run in open_runs if run.boot_id not in this_boot]
        self._store.put(lost)
        return lost


class _Batch:
    """What was taken from the journal in one step."""

    def __init__(self) -> None:
        self.entries = 0
        self.cursor: str | None = None  # up to which all has been looked at
        self.first_usec = 0  # when the first entry was written, taken or not (µs since 1970)
        self.is_last = False  # the journal has no more
        self.boots: set[str] = set()
        self.before_end: dict[str, int] = {}  # run's id → the entries before the one that tells of its end
        self.told: dict[str, int] = {}  # run's id → when that one was written (µs since 1970)

    def take(self, cursor: str, realtime: int, ended: str | None, boot_id: str) -> None:
        self.boots.add(boot_id)
        if ended:
            self.before_end.setdefault(ended, self.entries)
            self.told.setdefault(ended, realtime)
        self.entries, self.cursor = self.entries + 1, cursor
