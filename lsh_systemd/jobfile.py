"""Job ↔ plain data (strings, numbers, lists, tables): the one shape for unit files, job files, JSON and the API."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from lsh_systemd.errors import BadInput
from lsh_systemd.job import Job
from lsh_systemd.span import Months, format_span, parse_period, parse_span
from lsh_systemd.text import visible

Plain = Any  # str, int, bool, list[str] or dict[str, str]

_SIZES = frozenset({"memory_high", "memory_max", "swap_max", "file_size_max"})
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def to_plain(job: Job) -> dict[str, Plain]:
    """The job's fields that differ from their defaults, in the order of the dataclass."""
    plain: dict[str, Plain] = {}
    for each in fields(Job):
        value = getattr(job, each.name)
        if each.default is not MISSING and value == each.default:
            continue
        if each.default_factory is not MISSING and value == each.default_factory():
            continue
        plain[each.name] = _to_plain_value(each.name, value)
    return plain


def from_plain(plain: Mapping[str, Plain]) -> Job:
    """The job that the data describes. Raises BadInput for an unknown field, a wrong type or a wrong value."""
    plain = _with_new_names(plain)
    for name in plain:
        if name not in _READERS:
            raise BadInput(
                f"{visible(str(name))} is not a field of a job", hint="the fields are " + ", ".join(sorted(_READERS))
            )
    for name in ("name", "command"):
        if name not in plain:
            raise BadInput(f"the job has no {name}")
    readers = _readers(plain)
    values = {name: readers[name](name, value) for name, value in plain.items()}
    return Job(**_without_event_macros(values))


def _readers(plain: Mapping[str, Plain]) -> "dict[str, Callable[[str, Plain], Any]]":
    return {**_READERS, "every": _period} if plain.get("anchor") else _READERS


def wrong_fields(plain: Mapping[str, Plain]) -> dict[str, BadInput]:
    """All the fields whose values are of a wrong type or form, each with what ``from_plain`` would say of it."""
    wrong = {}
    for name, value in plain.items():
        try:
            if name in _READERS:
                _readers(plain)[name](name, value)
        except BadInput as error:
            wrong[name] = error
    return wrong


def _with_new_names(plain: Mapping[str, Plain]) -> Mapping[str, Plain]:
    """persistent=true is how catch_up="once" is called after systemd."""
    if "persistent" not in plain:
        return plain
    rest = {name: value for name, value in plain.items() if name != "persistent"}
    return {"catch_up": "once" if _flag("persistent", plain["persistent"]) else "none"} | rest


def _without_event_macros(values: dict[str, Any]) -> dict[str, Any]:
    """@reboot and "@every SPAN" stand where cron expressions do, but mean no calendar: on_boot and every."""
    expressions = values.get("schedule", ())
    if len(expressions) != 1:
        return values
    macro, _, span = expressions[0].strip().partition(" ")
    if macro == "@reboot" and not span:
        return {**values, "schedule": (), "on_boot": True}
    if macro == "@every":
        return {**values, "schedule": (), "every": parse_span(span)}
    return values


def parse_size(text: str) -> int:
    """Bytes from "1.5G", "512M", "1048576" (powers of 1024, as in systemd). Raises BadInput."""
    text = text.strip()
    body = text.upper().removesuffix("IB").removesuffix("B") if text[-1:].isalpha() else text
    number, unit = (body[:-1], body[-1]) if body[-1:].isalpha() else (body, "")
    try:
        whole = number.isascii() and number.isdecimal() and len(number) < 20  # a float is exact up to 2^53 only
        size = int(number) * _UNITS[unit] if whole else int(float(number) * _UNITS[unit])
        if size < 0:
            raise ValueError(text)
    except (KeyError, ValueError, OverflowError):
        raise BadInput(f"{visible(text)} is not a size", hint="write it as 512M or 2G") from None
    return size


def format_size(size: int) -> str:
    """The shortest exact form that parse_size reads back: 536870912 → "512M"."""
    for unit in ("T", "G", "M", "K"):
        if size and size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return str(size)


def _to_plain_value(name: str, value: Any) -> Plain:
    if isinstance(value, timedelta | Months):
        return format_span(value)
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.isoformat()
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, tuple):
        return list(value)
    if name in _SIZES:
        return format_size(value)
    return value


