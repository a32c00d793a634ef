"""The ledger of runs in SQLite (WAL): one file a scope, written by the agent and by lshctl alike."""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from lsh_systemd.errors import LshError
from lsh_systemd.run import Run

# Each takes a store from the version before to its own: 1.sql makes a new one.
_MIGRATIONS = Path(__file__).parent / "migrations"
SCHEMA_VERSION = len(list(_MIGRATIONS.glob("*.sql")))
# How long a writer waits for another one. Collecting a large backlog holds the lock for some seconds.
_BUSY_SECONDS = 60.0
_COLUMNS = [field.name for field in fields(Run)]
_NAMES = ", ".join(f'"{name}"' for name in _COLUMNS)
_UPSERT = (
    f"INSERT INTO runs ({_NAMES}) VALUES ({', '.join('?' * len(_COLUMNS))}) ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f'"{name}" = excluded."{name}"' for name in _COLUMNS if name != "id")
)


class StoreUnavailable(LshError):
    """The store cannot be opened, read or written; nothing was lost, the journal still has it."""


class Store:
    """Open the store, making it where it is not there. ``path`` None: in memory, gone with the process."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        try:
            if path:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._db = sqlite3.connect(path or ":memory:", timeout=_BUSY_SECONDS, isolation_level=None)
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            raise self._unavailable("open", error) from None

    def _prepare(self) -> None:
        if self.path:
            self.path.chmod(0o640)  # output of jobs is not for everybody
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")  # what was collected survives a power cut
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise LshError(
                f"the store {self.path} was written by a newer lsh-systemd (schema {version})", hint="upgrade this one"
            )
        if version < SCHEMA_VERSION:
            self._migrate()

    def _migrate(self) -> None:
        with self.transaction():
            # Asked again: another process may have been quicker.
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            for number in range(version + 1, SCHEMA_VERSION + 1):
                for statement in (_MIGRATIONS / f"{number}.sql").read_text().split(";\n"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {number}")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; waits for other writers. Raises StoreUnavailable (a full disk, a lock that never ends)."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise self._unavailable("write to", error) from None
        try:
            yield
            self._db.execute("COMMIT")
        except (sqlite3.Error, OverflowError) as error:
            self._roll_back()
            raise self._unavailable("write to", error) from None
        except BaseException:
            self._roll_back()
            raise

    def _unavailable(self, verb: str, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(
            f"cannot {verb} the store {self.path}: {error}",
            hint="nothing is lost while the journal has it; lshctl doctor",
        )

    def _roll_back(self) -> None:
        if self._db.in_transaction:  # SQLite itself rolls back on a full disk
            self._db.execute("ROLLBACK")

    def put(self, runs: Iterable[Run]) -> None:
        """Write the runs; one of the same id is replaced."""
        self._db.executemany(_UPSERT, ([getattr(run, name) for name in _COLUMNS] for run in runs))

    def cursor(self) -> str | None:
        """The journal cursor up to which everything is in the store."""
        row = self._db.execute("SELECT value FROM state WHERE key = 'cursor'").fetchone()
        return row[0] if row else None

    def set_cursor(self, cursor: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO state (key, value) VALUES ('cursor', ?)", (cursor,))

    def last_of_unit(self, unit: str, *, before_usec: int | None = None) -> Run | None:
        """The unit's newest run (that began before a time)."""
        clause = "WHERE unit = ? AND started_usec < ? ORDER BY started_usec DESC LIMIT 1"
        runs = self._select(clause, (unit, 2**62 if before_usec is None else before_usec))
        return runs[0] if runs else None

    def open_runs(self) -> list[Run]:
        """The runs that have begun and not ended, as far as is known."""
        return self._select("WHERE result IS NULL", ())

    def knows(self, unit: str) -> bool:
        return self._db.execute("SELECT 1 FROM runs WHERE unit = ? LIMIT 1", (unit,)).fetchone() is not None

    def runs(
        self,
        *,
        job: str | None = None,
        since_usec: int | None = None,
        until_usec: int | None = None,
        limit: int = 0,
        output: bool = True,
    ) -> list[Run]:
        """Runs that began in a span of time, the newest first; ``limit`` 0 is all of them."""
        wanted = [("job = ?", job), ("started_usec >= ?", since_usec), ("started_usec <= ?", until_usec)]
        terms = [(term, value) for term, value in wanted if value is not None]
        where = "WHERE " + " AND ".join(term for term, _ in terms) if terms else ""
        clause = f"{where} ORDER BY started_usec DESC, rowid DESC LIMIT ?"
        return self._select(clause, (*(value for _, value in terms), limit or -1), output=output)

    def run(self, id_prefix: str) -> list[Run]:
        """The runs whose ids begin so; two at most."""
        return self._select("WHERE id >= ? AND id < ? LIMIT 2", (id_prefix, id_prefix + "g"))

    def last_runs(self) -> dict[str, Run]:
        """The newest run of each job, without output."""
        clause = "WHERE rowid IN (SELECT rowid FROM (SELECT rowid, max(started_usec) FROM runs GROUP BY job))"
        return {run.job: run for run in self._select(clause, (), output=False)}

    def rename(self, old: str, new: str) -> None:
        """Let the history of a job go on under its new id."""
        with self.transaction():
            self._db.execute("UPDATE runs SET job = ? WHERE job = ?", (new, old))

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """For those who keep tables of their own here: the rows that a statement gives, none for one that writes."""
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._unavailable("use", error) from None

    def check(self) -> str:
        """SQLite's own word on the file: "ok", or what is wrong."""
        try:
            return str(self._db.execute("PRAGMA quick_check(1)").fetchone()[0])
        except sqlite3.Error as error:
            return str(error)

    def close(self) -> None:
        self._db.close()

    def _select(self, clause: str, values: tuple[object, ...], *, output: bool = True) -> list[Run]:
        names = _NAMES if output else _NAMES.replace('"output",', "x'' AS \"output\",")
        try:
            rows = self._db.execute(f"SELECT {names} FROM runs {clause}", values).fetchall()
        except sqlite3.Error as error:
            raise self._unavailable("read", error) from None
        return [Run(**dict(zip(_COLUMNS, row, strict=True))) for row in rows]
