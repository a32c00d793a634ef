"""The ledger of runs in SQLite (WAL): one file a scope, written by the agent and by lshctl alike."""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from lsh_systemd.audit import Change
from lsh_systemd.errors import LshError
from lsh_systemd.gap import Gap
from lsh_systemd.rows import CODEC, COLUMNS, row_of, run_of, sound_run
from lsh_systemd.run import Run

# Each takes a store from the version before to its own: 1.sql makes a new one.
_MIGRATIONS = Path(__file__).parent / "migrations"
SCHEMA_VERSION = len(list(_MIGRATIONS.glob("*.sql")))
# How long a writer waits for another one. Collecting a large backlog holds the lock for some seconds.
_BUSY_SECONDS = 60.0
_NAMES = ", ".join(f'"{name}"' for name in COLUMNS)
_UPSERT = (
    f"INSERT INTO runs ({_NAMES}) VALUES ({', '.join('?' * len(COLUMNS))}) ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f'"{name}" = excluded."{name}"' for name in COLUMNS if name != "id")
)
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
# How much is given back to the file system at once, while others wait to write.
_PAGES_AT_ONCE = 1000
T = TypeVar("T")


_CHANGE = [field.name for field in fields(Change)]
_CHANGE_NAMES = ", ".join(f'"{name}"' for name in _CHANGE)


class StoreUnavailable(LshError):
    """The store cannot be opened, read or written; nothing was lost, the journal still has it."""


class StoreDamaged(StoreUnavailable):
    """The file is not what SQLite wrote: it has to be set aside. ``inode``: which file that was; None: an empty one."""

    def __init__(self, message: str, *, hint: str, inode: int | None) -> None:
        super().__init__(message, hint=hint)
        self.inode = inode


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


