"""A second opinion on plain expressions: croniter, in UTC, where neither the clocks change nor two rules meet."""

from datetime import UTC, datetime
from itertools import islice

from croniter import croniter
from hypothesis import given
from hypothesis import strategies as st

from lsh_systemd.cron import parse
from lsh_systemd.instants import upcoming


def field(least: int, most: int) -> st.SearchStrategy[str]:
    number = st.integers(least, most)
    # croniter reads 0-0 as the whole week
    pairs = st.tuples(number, number).filter(lambda pair: pair[0] < pair[1])
    ranges = pairs.map(lambda pair: f"{pair[0]}-{pair[1]}")
    steps = st.integers(1, most).map(lambda step: f"*/{step}")
    return st.one_of(st.just("*"), number.map(str), ranges, steps, st.lists(number.map(str), min_size=2).map(",".join))


TIMES = st.tuples(field(0, 59), field(0, 23))
DATES = st.one_of(
    st.tuples(field(1, 28), field(1, 12), st.just("*")), st.tuples(st.just("*"), field(1, 12), field(0, 6))
)


@given(TIMES, DATES, st.datetimes(datetime(2026, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_plain_expressions_mean_what_croniter_says(
    time: tuple[str, str], date: tuple[str, str, str], start: datetime
) -> None:
    expression = " ".join((*time, *date))
    theirs = croniter(expression, start)
    expected = [theirs.get_next(datetime) for _ in range(5)]
    assert list(islice(upcoming(parse(expression), "UTC", start), 5)) == expected
