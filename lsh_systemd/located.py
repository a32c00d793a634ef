"""Texts in YAML, TOML or JSON → plain data, and where each piece of it stands. Pure; only here yaml.

Of YAML that is: scalars without quotes are true, false, null, whole numbers, or else text (so that ``no``, ``22:30``
and ``2027-01-31`` are what they look like); anchors and merge keys are taken, tags are not.
"""

import bisect
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lsh_systemd.errors import BadInput
from lsh_systemd.text import visible

Where = tuple[str | int, ...]

STANDARD_INPUT = "standard input"
ENDINGS = (".yaml", ".yml", ".toml", ".json")
# Anchors can make much out of little: so many values a file may have at the most, nested so deep.
_MOST_VALUES = 500_000
_DEEPEST = 40
_MERGE = "tag:yaml.org,2002:merge"
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
# What begins a text that YAML takes for something else.
_QUOTE = {
    r"\*": "a text that begins with * is written in quotes: '*/15 * * * *'",
    r"\{\{": "a text that begins with {{ is written in quotes: '{{ name }}'",
}
_TOML_DEEP = re.compile(r"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){100}""")
_TOML_PLACE = re.compile(r" \((?:at line (\d+), column (\d+)|at end of document)\)$")
_TOML_KEY = re.compile(r"""[ \t]*(?:"((?:[^"\\\n]|\\.)*)"|'([^'\n]*)'|([A-Za-z0-9_-]+))[ \t]*(\.?)""")
_TOML_SKIP = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)+")
# What may stand in a value: strings of all kinds, brackets, comments, the rest.
_TOML_PIECE = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#[^\n]*|[\[{]|[\]}]|\n|[^"\'#\[\]{}\n]+',
    re.DOTALL,
)


