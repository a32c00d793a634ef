"""Time spans: systemd's words ↔ timedelta."""

import re
import subprocess
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsh_systemd.errors import BadInput
from lsh_systemd.span import format_span, parse_span
from tests.tools import needs

LONGEST = timedelta(microseconds=2**63 - 1)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("0", 0),
        ("1.5", 1.5),
        ("15m", 900),
        ("15min", 900),
        ("15 minutes", 900),
        ("1h 30min", 5400),
        ("1h30m", 5400),
        ("1.5h", 5400),
        (" 2d ", 172_800),
        ("500ms", 0.5),
        ("5us", 0.000_005),
        ("5µs", 0.000_005),
        ("1.0000019s", 1.000_001),
        ("1w", 604_800),
        ("1M", 2_629_800),
        ("1month", 2_629_800),
        ("1y", 31_557_600),
        ("1 year 2 months 3 weeks 4 days 5 hours 6 minutes 7 seconds 8 msec 9 usec", 38_995_567.008_009),
        ("1s 1s", 2),
    ],
)
def test_parse(text: str, seconds: float) -> None:
    assert parse_span(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    ["", " ", "m", "-5", "+5", "-1h", "1h-5min", "5 x", "1H", "5 20", "1.s", ".5s", "1..5s", "1e3", "nan", "infinity",
     "1h\n", "1h\n2h", "٣s", "1s%", "1h;", "9223372036854775808us", "292472y", "9" * 30 + "s", "0x10"],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse_span(text)


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(), "0"),
        (timedelta(minutes=90), "1h 30min"),
        (timedelta(days=30), "30d"),
        (timedelta(milliseconds=500), "500ms"),
        (timedelta(days=2, microseconds=1_000_001), "2d 1s 1us"),
    ],
)
def test_format(span: timedelta, text: str) -> None:
    assert format_span(span) == text


def test_no_negative_span() -> None:
    with pytest.raises(BadInput):
        format_span(timedelta(seconds=-1))


@given(st.timedeltas(min_value=timedelta(), max_value=LONGEST))
def test_round_trip(span: timedelta) -> None:
    assert parse_span(format_span(span)) == span


@given(st.text())
def test_any_text_is_a_span_or_bad_input(text: str) -> None:
    try:
        span = parse_span(text)
    except BadInput:
        return
    assert timedelta() <= span <= LONGEST


@needs("systemd-analyze")
def test_systemd_means_the_same() -> None:
    texts = ["90", "15m", "1h30m", "1.5h", "1M", "1y 2w", "1.0000019s", "5µs", format_span(LONGEST)]
    done = subprocess.run(["systemd-analyze", "timespan", *texts], capture_output=True, text=True, check=True)
    assert [int(us) for us in re.findall(r"[uμ]s: ([0-9]+)", done.stdout)] == [
        parse_span(text) // timedelta(microseconds=1) for text in texts
    ]
