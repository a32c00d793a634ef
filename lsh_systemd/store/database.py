"""The ledger's file as a database: opened, migrated, written all or nothing, and mended where it is damaged."""

import contextlib
import errno
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from lsh_systemd.errors import LshError, NoSpace

# Each takes a store from the version before to its own: 1.sql makes a new one.
MIGRATIONS = Path(__file__).parent.parent / "migrations"
SCHEMA_VERSION = len(list(MIGRATIONS.glob("*.sql")))
# How long a writer waits for another one. Collecting a large backlog holds the lock for some seconds.
_BUSY_SECONDS = 60.0
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
T = TypeVar("T")


class StoreUnavailable(LshError):
    """The store cannot be opened, read or written; nothing was lost, the journal still has it."""


class StoreFull(StoreUnavailable, NoSpace):
    """There is no room to write it."""


class StoreDamaged(StoreUnavailable):
    """The file is not what SQLite wrote: it has to be set aside. ``inode``: which file that was; None: an empty one."""

    def __init__(self, message: str, *, hint: str, inode: int | None) -> None:
        super().__init__(message, hint=hint)
        self.inode = inode


class Database:
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
        except (OSError, sqlite3.Error, ValueError) as error:  # ValueError: SQLite's own words on it are damaged, too
            raise self._unavailable("open", error) from None

    def _prepare(self) -> None:
        if self.path:
            self.path.chmod(0o640)  # output of jobs is not for everybody
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # of a new file: what is pruned can be given back
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")  # what was collected survives a power cut
        # For a row's triggers SQLite notes each page before it changes it: as files, that was a quarter of collecting.
        self._db.execute("PRAGMA temp_store = MEMORY")
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
                for statement in (MIGRATIONS / f"{number}.sql").read_text().split(";\n"):
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

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """All that is read within is of one moment, whoever writes meanwhile."""
        self.query("BEGIN")
        try:
            yield
        finally:
            self._roll_back()

    def query(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        """The rows that a statement gives. Raises StoreUnavailable."""
        return self._shaped(sql, values, tuple)

    def version(self) -> int:
        """Another number whenever another connection has changed something; it means nothing to others than this."""
        return int(self.query("PRAGMA data_version")[0][0])

    def state(self, key: str) -> str | None:
        """What was noted under this key."""
        rows = self.query("SELECT value FROM state WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    def set_state(self, key: str, value: str | None) -> None:
        """Note it, within a transaction; None forgets it."""
        self._db.execute("DELETE FROM state WHERE key = ?", (key,))
        if value is not None:
            self._db.execute("INSERT INTO state (key, value) VALUES (?, ?)", (key, value))

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

    def _unavailable(self, verb: str, error: Exception) -> StoreUnavailable:
        text = f"cannot {verb} the store {self.path}: {error}"
        if _is_damage(error):
            return self._damaged(text)
        if isinstance(error, PermissionError):
            return StoreUnavailable(text, hint="sudo lshctl …, or lshctl --user … for jobs of your own")
        if _is_full(error):
            return StoreFull(
                text, hint=f"nothing is lost while the journal has it; df -h {self.path and self.path.parent}"
            )
        return StoreUnavailable(text, hint="nothing is lost while the journal has it; lshctl doctor")

    def _damaged(self, text: str) -> StoreDamaged:
        return StoreDamaged(text, hint="lshctl prune --check makes it anew", inode=self._inode)

    def _roll_back(self) -> None:
        if self._db.in_transaction:  # SQLite itself rolls back on a full disk
            with contextlib.suppress(sqlite3.Error):  # in a damaged file even this may fail
                self._db.execute("ROLLBACK")

    def _shaped(self, query: str, values: Sequence[object], shape: Callable[[tuple[Any, ...]], T]) -> list[T]:
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


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF == sqlite3.SQLITE_FULL


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
