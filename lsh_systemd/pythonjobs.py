"""Jobs that are Python functions: what a project's modules import to define them. Pure, of the standard library alone.

    from lsh_systemd.pythonjobs import Context, Outcome, job

    @job(id="session-cleanup", schedule="${CLEANUP_SCHEDULE:-0 * * * *}", timeout="2m", max_retries=2)
    async def clean_up(context: Context) -> Outcome:
        context.logger.info("attempt %d of run %s", context.attempt, context.run_id)
        context.progress(40, 100, "copying")
        return Outcome(message="100 sessions removed", metrics={"sessions_removed": 100})

`lshctl apply --python package.module` makes a unit of each.
"""

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from lsh_systemd import said
from lsh_systemd.errors import BadInput
from lsh_systemd.job import job_id
from lsh_systemd.said import Number, Said
from lsh_systemd.span import format_span, parse_span
from lsh_systemd.text import visible

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended, as its function says: what it returns. A mapping of these names will do; None and True are a
    success, False is a failure. An exception is one, too, and its stack trace stands in the run's output."""

    success: bool = True
    message: str | None = None
    metrics: Mapping[str, Number] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a run knows of itself. ``run_id``: as in `lshctl runs`. ``attempt`` counts from 1. ``deadline``: when the
    timeout ends it; None where there is none. What ``logger`` is told stands in the run's output."""

    job: str
    run_id: str
    attempt: int
    deadline: datetime | None
    logger: logging.Logger
    say: Callable[[Said], None]

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Tell how far the run has come: 40 of 100, or 40 percent where there is no total. `lshctl list` shows it."""
        told = f"{done:g}%" if total is None else f"{done:.15g}/{total:.15g}"
        words = None if message is None else said.message_of(message).message
        self.say(Said(progress=said.progress_of(told).progress, message=words))

    def metrics(self, **numbers: Number) -> None:
        """Keep numbers with the run; the last one of each name counts."""
        self.say(numbers_of(numbers))

    def message(self, text: str) -> None:
        """Keep a message with the run; the last one counts."""
        self.say(said.message_of(text))

    @property
    def remaining(self) -> timedelta | None:
        """How long it is to the deadline."""
        return None if self.deadline is None else self.deadline - datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A function that is a job. ``fields``: those of the job, as in job files."""

    id: str
    function: Callable[[Context], Any]
    enabled: bool
    timeout: timedelta | None
    fields: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """What `lshctl apply` is told."""
        code = inspect.unwrap(self.function).__code__
        place = {"file": code.co_filename, "line": code.co_firstlineno}
        return {"id": self.id, "module": self.function.__module__, "enabled": self.enabled, **place,
                "fields": dict(self.fields)}  # fmt: skip


_definitions: dict[str, Definition] = {}


def job(
    *,
    id: str,
    schedule: str | Sequence[str] | None = None,
    name: str | None = None,
    description: str | None = None,
    timeout: str | float | timedelta | None = None,
    max_retries: int = 0,
    enabled: bool = True,
    **fields: Any,
) -> Callable[[F], F]:
    """Make a job of a function or coroutine that takes a Context; the function stays as it is.

    ``id``: small letters, digits and -. ``schedule``: five cron fields or a macro, or "${NAME}" to take them from the
    environment of `lshctl apply`; without one the job runs when it is started. ``timeout``: seconds, a span as "2m", or
    a timedelta. ``fields``: whatever else a job has in job files, as memory_max="512M". Raises BadInput.
    """
    if not isinstance(id, str) or not id.strip() or job_id(id) != id:
        raise BadInput(f"{visible(str(id))} is no id of a job", hint="use a-z, 0-9 and -")
    if not isinstance(enabled, bool):
        raise BadInput(f"enabled of the job {id} must be True or False")
    for other in sorted(fields.keys() & {"command", "retries", "shell", "applied"}):
        raise BadInput(f"the job {id} cannot have the field {other}: it is the function's own")
    limit = _span(timeout)
    # The name is what the id is the slug of; another name describes it.
    fits = name is not None and bool(name.strip()) and job_id(name) == id
    given = {
        "name": name if fits else id,
        "description": description or (None if fits else name),
        "schedule": [schedule] if isinstance(schedule, str) else None if schedule is None else [*schedule],
        "timeout": None if limit is None else format_span(limit),
        "retries": max_retries or None,
    }
    kept = {key: value for key, value in (given | fields).items() if value is not None}

    def decorate(function: F) -> F:
        if not hasattr(inspect.unwrap(function), "__code__"):
            raise BadInput(f"the job {id} must be a function", hint="def or async def, which may call anything")
        if other := _definitions.get(id):
            raise BadInput(f"there are two jobs {id}: in {other.function.__module__} and {function.__module__}")
        _definitions[id] = Definition(id=id, function=function, enabled=enabled, timeout=limit, fields=kept)
        return function

    return decorate


def defined(module: str) -> dict[str, Definition]:
    """The jobs that the module, or the modules below it, have defined up to now."""
    return {each.id: each for each in _definitions.values() if f"{each.function.__module__}.".startswith(f"{module}.")}


def outcome_of(returned: Any) -> Outcome:
    """What a function has returned. Raises TypeError for what tells no outcome."""
    if isinstance(returned, Outcome):
        return returned
    if returned is None or isinstance(returned, bool):
        return Outcome(success=returned is not False)
    if isinstance(returned, Mapping) and returned.keys() <= {"success", "message", "metrics"} and "success" in returned:
        return Outcome(**returned)
    raise TypeError(f"the job returned {type(returned).__name__}; it may be an Outcome, a mapping, a bool or None")


def numbers_of(numbers: Mapping[str, Number]) -> Said:
    """Numbers that a run keeps. Raises BadInput for what is none."""
    return said.metrics_of(f"{name}={int(each) if isinstance(each, bool) else each}" for name, each in numbers.items())


def _span(timeout: str | float | timedelta | None) -> timedelta | None:
    if isinstance(timeout, str):
        return parse_span(timeout)
    if isinstance(timeout, int | float):
        try:
            return timedelta(seconds=timeout)
        except (OverflowError, ValueError):
            raise BadInput(f"{timeout} is no number of seconds") from None
    if not isinstance(timeout, timedelta | None):
        raise BadInput("timeout must be seconds, a span as '2m', or a timedelta")
    return timeout
