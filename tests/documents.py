"""The older systems' command lines: how they stand in a document, and the table of all of them, old_words.tsv.

In a document they are in shell blocks, between backticks, and, in drawings, between quotes. `cd` is left out.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# What can be called: programs that the documents call, and the methods of HTTP.
_CALLS = ("lsh mcli curl fly supabase npx python ngrok brew chmod tail ls ps export GET POST").split()
_BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_QUOTED = re.compile(r"`([^`\n]+)`|'((?:lsh|mcli) [^'\n]+(?:'[^'\n]+'[^'\n]*)*)'|User runs \"(.+)\"")
_COMMENT = re.compile(r"^((?:[^'\"#]|\"[^\"]*\"|'[^']*'|\S#)*?)(?:^|\s+)#.*$")
_SHELLS = ("bash", "sh")


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of the table. ``taken``: lsh, refused (lsh says what is missing: ``by``), api, or elsewhere."""

    document: str
    taken: str
    by: str
    line: str


def table() -> list[Line]:
    rows = (Path(__file__).parent / "old_words.tsv").read_text().splitlines()
    return [
        Line(document=document, taken=taken, by=by, line=line)
        for document, taken, by, line in (row.split("\t") for row in rows if not row.startswith("#"))
    ]


def command_lines(text: str) -> Iterator[str]:
    """Each command line as a person would type it, on one line, in the order of the document; each once."""
    seen: dict[str, None] = {}
    for line in _all(text):
        first, *rest = line.split()
        if (first in _CALLS and rest) or first.startswith("./"):
            seen[line] = None
    yield from seen


def _all(text: str) -> Iterator[str]:
    end = 0
    for block in _BLOCK.finditer(text):
        yield from _between_backticks(text[end : block.start()])
        yield from _shell(block[2]) if block[1] in _SHELLS else _between_backticks(block[2])
        end = block.end()
    yield from _between_backticks(text[end:])


def _between_backticks(text: str) -> Iterator[str]:
    for match in _QUOTED.finditer(text):
        yield next(filter(None, match.groups())).strip()


def _shell(block: str) -> Iterator[str]:
    for line in re.sub(r"\s*\\\n\s*", " ", block).splitlines():
        command = (found[1] if (found := _COMMENT.match(line.strip())) else line).strip()
        if command:
            yield command
