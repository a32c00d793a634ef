"""Values in the words of a page."""

import json
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from lsh_systemd.cli.table import colour_of, duration, local_time, number, percent, relative, size
from lsh_systemd.run import rfc3339
from lsh_systemd.said import fraction
from lsh_systemd.status import schedule_text

# Where there is nothing to tell, as in the command line's tables.
NOTHING = Markup("-")
_TONES = {"green": "good", "red": "bad", "cyan": "runs", "yellow": "warn"}


def usec(at: int | str | None) -> int | None:
    """µs since 1970, or what ``rfc3339`` has made of them."""
    return round(datetime.fromisoformat(at).timestamp() * 1e6) if isinstance(at, str) else at


def when(at: int | str | None) -> Markup:
    """The time by the machine's clock, and how far it is from now."""
    known = usec(at)
    if known is None:
        return NOTHING
    shown, ago = local_time(known), relative(known, time.time_ns() // 1000)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(rfc3339(known), ago, shown)


def ago(at: int | str | None) -> Markup:
    """How far it is from now, and the time itself."""
    known = usec(at)
    if known is None:
        return NOTHING
    shown = relative(known, time.time_ns() // 1000)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(rfc3339(known), local_time(known), shown)


def tone(state: str) -> str:
    """Which colour goes with a state or a result."""
    return _TONES.get(colour_of(state) or "", "idle")


def value(given: Any) -> str:
    """A field of a job's definition in a line."""
    if isinstance(given, dict):
        return "  ".join(f"{name}={each}" for name, each in given.items())
    if isinstance(given, list):
        return "  ".join(map(str, given))
    return given if isinstance(given, str) else json.dumps(given)


FILTERS: dict[str, Callable[..., Any]] = {
    "when": when,
    "ago": ago,
    "tone": tone,
    "share": fraction,
    "value": value,
    "schedule": schedule_text,
    "duration": lambda usec: duration(None if usec is None else usec / 1e6),
    "seconds": duration,
    "size": size,
    "number": number,
    "percent": percent,
    "quoted": lambda text: quote(text, safe=""),
    "words": lambda text: text.replace("_", " "),
}
