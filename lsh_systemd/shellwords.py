"""The simple commands of a shell line, near enough to judge them: shlex's words, split where a shell would split.

No shell's parser: what it cannot read (a quote that is not closed), it leaves out.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

# Stand in a word for a $(…) or `…`, with its number between them.
_OPEN, _CLOSE = "\ue000", "\ue001"
MARK = re.compile(f"{_OPEN}(\\d+){_CLOSE}")
_PUNCTUATION = ";|&()<>\n"
_OPERATOR = re.compile(r"&>>?|>>|>\||[<>]&|<<<|<<-?|[<>]\(|[<>]|\|&|\|\||&&|;;|[;&|()\n]")
_HERE = re.compile(r"(?<!<)<<-?\s*(['\"]?)(\w+)\1")
# Words before a command that are not its name.
_KEYWORDS = frozenset("if then else elif do while until ! { time coproc".split())


@dataclass(frozen=True, kw_only=True)
class Command:
    """``joint`` is the operator before it: "|", "&&", ";", "<(" or "" (the first)."""

    words: tuple[str, ...]
    joint: str = ""
    redirects: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Script:
    """``inner``: the texts of the command substitutions, by the number that marks them in a word."""

    commands: tuple[Command, ...]
    inner: tuple[str, ...]


def parse(text: str) -> Script:
    """The commands of a shell text."""
    marked, inner = _without_substitutions(_without_here_documents(text.replace("\\\n", "")))
    try:
        commands = tuple(_commands(_tokens(marked)))
    except ValueError:  # a quote that is not closed: what can be read without it
        readable: list[Command] = []
        for line in marked.split("\n"):
            try:
                readable += _commands(_tokens(line))
            except ValueError:
                continue
        commands = tuple(readable)
    return Script(commands=commands, inner=tuple(inner))


def _tokens(text: str) -> list[str]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=_PUNCTUATION)
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    lexer.commenters = ""
    return list(lexer)


def _commands(tokens: list[str]) -> Iterator[Command]:
    words: list[str] = []
    redirects: list[tuple[str, str]] = []
    joint, redirect, comment = "", "", False
    for token in tokens:
        if not token or token.strip(_PUNCTUATION):
            if comment or (token.startswith("#") and not redirect):
                comment = True
            elif redirect:
                redirects.append((redirect, token))
                redirect = ""
            elif words or token not in _KEYWORDS:
                words.append(token)
            continue
        for operator in _OPERATOR.findall(token):
            if "\n" in operator:
                comment = False
            if comment:
                continue
            if operator[0] in "<>&" and operator not in ("&", "&&", "<(", ">("):
                redirect = operator
                continue
            if words or redirects:
                yield Command(words=tuple(words), joint=joint, redirects=tuple(redirects))
                words, redirects = [], []
            joint, redirect = operator, ""
    if words or redirects:
        yield Command(words=tuple(words), joint=joint, redirects=tuple(redirects))


def _without_here_documents(text: str) -> str:
    lines: list[str] = []
    until: str | None = None
    for line in text.split("\n"):
        if until is not None:
            if line.strip() == until:
                until = None
            continue
        lines.append(line)
        if found := _HERE.search(line):
            until = found[2]
    return "\n".join(lines)


def _without_substitutions(text: str) -> tuple[str, list[str]]:
    """The text with a mark for each $(…) and `…` outside single quotes, and what was in them."""
    out: list[str] = []
    inner: list[str] = []
    closings = _closings(text)
    at, double = 0, False
    while at < len(text):
        character = text[at]
        end = at + 1
        if character == "\\":
            end = at + 2
        elif character == "'" and not double:
            close = text.find("'", at + 1)
            end = len(text) if close < 0 else close + 1
        elif character == '"':
            double = not double
        elif text.startswith("$(", at) or character == "`":
            opening = 2 if character == "$" else 1
            close = closings.get(at + 1, -1) if character == "$" else text.find("`", at + 1)
            if close > 0:
                out.append(f"{_OPEN}{len(inner)}{_CLOSE}")
                inner.append(text[at + opening : close])
                at = close + 1
                continue
        out.append(text[at:end])
        at = end
    return "".join(out), inner


def _closings(text: str) -> dict[int, int]:
    """Where each parenthesis is closed, by where it is opened; those that are closed nowhere are not in it."""
    opened: list[int] = []
    found: dict[int, int] = {}
    for place in (each.start() for each in re.finditer(r"[()]", text)):
        if text[place] == "(":
            opened.append(place)
        elif opened:
            found[opened.pop()] = place
    return found
