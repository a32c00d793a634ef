"""What a run says of itself: numbers, a message, its progress. Pure.

It says so in lines: ``NAME=NUMBER``, ``message=TEXT`` or ``progress=40/100``; the last word on each counts. The lines
are the job's own and may hold anything: what is none of these is passed over, and there is a bound to everything.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lsh_systemd.errors import BadInput
from lsh_systemd.text import check_encodable, visible

# How many names a run may have numbers for, and how long its message may be (in characters).
MAX_METRICS = 64
MAX_MESSAGE = 500
# How much is read of what a run has written (libexec/record has this number, too): the last so many bytes.
MAX_BYTES = 65536
# The recorder writes this for the end of a line: no field of `logger --journald` can hold a newline.
RECORD_SEPARATOR = "\x1e"

_BREAK = re.compile(f"[\n\0{RECORD_SEPARATOR}]")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_INTEGER = re.compile(r"[+-]?[0-9]{1,15}")
_FLOAT = re.compile(r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,3})?")
_WORDS = frozenset({"message", "progress"})

Number = int | float


@dataclass(frozen=True, kw_only=True)
class Said:
    """``progress`` is "DONE/TOTAL", as a run keeps it."""

    metrics: Mapping[str, Number] = field(default_factory=dict)
    message: str | None = None
    progress: str | None = None


def parse(text: str) -> Said:
    """What the lines say."""
    metrics: dict[str, Number] = {}
    message = progress = None
    for line in _BREAK.split(text) if text else ():
        name, mark, value = line.strip().partition("=")
        name, value = name.rstrip(), value.strip()
        if not mark:
            continue
        if name == "message":
            message = _cut(value) or None
        elif name == "progress":
            progress = _progress(value) or progress
        elif _NAME.fullmatch(name) and (name in metrics or len(metrics) < MAX_METRICS):
            number = _number(value)
            metrics |= {} if number is None else {name: number}
    return Said(metrics=metrics, message=message, progress=progress)


def lines(said: Said) -> str:
    """The lines that say it; ``parse`` reads them back."""
    words = [("message", said.message), ("progress", said.progress)]
    found = [f"{name}={value}" for name, value in (*said.metrics.items(), *words) if value is not None]
    return "".join(f"{line}\n" for line in found)


def metrics_of(pairs: Iterable[str]) -> Said:
    """Numbers from ``NAME=NUMBER`` words. Raises BadInput for anything else."""
    metrics: dict[str, Number] = {}
    for pair in pairs:
        name, mark, value = pair.partition("=")
        if not mark:
            raise BadInput(f"{visible(pair)} is not of the form NAME=NUMBER", hint="items_processed=100")
        if name in _WORDS or not _NAME.fullmatch(name):
            hint = "letters, digits and _ . -, no digit first, 64 at most; not message or progress"
            raise BadInput(f"{visible(name)} is no name for a number", hint=hint)
        number = _number(value)
        if number is None:
            raise BadInput(f"{visible(value)} is not a number", hint="100, 2.5 or 1e6")
        metrics[name] = number
    if len(metrics) > MAX_METRICS:
        raise BadInput(f"these are {len(metrics)} numbers", hint=f"{MAX_METRICS} names are the most for a run")
    return Said(metrics=metrics)


def message_of(text: str) -> Said:
    """A message, in one line and no longer than a run keeps it. Raises BadInput for none."""
    check_encodable("message", text)
    message = _cut(" ".join(_BREAK.split(text)).strip())
    if not message:
        raise BadInput("the message is empty")
    return Said(message=message)


def progress_of(text: str) -> Said:
    """Progress from ``40/100`` or ``40%``. Raises BadInput for anything else."""
    progress = _progress(text)
    if progress is None:
        raise BadInput(f"{visible(text)} is no progress", hint="40/100, or 40%")
    return Said(progress=progress)


def fraction(progress: str) -> float:
    """ "40/100" → 0.4; never more than 1."""
    done, _, total = progress.partition("/")
    return min(1.0, float(done) / float(total))


def progress_json(progress: str | None, message: str | None) -> dict[str, Any] | None:
    """Progress as JSON tells it: done, total, fraction (0 to 1) and what the run said last."""
    if progress is None:
        return None
    done, _, total = progress.partition("/")
    return {
        "done": json.loads(done),
        "total": json.loads(total),
        "fraction": fraction(progress),
        "message": message,
    }


def _progress(text: str) -> str | None:
    done, mark, total = (f"{text.strip()[:-1]}/100" if text.strip().endswith("%") else text).partition("/")
    left, right = _number(done.strip()), _number(total.strip())
    if not mark or left is None or right is None or left < 0 or right <= 0 or not math.isfinite(left / right):
        return None
    return f"{left}/{right}"


def _number(text: str) -> Number | None:
    if _INTEGER.fullmatch(text):
        return int(text)
    number = float(text) if _FLOAT.fullmatch(text) else math.inf
    return number if math.isfinite(number) else None


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"
