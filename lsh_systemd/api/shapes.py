"""Jobs as the API takes and tells them. Pure."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from pydantic import BaseModel, ConfigDict, Field

from lsh_systemd.api.document import fields_of_jobs
from lsh_systemd.audit import MASK
from lsh_systemd.errors import BadInput
from lsh_systemd.jobs import Found
from lsh_systemd.status import Status
from lsh_systemd.text import visible

# Kinds of schedules, as a table "schedule" has them, and what else may stand there.
_KINDS = {"cron": "schedule", "calendar": "calendar", "every": "every", "at": "at", "on_boot": "on_boot"}
_BESIDE = {"timezone": "timezone", "tz": "timezone", "seconds": "seconds", "anchor": "anchor", "jitter": "jitter"}
# All that makes up a job's times: a new schedule takes the place of each of them.
_WHEN = ("schedule", "schedule_from", "seconds", "calendar", "every", "anchor", "at", "on_boot")
# Who may not define jobs need not know what they are given.
_KEPT_BACK = ("stdin", "ping")

_EXAMPLE: dict[str, Any] = {
    "name": "Daily Backup",
    "command": "tar -czf backup.tar.gz /data",
    "schedule": {"cron": "0 2 * * *", "timezone": "Europe/Berlin"},
    "timeout": "2h",
    "retries": 2,
}


# A schedule may be a table.
_SCHEDULE: dict[str, Any] = {
    "description": "A cron expression, or one of {cron, calendar, every, at, on_boot} with a timezone.",
    "anyOf": [
        {"type": ["string", "null"]},
        {"type": "array", "items": {"type": "string"}},
        {"type": "object", "properties": {name: {} for name in (*_KINDS, *_BESIDE)}, "additionalProperties": False},
    ],
}
_CHANGES: dict[str, Any] = {"timeout": "3h", "retries": None}


def _complete(told: dict[str, Any], example: dict[str, Any]) -> None:
    """Add to a body's schema all that a job may have: a wrong field is refused by ``from_plain``, in its words."""
    beside = {"enabled": {"type": ["boolean", "null"]}, **told["properties"], "schedule": _SCHEDULE}
    told["properties"] = {**fields_of_jobs(), **beside}
    told |= {"additionalProperties": False, "example": example}


class NewJob(BaseModel):
    """A job: a name, a command, perhaps a schedule, and whatever else a job file may say (timeout, env, tags …)."""

    model_config = ConfigDict(extra="allow", json_schema_extra=lambda told: _complete(told, _EXAMPLE))

    name: str
    command: str | list[str]
    schedule: str | list[str] | dict[str, Any] | None = None
    enabled: bool = Field(default=True, description="Whether the schedule counts from the start.")


class JobChanges(BaseModel):
    """The fields that are to change; null takes one away."""

    model_config = ConfigDict(extra="allow", json_schema_extra=lambda told: _complete(told, _CHANGES))


def plain_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body as a job's plain data."""
    plain = {name: value for name, value in body.items() if name not in ("enabled", "schedule") and value is not None}
    return plain | when(body.get("schedule"))


def changed(plain: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """A job's plain data with the changes of a PATCH."""
    told = dict(plain)
    if "schedule" in body or any(name in body for name in ("calendar", "every", "at", "on_boot")):
        told = {name: value for name, value in told.items() if name not in _WHEN}
    for name, value in body.items():
        if name in ("enabled", "schedule"):
            continue
        if value is None:
            if name in ("name", "command"):
                raise BadInput(f"a job cannot be without its {name}")
            told.pop(name, None)
        elif name == "env" and isinstance(value, dict):
            kept = {each: text for each, text in told.get("env", {}).items() if each not in value}
            told["env"] = kept | {each: text for each, text in value.items() if text is not None}
        else:
            told[name] = value
    return told | when(body.get("schedule"))


def when(schedule: Any) -> dict[str, Any]:
    """What a body's "schedule" comes to: {"cron": "0 2 * * *"} → {"schedule": ["0 2 * * *"]}. Raises BadInput."""
    if schedule is None:
        return {}
    if not isinstance(schedule, dict):
        return {"schedule": schedule}
    names = _KINDS | _BESIDE
    for name in schedule:
        if name not in names:
            raise BadInput(f"{visible(str(name))} is no kind of schedule", hint="there are " + ", ".join(_KINDS))
    given = {names[name]: value for name, value in schedule.items() if value is not None}
    if given and not any(kind in given for kind in _KINDS.values()):
        raise BadInput("the schedule does not say when", hint="one of " + ", ".join(_KINDS))
    return given


def next_page(path: str, **given: Any) -> dict[str, str]:
    """The header that leads to the next page: with the parameters that the path has, as they were understood, and no
    others; None is one that was not given."""
    told = [(name, each) for name, value in given.items() for each in (value if isinstance(value, list) else [value])]
    words = [(name, str(each).lower() if isinstance(each, bool) else each) for name, each in told if each is not None]
    return {"Link": f'<{quote(path)}?{urlencode(words)}>; rel="next"'}


def etag(found: Found) -> str:
    """The version of the job: another one whenever a file of it is."""
    text = json.dumps([found.files, found.pair.enabled], sort_keys=True)
    return f'"{hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]}"'


def short(status: Status) -> dict[str, Any]:
    """A line of GET /jobs: what ``list --json`` tells, with the state also as "status"."""
    return status.to_json() | {"status": status.state}


def detailed(status: Status, *, whole: bool) -> dict[str, Any]:
    """What ``show --json`` tells; not ``whole``: without the values of variables and the like."""
    told = status.to_detailed_json() | {"status": status.state, "etag": etag(status.found)}
    if not whole and told["definition"]:
        told["definition"] = masked(told["definition"])
    return told


def masked(definition: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: MASK if name in _KEPT_BACK else value for name, value in definition.items()}
    if "env" in told:
        told["env"] = dict.fromkeys(told["env"], MASK) if isinstance(told["env"], dict) else MASK
    return told
