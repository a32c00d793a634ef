"""lsh's words without a systemd: that all are there, lead to lshctl's commands, and ask for what is missing."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lsh_systemd.lsh import TABLE, main
from tests.clirunner import CliRunner
from tests.documents import Line, command_lines, table
from tests.unit.test_cli import HEAVY

OURS = [row for row in table() if row.line.startswith("lsh ")]


def words_of(row: Line) -> str:
    """The words of the table that the line begins with."""
    words = shlex.split(row.line)[1:]
    return next(known for known in TABLE if words[: len(known.split())] == known.split())


@pytest.mark.parametrize("row", OURS, ids=lambda row: row.line[:50])
def test_each_line_is_done_by_what_the_table_says(row: Line) -> None:
    if row.taken == "refused":
        result = CliRunner().invoke(main, shlex.split(row.line)[1:])
        assert (result.exit_code, row.by in result.stderr) == (2, True), result.stderr
        return
    assert row.taken == "lsh"
    assert row.by == f"lshctl {TABLE[words_of(row)].done_by}"


def test_no_words_are_there_that_no_document_has() -> None:
    assert TABLE.keys() - set(map(words_of, OURS)) == {"pull"}


@pytest.mark.parametrize("words", TABLE)
def test_each_has_a_help_of_its_own(words: str) -> None:
    result = CliRunner().invoke(main, [*words.split(), "--help"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"Usage: main {words} ")
    assert words in CliRunner().invoke(main, ["--help"]).stdout


@pytest.mark.parametrize("words", [["--help"], ["cron", "add", "--help"], ["daemon", "db", "stats", "--help"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys\nfrom lsh_systemd.lsh import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit:\n    pass\nprint('\\n' + ' '.join(sys.modules))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert set(output.splitlines()[-1].split()).isdisjoint(HEAVY)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["frobnicate"], "no such command"),
        (["cron", "frobnicate"], "no such command"),
        (["cron", "add", "--name", "x"], "missing option '--command'"),
        (["cron", "add", "--name", "x", "--command", "rm -rf /"], "dangerous"),
        (["cron", "add", "--name", "x", "--command", "true", "--schedule", "* * *"], "field"),
        (["cron", "create-from-template"], "missing argument 'TEMPLATE'"),
        (["cron", "create-from-template", "databse-backup"], "did you mean database-backup?"),
        (["daemon", "job", "remove"], "missing argument"),
    ],
)
def test_wrong_words_get_one_clear_error_and_status_2(words: list[str], said: str) -> None:
    result = CliRunner().invoke(main, words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr and len(result.stderr.splitlines()) <= 2


def test_the_command_lines_of_a_document() -> None:
    text = """
# Title
Call `lsh daemon start`, and no `code`.
```bash
# a comment
lsh cron list        # List all
  lsh cron add --name x \\
    --command "a # b"
GET /jobs?status=running
Response: [{}]
```
```
User runs "lsh cron add --schedule '0 2 * * 0'"
[15] spawn('sh', ['-c', 'lsh push --env prod'])
```
And `lsh cron list`.
"""
    assert [*command_lines(text)] == [
        "lsh daemon start",
        "lsh cron list",
        'lsh cron add --name x --command "a # b"',
        "GET /jobs?status=running",
        "lsh cron add --schedule '0 2 * * 0'",
        "lsh push --env prod",
    ]


@pytest.mark.skipif("LSH_DOCUMENTS" not in os.environ, reason="LSH_DOCUMENTS=FOLDER has the documents themselves")
def test_the_table_has_every_line_of_the_documents() -> None:
    documents = sorted(Path(os.environ["LSH_DOCUMENTS"]).glob("*.md"))
    lines = [(path.name, line) for path in documents for line in command_lines(path.read_text())]
    assert [(row.document, row.line) for row in table()] == lines


def test_the_page_has_every_command_and_no_empty_row() -> None:
    page = (Path(__file__).parents[2] / "packaging/docs/OLD-SYSTEMS.md").read_text()
    rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in page.splitlines() if line[:1] == "|"
    ]
    assert all(len(row) == 2 and all(row) for row in rows)
    assert {row.document for row in table()} <= set(re.findall(r"[\w-]+\.md", page))
    for program in {row.line.split()[0] for row in table()} - {"chmod", "export", "brew"}:
        assert program.removeprefix("./") in page
