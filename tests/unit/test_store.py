"""The ledger's file."""

import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

import lsh_systemd.store as store_module
from lsh_systemd.errors import LshError
from lsh_systemd.run import Run
from lsh_systemd.store import SCHEMA_VERSION, Store, StoreUnavailable


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


def test_a_file_that_is_no_database_is_an_error_not_a_crash(tmp_path: Path) -> None:
    (tmp_path / "lsh.db").write_bytes(b"not a database, and long enough to be read as one" * 100)
    with pytest.raises(StoreUnavailable):
        Store(tmp_path / "lsh.db")


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
def test_no_choice_of_runs_reads_them_all(
    choice: dict[str, object], index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, plans = Store(None), []
    asked = store.query

    def told(sql: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        plans.extend(row[3] for row in asked(f"EXPLAIN QUERY PLAN {sql}", values))
        return asked(sql, values)

    monkeypatch.setattr(store, "query", told)
    store.runs(limit=20, **choice)  # type: ignore[arg-type]
    assert re.search(rf"USING (COVERING )?INDEX ({index})\b", plans[0]), plans
    plans.clear()
    store.last_runs()
    store.run("ab")
    assert not [plan for plan in plans if re.match("SCAN runs", plan)], plans


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
    folder = store_module._MIGRATIONS
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
