"""The expressions of other cron libraries' own tests, and what we make of them: see tests/corpus.py."""

from dataclasses import replace

import pytest

from lsh_systemd.cron import CronError, parse
from tests.corpus import Corpus, Row

CORPORA = {name: Corpus(f"{name}.tsv") for name in ("cronsim", "robfig", "supercronic")}


@pytest.mark.parametrize(
    ("name", "row"), [pytest.param(name, row, id=f"{name} {row.id}") for name, c in CORPORA.items() for row in c.rows]
)
def test_as_the_row_says(name: str, row: Row) -> None:
    assert CORPORA[name].complain(row) == ""


@pytest.mark.parametrize("name", CORPORA)
def test_every_reason_is_used(name: str) -> None:
    assert CORPORA[name].unused() == set()


# cronsim's table of bad values: all of them in all of these places are refused there.
PLACES = (
    "{} * * * *", "* {} * * *", "* * {} * *", "* * * {} * ", "* * * * {}", "1-{} * * * *", "{}-60 * * * *",
    "* * 1-{} * *", "* * 1,{} * *", "* * {}/1 * *", "* * * {}-DEC *", "* * * JAN-{} *", "* * * * {}-SUN",
    "* * * * MON-{}",
    # with seconds; there they stand first
    "* * * * {} *", "* * * * * {} *", "* * * * * 1-{}", "* * * * * {}-60",
)  # fmt: skip
BAD = ("-1", "61", "ABC", "2/", "/2", "2#", "#2", "1##1", "1//2", "¹", "LL", "LWX")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("bad", BAD)
def test_what_cronsim_refuses_everywhere(place: str, bad: str) -> None:
    expression = place.format(bad)
    with pytest.raises(CronError):
        parse(expression, seconds=len(expression.split()) > 5)


def test_a_row_that_is_wrong_fails() -> None:
    """A table that passes whatever it says would be none."""
    corpus = CORPORA["robfig"]
    row = next(row for row in corpus.rows if row.theirs == "2012-07-09T16:20")
    assert corpus.complain(row) == ""
    for change in (
        {"theirs": "2012-07-09T16:21"},  # other than what comes
        {"theirs": "refused"},
        {"ours": "2012-07-09T16:20"},  # given, though it is the same
        {"ours": "2012-07-10T00:20"},
        {"expression": row.written},  # need not be written otherwise
        {"reasons": ("same",)},
        {"reasons": ("unheard-of",)},
    ):
        assert corpus.complain(replace(row, **change)) != "", change
