"""Environment files: what is in them, what they differ in, and what is none."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsh_systemd.envtext import MAX_BYTES, changes, variables
from lsh_systemd.errors import BadInput

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
plain_values = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="'\"#\\"), max_size=40)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1", {"A": "1"}),
        ("A=1\nB=2\n", {"A": "1", "B": "2"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("\ufeffA=1\n", {"A": "1"}),
        ("# comment\n\n  \t\nA=1\n# end", {"A": "1"}),
        ("export A=1\n\texport\tB = 2 \n", {"A": "1", "B": "2"}),
        ("A=\nB=''\nC=\"\"\n", {"A": "", "B": "", "C": ""}),
        ("A=1 # why\nB=1#2\nC=# nothing\nD='1 # 2' # why", {"A": "1", "B": "1#2", "C": "", "D": "1 # 2"}),
        ('A=x=y==\nB=it\'s\nC=a"b"c', {"A": "x=y==", "B": "it's", "C": 'a"b"c'}),
        ("A=\"two\nlines\"\nB='three\n\nlines'", {"A": "two\nlines", "B": "three\n\nlines"}),
        (
            r"""A="a \" b"
B='a \' b'""",
            {"A": r"a \" b", "B": r"a \' b"},
        ),
        ("A=${HOME} $(date) `x`", {"A": "${HOME} $(date) `x`"}),
        ("A=1\nA=2", {"A": "2"}),
        ("a.b-c_1=ключ 🔑", {"a.b-c_1": "ключ 🔑"}),
    ],
)
def test_what_is_in_a_file(text: str, expected: dict[str, str]) -> None:
    assert variables(text.encode(), "it") == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "it holds no variables"),
        (b"# nothing\n\n", "it holds no variables"),
        (b"A=1\nB", "line 2 of it is not NAME=VALUE"),
        (b"A=1\n\n=2", "line 3 of it"),
        (b"1A=1", "line 1 of it"),
        (b"A B=1", "line 1 of it"),
        (b"A=1\nhunter2 \n", "line 2 of it"),
        (b"A='x\nB=2\n", "line 1 of it"),
        (b'A="x\\"', "line 1 of it"),
        (b'A="x" y', "line 1 of it"),
        (b"A=1\0", "it contains a NUL byte"),
        (b"A=\xff", "it is not UTF-8: byte 3"),
        (b"A=" + b"x" * MAX_BYTES, "it is larger than 256 KiB"),
    ],
)
def test_what_is_no_environment_file(data: bytes, expected: str) -> None:
    with pytest.raises(BadInput) as caught:
        variables(data, "it")
    assert caught.value.message.startswith(expected)
    assert "hunter2" not in caught.value.message + str(caught.value.hint)


@given(st.dictionaries(names, plain_values, min_size=1))
def test_what_is_written_is_read(wanted: dict[str, str]) -> None:
    text = "".join(f'{name}="{value}"\n' for name, value in wanted.items())
    assert variables(text.encode(), "it") == wanted


@given(st.binary(max_size=300))
def test_whatever_comes_is_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(BadInput):
        assert variables(data, "it")


@pytest.mark.parametrize(
    "text",
    [
        "A=" + " " * 200_000 + "x",
        "A='" + "\\' " * 80_000,
        "A='" + "\\'#" * 80_000,
        " " * 250_000,
        'A="' + "\\" * 250_001,
    ],
    ids=["blanks", "quotes", "comments", "nothing", "backslashes"],
)
def test_a_hostile_file_takes_no_time(text: str) -> None:
    """Quadratic, each of these would take minutes."""
    with contextlib.suppress(BadInput):
        variables(text.encode(), "it")


@given(st.dictionaries(names, plain_values), st.dictionaries(names, plain_values))
def test_changes_lead_from_one_to_the_other(old: dict[str, str], new: dict[str, str]) -> None:
    result = dict(old)
    for change in changes(old, new):
        assert change.old != change.new
        assert (change.kind == "added", change.kind == "removed") == (change.name not in old, change.name not in new)
        if change.new is None:
            del result[change.name]
        else:
            result[change.name] = change.new
    assert result == new
