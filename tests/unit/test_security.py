"""The threat model (packaging/SECURITY.md) says of each line which test holds it: that test is there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
TEXT = (PROJECT / "packaging/SECURITY.md").read_text()
ROWS = [
    [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in TEXT.splitlines()
    if line.startswith("|") and not set(line) <= set("|- ") and "held by |" not in line
]


@cache
def functions_of(file: str) -> set[str]:
    body = ast.parse((PROJECT / file).read_text()).body
    return {each.name for each in body if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[-1]}"[:80])
def test_each_line_is_held_by_a_test_that_is_there(row: list[str]) -> None:
    assert len(row) == 4 and all(row)
    found = re.fullmatch(r"`(tests/[a-z_/]+\.py)::(test_[a-z0-9_]+)`", row[-1])
    assert found, row[-1]
    assert found[2] in functions_of(found[1])


def test_no_road_is_left_out() -> None:
    assert len(ROWS) > 80
    assert TEXT.index("## Telling of a weakness") < TEXT.index("## Who is trusted") < TEXT.index("## Not defended")
    assert all(line.startswith(("- **", "  ")) for line in TEXT.partition("## Not defended\n\n")[2].splitlines())