class Store:
    """Open the store, making it where it is not there. ``path`` None: in memory, gone with the process.

    ``mend`` is called where a read finds the file damaged; a new one has to be there when it returns, and is then read.
    """

    def __init__(self, path: Path | None, *, mend: Callable[[StoreDamaged], None] | None = None) -> None:
        self.path, self._mend = path, mend
        self._inode: int | None = None
        self._open()

    def _open(self) -> None:
        try:
            if self.path:
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            with _in_place(self.path) as is_left_empty:
                if is_left_empty:
                    raise self._damaged(f"the store {self.path} is empty")
                self._db = sqlite3.connect(self.path or ":memory:", timeout=_BUSY_SECONDS, isolation_level=None)
                self._inode = self.path.stat().st_ino if self.path else None
                self._prepare()
        except (OSError, sqlite3.Error) as error:
            raise self._unavailable("open", error) from None

    def _prepare(self) -> None:
        if self.path:
            self.path.chmod(0o640)  # output of jobs is not for everybody
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # of a new file: what is pruned can be given back
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")  # what was collected survives a power cut
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
        text = f"cannot {verb} the store {self.path}: {error}"
        if _is_damage(error):
            return self._damaged(text)
        return StoreUnavailable(text, hint="nothing is lost while the journal has it; lshctl doctor")

    def _damaged(self, text: str) -> StoreDamaged:
        return StoreDamaged(text, hint="lshctl prune --check makes it anew", inode=self._inode)

    def _roll_back(self) -> None:
        if self._db.in_transaction:  # SQLite itself rolls back on a full disk
            with contextlib.suppress(sqlite3.Error):  # in a damaged file even this may fail
                self._db.execute("ROLLBACK")

    def put(self, runs: Iterable[Run]) -> None:
        """Write the runs; one of the same id is replaced."""
        self._db.executemany(_UPSERT, map(row_of, runs))

    def put_changes(self, changes: Iterable[Change]) -> None:
        """Write who changed what; one that is there stays as it is."""
        insert = f"INSERT OR IGNORE INTO audit ({_CHANGE_NAMES}) VALUES ({', '.join('?' * len(_CHANGE))})"
        self._db.executemany(insert, ([getattr(change, name) for name in _CHANGE] for change in changes))

    def changes(self, *, job: str | None = None, since_usec: int | None = None, limit: int = 0) -> list[Change]:
        """Changes, the newest first; of a job also those under the names that it had before. ``limit`` 0 is all."""
        terms = ["at_usec >= ?"]
        values: list[object] = [since_usec or 0]
        try:
            if job is not None:
                names = self._names_of(job)
                terms.append("(" + " OR ".join(["job = ? AND at_usec <= ?"] * len(names) + ['"before" = ?']) + ")")
                values += [value for name in names for value in name] + [job]
            clause = f"WHERE {' AND '.join(terms)} ORDER BY at_usec DESC, rowid DESC LIMIT ?"
            rows = self._db.execute(f"SELECT {_CHANGE_NAMES} FROM audit {clause}", (*values, limit or -1)).fetchall()
        except sqlite3.Error as error:
            raise self._unavailable("read", error) from None
        return [Change(**dict(zip(_CHANGE, row, strict=True))) for row in rows]

    def _names_of(self, job: str) -> list[tuple[str, int]]:
        """The job's id, and those that it had before, each with the time up to which it had it (µs since 1970)."""
        names = [(job, 2**62)]
        for name, until in names:  # which grows meanwhile, back in time
            find = 'SELECT "before", at_usec FROM audit WHERE job = ? AND at_usec < ? AND "before" IS NOT NULL'
            names += set(self._db.execute(find, (name, until)).fetchall()) - set(names)
        return names

    def cursor(self) -> str | None:
        """The journal cursor up to which everything is in the store."""
        return self.state("cursor")

    def set_cursor(self, cursor: str) -> None:
        self.set_state("cursor", cursor)

    def state(self, key: str) -> str | None:
        """What was noted under this key."""
        rows = self._read("SELECT value FROM state WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    def set_state(self, key: str, value: str | None) -> None:
        """Note it, within a transaction; None forgets it."""
        self._db.execute("DELETE FROM state WHERE key = ?", (key,))
        if value is not None:
            self._db.execute("INSERT INTO state (key, value) VALUES (?, ?)", (key, value))

    def boots(self) -> set[str]:
        """The boots whose journal has been begun to be read."""
        return {row[0] for row in self._db.execute("SELECT id FROM boots")}

    def add_boots(self, ids: Iterable[str]) -> None:
        self._db.executemany("INSERT OR IGNORE INTO boots (id) VALUES (?)", ((each,) for each in ids))

    def add_gap(self, gap: Gap) -> bool:
        """Note what the journal dropped before it was read; whether that is new."""
        values = (gap.cursor, gap.from_usec, gap.to_usec, gap.entries)
        found = "INSERT OR IGNORE INTO gaps (cursor, from_usec, to_usec, entries) VALUES (?, ?, ?, ?)"
        return self._db.execute(found, values).rowcount > 0

    def gaps(self, since_usec: int = 0) -> list[Gap]:
        """What the journal has dropped unread since then, the newest last."""
        found = "SELECT cursor, from_usec, to_usec, entries FROM gaps WHERE to_usec >= ? ORDER BY from_usec"
        return [Gap(*row) for row in self._db.execute(found, (since_usec,))]

    def last_of_unit(self, unit: str, *, before_usec: int | None = None) -> Run | None:
        """The unit's newest run (that began before a time)."""
        clause = "WHERE unit = ? AND started_usec < ? ORDER BY started_usec DESC LIMIT 1"
        runs = self._select(clause, (unit, 2**62 if before_usec is None else before_usec))
        return runs[0] if runs else None

    def open_runs(self) -> list[Run]:
        """The runs that have begun and not ended, as far as is known."""
        return self._select("WHERE result IS NULL", ())

    def knows(self, unit: str) -> bool:
        return bool(self._read("SELECT 1 FROM runs WHERE unit = ? LIMIT 1", (unit,)))

    def runs(
        self, *, job: str | None = None, since_usec: int | None = None, limit: int = 0, output: bool = True
    ) -> list[Run]:
        """Runs, the newest first; ``limit`` 0 is all of them."""
        wanted = [("job = ?", job), ("started_usec >= ?", since_usec)]
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

    def summary(self) -> tuple[int, int | None]:
        """How many runs there are, and when the newest began (µs since 1970)."""
        count, newest = self._read("SELECT count(*), max(started_usec) FROM runs")[0]
        return count, newest

    def beyond(self, *, before_usec: int, keep: int, output_before_usec: int, job: str | None) -> list[Ended]:
        """The ended runs (of a job) that began before a time, or of whose job so many are newer; and those with output
        that began before another time."""
        rows = self._read(
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

    def shrink(self) -> None:
        """Give what removed rows have left free back to the file system, a bit at a time."""
        try:
            if self._read("PRAGMA auto_vacuum")[0][0] == 0:  # a file from before there was pruning
                self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")
                self._db.execute("VACUUM")
            left = None
            while left != (left := self._read("PRAGMA freelist_count")[0][0]):
                # Not execute(), which sees no columns in its rows and stops after the first page.
                self._db.executescript(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            raise self._unavailable("write to", error) from None

    def tables(self) -> dict[str, list[str]]:
        """The names of the tables whose rows are numbered (so not ``state``), and of their columns."""
        named = "SELECT name FROM pragma_table_list WHERE type = 'table' AND NOT wr AND name NOT LIKE 'sqlite_%'"
        return {
            name: [column for (column,) in self._read("SELECT name FROM pragma_table_info(?)", (name,))]
            for (name,) in self._read(named)
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

    def check(self, *, full: bool = False) -> str:
        """SQLite's own word on the file: "ok", or what is wrong. ``full``: whether the indexes agree, too."""
        try:
            return str(self._db.execute(f"PRAGMA {'integrity' if full else 'quick'}_check(1)").fetchone()[0])
        except sqlite3.Error as error:
            if _is_damage(error):
                return str(error)
            raise self._unavailable("read", error) from None

    def condemn(self, verdict: str) -> StoreDamaged:
        """The error for a file that a check has found damaged."""
        return self._damaged(f"the store {self.path} is damaged: {verdict}")

    def close(self) -> None:
        self._db.close()

    def _select(self, clause: str, values: tuple[object, ...], *, output: bool = True) -> list[Run]:
        names = _NAMES if output else _NAMES.replace('"output"', "x''").replace(f'"{CODEC}"', "NULL")
        query = f"SELECT {names} FROM runs {clause}"
        return self._shaped(query, values, lambda row: run_of(dict(zip(COLUMNS, row, strict=True))))

    def _read(self, query: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        return self._shaped(query, values, tuple)

    def _shaped(self, query: str, values: tuple[object, ...], shape: Callable[[tuple[Any, ...]], T]) -> list[T]:
        try:
            return [shape(row) for row in self._db.execute(query, values)]
        except (sqlite3.Error, ValueError) as error:
            problem = self._unavailable("read", error)
        if not isinstance(problem, StoreDamaged) or self._mend is None or self._db.in_transaction:
            raise problem
        mend, self._mend = self._mend, None  # once: where a new file is damaged again, mending is no help
        self._db.close()
        mend(problem)
        self._open()
        return self._shaped(query, values, shape)


def _is_damage(error: Exception) -> bool:
    if isinstance(error, ValueError):
        return True
    code = getattr(error, "sqlite_errorcode", None)  # None: Python's own error
    return "decode to UTF-8" in str(error) if code is None else code & 0xFF in _DAMAGE


@contextlib.contextmanager
def _in_place(path: Path | None) -> Iterator[bool]:
    """While a file and its -wal are being opened, nobody may put others in their place (see ``storefile``).

    Gives whether the file is empty, as a power cut may leave it, and not just being made by another process.
    """
    if path is None:
        yield False
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        empty = _is_empty(path)
        fcntl.flock(folder, fcntl.LOCK_EX if empty else fcntl.LOCK_SH)
        yield empty and _is_empty(path)
    finally:
        os.close(folder)


def _is_empty(path: Path) -> bool:
    return path.exists() and not path.stat().st_size
