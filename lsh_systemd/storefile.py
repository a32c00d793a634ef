"""The ledger's file as a whole: copied while in use, looked at before it is believed, set aside, read when damaged.

A file that others have open is never written over and never renamed together with a new one's -wal: what replaces a
sound store goes *into* it, as one transaction; a damaged one is renamed while nobody opens it (``Store`` holds the
folder's lock for that long). Who still has the old file open goes on with the old one, and looks anew when it fails.
"""

import contextlib
import fcntl
import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lsh_systemd import plainfile
from lsh_systemd.errors import BadInput, LshError

_MAGIC = b"SQLite format 3\0"
_APPLICATION_ID = int.from_bytes(b"lsh1")  # 0 in files of early schemas
_BUSY_SECONDS = 60.0
# Of the files of a store; its own comes last, so that who dies while setting it aside leaves one that is found damaged.
_ENDINGS = ("-wal", "-shm", "")
# Of a damaged file: how much is read at once, the last row number that is looked for, and after how many failures in a
# row the rest of a table is given up. One page that leads to others stands for some 4000 rows, of two failures each.
_ROWS_AT_ONCE = 1024
_LAST_ROW = 2**40
_MOST_ERRORS = 20_000
# Damaged files of a day that are kept: a disk that spoils each new one must not be filled with them.
_MOST_A_DAY = 10
_AT_ONCE = 2**20


