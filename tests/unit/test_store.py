"""The ledger's file."""

import random
import re
import sqlite3
from pathlib import Path

import pytest

from lsh_systemd.errors import LshError
from lsh_systemd.run import Run
from lsh_systemd.store import MIGRATIONS, SCHEMA_VERSION, Store


def run(number: int, job: str = "x", **fields: object) -> Run:
    return Run(id=f"{number:032x}", job=job, unit=f"lsh-{job}.service", started_usec=number, **fields)  # type: ignore[arg-type]


def test_a_run_comes_back_as_it_was(tmp_path: Path) -> None:
    whole = run(1, trigger="timer", ended_usec=2, result="signal", signal="KILL", output=b"\0\xff\n", output_bytes=3)
    store = Store(tmp_path / "lsh.db")
    with store.transaction():
        store.put([whole])
    assert Store(tmp_path / "lsh.db").runs() == [whole]


def test_putting_again_replaces(tmp_path: Path) -> None:
    store = Store(None)
    with store.transaction():
        store.put([run(1), run(1, result="success")])
    assert [each.result for each in store.runs()] == ["success"]


def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "lsh.db")
    with pytest.raises(RuntimeError), store.transaction():
        store.put([run(1)])
        store.set_cursor("c")
        raise RuntimeError
    assert (store.runs(), store.cursor()) == ([], None)


def test_selection(tmp_path: Path) -> None:
    store = Store(None)
    with store.transaction():
        store.put([run(1, "x"), run(2, "y"), run(3, "x", result="success"), run(4, "x")])
        store.set_cursor("here")
    assert [each.started_usec for each in store.runs(job="x", limit=2)] == [4, 3]
    assert [each.started_usec for each in store.runs(since_usec=2)] == [4, 3, 2]
    assert {job: each.started_usec for job, each in store.last_runs().items()} == {"x": 4, "y": 2}
    assert {job: each.started_usec for job, each in store.last_runs(["y", "z"]).items()} == {"y": 2}
    assert [each.started_usec for each in store.run(f"{3:032x}")] == [3]
    last = store.last_of_unit("lsh-x.service", before_usec=4)
    assert last and last.started_usec == 3
    assert store.cursor() == "here"
    assert store.knows("lsh-y.service") and not store.knows("lsh-z.service")


def test_output_is_left_out_where_nobody_asks_for_it() -> None:
    store = Store(None)
    with store.transaction():
        store.put([run(1, output=b"long", output_bytes=4)])
    (short,) = store.runs(output=False)
    assert (short.output, short.output_bytes) == (b"", 4)


def test_the_history_follows_a_new_name() -> None:
    store = Store(None)
    with store.transaction():
        store.put([run(1, "old")])
    store.rename("old", "new")
    assert [each.job for each in store.runs()] == ["new"]


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    Store(tmp_path / "lsh.db").close()
    with sqlite3.connect(tmp_path / "lsh.db") as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(LshError, match="newer"):
        Store(tmp_path / "lsh.db")


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_a_store_of_every_earlier_version_is_carried_on(tmp_path: Path, version: int) -> None:
    path = tmp_path / "lsh.db"
    with sqlite3.connect(path) as db:
        for number in range(1, version + 1):
            db.executescript((MIGRATIONS / f"{number}.sql").read_text())
        db.execute(f"PRAGMA user_version = {version}")
        db.execute(
            'INSERT INTO runs (id, job, unit, host, boot_id, "trigger", attempt, output, output_bytes) '
            "VALUES (?, 'x', 'lsh-x.service', 'h', 'b', 'timer', 1, x'6869', 2)",
            (f"{2:032x}",),
        )
        db.execute("INSERT INTO state VALUES ('cursor', 'here')")
    db.close()
    old = Run(
        id=f"{2:032x}",
        job="x",
        unit="lsh-x.service",
        host="h",
        boot_id="b",
        trigger="timer",
        output=b"hi",
        output_bytes=2,
    )
    new = run(5, due_usec=4, output=b"long " * 1000, triggered_by="bob", metrics='{"a": 1}')
    opened = Store(path)
    with opened.transaction():
        opened.put([new])
    assert (opened.runs(), opened.cursor(), opened.check(full=True)) == ([new, old], "here", "ok")
    opened.shrink()
    assert Store(path).runs() == [new, old]


