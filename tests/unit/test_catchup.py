"""Which of a schedule's times no run answers for; what is remembered of a timer."""

from pathlib import Path

import pytest

from lsh_systemd.catchup import missed
from lsh_systemd.run import Run
from lsh_systemd.scope import Scope
from lsh_systemd.stamps import Stamps

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


def test_a_renamed_timer_keeps_its_stamp_and_its_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what `lshctl disable` lets rest would be missing its runs."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    stamps = Stamps(Scope.USER)
    stamps.make("lsh-a.timer", 7)
    stamps.rest("lsh-a.timer")
    stamps.move("lsh-a.timer", "lsh-b.timer")
    assert (stamps.read("lsh-a.timer"), stamps.rests("lsh-a.timer")) == (None, False)
    assert (stamps.read("lsh-b.timer"), stamps.rests("lsh-b.timer")) == (7, True)
    stamps.move("lsh-none.timer", "lsh-c.timer")
    assert (stamps.read("lsh-c.timer"), stamps.rests("lsh-c.timer")) == (None, False)
