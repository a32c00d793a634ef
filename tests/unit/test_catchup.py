"""Which of a schedule's times no run answers for."""

import pytest

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
