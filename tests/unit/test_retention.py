"""Which runs prune removes, and what the file is like afterwards."""

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsh_systemd import unit
from lsh_systemd.audit import Change
from lsh_systemd.config import Config
from lsh_systemd.jobfile import from_plain
from lsh_systemd.jobs import Jobs
from lsh_systemd.retention import Limits, limits, prune, removable
from lsh_systemd.run import Run
from lsh_systemd.scope import Scope, unit_dir
from lsh_systemd.stamps import Stamps
from lsh_systemd.store import Ended, Store

FOREVER = 2**62
LIMITS = Limits(before_usec=100, keep=3, output_before_usec=200, changes_before_usec=100)


def ended(at: int, *, newest: int = 0, newer: int = 0, job: str = "x") -> Ended:
    return Ended(f"{at:032x}", job, f"lsh-{job}.service", at, newest, newer, 10)


@pytest.mark.parametrize(
    ("each", "fate"),
    [
        (ended(99), "run"),
        (ended(100), "output"),
        (ended(500, newer=3), "run"),
        (ended(150, newer=2), "output"),
        (ended(99, newest=1), "stays"),
        (ended(500, newest=1, newer=3), "stays"),
        (ended(99, newest=1, job="gone"), "run"),
        (ended(150, newest=1, job="gone"), "output"),
        (ended(49, job="y"), "run"),
        (ended(50, job="y"), "stays"),  # --catch-up all has still to know of it
        (ended(500, newer=9, job="y"), "stays"),
    ],
)
def test_what_goes(each: Ended, fate: str) -> None:
    runs, outputs = removable([each], LIMITS, jobs={"x", "y"}, needed={"y": 50})
    assert ("run" if runs else "output" if outputs else "stays") == fate


def test_settings_and_what_is_asked_for() -> None:
    day = 86_400_000_000
    by_default = limits(Config())
    assert by_default.output_before_usec - by_default.before_usec == (365 - 90) * day
    assert by_default.keep == 600_000
    for_ever = limits(Config(keep_days=0, keep_runs=0, keep_output_days=0))
    assert (for_ever.before_usec, for_ever.keep, for_ever.output_before_usec) == (-FOREVER, FOREVER, -FOREVER)
    asked = limits(Config(keep_days=0), older_than=timedelta(days=1), keep=5)
    assert (asked.output_before_usec - asked.before_usec, asked.keep) == (-89 * day, 5)
    assert (by_default.changes_before_usec, asked.changes_before_usec) == (by_default.before_usec, -FOREVER)


def run(number: int, job: str, *, at: int, unit: str | None = None, result: str | None = "success") -> Run:
    unit = unit or f"lsh-{job}.service"
    return Run(id=f"{number:032x}", job=job, unit=unit, started_usec=at, result=result, output=b"hi", output_bytes=2)


def pruned(store: Store, limits: Limits, *, job: str | None = None) -> None:
    beyond = store.beyond(
        before_usec=limits.before_usec, keep=limits.keep, output_before_usec=limits.output_before_usec, job=job
    )
    runs, outputs = removable(beyond, limits, jobs={"x", "y"}, needed={})
    with store.transaction():
        store.drop(each.id for each in runs)
        store.drop_output(each.id for each in outputs)


