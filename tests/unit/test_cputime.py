"""What takes too much CPU time is stopped, wherever it is."""

import re
import signal
import time

import pytest

from lsh_systemd.cputime import bounded


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ("(a+)+$", "a" * 4000 + "!"),
        ("(?:a|a)*b", "a" * 4000),
        ("a*a*a*a*a*b", "a" * 4000),
        ("(?=(a+)+$)!", "a" * 4000 + "!"),
    ],
)
def test_a_pattern_that_takes_for_ever_is_stopped(pattern: str, value: str) -> None:
    before = signal.getsignal(signal.SIGVTALRM)
    with pytest.raises(TimeoutError), bounded(0.05):
        re.fullmatch(pattern, value)
    assert signal.getsignal(signal.SIGVTALRM) is before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_waiting_does_not_count_and_nothing_is_left_behind() -> None:
    before = signal.getsignal(signal.SIGVTALRM)
    with bounded(0.05):
        time.sleep(0.2)
        assert re.fullmatch(r"(?:[a-z0-9]+-)*[a-z0-9]+\.jpg", "a-" * 1990 + "b.jpg")
    assert signal.getsignal(signal.SIGVTALRM) is before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
