"""``{{ name }}`` in a job's texts → values. Pure.

In a command a value becomes one word of the shell's, whatever is in it, and a list a word for each item. Where the
shell would read such a word otherwise (within quotes, a comment, a here-document …), only values of harmless characters
may go.
"""

import bisect
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
_KORN_SHELLS = frozenset(("ksh", "mksh", "zsh"))
# Where these are, what is quoted and what is not cannot be told by looking at quotes alone.
_HARD = re.compile(r"""`|<<|\$['"]|\(\(|\$\{[^}]*["'{]|"(?:[^"\\]|\\.)*\$\(|\)#|\}\}#""", re.DOTALL)
_COMMAND = r"""(?<![^\s;&|(){}!\\"'])(?:%s)["']?(?=\s)"""
_SAME = r"[^;&|\n]*"
# Where these are, bash and its like take a word for arithmetic, whatever quotes it is in, and that runs what is in
# a[$(…)]. /bin/sh may be one of them.
_ARITHMETIC = re.compile(
    "|".join(
        (
            r"\[\[\s",
            r"\$\[",
            r"\[.*\{\{.*\]\+?=",
            _COMMAND % "let|declare|typeset|local|integer|float|getopts|mapfile|readarray|unset",
            _COMMAND % "read|wait" + _SAME + r"\{\{",
            _COMMAND % "printf|print" + r"\s+[\"']?-\w*v",
            _COMMAND % r"test|\[" + _SAME + r"-[vR]\s",
            "(?:OPTIND|RANDOM|SRANDOM|SECONDS|HISTCMD|LINENO|BASHPID)=",
        )
    ),
    re.DOTALL,
)
# The same of the Korn shells and zsh, where it goes further.
_KORN = re.compile(
    "|".join(
        (
            _COMMAND % r"test|\[" + _SAME + r"-(?:eq|ne|lt|le|gt|ge)\s",
            _COMMAND % "shift|exit|return|break|continue|export" + _SAME + r"\{\{",
            r"\b(?:[A-Z]+SIZE|[A-Z]*TIMEOUT|TMOUT|COLUMNS|LINES|ERRNO|MAILCHECK)=",
        )
    )
)


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
    bare, hard = _bare_places(text), _is_hard(text, shell.rpartition("/")[2])

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
        if hard:
            _check_harmless(name, values)
            return " ".join(values)
        if bare(found.start()):
            beside = text[found.end() : found.end() + 1] in ("<", ">")  # 2 would be a descriptor there
            return " ".join(_quoted(each, surely=beside) for each in values)
        for each in values:
            if not _HARMLESS.fullmatch(each):
                raise BadInput(
                    f"{{{{ {name} }}}} stands within quotes or a comment: it cannot be {visible(each)}",
                    hint="leave the quotes off: a value in a command is quoted by itself",
                )
        return " ".join(values)

    filled = _BLANK.sub(word, text)
    if "<<" in _joined(text):
        for before, after in ((text, filled), (_joined(text), _joined(filled))):
            _check_documents(before, after)
    return filled


def _is_hard(text: str, shell: str) -> bool:
    """Whether only harmless values may go into the text, as quotes do not tell what becomes of them."""
    looks = [_HARD, _ARITHMETIC, *([_KORN] if shell in _KORN_SHELLS else [])]
    return shell not in _SHELLS or any(look.search(each) for look in looks for each in (text, _joined(text)))


def _joined(text: str) -> str:
    """As the shell sees it, to which a line that ends in a backslash goes on."""
    return text.replace("\\\n", "")


def _check_harmless(name: str, values: Sequence[str]) -> None:
    """Nothing is quoted here: no value may vanish, or make an assignment of its word."""
    for each in values or [""]:
        if not each or "=" in each or not _HARMLESS.fullmatch(each):
            raise BadInput(
                f"{{{{ {name} }}}} cannot be {visible(each)} in this command",
                hint="with `…`, \"$(…)\", <<, $'…' or arithmetic in it, values have only letters, digits and @%+:,./-_",
            )


def _check_documents(text: str, filled: str) -> None:
    """Raise BadInput where values make a line that ends a here-document."""
    ends = [re.sub(r"[\\\"']", "", found[1]).strip() for found in re.finditer(r"<<-?([^\n]*)", filled)]
    for before, after in zip(text.split("\n"), filled.split("\n"), strict=True):
        if any(end.startswith(after.strip()) for end in ends) and names(before):
            raise BadInput(f"{visible(after.strip())} would end a here-document", hint="choose a longer word behind <<")


def _quoted(value: str, *, surely: bool) -> str:
    """As one word that is nothing else: no assignment, and no two in braces."""
    risky = surely or not {"=", ","}.isdisjoint(value)
    return f"'{value}'" if risky and _HARMLESS.fullmatch(value) else shlex.quote(value)


# What a shell reads at once, by what it is: nothing (a line goes on), the end of a word, a comment where no word has
# begun, what is quoted, anything else.
_PIECE = re.compile(
    r"(?P<nothing>\\\n)|(?P<end>[ \t\n;&|()<>])|(?P<comment>#[^\n]*)"
    r"|(?P<quoted>\\.|'[^']*'?|\"(?:[^\"\\]|\\.)*\"?|\$\{(?!\{)(?:[^}\\]|\\.)*\}?)|.",
    re.DOTALL,
)


def _bare_places(text: str) -> Callable[[int], bool]:
    """Whether the shell reads what stands at a place as a word, or a part of one, without quotes."""
    ranges: list[tuple[int, int]] = []
    at, in_word = 0, False
    while at < len(text):
        if blank := _BLANK.match(text, at):
            at, in_word = blank.end(), True
            continue
        piece = _PIECE.match(text, at)
        assert piece
        kind, end = piece.lastgroup, piece.end()
        if kind == "comment" and in_word:
            kind, end = None, at + 1
        if kind in ("comment", "quoted"):
            ranges.append((at, end))
        if kind not in ("nothing", "comment"):
            in_word = kind != "end"
        at = end
    starts = [start for start, _ in ranges]

    def is_bare(place: int) -> bool:
        index = bisect.bisect_right(starts, place) - 1
        return index < 0 or place >= ranges[index][1]

    return is_bare


def _plain(name: str, value: Value) -> str:
    if isinstance(value, list | tuple):
        raise BadInput(f"{{{{ {name} }}}} is a list, which goes into a command, or in the place of a list")
    return _text(value)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
