"""Copies of a ledger, there and back, while it is in use."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lsh_systemd import storefile
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.run import Run
from lsh_systemd.store import MIGRATIONS, SCHEMA_VERSION, Store

COLUMNS = ("id", "job", "unit")


def run(number: int) -> Run:
    return Run(id=f"{number:032x}", job="x", unit="lsh-x.service", started_usec=number)


def make(path: Path, *numbers: int) -> Store:
    store = Store(path)
    with store.transaction():
        store.put(map(run, numbers))
    return store


def numbers(store: Store) -> list[int | None]:
    return [each.started_usec for each in store.runs()][::-1]


def test_a_copy_is_whole_small_and_for_its_owner_alone(tmp_path: Path) -> None:
    store = make(tmp_path / "lsh.db", 1, 2)  # still open: both are in the -wal
    storefile.copy(tmp_path / "lsh.db", tmp_path / "copy", in_use=True)
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "lsh.db", "lsh.db-shm", "lsh.db-wal"]
    storefile.check(tmp_path / "copy", newest=SCHEMA_VERSION, columns=COLUMNS)
    with store.transaction():
        store.put([run(3)])
    with pytest.raises(BadInput, match="there already"):
        storefile.copy(tmp_path / "lsh.db", tmp_path / "copy", in_use=True)
    assert numbers(Store(tmp_path / "copy")) == [1, 2]
    storefile.copy(tmp_path / "lsh.db", tmp_path / "copy", in_use=True, replace=True)
    assert numbers(Store(tmp_path / "copy")) == [1, 2, 3]


def test_a_link_that_leads_nowhere_is_there(tmp_path: Path) -> None:
    make(tmp_path / "lsh.db", 1).close()
    (tmp_path / "copy").symlink_to("elsewhere")
    with pytest.raises(BadInput, match="there already"):
        storefile.copy(tmp_path / "lsh.db", tmp_path / "copy", in_use=True)


@pytest.mark.parametrize("make_it", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/null")])
def test_nothing_but_a_plain_file_is_replaced(tmp_path: Path, make_it: Callable[[Path], object]) -> None:
    make(tmp_path / "lsh.db", 1).close()
    make_it(tmp_path / "copy")
    before = (tmp_path / "copy").lstat()
    with pytest.raises(BadInput, match="no plain file"):
        storefile.copy(tmp_path / "lsh.db", tmp_path / "copy", in_use=True, replace=True)
    assert (tmp_path / "copy").lstat() == before


def test_a_disk_that_spoils_every_file_is_not_filled_with_them(tmp_path: Path) -> None:
    path = tmp_path / "lsh.db"
    for _ in range(10):
        path.write_text("spoilt")
        assert storefile.set_aside(path, path.stat().st_ino)
    path.write_text("spoilt")
    with pytest.raises(LshError, match="once more"):
        storefile.set_aside(path, path.stat().st_ino)
    assert len(storefile.asides(path)) == 10


@pytest.mark.parametrize("folder", ["none", "file"])
def test_a_copy_that_cannot_be_written_leaves_nothing(tmp_path: Path, folder: str) -> None:
    make(tmp_path / "lsh.db", 1).close()
    (tmp_path / "file").write_text("")
    with pytest.raises(LshError, match="cannot write"):
        storefile.copy(tmp_path / "lsh.db", tmp_path / folder / "copy", in_use=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "lsh.db"]


def test_what_is_poured_in_is_seen_by_those_who_have_it_open(tmp_path: Path) -> None:
    open_one, reader = make(tmp_path / "lsh.db", 1, 2), Store(tmp_path / "lsh.db")
    make(tmp_path / "other", 7, 8, 9).close()
    assert numbers(reader) == [1, 2]
    storefile.pour(tmp_path / "other", tmp_path / "lsh.db")
    assert numbers(reader) == numbers(open_one) == [7, 8, 9]
    with open_one.transaction():
        open_one.put([run(10)])
    assert numbers(reader) == [7, 8, 9, 10]
    assert reader.check(full=True) == "ok"


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_a_backup_of_every_version_can_be_restored(tmp_path: Path, version: int) -> None:
    """Of another page size, too, as another build of SQLite may have it."""
    old, staged = tmp_path / "old", tmp_path / "staged"
    with sqlite3.connect(old) as db:
        db.execute("PRAGMA page_size = 8192")
        for number in range(1, version + 1):
            db.executescript((MIGRATIONS / f"{number}.sql").read_text())
        db.execute(f"PRAGMA user_version = {version}")
        db.execute(
            "INSERT INTO runs (id, job, unit, host, boot_id, attempt, output, output_bytes, started_usec) "
            "VALUES ('b', 'x', 'u', 'h', 'b', 1, x'6869', 2, 5)"
        )
    db.close()
    live = make(tmp_path / "lsh.db", 1)
    storefile.check(old, newest=SCHEMA_VERSION, columns=COLUMNS)
    storefile.copy(old, staged, in_use=False)
    Store(staged).close()
    storefile.pour(staged, tmp_path / "lsh.db")
    assert [each.output for each in live.runs()] == [b"hi"]
    with live.transaction():
        live.put([run(7)])
    assert numbers(live) == [5, 7]
    assert live.check(full=True) == "ok"


WRITER = """
import sys
from pathlib import Path
from lsh_systemd.run import Run
from lsh_systemd.store import MIGRATIONS, Store
n = 0
while True:
    store = Store(Path(sys.argv[1]))
    for _ in range(10):
        n += 1
        with store.transaction():
            store.put([Run(id=f"{n * 2 + i:032x}", job="x", unit="lsh-x.service", output=b"x") for i in (0, 1)])
            store.set_cursor(str(n))
    store.close()
    print(n, flush=True)