def test_what_is_left_in_the_ledger() -> None:
    store = Store(None)
    runs = [
        run(1, "x", at=10, result=None),  # goes on
        run(2, "x", at=20, unit="lsh-old.service"),  # from before it was renamed, the newest of that unit
        run(3, "x", at=30, unit="lsh-x@3.service"),  # the only one of its unit, as all that ran beside another
        run(4, "x", at=40),
        run(5, "x", at=50),
        run(6, "y", at=60),
        run(7, "gone", at=70),
        run(8, "gone", at=300),
    ]
    with store.transaction():
        store.put(runs)
    pruned(store, LIMITS, job="y")
    assert len(store.runs()) == len(runs)
    pruned(store, LIMITS)
    assert sorted(int(each.id, 16) for each in store.runs()) == [1, 2, 5, 6, 8]
    assert {each.output for each in store.runs()} == {b"hi"}
    pruned(store, Limits(before_usec=0, keep=FOREVER, output_before_usec=400, changes_before_usec=0))
    left = {int(each.id, 16): each for each in store.runs()}
    assert {number for number, each in left.items() if each.output} == {1, 2, 5, 6}
    assert left[8].output_bytes == 2


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 400), st.booleans()), max_size=30),
    st.integers(0, 400),
    st.integers(1, 5),
)
def test_the_newest_and_the_open_ones_stay_and_a_second_time_changes_nothing(
    made: list[tuple[str, int, bool]], before: int, keep: int
) -> None:
    store = Store(None)
    runs = [run(n, job, at=at, result="success" if over else None) for n, (job, at, over) in enumerate(made)]
    with store.transaction():
        store.put(runs)
    newest = {job: each for job, each in store.last_runs().items() if job in "xy"}
    limits = Limits(before_usec=before, keep=keep, output_before_usec=0, changes_before_usec=0)
    pruned(store, limits)
    left = store.runs()
    assert {each.id for each in left} >= {each.id for each in runs if each.running}
    assert {job: each.started_usec for job, each in store.last_runs().items() if job in "xy"} == {
        job: each.started_usec for job, each in newest.items()
    }
    for each in left:
        newer = sum((other.started_usec or 0) > (each.started_usec or 0) for other in left if other.job == each.job)
        assert each.running or newer < keep or each.id in {last.id for last in newest.values()}
    pruned(store, limits)
    assert store.runs() == left


def test_what_catching_up_reckons_with_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--catch-up all asks which times since the job's stamp have had a run: without those they would be made up for."""
    for name in ("CONFIG", "DATA"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    folder = unit_dir(Scope.USER)
    folder.mkdir(parents=True)
    for name, catch_up in (("x", "all"), ("y", "once")):
        job = from_plain({"name": name, "command": "true", "schedule": "0 3 * * *", "catch_up": catch_up})
        files = unit.render(job, scope=Scope.USER, recorder="/bin/true", now=datetime.now(UTC), local_zone="UTC")
        for file, text in files.items():
            (folder / file).write_text(text)
        Stamps(Scope.USER).make(f"lsh-{name}.timer", 35)
    store = Store(None)
    with store.transaction():
        store.put(run(number * 10 + n, job, at=number * 10) for number in range(1, 7) for n, job in enumerate("xy"))
    told = prune(
        store, Jobs(Scope.USER), Limits(before_usec=FOREVER, keep=1, output_before_usec=FOREVER, changes_before_usec=0)
    )
    assert (told.runs, told.outputs) == (2 + 5, 0)
    assert [each.started_usec for each in store.runs(job="x")] == [60, 50, 40, 30]  # 30: may answer for the first time
    assert [each.started_usec for each in store.runs(job="y")] == [60]


@pytest.mark.parametrize("old", [False, True], ids=["today's", "made before there was pruning"])
def test_the_file_gets_smaller(tmp_path: Path, old: bool) -> None:
    path = tmp_path / "lsh.db"
    if old:
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE t (x)")
            db.execute("DROP TABLE t")
        db.close()
    store = Store(path)
    noise = [sqlite3.connect(":memory:").execute("SELECT randomblob(50000)").fetchone()[0] for _ in range(100)]
    with store.transaction():
        store.put(Run(id=f"{n:032x}", job="x", unit="lsh-x.service", output=each) for n, each in enumerate(noise))
    other = Store(path)
    assert len(other.runs()) == 100
    with store.transaction():
        store.drop(f"{n:032x}" for n in range(90))
    before = path.stat().st_size
    store.shrink()
    assert path.stat().st_size < before / 5
    assert Path(f"{path}-wal").stat().st_size == 0
    assert len(other.runs()) == 10
    assert other.check(full=True) == "ok"


def test_what_was_changed_long_ago_goes_with_the_runs() -> None:
    store = Store(None)
    changes = [
        Change(id=f"{at:032x}", at_usec=at, job=job, verb="set", actor="a", uid=0, via="cli", difference="{}")
        for at, job in ((10, "x"), (50, "x"), (60, "y"), (150, "x"))
    ]
    with store.transaction():
        store.put_changes(changes)
    jobs, before = Jobs(Scope.USER), LIMITS
    assert prune(store, jobs, before, dry_run=True).changes == 3
    assert prune(store, jobs, before, job="y").changes == 1
    assert [change.at_usec for change in store.changes()] == [150, 50, 10]
    assert prune(store, jobs, before).changes == 2
    assert [change.at_usec for change in store.changes()] == [150]
