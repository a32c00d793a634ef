"""What is sent to Supabase: laws that hold for whatever a run says, and what becomes of what PostgreSQL cannot hold."""

import json
import uuid
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsh_systemd.mirrored import OUTPUT_BYTES, RUN_COLUMNS, fit, output_row, run_of_row, run_row
from lsh_systemd.run import LAST_USEC, Run
from lsh_systemd.unsent import pause_after

HOST = str(uuid.UUID(int=1))
_TEXT = st.none() | st.text(max_size=20)
_COUNT = st.none() | st.integers(0, 2**62)
_TIME = st.none() | st.integers(0, LAST_USEC)
_ID = st.uuids().map(lambda each: each.hex)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=10), inner, max_size=3)
    ),
    max_leaves=10,
)
RUNS = st.builds(
    Run, id=_ID, job=st.text(), unit=st.text(), host=st.text(), boot_id=_ID, trigger=_TEXT, trigger_usec=_TIME,
    attempt=st.integers(1, 9), started_usec=_TIME, started_monotonic_usec=_COUNT, ended_usec=_TIME,
    duration_usec=_COUNT, result=_TEXT, exit_status=st.none() | st.integers(0, 255), signal=_TEXT, cpu_usec=_COUNT,
    pid=_COUNT, due_usec=_TIME, first_id=st.none() | _ID, reason=_TEXT, triggered_by=_TEXT, message=_TEXT,
    progress=st.sampled_from([None, "40/100"]),
    metrics=st.dictionaries(st.text(max_size=5), st.integers(), max_size=3).map(json.dumps),
)  # fmt: skip


def _row(run: Run) -> dict[str, Any]:
    values = {**run.__dict__, "failure": None}
    return run_row([values[name] for name in RUN_COLUMNS], host=HOST, scope="system")


@given(RUNS)
def test_a_run_comes_back_as_it_was(run: Run) -> None:
    row = _row(run)
    sent = json.dumps(row)
    sent.encode()
    told = run_of_row(json.loads(sent)).to_json()
    assert told == json.loads(json.dumps(fit(run.to_json())))


@given(_JSON)
def test_what_is_made_fit_can_be_held(value: Any) -> None:
    text = json.dumps(fit(value), allow_nan=False, ensure_ascii=False)
    text.encode()
    assert "\\u0000" not in text
    assert fit(fit(value)) == fit(value)


@given(st.binary(max_size=300))
def test_output_is_sent_as_it_was_written(output: bytes) -> None:
    told = output.decode("utf-8", "replace").replace("\0", "\ufffd")
    assert output_row("a" * 32, output, None, host=HOST)["output"] == told
    assert output_row("a" * 32, zlib.compress(output), "zlib", host=HOST)["output"] == told


@pytest.mark.parametrize("codec", [None, "zlib"])
def test_of_long_output_head_and_tail_are_sent(codec: str | None) -> None:
    output = b"head" + b"x" * 5_000_000 + b"tail"
    sent = output_row("a" * 32, zlib.compress(output) if codec else output, codec, host=HOST)["output"]
    assert sent.startswith("headxx") and sent.endswith("xxtail") and "bytes left out" in sent
    assert OUTPUT_BYTES <= len(sent) < OUTPUT_BYTES + 100


def test_damaged_output_is_told_from_none() -> None:
    with pytest.raises(ValueError, match="damaged"):
        output_row("a" * 32, b"no zlib", "zlib", host=HOST)


@given(st.integers(1, 10_000))
def test_pauses_grow_to_a_quarter_of_an_hour(tries: int) -> None:
    longest = min(5 * 2 ** min(tries - 1, 30), 900)
    assert longest / 2 <= pause_after(tries) <= longest