def _text(name: str, value: Plain) -> str:
    if not isinstance(value, str):
        raise BadInput(f"{name} must be text")
    return value


def _command(name: str, value: Plain) -> str | tuple[str, ...]:
    return value if isinstance(value, str) else _texts(name, value)


def _texts(name: str, value: Plain) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise BadInput(f"{name} must be text or a list of texts")
    return tuple(value)


def _table(name: str, value: Plain) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
        raise BadInput(f"{name} must be a table of texts")
    return dict(value)


def _flag(name: str, value: Plain) -> bool:
    if not isinstance(value, bool):
        raise BadInput(f"{name} must be true or false")
    return value


def _number(name: str, value: Plain) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadInput(f"{name} must be a whole number")
    return value


def _numbers(name: str, value: Plain) -> tuple[int, ...]:
    return tuple(_number(name, each) for each in (value if isinstance(value, list | tuple) else [value]))


def _size(name: str, value: Plain) -> int:
    return parse_size(value) if isinstance(value, str) else _number(name, value)


def _span(name: str, value: Plain) -> timedelta:
    return parse_span(value if isinstance(value, str) else str(_number(name, value)))


def _period(name: str, value: Plain) -> timedelta | Months:
    return parse_period(value if isinstance(value, str) else str(_number(name, value)))


def _wall_time(name: str, value: Plain) -> datetime:
    try:
        wall = value if isinstance(value, datetime) else datetime.fromisoformat(_text(name, value))
    except ValueError:
        raise BadInput(f"{name} must be a date and time as 2027-01-31T02:00:00") from None
    if wall.tzinfo is not None:
        raise BadInput(f"{name} is by the job's time zone and has no UTC offset")
    return wall.replace(microsecond=0)


def _instant(name: str, value: Plain) -> datetime:
    try:
        instant = value if isinstance(value, datetime) else datetime.fromisoformat(_text(name, value))
    except ValueError:
        raise BadInput(f"{name} must be a date and time as 2027-01-31T02:00:00Z") from None
    if instant.tzinfo is None:
        raise BadInput(f"{name} must end in Z or a UTC offset")
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise BadInput(f"{name} lies beyond the calendar") from None


_READERS: dict[str, Callable[[str, Plain], Any]] = {
    "name": _text,
    "command": _command,
    "shell": _text,
    "stdin": _text,
    "schedule": _texts,
    "seconds": _flag,
    "calendar": _texts,
    "every": _span,
    "at": _instant,
    "on_boot": _flag,
    "timezone": _text,
    "jitter": _span,
    "schedule_from": _texts,
    "anchor": _wall_time,
    "not_before": _wall_time,
    "not_after": _wall_time,
    "except_calendar": _texts,
    "catch_up": _text,
    "catch_up_spread": _span,
    "description": _text,
    "category": _text,
    "tags": _texts,
    "env": _table,
    "env_file": _texts,
    "working_dir": _text,
    "run_as": _text,
    "timeout": _span,
    "grace": _span,
    "stuck_after": _span,
    "retries": _number,
    "retry_delay": _span,
    "retry_max_delay": _span,
    "retry_on": _texts,
    "no_retry_exit": _numbers,
    "overlap": _text,
    "groups": _texts,
    "priority": _number,
    "nice": _number,
    "memory_high": _size,
    "memory_max": _size,
    "swap_max": _size,
    "cpu_quota": _number,
    "cpu_weight": _number,
    "io_weight": _number,
    "io_max": _texts,
    "tasks_max": _number,
    "file_size_max": _size,
    "open_files_max": _number,
    "sandbox": _text,
    "write_path": _texts,
    "network": _text,
    "dynamic_user": _flag,
    "secrets": _texts,
    "condition": _text,
    "after": _texts,
    "when_path": _texts,
    "when_socket": _texts,
    "on_success": _texts,
    "on_failure": _texts,
    "once_in_fleet": _flag,
    "fleet_unreachable": _text,
    "from_fleet": _flag,
    "params": _texts,
    "ping": _text,
    "allow_dangerous": _flag,
    "applied": _text,
}

# Field → what it holds: text, texts, command, table, flag, number, numbers, size, span, wall_time or instant.
# persistent is the older word for catch_up="once".
FIELDS = {name: reader.__name__.removeprefix("_") for name, reader in _READERS.items()} | {"persistent": "flag"}
