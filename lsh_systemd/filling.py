"""``{{ name }}`` in a job's texts → values. Pure.

In a command a value becomes one word of the shell's, whatever is in it, and a list a word for each item. Where the
shell would read such a word otherwise (within quotes, a comment, a here-document …), only values of harmless characters
may go.
"""

import re
import shlex
from collections.abc import Callable, Collection, Sequence
from typing import Any

from lsh_systemd.errors import BadInput
from lsh_systemd.text import check_encodable, visible

Value = str | int | bool | Sequence[str | int | bool]
Look = Callable[[str], Value]

_NAME = r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)?"
_BLANK = re.compile(rf"(\\?)\{{\{{[ \t]*({_NAME})[ \t]*\}}\}}")
_HARMLESS = re.compile(r"[A-Za-z0-9_@%+=:,./-]*")
# Shells that read '…' alike.
_SHELLS = frozenset("sh bash dash ash ksh mksh zsh".split())
# Where these are, what is quoted and what is not cannot be told by looking at quotes alone.
_HARD = re.compile(r"""`|<<|\$['"]|\(\(|\$\{[^}]*["'{]|"(?:[^"\\]|\\.)*\$\(""", re.DOTALL)


def names(text: str) -> list[str]:
    """The names that the text asks for, in order."""
    return [match[2] for match in _BLANK.finditer(text) if not match[1]]


def escaped(text: str) -> str:
    """The text that ``fill`` makes this one of: what looks like a name in it is none."""
    return _BLANK.sub(lambda found: "\\" + found[0], text)


def fill(text: str, look: Look) -> str:
    """The text with its values in it as they are. ``look`` raises BadInput for a name that it does not know."""
    return _BLANK.sub(lambda found: found[0][1:] if found[1] else _plain(found[2], look(found[2])), text)


def fill_whole(text: str, look: Look) -> Any:
    """The same; a text that is nothing but one name becomes the value itself: a number, true, a list."""
    found = _BLANK.fullmatch(text.strip())
    return look(found[2]) if found and not found[1] else fill(text, look)


def fill_words(words: Sequence[str], look: Look) -> list[str]:
    """A command without a shell: a list becomes several words where it is all of one."""
    filled: list[str] = []
    for word in words:
        value = fill_whole(word, look)
        filled += [_text(each) for each in value] if isinstance(value, list | tuple) else [_text(value)]
    return filled


def fill_command(text: str, look: Look, *, shell: str = "/bin/sh", later: Collection[str] = ()) -> str:
    """A line for the shell with its values in it, each as one word; of the names in ``later`` the value is that of a
    variable when the line runs. Raises BadInput where that cannot be."""
    bare, hard = _bare_places(text), shell.rpartition("/")[2] not in _SHELLS or bool(_HARD.search(text))

    def word(found: re.Match[str]) -> str:
        if found[1]:
            return found[0][1:]
        if found[2] in later:
            if hard or not bare(found.start()):
                raise BadInput(
                    f"{found[2]} stands where the shell reads no variable as one word: no run can bring it",
                    hint=f"--set {found[2]}=…",
                )
            return f'"${found[2]}"'
        name, value = found[2], look(found[2])
        values = list(map(_text, value if isinstance(value, list | tuple) else [value]))
        for each in values:
            check_encodable(f"value of {name}", each)
        if all(_HARMLESS.fullmatch(each) for each in values):
            quoted = bare(found.start()) and not hard
            return " ".join(map(shlex.quote, values) if quoted else values)
        if hard:
            raise BadInput(
                f"{{{{ {name} }}}} cannot be {visible(values[0])} in this command",
                hint="with `…`, \"$(…)\", <<, $'…' or ((…)) in it, values have only letters, digits and @%+=:,./-_",
            )
        if not bare(found.start()):
            raise BadInput(
                f"{{{{ {name} }}}} stands within quotes or a comment: it cannot be {visible(values[0])}",
                hint="leave the quotes off: a value in a command is quoted by itself",
            )
        return " ".join(map(shlex.quote, values))

    return _BLANK.sub(word, text)


def _bare_places(text: str) -> Callable[[int], bool]:
    """Whether the shell reads what stands at a place as a word, or a part of one, without quotes."""
    ranges: list[tuple[int, int]] = []
    for match in re.finditer(
        r"\\.|'[^']*(?:'|$)|\"(?:[^\"\\]|\\.)*(?:\"|$)|(?:(?<=[\s;&|()])|^)#[^\n]*|\$\{(?!\{)(?:[^}\\]|\\.)*(?:\}|$)",
        text,
        re.DOTALL,
    ):
        if not _BLANK.match(text, match.start()):
            ranges.append(match.span())
    return lambda at: not any(start <= at < end for start, end in ranges)


def _plain(name: str, value: Value) -> str:
    if isinstance(value, list | tuple):
        raise BadInput(f"{{{{ {name} }}}} is a list, which goes into a command, or in the place of a list")
    return _text(value)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