@pytest.mark.parametrize("size", [0, 1, 128, 129, 5000, 65536])
def test_output_is_compressed_where_that_pays(tmp_path: Path, size: int) -> None:
    noise = random.Random(size).randbytes(size)
    text = (b"the same line again\n" * 4000)[:size]
    store = Store(tmp_path / "lsh.db")
    with store.transaction():
        store.put([run(1, output=noise, output_bytes=size), run(2, output=text, output_bytes=size)])
    assert [each.output for each in store.runs()] == [text, noise]
    with sqlite3.connect(tmp_path / "lsh.db") as db:
        kept = db.execute("SELECT output_codec, length(output) FROM runs ORDER BY started_usec").fetchall()
    assert kept[0] == (None, size)
    assert (kept[1] == (None, size)) if size <= 128 else (kept[1][0] == "zlib" and kept[1][1] < size / 2)


def test_the_ledger_is_not_for_everybody(tmp_path: Path) -> None:
    Store(tmp_path / "state/lsh.db")
    assert (tmp_path / "state/lsh.db").stat().st_mode & 0o777 == 0o640


def test_runs_are_chosen_by_time_and_result() -> None:
    results = ["success", "exit-code", "skipped", None, "lost", "success"]
    store = Store(None)
    with store.transaction():
        store.put(run(n, result=result) for n, result in enumerate(results))

    def chosen(**which: object) -> list[int | None]:
        return [each.started_usec for each in store.runs(**which)]  # type: ignore[arg-type]

    assert chosen(unsuccessful=True) == [4, 1]
    assert chosen(unsuccessful=True, job="x", limit=1) == [4]
    assert chosen(result="success") == [5, 0]
    assert chosen(result="skipped") == [2]
    assert chosen(result="exit-code", unsuccessful=True) == [1]
    assert chosen(since_usec=1, until_usec=4) == [3, 2, 1]


@pytest.mark.parametrize(
    ("choice", "index"),
    [
        ({}, "runs_by_time"),
        ({"job": "x"}, "runs_by_job"),
        ({"since_usec": 3}, "runs_by_time"),
        ({"unsuccessful": True}, "runs_unsuccessful"),
        ({"unsuccessful": True, "job": "x"}, "runs_unsuccessful|runs_by_job"),
        ({"result": "timeout"}, "runs_unsuccessful"),
    ],
)
def test_no_choice_of_runs_reads_them_all(choice: dict[str, object], index: str) -> None:
    store, asked = Store(None), []
    store._db.set_trace_callback(asked.append)
    store.runs(limit=20, **choice)  # type: ignore[arg-type]
    store.last_runs()
    store.run("ab")
    store._db.set_trace_callback(None)
    chosen, *others = [[row[3] for row in store.query(f"EXPLAIN QUERY PLAN {query}")] for query in asked]
    assert re.search(rf"USING (COVERING )?INDEX ({index})\b", chosen[0]), chosen
    assert len(others) == 2
    assert not [plan for plans in others for plan in plans if re.match("SCAN runs", plan)], others


def test_a_snapshot_stays_as_it_is(tmp_path: Path) -> None:
    reader, writer = Store(tmp_path / "lsh.db"), Store(tmp_path / "lsh.db")
    with reader.snapshot():
        assert reader.runs() == []
        with writer.transaction():
            writer.put([run(1)])
        assert reader.runs() == []
    assert [each.started_usec for each in reader.runs()] == [1]


def test_a_store_without_figures_gets_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of schema 3, with runs in it."""
    path = tmp_path / "lsh.db"
    folder = MIGRATIONS
    with sqlite3.connect(path) as db:
        for number in (1, 2, 3):
            db.executescript((folder / f"{number}.sql").read_text())
        db.execute("PRAGMA user_version = 3")
        columns = "id, job, unit, host, boot_id, attempt, started_usec, result, output, output_bytes, metrics"
        db.execute(
            f"INSERT INTO runs ({columns}) VALUES ('a', 'x', 'u', '', '', 1, 5, 'success', x'', 0, '{{\"rows\": 2}}')"
        )
    store = Store(path)
    assert store.query("SELECT job, day, stale FROM days") == [("x", 0, 1)]
    assert store.query("SELECT * FROM metrics") == [("a", "rows", "x", 2.0, 5)]