@dataclass(frozen=True, kw_only=True, order=True)
class Place:
    """A place in a file; lines and columns count from 1."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, kw_only=True)
class Remark:
    """What is wrong, or to be noted, at a place."""

    place: Place
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class Misplaced(BadInput):
    """Bad input at a known place."""

    def __init__(self, place: Place, message: str, *, hint: str | None = None) -> None:
        super().__init__(f"{place}: {message}", hint=hint)
        self.remark = Remark(place=place, message=message, hint=hint)


@dataclass(frozen=True, kw_only=True)
class Located:
    """What a file says. ``places``: where each key, or item of a list, stands, by the way to it."""

    file: str
    data: Any
    places: Mapping[Where, Place] = field(default_factory=dict)

    def place(self, *where: str | int) -> Place:
        """Where the piece stands, or, where that is not known, what it is a part of."""
        while where:
            if where in self.places:
                return self.places[where]
            where = where[:-1]
        return Place(file=self.file)


def read(text: str, *, file: str) -> Located:
    """What the text says; the name's ending tells the language, and of standard input a { what is tried first: YAML
    reads nearly all of JSON, but not the same. Raises Misplaced for what is none."""
    if file == STANDARD_INPUT and text.lstrip(" \t\r\n").startswith("{"):
        try:
            return _bounded(_read_json(text, file))
        except Misplaced as error:
            try:
                return _Yaml(file).read(text)
            except Misplaced:
                raise error from None
    if not file.endswith((".toml", ".json")):
        return _Yaml(file).read(text)
    return _bounded(_read_toml(text, file) if file.endswith(".toml") else _read_json(text, file))


def _bounded(located: Located) -> Located:
    level = [located.data]
    for _ in range(_DEEPEST + 1):
        level = [item for each in level if isinstance(each, dict | list) for item in _items(each)]
    if level:
        raise Misplaced(Place(file=located.file), "it is nested too deeply")
    return located


def _items(table: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return table.values() if isinstance(table, dict) else table


def _read_toml(text: str, file: str) -> Located:
    if _TOML_DEEP.search(text):  # tomllib goes through all parts of a key for each of them
        raise Misplaced(Place(file=file), "a key has too many parts")
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise Misplaced(Place(file=file), "it is nested too deeply") from None
    except ValueError as error:
        found = _TOML_PLACE.search(str(error))
        line, column = (int(found[1]), int(found[2])) if found and found[1] else (len(text.splitlines()) or 1, 1)
        message = _TOML_PLACE.sub("", str(error))
        raise Misplaced(Place(file=file, line=line, column=column), f"no TOML: {message}") from None
    places: dict[Where, Place] = {}
    for where, place in _toml_places(text.replace("\r\n", "\n"), file):
        places.setdefault(where, place)  # [jobs.env] tells nothing new of jobs
    return Located(file=file, data=data, places=places)


def _toml_places(text: str, file: str) -> Iterator[tuple[Where, Place]]:
    """Where the keys of a valid text stand; not those in inline tables."""
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    counts: dict[Where, int] = {}

    def place(at: int) -> Place:
        line = bisect.bisect_right(starts, at)
        return Place(file=file, line=line, column=at - starts[line - 1] + 1)

    table: Where = ()
    at = 0
    while True:
        skipped = _TOML_SKIP.match(text, at)
        at = skipped.end() if skipped else at
        if at >= len(text):
            return
        if text[at] != "[":
            keys, end = _toml_keys(text, at)
            for count in range(1, len(keys) + 1):
                yield (*table, *keys[:count]), place(at)
            at = _after_value(text, text.index("=", end) + 1)
            continue
        double = text.startswith("[[", at)
        keys, end = _toml_keys(text, at + 1 + double)
        table = ()
        for count, key in enumerate(keys, 1):
            table = (*table, key)
            yield table, place(at)
            if double and count == len(keys):
                counts[table] = counts.get(table, -1) + 1
            if table in counts:  # a list of tables: its newest is meant
                table = (*table, counts[table])
                yield table, place(at)
        at = text.index("]", end) + 1 + double


def _toml_keys(text: str, at: int) -> tuple[Where, int]:
    keys: list[str] = []
    while match := _TOML_KEY.match(text, at):
        basic, literal, bare, more = match.groups()
        keys.append(
            tomllib.loads(f'k = "{basic}"')["k"] if basic is not None else literal if literal is not None else bare
        )
        at = match.end()
        if not more:
            break
    return tuple(keys), at


def _after_value(text: str, at: int) -> int:
    depth = 0
    while piece := _TOML_PIECE.match(text, at):
        at = piece.end()
        depth += (piece[0] in ("[", "{")) - (piece[0] in ("]", "}"))
        if piece[0] == "\n" and not depth:
            break
    return at


def _read_json(text: str, file: str) -> Located:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise Misplaced(Place(file=file), f"{visible(twice)} is there twice in one object")
        return dict(pairs)

    try:
        data = json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise Misplaced(Place(file=file, line=error.lineno, column=error.colno), f"no JSON: {error.msg}") from None
    except (RecursionError, ValueError):
        raise Misplaced(Place(file=file), "it is nested too deeply, or has a number of thousands of digits") from None
    try:  # near enough to JSON to tell the places
        return Located(file=file, data=data, places=_Yaml(file).read(text).places)
    except Misplaced:
        return Located(file=file, data=data)


class _Yaml:
    """One YAML text."""

    def __init__(self, file: str) -> None:
        self._file, self._values, self._merging = file, 0, 0
        self._places: dict[Where, Place] = {}

    def read(self, text: str) -> Located:
        import yaml

        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            self._check_depth(yaml.parse(text, Loader=loader))
            reader = loader(text)
            node = reader.get_single_node()
            data = self._plain(node, ()) if node else None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            said = " ".join(filter(None, (error.context, error.problem)))
            place = self._place(mark) if mark else Place(file=self._file)
            near = " ".join(text.splitlines()[max(0, place.line - 2) : place.line])
            hint = next((hint for mark, hint in _QUOTE.items() if re.search(rf"[:-]\s+{mark}", near)), None)
            raise Misplaced(place, f"no YAML: {said}", hint=hint) from None
        except (
            yaml.YAMLError,
            ValueError,
            RecursionError,
        ) as error:  # a character that YAML does not take; brackets without end
            raise Misplaced(Place(file=self._file), f"no YAML: {str(error).splitlines()[0]}") from None
        return Located(file=self._file, data=data, places=self._places)

    def _check_depth(self, events: Iterable[Any]) -> None:
        """First: libyaml's composer would recurse until the stack is full, and crash (seen)."""
        depth = 0
        for event in events:
            kind = type(event).__name__
            depth += kind.endswith("StartEvent") - kind.endswith("EndEvent")
            if depth > _DEEPEST:
                raise Misplaced(self._place(event.start_mark), "it is nested too deeply")

    def _plain(self, node: Any, where: Where) -> Any:
        import yaml

        self._values += 1
        if self._values > _MOST_VALUES or len(where) > _DEEPEST:
            raise Misplaced(self._place(node.start_mark), "there is too much of it, or it is nested too deeply")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.rpartition(":")[2] not in ("map", "seq"):
            raise Misplaced(self._place(node.start_mark), f"the tag {visible(node.tag)} is not taken")
        if isinstance(node, yaml.SequenceNode):
            values = []
            for index, item in enumerate(node.value):
                self._places[(*where, index)] = self._place(item.start_mark)
                values.append(self._plain(item, (*where, index)))
            return values
        return self._mapping(node, where)

    def _mapping(self, node: Any, where: Where) -> dict[str, Any]:
        import yaml

        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise Misplaced(self._place(key.start_mark), "a key must be text", hint=_QUOTE[r"\{\{"])
            if key.value in seen:
                raise Misplaced(self._place(key.start_mark), f"{visible(key.value)} is there twice")
            seen.add(key.value)
        values: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag == _MERGE:  # what is merged comes first, so that the own keys win
                values = self._merged(value, where) | values
        for key, value in node.value:
            if key.tag != _MERGE:
                self._places[(*where, key.value)] = self._place(key.start_mark)
                values[key.value] = self._plain(value, (*where, key.value))
        return values

    def _merged(self, node: Any, where: Where) -> dict[str, Any]:
        """The tables behind a <<, of which the first wins. Not by PyYAML, which multiplies them uncounted."""
        import yaml

        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if not all(isinstance(each, yaml.MappingNode) for each in nodes):
            raise Misplaced(self._place(node.start_mark), "<< takes a table, or a list of tables")
        self._merging += 1
        if self._merging > _DEEPEST:
            raise Misplaced(self._place(node.start_mark), "it is nested too deeply")
        values: dict[str, Any] = {}
        for each in reversed(nodes):
            values |= self._plain(each, where)
        self._merging -= 1
        return values

    def _scalar(self, node: Any) -> Any:
        if node.style:  # quoted, or a block
            return node.value
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.endswith((":binary", ":set")):
            raise Misplaced(self._place(node.start_mark), f"the tag {visible(node.tag)} is not taken")
        words = {"true": True, "false": False, "null": None, "~": None, "": None}
        if node.value in words:
            return words[node.value]
        return int(node.value) if _INTEGER.fullmatch(node.value) else node.value

    def _place(self, mark: Any) -> Place:
        return Place(file=self._file, line=mark.line + 1, column=mark.column + 1)