def aside_name(path: Path, why: str) -> Path:
    """lsh.db → lsh.db.corrupt-20261122T064151Z, which is not there yet."""
    named = path.with_name(f"{path.name}.{why}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    number = 1
    while os.path.lexists(named):
        number += 1
        named = path.with_name(f"{path.name}.{why}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{number}")
    return named


def size(path: Path) -> int:
    """What the store takes on disk, in bytes."""
    files = (Path(f"{path}{ending}") for ending in _ENDINGS)
    return sum(each.stat().st_size for each in files if each.exists())


def is_of(path: Path, file: Path) -> bool:
    """Whether a file is one of the store's, by whatever name."""
    own = [Path(f"{path}{ending}") for ending in _ENDINGS]
    try:
        return file.resolve() in [each.resolve() for each in own] or any(
            each.samefile(file) for each in own if each.exists() and file.exists()
        )
    except (OSError, RuntimeError):  # RuntimeError: links in a circle
        return False


def asides(path: Path) -> list[Path]:
    """What was set aside of this store and is still there, the oldest first."""
    found = [*path.parent.glob(f"{path.name}.corrupt-*"), *path.parent.glob(f"{path.name}.before-restore-*")]
    return sorted(each for each in found if not each.name.endswith(("-wal", "-shm")))


def set_aside(path: Path, inode: int | None) -> Path | None:
    """Rename the store that was found damaged (inode None: empty), with its -wal and -shm; its new name. None where
    another process has done so since, or has filled it."""
    with _locked(path.parent):
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        if status.st_size if inode is None else status.st_ino != inode:
            return None
        aside = aside_name(path, "corrupt")
        day = aside.name.rpartition("T")[0]
        if sum(each.name.startswith(day) for each in asides(path)) >= _MOST_A_DAY:
            raise LshError(f"{path} is damaged once more today", hint="see to the disk: dmesg, smartctl")
        try:
            for ending in _ENDINGS:
                with contextlib.suppress(FileNotFoundError):
                    Path(f"{path}{ending}").rename(f"{aside}{ending}")
            _sync(path.parent)
        except OSError as error:
            raise LshError(f"cannot set {path} aside: {error.strerror}") from None
        return aside


def rows(path: Path, table: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a table that can still be read, whatever the file's state; what is in a row may be damaged, too."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_open_still(path)) as db:
        db.text_factory = _text
        db.execute("PRAGMA writable_schema = ON")  # else nothing is read of a file shorter than its header says
        there = {name for (name,) in db.execute("SELECT name FROM pragma_table_info(?)", (table,))}
        names = [name for name in columns if name in there]
        if names:
            listed = ", ".join(f'"{name}"' for name in names)
            for row in _ranges(db, f'SELECT {listed} FROM "{table}" NOT INDEXED WHERE rowid BETWEEN ? AND ?'):
                yield dict(zip(names, row, strict=True))


def small_table(path: Path, table: str) -> list[dict[str, Any]]:
    """The rows of a table whose rows are not numbered; none where any of it is damaged."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_open_still(path)) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute(f'SELECT * FROM "{table}"')]
    return []


def _ranges(db: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    """Read by ranges of row numbers: one with damage in it is halved, until only the damaged rows are left out."""
    waiting, errors = [(1, _LAST_ROW)], 0
    while waiting and errors < _MOST_ERRORS:
        first, last = waiting.pop()
        whole: list[tuple[Any, ...]] | None = None
        try:
            if last - first < _ROWS_AT_ONCE:
                whole = db.execute(query, (first, last)).fetchall()
            elif db.execute(f"SELECT 1 FROM ({query}) LIMIT 1", (first, last)).fetchone() is None:
                whole = []
        except sqlite3.DatabaseError:
            errors += 1
            whole = [] if first == last else None
        if whole is None:
            middle = (first + last) // 2
            waiting += [(middle + 1, last), (first, middle)]
        elif whole:
            errors = 0
            yield from whole


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value  # damaged: no column of text takes it


def check(path: Path, *, newest: int, columns: Sequence[str]) -> None:
    """Raises BadInput unless the file is a sound ledger of a schema up to ``newest``, with these columns of runs."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadInput(f"{path} is no file", hint="lshctl backup FILE makes one")
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
        if magic != _MAGIC:
            raise BadInput(
                f"{path} is no backup of a ledger: it is no SQLite file", hint="lshctl backup FILE makes one"
            )
        with contextlib.closing(_open_still(path)) as db:
            (application,) = db.execute("PRAGMA application_id").fetchone()
            (version,) = db.execute("PRAGMA user_version").fetchone()
            there = {name for (name,) in db.execute("SELECT name FROM pragma_table_info('runs')")}
            if application not in (0, _APPLICATION_ID) or not version or not there.issuperset(columns):
                raise BadInput(f"{path} is an SQLite file, but no ledger", hint="lshctl backup FILE makes one")
            if version > newest:
                raise BadInput(f"{path} was written by a newer lsh-systemd (schema {version})", hint="upgrade this one")
            (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise BadInput(f"{path} is damaged: {verdict}")
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from None
    except sqlite3.Error as error:
        raise BadInput(f"cannot read {path}: {error}") from None


def copy(source: Path, target: Path, *, in_use: bool, replace: bool = False) -> None:
    """Copy a store into a new file (mode 0600), whole or not at all. Raises BadInput where the target is there and not
    to be replaced, or is no plain file."""
    if os.path.lexists(target):
        if not replace:
            raise _is_there(target)
        if not stat.S_ISREG(target.lstat().st_mode):
            raise BadInput(f"{target} is no plain file", hint="name another one")
    temporary = None
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            if in_use and plainfile.stranger(target, adding=True):
                # SQLite opens files by their names: whoever else may write there could have it write elsewhere.
                with tempfile.TemporaryDirectory(prefix=".backup.", dir=source.parent) as folder:
                    staged = Path(folder) / source.name
                    _copy(source, staged, in_use=in_use)
                    with staged.open("rb") as copied:
                        shutil.copyfileobj(copied, file, _AT_ONCE)
            else:
                _copy(source, temporary, in_use=in_use)
            file.flush()
            os.fsync(descriptor)
        if replace:
            temporary.replace(target)
        else:
            _rename_to_new(temporary, target)
        _sync(target.parent)
    except FileExistsError:
        raise _is_there(target) from None
    except OSError as error:
        raise LshError(f"cannot write {target}: {error.strerror}") from None
    except sqlite3.Error as error:
        raise LshError(f"cannot copy {source} to {target}: {error}") from None
    finally:
        if temporary:
            temporary.unlink(missing_ok=True)


def _copy(source: Path, target: Path, *, in_use: bool) -> None:
    opened = _open_live(source) if in_use else _open_still(source)
    with contextlib.closing(opened) as old, contextlib.closing(sqlite3.connect(target)) as new:
        old.backup(new)  # in one step, from one snapshot, beside any writer
        new.execute("PRAGMA journal_mode = DELETE")  # one file, readable from a medium that is read-only, too


def pour(source: Path, target: Path) -> None:
    """Make all that is in ``target``, which others may have open, what is in ``source``: in one transaction. The source
    is rewritten where its pages are of another size."""
    try:
        with contextlib.closing(_open_live(source)) as new, contextlib.closing(_open_live(target)) as live:
            (page_size,) = live.execute("PRAGMA page_size").fetchone()
            if new.execute("PRAGMA page_size").fetchone() != (page_size,):
                new.execute("PRAGMA journal_mode = DELETE")  # in WAL mode the size stays as it is
                new.execute(f"PRAGMA page_size = {page_size}")
                new.execute("VACUUM")
            new.backup(live, sleep=0.01)
    except sqlite3.Error as error:
        raise LshError(f"cannot write to the store {target}: {error}", hint="nothing was changed") from None


def _is_there(target: Path) -> BadInput:
    return BadInput(f"{target} is there already", hint="--force replaces it")


def _rename_to_new(path: Path, target: Path) -> None:
    try:
        os.link(path, target)  # unlike rename, it never replaces
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        path.rename(target)


def _open_live(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_SECONDS)


def _open_still(path: Path) -> sqlite3.Connection:
    """A file that nobody writes. Where no log lies beside it, nothing is made in its folder, either."""
    options = "mode=ro" if Path(f"{path}-wal").exists() else "mode=ro&immutable=1"
    return sqlite3.connect(f"{path.absolute().as_uri()}?{options}", uri=True, timeout=_BUSY_SECONDS)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise LshError(f"cannot open {folder}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
