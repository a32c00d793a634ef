"""What pruning, mending and doctor do to the ledger."""

import contextlib
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lsh_systemd.rows import CODEC, sound_run
from lsh_systemd.store.runs import Runs

# How much is given back to the file system at once, while others wait to write.
_PAGES_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Ended:
    """What pruning has to know of a run: when it was (µs since 1970), whether it is the newest of its job or unit (not
    of a unit for one run only), how many of its job are newer, and how many bytes its output takes."""

    id: str
    job: str
    unit: str
    at_usec: int
    is_newest: int  # 0 or 1
    newer: int
    stored_bytes: int


class Care(Runs):
    """Removes, gives back, and takes in what could be saved."""

    def summary(self) -> tuple[int, int | None]:
        """How many runs there are, and when the newest began (µs since 1970)."""
        count, newest = self.query("SELECT count(*), max(started_usec) FROM runs")[0]
        return count, newest

    def beyond(self, *, before_usec: int, keep: int, output_before_usec: int, job: str | None) -> list[Ended]:
        """The ended runs (of a job) that began before a time, or of whose job so many are newer; and those with output
        that began before another time."""
        rows = self.query(
            "SELECT id, job, unit, at, newest, newer, bytes FROM ("
            " SELECT id, job, unit, result, coalesce(started_usec, ended_usec, 0) AS at, length(output) AS bytes,"
            " row_number() OVER of_job = 1 OR (row_number() OVER of_unit = 1 AND unit NOT LIKE '%@%') AS newest,"
            " row_number() OVER of_job - 1 AS newer FROM runs WHERE job = coalesce(?, job)"
            " WINDOW of_unit AS (PARTITION BY unit ORDER BY started_usec DESC),"
            " of_job AS (PARTITION BY job ORDER BY started_usec DESC)"
            ") WHERE result IS NOT NULL AND (at < ? OR newer >= ? OR (at < ? AND bytes))",
            (job, before_usec, keep, output_before_usec),
        )
        return [Ended(*row) for row in rows]

    def drop(self, ids: Iterable[str]) -> None:
        """Remove these runs, within a transaction."""
        self._db.executemany("DELETE FROM runs WHERE id = ?", ((each,) for each in ids))

    def drop_output(self, ids: Iterable[str]) -> None:
        """Remove these runs' output, within a transaction."""
        self._db.executemany(f"UPDATE runs SET output = x'', {CODEC} = NULL WHERE id = ?", ((each,) for each in ids))

    def changes_before(self, usec: int, *, job: str | None) -> int:
        """How many changes (of a job) are older."""
        found = "SELECT count(*) FROM audit WHERE at_usec < ? AND job = coalesce(?, job)"
        return int(self.query(found, (usec, job))[0][0])

    def drop_changes_before(self, usec: int, *, job: str | None) -> None:
        """Remove these, within a transaction."""
        self._db.execute("DELETE FROM audit WHERE at_usec < ? AND job = coalesce(?, job)", (usec, job))

    def shrink(self) -> None:
        """Give what removed rows have left free back to the file system, a bit at a time."""
        try:
            if self.query("PRAGMA auto_vacuum")[0][0] == 0:  # a file from before there was pruning
                self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")
                self._db.execute("PRAGMA temp_store = FILE")  # a copy of all that there is
                self._db.execute("VACUUM")
                self._db.execute("PRAGMA temp_store = MEMORY")
            left = None
            while left != (left := self.query("PRAGMA freelist_count")[0][0]):
                # Not execute(), which sees no columns in its rows and stops after the first page.
                self._db.executescript(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            raise self._unavailable("write to", error) from None

    def tables(self) -> dict[str, list[str]]:
        """The names of the tables whose rows are numbered (so not ``state``), and of their columns."""
        named = "SELECT name FROM pragma_table_list WHERE type = 'table' AND NOT wr AND name NOT LIKE 'sqlite_%'"
        return {
            name: [column for (column,) in self.query("SELECT name FROM pragma_table_info(?)", (name,))]
            for (name,) in self.query(named)
        }

    def adopt(self, table: str, row: Mapping[str, Any]) -> bool:
        """Take in a row of a damaged store, within a transaction; whether it is one that was missing.

        Of a run that the journal tells of as well, the row has more, unless the two contradict each other.
        """
        with contextlib.suppress(sqlite3.IntegrityError, OverflowError):  # the row itself is damaged
            if table != "runs":
                names, marks = ", ".join(f'"{name}"' for name in row), ", ".join("?" * len(row))
                insert = f'INSERT OR IGNORE INTO "{table}" ({names}) VALUES ({marks})'
                return self._db.execute(insert, [*row.values()]).rowcount > 0
            if run := sound_run(row):
                known = self.run(run.id)
                ours = [(each.unit, each.boot_id, each.result) for each in known]
                if ours in ([], [(run.unit, run.boot_id, run.result)]):
                    self.put([run])
                    return not known
        return False
