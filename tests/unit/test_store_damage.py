"""A ledger's file that is not what SQLite wrote: noticed, set aside, and read as far as that goes. Real files, really
damaged."""

import random
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from lsh_systemd import storefile
from lsh_systemd.run import Run
from lsh_systemd.store import Store, StoreDamaged, StoreUnavailable

COUNT = 600
PAGE = 4096


def run(number: int) -> Run:
    text = random.Random(number).randbytes(600).hex().encode()
    fields = {"started_usec": number, "ended_usec": number + 1, "result": "success", "boot_id": "b"}
    return Run(id=f"{number:032x}", job="x", unit="lsh-x.service", output=text, output_bytes=len(text), **fields)  # type: ignore[arg-type]


RUNS = [run(number) for number in range(1, COUNT + 1)]


def make(path: Path) -> None:
    store = Store(path)
    with store.transaction():
        store.put(RUNS)
        store.set_cursor("here")
    store.close()  # the -wal goes into the file
    assert not Path(f"{path}-wal").exists()


def write(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def zeroed_header(path: Path) -> None:
    write(path, 0, bytes(100))


def zeroed_first_page(path: Path) -> None:
    write(path, 0, bytes(PAGE))


def garbage_in_the_middle(path: Path) -> None:
    middle = path.stat().st_size // PAGE // 2
    write(path, middle * PAGE, random.Random(1).randbytes(3 * PAGE))


def truncated(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 2 // 3)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def other_text(path: Path) -> None:
    path.write_bytes(b"not a database, and long enough to be read as one" * 1000)


def use(path: Path) -> None:
    """What a reader and a collector do."""
    store = Store(path)
    try:
        store.runs()
        with store.transaction():
            store.last_of_unit("lsh-x.service")
            store.put(RUNS)
    finally:
        store.close()


@pytest.mark.parametrize(
    ("damage", "least"),
    [
        (zeroed_header, 0),
        (zeroed_first_page, 0),
        (garbage_in_the_middle, COUNT * 9 // 10),
        (truncated, COUNT // 3),
        (other_text, 0),
        (emptied, 0),
    ],
)
def test_damage_is_noticed_and_what_is_left_is_read(tmp_path: Path, damage: Callable[[Path], None], least: int) -> None:
    path = tmp_path / "lsh.db"
    make(path)
    damage(path)
    before = path.read_bytes()
    with pytest.raises(StoreDamaged) as noticed:
        use(path)
    aside = storefile.set_aside(path, noticed.value.inode)
    assert aside and aside.read_bytes() == before and not path.exists()

    fresh = Store(path)
    saved = 0
    with fresh.transaction():
        for table, columns in fresh.tables().items():
            saved += sum(fresh.adopt(table, row) for row in storefile.rows(aside, table, columns))
    known = {each.id: each for each in RUNS}
    assert saved == len(fresh.runs()) >= least
    assert all(each == known[each.id] for each in fresh.runs())
    assert fresh.check(full=True) == "ok"
    assert aside.read_bytes() == before
    assert storefile.asides(path) == [aside]


@pytest.mark.parametrize("seed", range(40))
def test_any_damage_is_an_error_of_ours_or_none(tmp_path: Path, seed: int) -> None:
    """A few bytes anywhere: whatever comes of it, it is told as damage or read as rows, and what is saved is whole."""
    path = tmp_path / "lsh.db"
    make(path)
    chance = random.Random(seed)
    for _ in range(chance.randint(1, 20)):
        write(path, chance.randrange(PAGE, path.stat().st_size - 200), chance.randbytes(chance.randint(1, 200)))
    try:
        use(path)
    except StoreDamaged as noticed:
        aside = storefile.set_aside(path, noticed.inode)
        assert aside
        fresh = Store(path)
        with fresh.transaction():
            for table, columns in fresh.tables().items():
                for row in storefile.rows(aside, table, columns):
                    fresh.adopt(table, row)
        assert fresh.check(full=True) == "ok"
        for each in fresh.runs():
            each.to_json()


@pytest.mark.parametrize("keep", [0, 31, 32, 5000, 40000])
def test_a_truncated_log_loses_no_more_than_what_it_held(tmp_path: Path, keep: int) -> None:
    """Then the cursor in it is lost as well, and the journal is asked anew."""
    path, copied = tmp_path / "lsh.db", tmp_path / "other/lsh.db"
    make(path)
    store = Store(path)
    with store.transaction():
        store.put([run(COUNT + 1)])
        store.set_cursor("farther")
    copied.parent.mkdir()
    copied.write_bytes(path.read_bytes())
    Path(f"{copied}-wal").write_bytes(Path(f"{path}-wal").read_bytes()[:keep])
    store.close()
    again = Store(copied)
    cursor = again.cursor()
    assert (len(again.runs()), cursor) in [(COUNT, "here"), (COUNT + 1, "farther")]
    assert again.check(full=True) == "ok"


def test_a_file_of_a_newer_version_or_without_permission_is_not_damaged(tmp_path: Path) -> None:
    make(tmp_path / "lsh.db")
    with sqlite3.connect(tmp_path / "lsh.db") as db:
        db.execute("PRAGMA user_version = 1000")
    db.close()
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "lsh.db", tmp_path / "folder", Path("/dev/null/lsh.db")):
        with pytest.raises(Exception, match=r"newer|open|Not a directory") as error:
            Store(path)
        assert not isinstance(error.value, StoreDamaged)


def test_only_the_file_that_was_found_damaged_is_set_aside(tmp_path: Path) -> None:
    """The second who has found the same damage must not set the new file aside."""
    path = tmp_path / "lsh.db"
    make(path)
    zeroed_header(path)
    inodes = []
    for _ in range(2):
        with pytest.raises(StoreDamaged) as noticed:
            Store(path)
        inodes.append(noticed.value.inode)
    asides: list[Path | None] = []

    def second(inode: int | None) -> None:
        asides.append(storefile.set_aside(path, inode))
        Store(path).close()

    threads = [threading.Thread(target=second, args=(inode,)) for inode in inodes * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(bool, asides)) == [False] * 7 + [True]
    assert Store(path).runs() == []
    assert len(storefile.asides(path)) == 1


def test_many_may_make_it_at_once(tmp_path: Path) -> None:
    path = tmp_path / "lsh.db"

    def use_first(number: int) -> None:
        store = Store(path)
        with store.transaction():
            store.put([run(number)])

    threads = [threading.Thread(target=use_first, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.started_usec for each in Store(path).runs()] == [8, 7, 6, 5, 4, 3, 2, 1]


def test_who_has_the_old_file_open_does_no_harm_to_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "lsh.db"
    make(path)
    old = Store(path)
    assert len(old.runs()) == COUNT
    aside = storefile.set_aside(path, path.stat().st_ino)
    new = Store(path)
    with new.transaction():
        new.put([run(COUNT + 1)])
    with old.transaction():
        old.put([run(COUNT + 2)])
    old.close()
    assert [each.id for each in new.runs()] == [run(COUNT + 1).id]
    new.close()
    assert [each.id for each in Store(path).runs()] == [run(COUNT + 1).id]
    assert aside is not None and len(Store(aside).runs()) == COUNT + 1


def test_a_reader_that_meets_damage_reads_on_in_what_has_been_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "lsh.db"
    make(path)

    def mend(damage: StoreDamaged) -> None:
        storefile.set_aside(path, damage.inode)
        new = Store(path)
        with new.transaction():
            new.put([run(1)])
        new.close()

    store = Store(path, mend=mend)
    garbage_in_the_middle(path)
    assert [each.id for each in store.runs()] == [run(1).id]
    assert store.path and store.path.stat().st_ino == path.stat().st_ino


def test_output_that_cannot_be_unpacked_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "lsh.db"
    make(path)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE runs SET output = x'00010203' WHERE started_usec = 5")
    with pytest.raises(StoreDamaged):
        Store(path).runs()
    assert len(Store(path).runs(output=False)) == COUNT


def test_what_the_journal_tells_otherwise_stands(tmp_path: Path) -> None:
    store = Store(None)
    with store.transaction():
        store.put([run(1)])
        row = {"id": run(1).id, "job": "renamed", "unit": "lsh-x.service", "boot_id": "b", "attempt": 1}
        row |= {"output": b"more", "output_bytes": 4, "host": "h", "output_codec": None}
        assert not store.adopt("runs", row | {"result": "exit-code"})
        assert store.runs() == [run(1)]
        assert not store.adopt("runs", row | {"result": "success"})
        assert [(each.job, each.output) for each in store.runs()] == [("renamed", b"more")]
        for wrong in ({"id": "short"}, {"id": 5}, {"metrics": "{"}, {"job": None}, {"output_codec": "zlib"}):
            assert not store.adopt("runs", row | {"id": "f" * 32, "result": "success"} | wrong)
    assert len(store.runs()) == 1


def test_rows_of_an_older_file_lack_columns(tmp_path: Path) -> None:
    path = tmp_path / "lsh.db"
    make(path)
    rows = list(storefile.rows(path, "runs", ["id", "no_such_column"]))
    assert len(rows) == COUNT and rows[0].keys() == {"id"}
    assert list(storefile.rows(path, "no_such_table", ["id"])) == []
    assert "state" not in Store(path).tables()


def test_an_error_that_is_no_damage_is_told_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "lsh.db"
    make(path)
    store = Store(path)
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE runs")
    with pytest.raises(StoreUnavailable) as error:
        store.runs()
    assert not isinstance(error.value, StoreDamaged)
