"""The tutorial and the how-tos: every command in them is typed, as it stands, on a booted machine."""

import re
from pathlib import Path

import pytest

from tests.system.lsh import Lsh
from tests.system.machine import Machine
from tests.system.uml import only_on

pytestmark = only_on("bookworm")

DOCS = Path(__file__).parents[2] / "packaging/docs"


def commands(page: str) -> str:
    """All that stands in blocks of code."""
    return re.sub(r"^    ", "", "".join(re.findall(r"^    .*\n|^\n(?=    )", page, re.MULTILINE)), flags=re.MULTILINE)


@pytest.mark.parametrize("name", ["TUTORIAL", "HOWTO"])
def test_every_command_works_as_it_stands(machine: Machine, name: str) -> None:
    lsh, script = Lsh(machine, "system"), commands((DOCS / f"{name}.md").read_text())
    assert script.count("lshctl ") > 25
    before = {job["id"] for job in lsh.json("list")}
    try:
        result = machine.run("bash", "-euxo", "pipefail", input=script, timeout=300, check=False)
        assert result.returncode == 0, "\n".join((result.stdout + result.stderr).splitlines()[-20:])
        assert {job["id"] for job in lsh.json("list")} == before
    finally:
        lsh.clean()
