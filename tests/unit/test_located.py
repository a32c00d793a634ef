"""YAML, TOML and JSON: the same data from each, each piece at its place, each mistake at its own."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsh_systemd.located import STANDARD_INPUT, Misplaced, read

YAML = """\
# jobs
project: web
jobs:
  - name: a
    tags: [x, "y"]
    env: {A: b}
  - name: 'b'
"""
TOML = """\
# jobs
project = "web"
[[jobs]]
name = "a"
tags = ["x", # [
  'y']

[jobs.env]
A = "b"
[[jobs]]
"name" = '''b'''
"""
JSON = (
    '{"project": "web",\n "jobs": [\n  {"name": "a",\n   "tags": ["x", "y"],\n   "env": {"A": "b"}},\n  {"name": "b"}]}'
)
DATA = {"project": "web", "jobs": [{"name": "a", "tags": ["x", "y"], "env": {"A": "b"}}, {"name": "b"}]}


@pytest.mark.parametrize(
    ("file", "text", "places"),
    [
        ("a.yaml", YAML, {"project": (2, 1), "tags": (5, 5), "A": (6, 11), "b": (7, 5)}),
        ("a.toml", TOML, {"project": (2, 1), "tags": (5, 1), "A": (9, 1), "b": (11, 1)}),
        ("a.json", JSON, {"project": (1, 2), "tags": (4, 4), "A": (5, 12), "b": (6, 4)}),
    ],
)
def test_all_three_say_the_same_and_where(file: str, text: str, places: dict[str, tuple[int, int]]) -> None:
    located = read(text, file=file)
    assert located.data == DATA
    found = {
        "project": located.place("project"),
        "tags": located.place("jobs", 0, "tags"),
        "A": located.place("jobs", 0, "env", "A"),
        "b": located.place("jobs", 1, "name"),
    }
    assert {name: (place.line, place.column) for name, place in found.items()} == places
    assert located.place("jobs", 1, "nowhere", 7) == located.place("jobs", 1)
    assert str(located.place("nothing")) == f"{file}:1:1"


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("no", "no"),
        ("on", "on"),
        ("22:30", "22:30"),
        ("08", "08"),
        ("2027-01-31", "2027-01-31"),
        ("1.5", "1.5"),
        ("0x10", "0x10"),
        ("12", 12),
        ("'12'", "12"),
        ("true", True),
        ("null", None),
        ("", None),
        ("{a: &x {b: 1}, c: {<<: *x, d: 2}}", {"a": {"b": 1}, "c": {"b": 1, "d": 2}}),
        ("{a: &x {b: 1}, c: {<<: *x, b: 2}}", {"a": {"b": 1}, "c": {"b": 2}}),
    ],
)
def test_yaml_has_no_surprises(text: str, data: Any) -> None:
    assert read(text, file="a.yaml").data == data


@pytest.mark.parametrize(
    ("file", "text", "place", "said"),
    [
        ("a.yaml", "a: 1\nb: [1\n", ":3:1: ", "no YAML"),
        ("a.yaml", "a: 1\nb: 2\na: 3\n", ":3:1: ", "'a' is there twice"),
        ("a.yaml", "a: 1\n? [b]\n: 2\n", ":2:3: ", "a key must be text"),
        ("a.yaml", "a: !!python/object/apply:os.system [id]\n", ":1:4: ", "tag"),
        ("a.yaml", "a: !!binary aGk=\n", ":1:4: ", "tag"),
        ("a.yaml", "a: 1\n---\nb: 2\n", ":2:1: ", "no YAML"),
        ("a.yaml", "a: \x1b[31m\n", ":1:1: ", "no YAML"),
        ("a.yaml", "jobs: {<<: {? [a] : b}}", ":1:15: ", "must be text"),
        ("a.yaml", "jobs: {<<: b}", ":1:12: ", "<< takes a table"),
        ("a.yaml", "&a [*a]", "a.yaml:1:1: ", "too deeply"),
        ("a.toml", 'a = 1\nb = "x\n', ":2:", "no TOML"),
        ("a.toml", "a = 1\na = 2\n", ":2:", "no TOML"),
        ("a.json", '{"a": 1,\n "b": }', ":2:7: ", "no JSON"),
        ("a.json", '{"a": 1, "a": 2}', ":1:1: ", "'a' is there twice"),
        ("a.json", "[" * 100_000, ":1:1: ", "too deeply"),
        ("a.yaml", "[" * 100_000, "a.yaml:1:", ""),
        ("a.toml", "a = " + "[" * 100_000, "a.toml:1:1: ", "too deeply"),
    ],
)
def test_a_mistake_is_told_at_its_place(file: str, text: str, place: str, said: str) -> None:
    with pytest.raises(Misplaced) as caught:
        read(text, file=file)
    assert place in caught.value.message and said in caught.value.message


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("jobs:\n- schedule: */5 * * * *\n  name: x\n", "begins with *"),
        ("schedule: * * * * *", "begins with *"),
        ("command: {{ a }} x\n", "begins with {{"),
        ("command: {{ a }}\n", "begins with {{"),
        ("command: [1", None),
    ],
)
def test_what_should_be_in_quotes_is_told(text: str, hint: str | None) -> None:
    with pytest.raises(Misplaced) as caught:
        read(text, file="a.yaml")
    assert hint is None if caught.value.hint is None else hint and hint in caught.value.hint


def test_a_bomb_of_anchors_does_not_go_off() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(Misplaced, match="too much"):
        read("\n".join(lines), file="a.yaml")


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('{"a": "b\u2028c\u0085d"}', {"a": "b\u2028c\u0085d"}),
        ('\n {"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        ("{a: b}", {"a": "b"}),
        ("{a: b, c: 1}\n# no JSON", {"a": "b", "c": 1}),
        ("a: {b: c}", {"a": {"b": "c"}}),
    ],
)
def test_standard_input_is_json_or_yaml(text: str, data: Any) -> None:
    assert read(text, file=STANDARD_INPUT).data == data


def test_what_is_neither_is_told_as_json() -> None:
    with pytest.raises(Misplaced, match="no JSON"):
        read('{"a": 1,\n "b": }}', file=STANDARD_INPUT)


def test_a_bomb_of_merges_does_not_go_off() -> None:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 12)]
    with pytest.raises(Misplaced, match="too much"):
        read("\n".join(lines), file="a.yaml")


@pytest.mark.parametrize("text", ["a: &a {<<: *a}", "a: &a {b: {<<: *a}}", "a: &a {<<: [{x: 1}, {<<: *a}]}"])
def test_what_merges_itself_is_refused(text: str) -> None:
    with pytest.raises(Misplaced, match="too deeply"):
        read(text, file="a.yaml")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("a.json", '{"a": ' + "[" * 60 + "]" * 60 + "}"),
        ("a.json", '{"a":' * 60 + "1" + "}" * 60),
        ("a.toml", "a = " + "[" * 60 + "]" * 60),
        ("a.yaml", "a: " + "[" * 60 + "]" * 60),
    ],
)
def test_nothing_is_nested_deeper_than_what_reads_it_can_go(file: str, text: str) -> None:
    with pytest.raises(Misplaced, match="too deeply"):
        read(text, file=file)


def test_merged_tables_have_their_places_and_the_nearer_wins() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc:\n  z: 3\n  <<: [*a, *b]\n"
    located = read(text, file="a.yaml")
    assert located.data["c"] == {"y": 1, "z": 3, "x": 1}
    assert [located.place("c", name).line for name in "xyz"] == [1, 1, 4]


@given(st.text(st.sampled_from("abc:-[]{}&*!|>'\"#%@` \t\n\\01=.,\x00\x85\u2028\ud800é"), max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    for file in ("a.yaml", "a.toml", "a.json"):
        try:
            located = read(text, file=file)
        except Misplaced as error:
            assert error.remark.place.line >= 1
        else:
            assert located.place("x").file == file
