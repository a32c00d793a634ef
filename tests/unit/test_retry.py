"""The policy of retries, and what the shell script makes of it."""

from datetime import timedelta
from typing import Any

import pytest

from lsh_systemd import retry
from lsh_systemd.errors import BadInput
from lsh_systemd.jobfile import from_plain


def section(**plain: Any) -> list[str]:
    return retry.section(from_plain({"name": "x", "command": "true", **plain})).splitlines()


def test_delays_double_up_to_the_longest() -> None:
    job = from_plain({"name": "x", "command": "true", "retries": 7, "retry_delay": "1s", "retry_max_delay": "30s"})
    assert [each / timedelta(seconds=1) for each in retry.delays(job)] == [1, 2, 4, 8, 16, 30, 30]


def test_the_section() -> None:
    assert section(retries=2, retry_delay="500ms", retry_on=["timeout", "signal:9", "signal:sigterm"]) == [
        "[X-Retry]",
        "Delays=500000 1000000",
        "On=timeout signal:KILL signal:TERM",
        "Not=",
    ]
    assert section(retries=1, no_retry_exit=[64, 78])[-1] == "Not=64 78"


@pytest.mark.parametrize(
    "plain",
    [
        {"retries": -1},
        {"retries": 101},
        {"retries": 1, "retry_on": ["success"]},
        {"retries": 1, "retry_on": ["signal:NONE"]},
        {"retries": 1, "retry_on": ["timeout\nOn=x"]},
        {"retries": 1, "no_retry_exit": [0]},
        {"retries": 1, "no_retry_exit": [256]},
        {"retry_on": ["timeout"]},
        {"retries": 1, "retry_delay": "0"},
    ],
)
def test_refused(plain: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        section(**plain)
