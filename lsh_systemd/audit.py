"""Who changed which job when, and how. Pure.

A change leaves an entry in the journal (MESSAGE_ID ``CHANGED``) with the fields LSH_SCOPE, LSH_CHANGE (its id), LSH_JOB
(empty for what is no job's), LSH_BEFORE (the id that a renamed job had), LSH_VERB, LSH_ACTOR and LSH_UID (the person),
LSH_VIA (cli, api) and LSH_DIFF, the difference as JSON: option → [old, new]. Root's count for the machine's jobs, a
user's own for his. What may be secret is not in it: of variables only the names, of standard input only that it is.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lsh_systemd.job import Job
from lsh_systemd.jobfile import to_plain
from lsh_systemd.run import CHANGED, Entry, rfc3339

MASK = "***"

# Bounds, in characters: of a value (longer ones are cut), and of all values together (then only names are left).
_LONGEST_VALUE = 300
_LONGEST_DIFFERENCE = 16_000
_MOST_OPTIONS = 200
_ID = re.compile(r"[0-9a-f]{32}")
_JOB = re.compile(r"[a-z0-9-]{0,255}")
_VERB = re.compile(r"[a-z][a-z -]{0,39}")

Difference = Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Who does something, and by which door."""

    name: str
    uid: int
    via: str = "cli"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One change that has been made. ``job`` is empty for what is no job's; ``before``: the id that a renamed job had;
    ``difference``: JSON, option → [old, new]."""

    id: str
    at_usec: int
    job: str
    verb: str
    actor: str
    uid: int
    via: str
    difference: str
    before: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The shape that ``audit --json`` promises."""
        return {
            "id": self.id,
            "at": rfc3339(self.at_usec),
            "job": self.job or None,
            "before": self.before,
            "verb": self.verb,
            "actor": self.actor,
            "uid": self.uid,
            "via": self.via,
            "difference": json.loads(self.difference),
        }


def difference(old: Job | None, new: Job | None) -> dict[str, tuple[Any, Any]]:
    """What a change made of a job: option → (old, new); None is a job, or a setting, that is not there."""
    if old == new:
        return {}
    before, after = (dict(_options(to_plain(job))) if job else {} for job in (old, new))
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return {name: (_masked(name, before.get(name)), _masked(name, after.get(name))) for name in changed}


def fields(
    actor: Actor, verb: str, job: str, changed: Difference, *, scope: str, change_id: str, before: str | None = None
) -> dict[str, str]:
    """The journal entry's fields."""
    names = ", ".join(list(changed)[:10])
    return {
        "MESSAGE": f"{actor.name}: {verb}" + (f" {job}" if job else "") + (f" ({names})" if names else ""),
        "MESSAGE_ID": CHANGED,
        "PRIORITY": "5",
        "SYSLOG_IDENTIFIER": "lshctl",
        "LSH_SCOPE": scope,
        "LSH_CHANGE": change_id,
        "LSH_JOB": job,
        "LSH_BEFORE": before or "",
        "LSH_VERB": verb,
        "LSH_ACTOR": actor.name,
        "LSH_UID": str(actor.uid),
        "LSH_VIA": actor.via,
        "LSH_DIFF": _bounded(changed),
    }


def from_entry(entry: Entry, at_usec: int) -> Change | None:
    """The change that an entry (of a sender who is believed) tells of; None where it is malformed."""
    job, before, verb = (entry.get(f"LSH_{name}", "") for name in ("JOB", "BEFORE", "VERB"))
    actor, via, uid = (entry.get(f"LSH_{name}", "") for name in ("ACTOR", "VIA", "UID"))
    well_formed = _ID.fullmatch(entry.get("LSH_CHANGE", "")) and _JOB.fullmatch(job) and _JOB.fullmatch(before)
    if not well_formed or not _VERB.fullmatch(verb) or not re.fullmatch(r"[0-9]{1,10}", uid):
        return None
    told = entry.get("LSH_DIFF", "")
    try:
        changed = json.loads(told) if len(told) <= 2 * _LONGEST_DIFFERENCE else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(changed, dict) or not all(isinstance(each, list) and len(each) == 2 for each in changed.values()):
        return None
    return Change(
        id=entry["LSH_CHANGE"],
        at_usec=at_usec,
        job=job,
        verb=verb,
        actor=name_of(actor) or uid,
        uid=int(uid),
        via=name_of(via) or "cli",
        difference=json.dumps(changed),
        before=before or None,
    )


def name_of(text: str) -> str | None:
    """Somebody's name as the journal tells it; None for what can be none."""
    return text if 0 < len(text) <= 100 and text.isprintable() else None


def _options(plain: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in plain.items():
        if name == "env":
            yield from ((f"env.{variable}", each) for variable, each in value.items())
        else:
            yield name, value


def _masked(name: str, value: Any) -> Any:
    if value is not None and (name == "stdin" or name.startswith("env.")):
        return MASK
    text = json.dumps(value, ensure_ascii=False)
    return f"{text[:_LONGEST_VALUE]}…" if len(text) > _LONGEST_VALUE else value


def _bounded(changed: Difference) -> str:
    names = list(changed)[:_MOST_OPTIONS]
    rest = {"…": (None, f"{len(changed) - len(names)} more")} if len(changed) > len(names) else {}
    text = json.dumps({**{name: changed[name] for name in names}, **rest})
    if len(text) <= _LONGEST_DIFFERENCE:
        return text
    return json.dumps({name[:60]: ("…", "…") for name in names} | rest)