"""


def test_copies_and_pouring_beside_a_process_that_writes(tmp_path: Path) -> None:
    """Every copy is of one moment: the cursor and the runs of its transaction, both or neither."""
    path = tmp_path / "lsh.db"
    make(path).close()
    make(tmp_path / "empty").close()
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout
        for number in range(4):
            writer.stdout.readline()
            copy = tmp_path / f"copy-{number}"
            storefile.copy(path, copy, in_use=True)
            store = Store(copy)
            cursor, ids = store.cursor(), {int(each.id, 16) for each in store.runs()}
            assert {int(cursor) * 2, int(cursor) * 2 + 1} <= ids if cursor else not ids  # not since the last pouring
            assert len(ids) % 2 == 0
            assert store.check(full=True) == "ok"
            store.close()
            storefile.pour(tmp_path / "empty", path)
        assert writer.poll() is None
        writer.kill()
    assert Store(path).check(full=True) == "ok"


def _text(path: Path) -> None:
    path.write_text("no database")


def _foreign(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE runs (id, job, unit)")
        db.execute("PRAGMA application_id = 77")
        db.execute("PRAGMA user_version = 1")
    db.close()


def _unversioned(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE runs (id, job, unit)")
    db.close()


def _other_table(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (x)")
        db.execute("PRAGMA user_version = 1")
    db.close()


def _newer(path: Path) -> None:
    make(path, 1).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()


def _damaged(path: Path) -> None:
    make(path, *range(500)).close()
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(os.urandom(9000))


def _cut(path: Path) -> None:
    make(path, *range(500)).close()
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_text, "no SQLite file"),
        (Path.touch, "no SQLite file"),
        (Path.mkdir, "no file"),
        (os.mkfifo, "no file"),
        (lambda path: None, "No such file"),
        (_foreign, "no ledger"),
        (_unversioned, "no ledger"),
        (_other_table, "no ledger"),
        (_newer, "newer"),
        (_damaged, "damaged|malformed"),
        (_cut, "damaged|malformed"),
    ],
)
def test_no_backup(tmp_path: Path, spoil: Callable[[Path], object], why: str) -> None:
    path = tmp_path / "file"
    spoil(path)
    with pytest.raises(BadInput, match=why):
        storefile.check(path, newest=SCHEMA_VERSION, columns=COLUMNS)
