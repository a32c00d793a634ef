"""The JSON Schema of job files (see ``jobspec``), which editors complete and check by. Pure."""

from collections.abc import Mapping
from typing import Any

from lsh_systemd.job import CATCH_UP
from lsh_systemd.jobfile import FIELDS
from lsh_systemd.jobtemplate import TYPES
from lsh_systemd.queueing import OVERLAPS
from lsh_systemd.sandbox import LEVELS, NETWORKS
from lsh_systemd.sharing import UNREACHABLE

_TEXT: dict[str, Any] = {"type": "string"}
# {{ name }} may stand for any value.
_BLANK: dict[str, Any] = {"type": "string", "pattern": r"^\s*\{\{.+\}\}\s*$"}
_NOTHING: dict[str, Any] = {"type": "null"}
_SCALAR: dict[str, Any] = {"type": ["string", "integer", "boolean"]}
_VALUE: dict[str, Any] = {"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]}
_TEXTS: dict[str, Any] = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}
_NUMBER: dict[str, Any] = {"anyOf": [{"type": "integer"}, _BLANK]}
_SHAPES: dict[str, dict[str, Any]] = {
    "text": _TEXT,
    "texts": _TEXTS,
    "command": _TEXTS,
    "table": {"type": "object", "additionalProperties": _SCALAR},
    "flag": {"anyOf": [{"type": "boolean"}, _BLANK]},
    "number": _NUMBER,
    "numbers": {"anyOf": [_NUMBER, {"type": "array", "items": _NUMBER}]},
    "size": {"type": ["integer", "string"], "examples": ["512M", "2G"]},
    "span": {"type": ["integer", "string"], "examples": ["90s", "15m", "1h 30m"]},
    "wall_time": {**_TEXT, "examples": ["2027-01-31T02:00:00"]},
    "instant": {**_TEXT, "examples": ["2027-01-31T02:00:00Z"]},
}
# What some fields may be.
WORDS: dict[str, tuple[str, ...]] = {
    "catch_up": CATCH_UP,
    "overlap": OVERLAPS,
    "sandbox": LEVELS,
    "network": NETWORKS,
    "fleet_unreachable": UNREACHABLE,
}


def schema(descriptions: Mapping[str, str]) -> dict[str, Any]:
    """JSON Schema 2020-12. ``descriptions``: what to say of fields."""
    fields = {name: _field(name, kind, descriptions) for name, kind in FIELDS.items() if name != "applied"}
    job = fields | {
        "enabled": {"anyOf": [{"type": "boolean"}, _BLANK], "description": "Whether its schedule counts; true."},
        "template": {**_TEXT, "description": "A template that it is made from: lshctl templates list."},
        "set": {"type": "object", "additionalProperties": _VALUE, "description": "The template's parameters."},
    }
    defaults = {name: each for name, each in fields.items() if name not in ("name", "command")}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Jobs of lsh-systemd",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "project": {**_TEXT, "description": "Whose jobs `apply --prune` removes; default."},
            "include": {**_TEXTS, "description": "Other job files, seen from this one; * and ? are taken."},
            "vars": {"type": "object", "additionalProperties": _VALUE, "description": "Values for {{ name }}."},
            "defaults": {
                **_object(defaults),
                "description": "Fields of all jobs of this file.",
            },
            "templates": {"type": "object", "additionalProperties": {"$ref": "#/$defs/template"}},
            "jobs": {
                "anyOf": [
                    {"type": "array", "items": {"$ref": "#/$defs/job"}},
                    {"type": "object", "additionalProperties": {"$ref": "#/$defs/job"}},
                ]
            },
        },
        "$defs": {"job": _object(job), "template": _template(job)},
    }


def _field(name: str, kind: str, descriptions: Mapping[str, str]) -> dict[str, Any]:
    shape = {"anyOf": [{"enum": list(WORDS[name])}, _BLANK]} if name in WORDS else _SHAPES[kind]
    told = {"description": descriptions[name]} if name in descriptions else {}
    return {"anyOf": [shape, _NOTHING]} | told


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": dict(properties)}


def _template(job: Mapping[str, Any]) -> dict[str, Any]:
    parameter = {
        "description": _TEXT,
        "type": {"enum": list(TYPES)},
        "default": _VALUE,
        "many": {"type": "boolean"},
        "choices": {"type": "array", "items": _SCALAR},
        "pattern": _TEXT,
        "min": {"type": "integer"},
        "max": {"type": "integer"},
    }
    properties = {
        "description": _TEXT,
        "needs": {"type": "array", "items": _TEXT, "description": "Programs that the job calls."},
        "parameters": {"type": "object", "additionalProperties": {"anyOf": [_object(parameter), _NOTHING]}},
        "job": _object({name: each for name, each in job.items() if name not in ("template", "set")}),
    }
    return {**_object(properties), "required": ["job"]}
