"""The fields of a job from several hands: defaults, a template, its own. Filled in, and laid over each other. Pure."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from lsh_systemd.errors import BadInput
from lsh_systemd.filling import Look, Value, fill, fill_command, fill_whole, fill_words
from lsh_systemd.job import DEFAULT_SHELL
from lsh_systemd.jobtemplate import Template
from lsh_systemd.located import Place
from lsh_systemd.text import visible

# Field → its value, and where that stands.
Fields = dict[str, tuple[Any, Place]]

_KINDS = ("schedule", "calendar", "every", "at", "on_boot")
# Fields that only a schedule by the calendar can have.
_BY_CALENDAR = frozenset(("schedule", "calendar", "at", "anchor"))
_OF_CALENDAR = frozenset(
    "timezone catch_up catch_up_spread persistent not_before not_after except_calendar once_in_fleet".split()
)
# Field → the one without which it means nothing.
_BELONGS = {"fleet_unreachable": "once_in_fleet", "params": "from_fleet"}
_CATCH_UP = frozenset(("catch_up", "persistent"))
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|([A-Za-z_][A-Za-z0-9_]*))")
_COMMANDS = ("command", "condition", "on_success", "on_failure")


def shell_of(*hands: Mapping[str, Any]) -> Any:
    """The shell that will read the command, where the first of the hands wins that says something of it."""
    said = next((fields["shell"] for fields in hands if "shell" in fields), None)
    return DEFAULT_SHELL if said is None else said


def instantiate(
    template: Template, given: Mapping[str, Any], *, own: Mapping[str, Any], shell: Any = None
) -> tuple[dict[str, Any], bool]:
    """The fields of the job that a template gives, over them those that are the caller's own, and whether its schedule
    counts. ``shell``: the one that will read the command, where others than these two have a say. Raises BadInput."""
    later = _left_to_the_run(template, own)
    values = template.values(given, later=later)
    shell = shell_of(own, template.job) if shell is None else shell
    look = _finder({name: value for name, value in values.items() if name not in later}, later)
    fields = {name: fill_field(name, value, look, shell=shell, later=later) for name, value in template.job.items()}
    fields.setdefault("name", template.id)
    enabled = fields.pop("enabled", True) is not False
    if later:
        defaults = {name: str(values[name]) for name in later if name in values}
        fields["env"] = {**defaults, **(fields.get("env") or {})}
        own = {**own, "params": [later.get(each.partition("=")[0], each) for each in _params(own)]}
    return _over(fields, own), enabled


def _left_to_the_run(template: Template, own: Mapping[str, Any]) -> dict[str, str]:
    """The template's parameters that are ones of the job itself (--param), so that its runs bring them: each declared
    by what the template takes, and by a pattern of the job's own."""
    known = {each.name: each for each in template.parameters}
    later = {}
    for name, mark, pattern in (each.partition("=") for each in _params(own)):
        if name in known:
            later[name] = f"{name}={known[name].run_pattern(pattern if mark else None)}"
    return later


def _params(own: Mapping[str, Any]) -> list[str]:
    """Those that the job declares; none where that is no list of texts, which whoever makes the job of it tells."""
    given = own.get("params")
    given = [given] if isinstance(given, str) else given
    return list(given) if isinstance(given, list | tuple) and all(isinstance(each, str) for each in given) else []


def _finder(values: Mapping[str, Value], later: Collection[str]) -> Look:
    def look(name: str) -> Value:
        if name in later:
            raise BadInput(f"{name} is more than a word of the command: no run can bring it", hint=f"--set {name}=…")
        if name not in values:
            raise BadInput(f"the template has no parameter {name}", hint="a mistake in the template itself")
        return values[name]

    return look


def fill_field(name: str, value: Any, look: Look, *, shell: Any, later: Collection[str] = ()) -> Any:
    """A field's value with the values of ``{{ names }}`` in it: in commands as words of the shell that reads them; of
    the job's own command, that is ``shell``, and may look names up ``later``."""
    if name not in _COMMANDS:
        return fill_plain(value, look)
    shell = str(shell) if name == "command" else DEFAULT_SHELL
    if isinstance(value, str):
        return fill_command(value, look, shell=shell, later=later if name == "command" else ())
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        return value
    return fill_words(value, look) if name == "command" else [fill_command(each, look) for each in value]


def fill_plain(value: Any, look: Look) -> Any:
    """Data with the values of ``{{ names }}`` in all its texts."""
    if isinstance(value, str):
        return fill_whole(value, look)
    if isinstance(value, list):
        items: list[Any] = []
        for each in value:
            filled = fill_plain(each, look)
            items += filled if isinstance(each, str) and isinstance(filled, list) else [filled]
        return items
    if isinstance(value, dict):
        return {fill(key, look): fill_plain(each, look) for key, each in value.items()}
    return value


def fitting(defaults: Fields, over: Fields) -> Fields:
    """Those of the defaults that a job with these fields can have: a time zone is for schedules that have one."""
    both = merged(defaults, over)
    given = {name for name in (*_KINDS, "anchor") if name in both and both[name][0] not in (None, False)}
    drop = set() if given & _BY_CALENDAR else {*_OF_CALENDAR}
    drop |= set() if given else {"jitter"}
    drop |= set() if "schedule" in given else {"seconds"}
    kept = {name: each for name, each in defaults.items() if name not in drop}
    both = merged(kept, over)
    return {
        name: each
        for name, each in kept.items()
        if name not in _BELONGS or both.get(_BELONGS[name], (False,))[0] not in (None, False)
    }


def merged(under: Fields, over: Fields) -> Fields:
    """The fields of a job over its defaults: of kinds of schedule, and of words for catching up, one counts, and
    variables are added."""
    for alike in (_KINDS, _CATCH_UP):
        if any(name in over for name in alike):
            under = {name: each for name, each in under.items() if name not in alike}
    merged = under | over
    if "env" in under and "env" in over and isinstance(under["env"][0], dict) and isinstance(over["env"][0], dict):
        merged["env"] = ({**under["env"][0], **over["env"][0]}, over["env"][1])
    return merged


def _over(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Where a schedule of another kind takes the place of the template's, what belongs to that goes with it."""
    nowhere = Place(file="")
    low, high = ({name: (value, nowhere) for name, value in fields.items()} for fields in (under, over))
    if any(kind in over for kind in _KINDS):
        low = fitting(low, high)
    return {name: value for name, (value, _) in merged(low, high).items() if value is not None}


def from_environment(text: str, environ: Mapping[str, str]) -> str:
    """A schedule that is given as ${NAME}, or ${NAME:-one if it is not set}: taken from the environment."""
    match = _VARIABLE.fullmatch(text.strip())
    if not match:
        return text
    name = match[1] or match[3]
    value = environ.get(name) or match[2]
    if not value:
        raise BadInput(
            f"--schedule {visible(text)}: {name} is not set",
            hint=f"{name}='0 2 * * *' lshctl …, or ${{{name}:-0 2 * * *}}",
        )
    return value
