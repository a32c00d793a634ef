"""The runs in the ledger."""

import json
import time
from collections.abc import Iterable, Sequence

from lsh_systemd.failure import failure
from lsh_systemd.rollup import COUNT_STALE, MANY_DAYS, REFRESH
from lsh_systemd.rows import CODEC, COLUMNS, row_of, run_of
from lsh_systemd.run import Run
from lsh_systemd.store.database import Database

_NAMES = ", ".join(f'"{name}"' for name in COLUMNS)
_WRITTEN = [*COLUMNS, "failure"]
_UPSERT = (
    f"INSERT INTO runs ({_NAMES}, failure) VALUES ({', '.join('?' * len(_WRITTEN))}) ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f'"{name}" = excluded."{name}"' for name in _WRITTEN if name != "id")
)
# The newest run of each job, found job after job: a GROUP BY would read all runs.
_LAST_RUNS = """WHERE rowid IN (
    WITH RECURSIVE names (job) AS ({names})
    SELECT (SELECT rowid FROM runs WHERE runs.job = names.job ORDER BY started_usec DESC LIMIT 1) FROM names
)"""
_ALL_NAMES = """SELECT min(job) FROM runs
    UNION ALL SELECT (SELECT min(job) FROM runs WHERE runs.job > names.job) FROM names WHERE names.job IS NOT NULL"""
_THESE_NAMES = "SELECT value FROM json_each(?)"


class Runs(Database):
    """Written and read as they are."""

    def put(self, runs: Iterable[Run]) -> None:
        """Write the runs; one of the same id is replaced."""
        self._db.executemany(_UPSERT, ([*row_of(run), failure(run)] for run in runs))
        if self.query(COUNT_STALE)[0][0] > MANY_DAYS:
            self._refresh()

    def last_of_unit(self, unit: str, *, before_usec: int | None = None) -> Run | None:
        """The unit's newest run (that began before a time)."""
        clause = "WHERE unit = ? AND started_usec < ? ORDER BY started_usec DESC LIMIT 1"
        runs = self._select(clause, (unit, 2**62 if before_usec is None else before_usec))
        return runs[0] if runs else None

    def open_runs(self) -> list[Run]:
        """The runs that have begun and not ended, as far as is known."""
        return self._select("WHERE result IS NULL", ())

    def knows(self, unit: str) -> bool:
        return bool(self.query("SELECT 1 FROM runs WHERE unit = ? LIMIT 1", (unit,)))

    def runs(
        self,
        *,
        job: str | None = None,
        since_usec: int | None = None,
        until_usec: int | None = None,
        result: str | None = None,
        unsuccessful: bool = False,
        limit: int = 0,
        output: bool = True,
    ) -> list[Run]:
        """Runs that began in a time (``until_usec`` is not in it), the newest first; ``limit`` 0 is all of them.

        ``unsuccessful``: only those that ended and neither succeeded nor were skipped.
        """
        wanted = [
            ("job = ?", job),
            ("started_usec >= ?", since_usec),
            ("started_usec < ?", until_usec),
            ("result = ?", result),
            ("result <> ?", "skipped" if unsuccessful else None),
        ]
        terms = [(term, value) for term, value in wanted if value is not None]
        conditions = [term for term, _ in terms]
        if unsuccessful or result not in (None, "success"):
            conditions.append("result <> 'success'")  # so that SQLite finds the index of these
        where = "WHERE " + " AND ".join(conditions) if conditions else ""
        clause = f"{where} ORDER BY started_usec DESC, rowid DESC LIMIT ?"
        return self._select(clause, (*(value for _, value in terms), limit or -1), output=output)

    def run(self, id_prefix: str) -> list[Run]:
        """The runs whose ids begin so; two at most."""
        return self._select("WHERE id >= ? AND id < ? LIMIT 2", (id_prefix, id_prefix + "g"))

    def last_runs(self, jobs: Sequence[str] | None = None) -> dict[str, Run]:
        """The newest run of each job, or of these, without output."""
        names = _ALL_NAMES if jobs is None else _THESE_NAMES
        values = () if jobs is None else (json.dumps(jobs),)
        return {run.job: run for run in self._select(_LAST_RUNS.format(names=names), values, output=False)}

    def rename(self, old: str, new: str) -> None:
        """Let the history of a job go on under its new id."""
        with self.transaction():
            self._db.execute("UPDATE runs SET job = ? WHERE job = ?", (new, old))
            for table in ("alert_open", "alerts", "missed_checks"):
                self._db.execute(f"UPDATE OR REPLACE {table} SET job = ? WHERE job = ?", (new, old))
            self._db.execute("UPDATE OR REPLACE alert_mutes SET name = ? WHERE kind = 'job' AND name = ?", (new, old))
            self._db.execute(
                'INSERT INTO sync_renames ("before", "after", at_usec) SELECT ?, ?, ? '
                "WHERE EXISTS (SELECT 1 FROM state WHERE key = 'sync')",
                (old, new, time.time_ns() // 1000),
            )

    def settle(self) -> None:
        """Reckon anew the days that have changed, if they are many; a few cost a reader less than writing would."""
        if self.query(COUNT_STALE)[0][0] > MANY_DAYS:
            with self.transaction():
                self._refresh()

    def _refresh(self) -> None:
        for statement in REFRESH:
            self._db.execute(statement)

    def _select(self, clause: str, values: tuple[object, ...], *, output: bool = True) -> list[Run]:
        names = _NAMES if output else _NAMES.replace('"output"', "x''").replace(f'"{CODEC}"', "NULL")
        query = f"SELECT {names} FROM runs {clause}"
        return self._shaped(query, values, lambda row: run_of(dict(zip(COLUMNS, row, strict=True))))
