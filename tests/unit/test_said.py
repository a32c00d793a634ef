"""What a run says of itself: of whatever it writes, what counts, and never more than there is room for."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsh_systemd import said
from lsh_systemd.errors import BadInput
from lsh_systemd.said import Said

lines = st.one_of(
    st.text(max_size=30),
    st.builds("{}={}".format, st.text(max_size=8), st.text(max_size=8)),
    st.builds(
        "{}={}".format, st.sampled_from(["a", "b.c-d", "_x9", "message", "progress"]), st.text("0123456789./e+-% ")
    ),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("items=100\n", Said(metrics={"items": 100})),
        ("items=100\nitems=7\nerrors=-2.50\n", Said(metrics={"items": 7, "errors": -2.5})),
        ("  items = 1e3 \r\n", Said(metrics={"items": 1000.0})),
        ("a=1\x1eb=2\0c=3", Said(metrics={"a": 1, "b": 2, "c": 3})),
        ("message=one\nmessage= two = 2 \n", Said(message="two = 2")),
        ("message=one\nmessage=\n", Said()),
        ("progress=40/100\n", Said(progress="40/100")),
        ("progress=1/4\nprogress=nonsense\n", Said(progress="1/4")),
        ("progress=12.5%\n", Said(progress="12.5/100")),
        (
            "progress=1/0\nprogress=-1/5\nprogress=1\nprogress=1/1e-300\nprogress=1e300/1e-300\n",
            Said(progress="1/1e-300"),
        ),
        ("9a=1\na b=1\n=1\na\nä=1\na=\na=x\na=nan\na=inf\na=1e999\na=0x10\na=1_000\na=٣\na=1,5\n", Said()),
        ("a" * 65 + "=1\n" + "b" * 64 + "=1", Said(metrics={"b" * 64: 1})),
        ("a=123456789012345\nb=1234567890123456\n", Said(metrics={"a": 123456789012345, "b": 1234567890123456.0})),
        ("MESSAGE_ID=x\nLSH_RESULT=success\n[Service]\n", Said()),
    ],
)
def test_what_counts(text: str, expected: Said) -> None:
    assert said.parse(text) == expected


def test_there_is_a_bound_to_everything() -> None:
    told = said.parse(
        "".join(f"n{number}={number}\n" for number in range(5000)) + "n0=7\nn4999=7\nmessage=" + "x" * 10**6
    )
    assert len(told.metrics) == said.MAX_METRICS
    assert told.metrics["n0"] == 7 and "n4999" not in told.metrics
    assert told.message is not None and len(told.message) == said.MAX_MESSAGE and told.message.endswith("x…")


@given(st.lists(lines).map("\n".join))
def test_of_any_text_what_is_taken_is_sound_and_read_back_the_same(text: str) -> None:
    told = said.parse(text)
    assert json.loads(json.dumps(dict(told.metrics), allow_nan=False)) == told.metrics
    assert all(math.isfinite(number) for number in told.metrics.values())
    assert said.parse(said.lines(told)) == told
    if told.progress is not None:
        whole = said.progress_json(told.progress, told.message)
        assert whole is not None and 0 <= whole["fraction"] <= 1 and whole["done"] >= 0 < whole["total"]


@given(st.lists(lines), st.lists(lines))
def test_the_last_word_counts(first: list[str], second: list[str]) -> None:
    """What is said later stands, whatever was said before (as long as there is room for its name)."""
    both, later = said.parse("\n".join(first + second)), said.parse("\n".join(second))
    assert later.progress in (None, both.progress)
    assert later.message in (None, both.message)
    if len(said.parse("\n".join(first)).metrics) + len(later.metrics) <= said.MAX_METRICS:
        assert both.metrics | later.metrics == both.metrics


@pytest.mark.parametrize(
    "pair", ["x", "=1", "x=", "x=y", "9=1", "a b=1", "x=nan", "x=inf", "message=1", "x\n=1", "x=1\n"]
)
def test_what_is_no_number_is_refused(pair: str) -> None:
    with pytest.raises(BadInput):
        said.metrics_of([pair])


def test_too_many_numbers_are_refused() -> None:
    with pytest.raises(BadInput, match="65 numbers"):
        said.metrics_of([f"n{number}=1" for number in range(65)])


@given(st.text())
def test_a_message_is_one_line(text: str) -> None:
    try:
        message = said.message_of(text)
    except BadInput:
        return
    assert said.parse(said.lines(message)) == message


@pytest.mark.parametrize(
    "text", ["", "40", "40/", "/100", "a/b", "1/0", "-1/5", "1/-5", "%", "1/2/3", "x%", "1e300/1e-300"]
)
def test_what_is_no_progress_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        said.progress_of(text)
