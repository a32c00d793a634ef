"""What a fleet shares of a job: parameters as they are declared, given, and handed to systemd."""

import subprocess
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsh_systemd import claims, sharing
from lsh_systemd.errors import BadInput
from lsh_systemd.job import Job

CHARACTERS = st.characters(blacklist_categories=("Cs",), min_codepoint=0x20, blacklist_characters="\x7f")
ONE_LINE = st.text(CHARACTERS, max_size=50)


def job(*params: str, **more: Any) -> Job:
    return Job(name="x", command="true", from_fleet=True, params=params, **more)


@settings(max_examples=25)
@given(st.lists(ONE_LINE, min_size=1, max_size=5))
def test_a_value_comes_back_as_it_was(values: list[str]) -> None:
    """systemd reads such a file as a shell does; a booted machine shows it of one odd value."""
    names = [f"V{number}" for number in range(len(values))]
    file = sharing.environment_file(dict(zip(names, values, strict=True)))
    script = file + "".join(f'printf "%s\\n" "${name}"\n' for name in names)
    done = subprocess.run(["/bin/sh"], input=script.encode(), capture_output=True, check=True)
    assert done.stdout.decode().split("\n")[:-1] == values


@pytest.mark.parametrize(
    ("params", "values"),
    [
        ((), {}),
        (("A",), {"A": "anything at all: $(x) ; rm -rf /"}),
        (("A=[a-z]+",), {"A": "abc"}),
        (("A=a=b",), {"A": "a=b"}),
        (("A=",), {"A": ""}),
        (("A=x|y", "B"), {"B": "", "A": "y"}),
    ],
)
def test_taken(params: tuple[str, ...], values: dict[str, str]) -> None:
    assert sharing.check_params(job(*params), values) == values


@pytest.mark.parametrize(
    ("params", "values", "word"),
    [
        ((), {"A": "b"}, "takes no parameter 'A'"),
        (("A",), {}, "needs the parameter A"),
        (("A=[a-z]+",), {"A": "abc1"}, "does not match"),
        (("A=x|y",), {"A": "xy"}, "does not match"),
        (("A",), {"A": "a\nb"}, "one line"),
        (("A",), {"A": "a\x7f"}, "one line"),
        (("A",), {"A": "a" * 4001}, "one line"),
        (("A",), {"A": "\ud800"}, "UTF-8"),
        (("A",), {"A": 7}, "must be text"),
        (("A",), {"A": None}, "must be text"),
        (("A",), {"A": "b", "LD_PRELOAD": "/tmp/x.so"}, "takes no parameter"),
        (("A",), {"A": "b", "A\x1b[2J": "c"}, r"\\x1b"),
    ],
)
def test_refused(params: tuple[str, ...], values: dict[str, Any], word: str) -> None:
    with pytest.raises(BadInput, match=word):
        sharing.check_params(job(*params), values)


def test_a_variable_of_the_job_is_a_default() -> None:
    assert sharing.check_params(job("A", "B", env={"A": "1"}), {"B": "2"}) == {"B": "2"}


@pytest.mark.parametrize(
    "params", [("PATH",), ("LD_PRELOAD",), ("LSH_RUN_ID",), ("1A",), ("A", "A=b"), ("A=(",), ("",)]
)
def test_declarations_that_make_no_sense(params: tuple[str, ...]) -> None:
    with pytest.raises(BadInput):
        job(*params)


@pytest.mark.parametrize(
    ("lines", "instant"),
    [
        (["*-*-* 12:00:00 UTC"], "2026-11-22T12:00:00"),
        (["*-*-* 12:00:01 UTC"], "2026-11-21T12:00:01"),
        (["*-*-* *:*:* UTC"], "2026-11-22T12:00:00"),
        (["*-*-* *:0/7 UTC", "*-*-* 11:59:58 UTC"], "2026-11-22T12:00:00"),
        (["*-*-01 00:00:00 UTC"], "2026-11-01T00:00:00"),
        (["2026-11-20 *:*:* UTC"], "2026-11-20T23:59:59"),
        (["2026-01-01 00:00:00 UTC"], None),
        (["2027-01-01 00:00:00 UTC"], None),
    ],
)
def test_the_newest_scheduled_time(lines: list[str], instant: str | None) -> None:
    until = datetime(2026, 11, 22, 12, 0, 0, 300_000, tzinfo=UTC)
    newest = claims.newest_instant(lines, until)
    assert newest == (datetime.fromisoformat(instant).replace(tzinfo=UTC) if instant else None)
