"""The text of an environment file (.env): its variables, and what two of them differ in. Pure.

A line is blank, a comment (``#``), or ``NAME=VALUE``, with ``export`` before it or not. A value that begins with a
quote ends with it, perhaps lines later; another one ends with its line, or at a ``#`` after a blank. Nothing in a value
is expanded.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lsh_systemd.errors import BadInput

MAX_BYTES = 256 * 1024

_IDLE = re.compile(r"[ \t\r]*(?:#[^\n]*)?(?=\n|\Z)")
_NAME = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*=[ \t]*")
_QUOTED = re.compile(r"""(?:'((?:\\'|[^'])*)'|"((?:\\.|[^"\\])*)")[ \t\r]*(?:#[^\n]*)?(?=\n|\Z)""", re.DOTALL)
_PLAIN = re.compile(r"[^\n]*")
_COMMENT = re.compile(r"(?:^|[ \t])#")


@dataclass(frozen=True, kw_only=True)
class Change:
    """A variable that differs; None is one that is not there."""

    name: str
    old: str | None
    new: str | None

    @property
    def kind(self) -> str:
        return "added" if self.old is None else "removed" if self.new is None else "changed"


def variables(data: bytes, what: str) -> dict[str, str]:
    """Name → value as it stands there, without its quotes; of a name that is set twice, the last.

    Raises BadInput, which names ``what`` and never a value, for what is no such file.
    """
    if len(data) > MAX_BYTES:
        raise BadInput(f"{what} is larger than {MAX_BYTES // 1024} KiB", hint="is it an environment file?")
    if b"\0" in data:
        raise BadInput(f"{what} contains a NUL byte", hint="is it an environment file?")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{what} is not UTF-8: byte {error.start + 1}") from None
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        if idle := _IDLE.match(text, at):
            at = idle.end() + 1
            continue
        name = _NAME.match(text, at)
        value = name and _value(text, name.end())
        if not name or not value:
            line = text.count("\n", 0, at) + 1
            hint = "a quote at the value's beginning must be closed, with nothing after it" if name else None
            raise BadInput(f"line {line} of {what} is not NAME=VALUE", hint=hint)
        found[name[1]], at = value
    if not found:
        raise BadInput(f"{what} holds no variables", hint="NAME=VALUE, one a line")
    return found


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[Change]:
    """What makes the new one of the old one, by name."""
    names = sorted(name for name in {**old, **new} if old.get(name) != new.get(name))
    return [Change(name=name, old=old.get(name), new=new.get(name)) for name in names]


def _value(text: str, at: int) -> tuple[str, int] | None:
    """The value that begins there, and where the next line does; None for a quote without its end."""
    if text[at : at + 1] in ("'", '"'):
        quoted = _QUOTED.match(text, at)
        return (quoted[1] or quoted[2] or "", quoted.end() + 1) if quoted else None
    plain = _PLAIN.match(text, at)
    assert plain
    return _COMMENT.split(plain[0], maxsplit=1)[0].strip(" \t\r"), plain.end() + 1
