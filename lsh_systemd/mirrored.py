"""What the ledger has ↔ its rows in Supabase's tables (packaging/supabase/migrations). Pure.

Rows of a table have all the same keys. Text that PostgreSQL cannot hold (NUL, half a character) becomes U+FFFD, and a
number that JSON has no words for null: the ledger keeps them as they were.
"""

import hashlib
import json
import math
import re
import uuid
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from lsh_systemd.audit import MASK
from lsh_systemd.bounds import NEUTRAL_PRIORITY
from lsh_systemd.errors import LshError
from lsh_systemd.job import Job
from lsh_systemd.jobfile import to_plain
from lsh_systemd.run import Output, Run, rfc3339

# Of what a run wrote, Supabase gets so many bytes, half from its head, half from its tail.
OUTPUT_BYTES = 64 * 1024
_UNPACKED_AT_ONCE = 64 * 1024
_UNFIT = re.compile("[\0\ud800-\udfff]")
# What JSON may have it in: an escape, NaN, Infinity, 1e999.
_PERHAPS_UNFIT = re.compile(r"\\u|[NIeE]|[0-9]{300}")
_ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Row = dict[str, Any]

# Columns of the ledger's runs that go as they are, those that are text, and times with their name over there.
_RUN_NUMBERS = (
    "started_monotonic_usec duration_usec cpu_usec memory_peak_bytes io_read_bytes io_write_bytes output_bytes attempt "
    "exit_status pid"
).split()
_RUN_TEXTS = "job unit trigger triggered_by result reason signal message progress failure".split()
_RUN_TIMES = {
    "started_usec": "started_at",
    "ended_usec": "ended_at",
    "due_usec": "due_at",
    "trigger_usec": "trigger_at",
}
RUN_COLUMNS = ("id", "boot_id", "first_id", "host", "metrics", *_RUN_NUMBERS, *_RUN_TEXTS, *_RUN_TIMES)


def run_row(values: Sequence[Any], *, host: str, scope: str) -> Row:
    """``values`` are those of ``RUN_COLUMNS``."""
    run = dict(zip(RUN_COLUMNS, values, strict=True))
    row: Row = {name: run[name] for name in _RUN_NUMBERS}
    for name in _RUN_TEXTS:
        text = run[name]
        row[name] = text if text is None or not _UNFIT.search(text) else fit(text)
    for name, theirs in _RUN_TIMES.items():
        row[theirs] = rfc3339(run[name])
    row["host"], row["id"], row["scope"], row["hostname"] = host, run["id"], scope, fit(run["host"])
    row["boot_id"], row["first_id"] = _uuid(run["boot_id"]), _uuid(run["first_id"])
    row["metrics"] = {} if run["metrics"] == "{}" else _object(run["metrics"])
    return row


def run_of_row(row: Mapping[str, Any]) -> Run:
    """The run of a row that Supabase has told, without its output; ``host`` is the host's name then. Raises LshError
    for a row that is none: whoever may write to the tables need not have gone through us."""
    try:
        fields: Row = {name: row[name] for name in (*_RUN_NUMBERS, *_RUN_TEXTS) if name != "failure"}
        fields |= {name: usec_of(row[theirs]) for name, theirs in _RUN_TIMES.items()}
        for name in ("id", "boot_id", "first_id"):
            fields[name] = row[name].replace("-", "") if row[name] else None
        metrics = json.dumps(row["metrics"] if isinstance(row["metrics"], dict) else {})
        run = Run(**{**fields, "boot_id": fields["boot_id"] or "", "host": row["hostname"], "metrics": metrics})
        numbers = [fields[name] for name in _RUN_NUMBERS]
        needed = (run.id, run.job, run.unit, run.host)
        texts = [*needed, *(each for name in _RUN_TEXTS if (each := fields.get(name)) is not None)]
        if all(each is None or type(each) is int for each in numbers) and all(isinstance(each, str) for each in texts):
            run.to_json()
            return run
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        pass
    raise LshError("Supabase tells of a run that is none", hint="lshctl supabase test")


def output_row(run_id: str, output: bytes, codec: str | None, *, host: str) -> Row:
    """``output``: as the ledger has it, in that ``codec``. Raises ValueError where it is damaged."""
    text = _bounded(output, codec).decode("utf-8", "replace")
    return {"host": host, "run": run_id, "output": text.replace("\0", "\ufffd")}


