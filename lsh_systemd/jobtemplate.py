"""Templates of jobs: what they ask for, and the job's fields that they give. Pure.

A template is plain data: ``description``, ``needs`` (programs), ``parameters`` (name → description, type, default,
many, choices, pattern, min, max) and ``job`` (the fields of a job, with ``{{ name }}`` where a parameter's value goes).
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from lsh_systemd import cron
from lsh_systemd.errors import BadInput
from lsh_systemd.filling import Value
from lsh_systemd.jobfile import parse_size
from lsh_systemd.span import parse_span
from lsh_systemd.text import check_line, check_path, check_pattern, visible

TYPES = ("text", "path", "integer", "boolean", "choice", "span", "size", "cron")
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,49}")
_LONGEST = 1000
_MOST_NUMBERS = 200
_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One that a template asks for. ``default`` None: it has to be given. ``many``: a list of such values."""

    name: str
    description: str = ""
    type: str = "text"
    default: Value | None = None
    many: bool = False
    choices: tuple[str, ...] = ()
    pattern: str | None = None
    min: int | None = None
    max: int | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise BadInput(f"{visible(self.name)} is no name of a parameter", hint="use a-z, 0-9 and _")
        if self.type not in TYPES:
            raise BadInput(f"{visible(self.type)} is no type of a parameter", hint=", ".join(TYPES))
        if (self.type == "choice") != bool(self.choices):
            raise BadInput(f"the parameter {self.name}: the type choice and choices belong together")
        if self.pattern is not None:
            check_pattern(f"pattern of the parameter {self.name}", self.pattern)
        if self.default is not None:
            object.__setattr__(self, "default", self.check(self.default))

    def run_pattern(self, own: str | None = None) -> str:
        """What all of a value has to match where a run of the job brings it: this, and a pattern of the job's ``own``.
        Without either, no text leads to another folder. Raises BadInput where no pattern can say what this takes."""
        if own is None:
            return "(?!-)[^/]+" if self.type == "text" and self.pattern is None else self._pattern()
        if re.search(r"\(\?[aiLmsux]+\)", own):
            raise BadInput(f"the pattern of {self.name} has flags for all of it", hint="(?i:…) holds for a part")
        both = f"(?=(?:{self._pattern()})\\Z)(?:{own})"
        for pattern in (own, both):  # by itself first: x)|(?:.* would be one within the other
            check_pattern(f"pattern of {self.name}", pattern)
        return both

    def _pattern(self) -> str:
        if self.many or self.type in ("span", "size", "cron"):
            raise BadInput(
                f"no run can bring {self.name}: what it takes is no matter of a pattern", hint=f"--set {self.name}=…"
            )
        if self.type == "integer":
            return self._integers()
        if self.type == "boolean":
            return "true|false"
        if self.type == "choice":
            return "|".join(map(re.escape, self.choices))
        return "/.*" if self.type == "path" else f"(?!-)(?:{self.pattern or '.+'})"

    def _integers(self) -> str:
        open_ended = {None: "-?[0-9]{1,18}", 0: "[0-9]{1,18}", 1: "[1-9][0-9]{0,17}"}
        if self.max is None and self.min in open_ended:
            return open_ended[self.min]
        if self.min is None or self.max is None or self.max - self.min > _MOST_NUMBERS:
            raise BadInput(
                f"no run can bring {self.name}: what it takes is no matter of a pattern", hint=f"--set {self.name}=…"
            )
        return "|".join(map(str, range(self.min, self.max + 1)))

    def check(self, value: Any) -> Value:
        """The value as the type has it: a number, true or false, text; of ``many``, a list. Raises BadInput."""
        if not self.many:
            return self._check_one(value)
        values = list(value) if isinstance(value, list | tuple) else [value]
        if not values:
            raise BadInput(f"{self.name} is empty")
        return [self._check_one(each) for each in values]

    def _check_one(self, value: Any) -> str | int | bool:
        if not isinstance(value, str | int):
            raise BadInput(f"{self.name} is one {self.type}, and no list or table")
        text = str(value).lower() if isinstance(value, bool) else str(value)
        check_line(f"value of {self.name}", text, longest=_LONGEST)
        if self.type == "integer":
            return self._integer(text)
        if self.type == "boolean":
            if text.lower() not in _WORDS:
                raise BadInput(f"{self.name} is true or false, not {visible(text)}")
            return _WORDS[text.lower()]
        if text.startswith("-"):
            raise BadInput(f"{self.name} may not begin with -: {visible(text)} would be taken for an option")
        if self.pattern is not None and not re.fullmatch(self.pattern, text):
            raise BadInput(
                f"{self.name} cannot be {visible(text)}", hint=self.description or f"it matches {self.pattern}"
            )
        self._check_kind(text)
        return text

    def _check_kind(self, text: str) -> None:
        if self.type == "choice" and text not in self.choices:
            raise BadInput(f"{self.name} cannot be {visible(text)}", hint=f"it is one of {', '.join(self.choices)}")
        if self.type == "path":
            check_path(self.name, text)
        if self.type == "span":
            parse_span(text)
        if self.type == "size":
            parse_size(text)
        if self.type == "cron":
            cron.parse(text, seconds=False, key=self.name)

    def _integer(self, text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,18}", text):
            raise BadInput(f"{self.name} is a whole number, not {visible(text)}")
        number = int(text)
        if (self.min is not None and number < self.min) or (self.max is not None and number > self.max):
            least = f"{self.min} or more" if self.max is None else f"at most {self.max}"
            between = f"from {self.min} to {self.max}" if None not in (self.min, self.max) else least
            raise BadInput(f"{self.name} cannot be {number}", hint=f"it is {between}")
        return number


