"""A job as the fields of a form, and back. Pure."""

import shlex
from collections.abc import Mapping
from typing import Any

from lsh_systemd.errors import BadInput
from lsh_systemd.filling import Value
from lsh_systemd.jobtemplate import Parameter
from lsh_systemd.text import visible

# What starts a job: as a body's "schedule" calls it, and as a person does.
KINDS = {
    "cron": "by cron expressions",
    "calendar": "by systemd's calendar",
    "every": "again and again",
    "at": "once, at a time",
    "on_boot": "when the machine has started",
    "": "only when it is started",
}
# Of a form over a template: the schedule that it has.
AS_IT_IS = "template"
_PLAIN = {"cron": "schedule", "calendar": "calendar", "every": "every", "at": "at", "on_boot": "on_boot"}
_TEXTS = ("description", "category", "timezone", "timeout", "memory_max")
# What an empty form has.
NEW = dict.fromkeys(("name", "command", "when", "tags", "env", *_TEXTS), "") | {"kind": "cron", "retries": "0"}


def shown(plain: Mapping[str, Any]) -> dict[str, str]:
    """A job's plain data as fields; without ``env`` where lines cannot hold that."""
    kind = next((kind for kind, name in _PLAIN.items() if plain.get(name)), "")
    when, command = plain.get(_PLAIN.get(kind, ""), ""), plain["command"]
    env = plain.get("env", {})
    told = NEW | {name: plain.get(name, "") for name in _TEXTS}
    told |= {
        "name": plain["name"],
        "command": command if isinstance(command, str) else shlex.join(command),
        "kind": kind,
        "when": "\n".join(when) if isinstance(when, list) else "" if when is True else when,
        "tags": ", ".join(plain.get("tags", ())),
        "retries": str(plain.get("retries", 0)),
        "env": "\n".join(f"{name}={value}" for name, value in env.items()),
    }
    if any("\n" in value for value in env.values()):
        del told["env"]
    return told


def new_body(fields: Mapping[str, str]) -> dict[str, Any]:
    """The body of a POST that makes the job."""
    changes = _changes(NEW, fields, {})
    return {"name": fields.get("name", "").strip(), "command": _line(fields, "command")} | changes


def own_body(fields: Mapping[str, str]) -> dict[str, Any]:
    """What the form over a template says of the job itself; a field that is left empty is as the template has it."""
    given = {name: _line(fields, name) for name in (*NEW, "run_as")}
    told: dict[str, Any] = {name: given[name] for name in ("name", "run_as", *_TEXTS) if given[name]}
    if given["kind"] != AS_IT_IS:
        told["schedule"] = _schedule(given["kind"], given["when"])
    if given["kind"] in ("every", "on_boot", ""):
        told.pop("timezone", None)  # these know none
    if given["tags"]:
        told["tags"] = [each.strip() for each in given["tags"].split(",") if each.strip()]
    if given["retries"]:
        told["retries"] = _count(given["retries"])
    if given["env"]:
        told["env"] = _variables(given["env"])
    return told


def value_of(parameter: Parameter, text: str) -> Value | None:
    """What the field of a template's parameter says; None: nothing, so that its default holds. Raises BadInput."""
    text = text.replace("\r\n", "\n").strip()
    if not text:
        return None
    return parameter.check([each.strip() for each in text.split("\n") if each.strip()] if parameter.many else text)


def text_of(value: Any) -> str:
    """A parameter's value as its field has it."""
    if isinstance(value, list | tuple):
        return "\n".join(map(text_of, value))
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def changed_body(plain: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    """The body of a PATCH: what differs from the job."""
    return _changes(shown(plain), fields, plain)


def _changes(before: Mapping[str, str], fields: Mapping[str, str], plain: Mapping[str, Any]) -> dict[str, Any]:
    before = {name: _line(before, name) for name in NEW}
    now = before | {name: _line(fields, name) for name in NEW if name in fields}
    if now["kind"] in ("every", "on_boot", ""):
        now["timezone"] = ""  # these know none
    told: dict[str, Any] = {name: now[name] or None for name in _TEXTS if now[name] != before[name]}
    if now["command"] != before["command"]:
        told["command"] = _command(now["command"], plain.get("command"))
    if (now["kind"], now["when"]) != (before["kind"], before["when"]) or not plain:
        told["schedule"] = _schedule(now["kind"], now["when"])
    if now["tags"] != before["tags"]:
        told["tags"] = [each.strip() for each in now["tags"].split(",") if each.strip()] or None
    if now["retries"] != before["retries"]:
        told["retries"] = _count(now["retries"])
    if now["env"] != before["env"]:
        env = _variables(now["env"])
        told["env"] = dict.fromkeys(name for name in plain.get("env", {}) if name not in env) | env
    return told


def _line(fields: Mapping[str, str], name: str) -> str:
    """The text of a field, whichever way its lines end."""
    return fields.get(name, "").replace("\r\n", "\n").strip()


def _command(text: str, before: Any) -> str | list[str]:
    """An argument vector stays one."""
    if not isinstance(before, list):
        return text
    try:
        return shlex.split(text)
    except ValueError as error:
        raise BadInput(f"the command cannot be split into arguments: {error}") from None


def has_seconds(expression: str) -> bool:
    """Whether a cron expression has more fields than five: the form need not be told so."""
    return len(expression.split()) > 5


def _schedule(kind: str, when: str) -> dict[str, Any] | None:
    if kind not in KINDS:
        raise BadInput(f"{visible(kind)} is no kind of schedule")
    if not kind:
        return None
    if kind == "on_boot":
        return {"on_boot": True}
    lines = [each.strip() for each in when.splitlines() if each.strip()]
    if not lines:
        raise BadInput("the schedule does not say when", hint="or choose: " + KINDS[""])
    if kind in ("every", "at"):
        return {kind: " ".join(lines)}
    return {kind: lines} | ({"seconds": True} if kind == "cron" and any(map(has_seconds, lines)) else {})


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 6):
        raise BadInput(f"{visible(text)} is no number of retries")
    return int(text)


def _variables(text: str) -> dict[str, str | None]:
    told: dict[str, str | None] = {}
    for line in text.splitlines():
        name, mark, value = line.partition("=")
        if not mark and line.strip():
            raise BadInput(f"{visible(line)} is no variable", hint="a line for each: NAME=VALUE")
        if mark:
            told[name.strip()] = value
    return told