ALERT_COLUMNS = "id rule target event job run_id created_usec title body state done_usec error".split()


def alert_row(values: Sequence[Any], *, host: str, scope: str) -> Row:
    """``values`` are those of ``ALERT_COLUMNS``."""
    alert = {name: fit(value) for name, value in zip(ALERT_COLUMNS, values, strict=True)}
    known_by = f"{scope}/{alert['id']}/{alert['created_usec']}"  # the ledger's number alone may come again
    return {name: alert[name] for name in ("rule", "target", "event", "title", "body", "state", "error")} | {
        "host": host,
        "id": str(uuid.uuid5(uuid.UUID(host), known_by)),
        "scope": scope,
        "job": alert["job"] or None,
        "run": _uuid(alert["run_id"]),
        "created_at": rfc3339(alert["created_usec"]) or rfc3339(0),
        "done_at": rfc3339(alert["done_usec"]),
    }


CHANGE_COLUMNS = "id at_usec job before verb actor uid via difference".split()


def change_row(values: Sequence[Any], *, host: str, scope: str) -> Row:
    """``values`` are those of ``CHANGE_COLUMNS``."""
    change = {name: fit(value) for name, value in zip(CHANGE_COLUMNS, values, strict=True)}
    return {name: change[name] for name in ("id", "before", "verb", "actor", "uid", "via")} | {
        "host": host,
        "scope": scope,
        "at": rfc3339(change["at_usec"]) or rfc3339(0),
        "job": change["job"] or None,
        "difference": _object(change["difference"]),
    }


def job_row(job: Job | None, *, id: str, host: str, scope: str, **told: Any) -> Row:
    """``told``: what else there is to know of it, by column. ``job`` None: its files tell none any more.

    What may be secret is not in it: values of variables and standard input are masked.
    """
    plain = to_plain(job) if job else {}
    if "env" in plain:
        plain["env"] = dict.fromkeys(plain["env"], MASK)
    if "stdin" in plain:
        plain["stdin"] = MASK
    timeout = job.timeout if job else None
    row = {
        "name": job.name if job else id,
        "description": job.description if job else "",
        "command": job.command_line if job else "",
        "timezone": job.timezone if job else None,
        "category": job.category if job else "",
        "tags": list(job.tags) if job else [],
        "priority": job.priority if job else NEUTRAL_PRIORITY,
        "timeout_usec": None if timeout is None else round(timeout.total_seconds() * 1e6),
        "retries": job.retries if job else 0,
        "definition": plain,
        "removed_at": None,
        **told,
    }
    return {"host": host, "scope": scope, "id": id, **{name: fit(value) for name, value in row.items()}}


def digest(row: Mapping[str, Any]) -> str:
    """The same for rows that are the same."""
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()


def fit(value: Any) -> Any:
    """The value with what PostgreSQL and JSON cannot hold replaced, to any depth."""
    if isinstance(value, str):
        return _UNFIT.sub("\ufffd", value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {fit(str(name)): fit(each) for name, each in value.items()}
    return [fit(each) for each in value] if isinstance(value, list | tuple) else value


def _object(text: str) -> Row:
    """The JSON object that the text is, made fit; an empty one where it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(value, dict):
        return {}
    found: Row = fit(value) if _PERHAPS_UNFIT.search(text) else value
    return found


def usec_of(told: str | None) -> int | None:
    """A time as PostgREST tells it → µs since 1970."""
    if told is None:
        return None
    return (datetime.fromisoformat(told) - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)


def _uuid(text: str | None) -> str | None:
    return text if text and _ID.fullmatch(text) else None


def _bounded(output: bytes, codec: str | None) -> bytes:
    """What was written, head and tail of it where it is long, without ever holding all of it."""
    if codec is None and len(output) <= OUTPUT_BYTES:
        return output
    kept = Output(OUTPUT_BYTES)
    if codec is None:
        kept.add(output, "eof")
        return kept.bytes()
    unpacker = zlib.decompressobj()
    try:
        while output and not unpacker.eof:
            kept.add(unpacker.decompress(output, _UNPACKED_AT_ONCE), "eof")
            output = unpacker.unconsumed_tail
    except zlib.error as error:
        raise ValueError(f"the output is damaged: {error}") from None
    return kept.bytes()