@dataclass(frozen=True, kw_only=True)
class Template:
    """``source``: the file that it is from; "" of those that lshctl brings."""

    id: str
    job: Mapping[str, Any]
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    needs: tuple[str, ...] = ()
    source: str = field(default="", compare=False)

    @property
    def category(self) -> str:
        return str(self.job.get("category", ""))

    def to_json(self) -> dict[str, Any]:
        """What ``templates show --json`` promises."""
        return {
            "id": self.id,
            "description": self.description,
            "category": self.category or None,
            "source": self.source or None,
            "needs": list(self.needs),
            "parameters": [
                {
                    "name": each.name,
                    "description": each.description,
                    "type": each.type,
                    "default": each.default,
                    "required": each.default is None,
                    "many": each.many,
                    "choices": list(each.choices) or None,
                    "min": each.min,
                    "max": each.max,
                    "pattern": each.pattern,
                }
                for each in self.parameters
            ],
            "job": dict(self.job),
        }

    @property
    def when(self) -> str:
        """What starts its job, as it stands in the template; "" where nothing does."""
        given = (self.job.get(name) for name in ("schedule", "calendar", "every", "at"))
        said = next(filter(None, given), "at boot" if self.job.get("on_boot") else "")
        return ", ".join(map(str, said)) if isinstance(said, list | tuple) else str(said)

    def values(self, given: Mapping[str, Any], *, later: Collection[str] = ()) -> dict[str, Value]:
        """Every parameter's value: as given, or by default. Raises BadInput for one that is missing or wrong; those in
        ``later`` may be missing."""
        known = {each.name for each in self.parameters}
        for name in given:
            if name not in known:
                hint = f"it has {', '.join(sorted(known))}" if known else "it has none"
                raise BadInput(f"the template {self.id} has no parameter {visible(str(name))}", hint=hint)
        values: dict[str, Value] = {}
        for each in self.parameters:
            value = each.check(given[each.name]) if each.name in given else each.default
            if value is None and each.name in later:
                continue
            if value is None:
                told = f": {each.description}" if each.description else ""
                raise BadInput(
                    f"the template {self.id} needs {each.name}{told}",
                    hint=f"--set {each.name}=…; lshctl templates show {self.id}",
                )
            values[each.name] = value
        return values


def from_plain(template_id: str, plain: Any, *, source: str = "") -> Template:
    """The template that the data describes. Raises BadInput."""
    if not _ID.fullmatch(template_id):
        raise BadInput(f"{visible(template_id)} is no id of a template", hint="use a-z, 0-9 and -")
    if not isinstance(plain, dict) or not isinstance(plain.get("job"), dict):
        raise BadInput(f"the template {template_id} has no job", hint="job: {command: …}")
    for name in plain.keys() - {"description", "parameters", "needs", "job"}:
        raise BadInput(
            f"{visible(str(name))} is nothing that a template has", hint="there are description, parameters, needs, job"
        )
    parameters, needs = plain.get("parameters") or {}, plain.get("needs") or []
    if not isinstance(parameters, dict):
        raise BadInput(f"parameters of the template {template_id} must be a table")
    if not isinstance(needs, list) or not all(isinstance(each, str) for each in needs):
        raise BadInput(f"needs of the template {template_id} must be a list of programs")
    return Template(
        id=template_id,
        job=plain["job"],
        description=str(plain.get("description") or ""),
        parameters=tuple(_parameter(str(name), each) for name, each in parameters.items()),
        needs=tuple(needs),
        source=source,
    )


_KINDS: dict[str, type | tuple[type, ...]] = {
    "description": str,
    "type": str,
    "default": (str, int, bool, list),
    "many": bool,
    "choices": list,
    "pattern": str,
    "min": int,
    "max": int,
}


def _parameter(name: str, plain: Any) -> Parameter:
    plain = {} if plain is None else plain
    if not isinstance(plain, dict):
        raise BadInput(f"the parameter {visible(name)} must be a table", hint="db: {default: prod}")
    for key, value in plain.items():
        if key not in _KINDS:
            raise BadInput(
                f"{visible(str(key))} is nothing that a parameter has", hint="there are " + ", ".join(_KINDS)
            )
        if not isinstance(value, _KINDS[key]):
            raise BadInput(f"{key} of the parameter {visible(name)} has the wrong type")
    choices = tuple(map(str, plain.get("choices", ())))
    return Parameter(name=name, **{**plain, "choices": choices})
