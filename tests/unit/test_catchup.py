"""Which of a schedule's times no run answers for."""

import sqlite3
from pathlib import Path

import pytest

from lsh_systemd import store
from lsh_systemd.catchup import missed
from lsh_systemd.run import Run

TIMES = [100, 200, 300, 400]


def run(started: int, ended: int | None = None, *, due: int | None = None) -> Run:
    return Run(
        id="a" * 32,
        job="x",
        unit="lsh-x.service",
        started_usec=started,
        ended_usec=started + 1 if ended is None else ended,
        trigger="timer" if due is None else "catch-up",
        due_usec=due,
    )


@pytest.mark.parametrize(
    ("runs", "left"),
    [
        ([], TIMES),
        ([run(100), run(200), run(300), run(400)], []),
        ([run(100), run(400)], [200, 300]),
        ([run(50)], TIMES),  # by hand, before any of them
        ([run(50, 250)], [300, 400]),  # two came while it went on: systemd makes one start of them
        ([run(150)], [200, 300, 400]),  # late (jitter, or Persistent=)
        ([run(350)], [100, 200, 400]),  # by hand: answers for the newest
        ([run(410, due=100), run(420, due=200)], [300, 400]),  # the machine died in the middle
        ([run(410, due=100), run(500), run(510, due=200)], [300]),
        ([run(410, due=999)], TIMES),
    ],
)
def test_missed(runs: list[Run], left: list[int]) -> None:
    assert missed(TIMES, runs) == left


@pytest.mark.parametrize("version", range(1, store.SCHEMA_VERSION))
def test_a_store_of_every_earlier_version_is_carried_on(tmp_path: Path, version: int) -> None:
    path = tmp_path / "lsh.db"
    with sqlite3.connect(path) as db:
        for number in range(1, version + 1):
            db.executescript((Path(store.__file__).parent / f"migrations/{number}.sql").read_text())
        db.execute(f"PRAGMA user_version = {version}")
        db.execute(
            'INSERT INTO runs (id, job, unit, host, boot_id, "trigger", attempt, output, output_bytes) '
            "VALUES ('b', 'x', 'lsh-x.service', 'h', 'b', 'timer', 1, x'6869', 2)"
        )
    db.close()
    opened = store.Store(path)
    with opened.transaction():
        opened.put([run(5, due=4)])
    assert [(each.id[0], each.due_usec, each.output) for each in opened.runs()] == [("a", 4, b""), ("b", None, b"hi")]
