"""Calendar expressions and timestamps as systemd itself reads them, through its own parser (systemd-analyze)."""

import os
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.text import visible

_UNIX_SECONDS = re.compile(r"^\s*UNIX seconds: @([0-9.]+)$", re.MULTILINE)
_NORMALIZED = re.compile(r"^\s*Normalized form: (.+)$", re.MULTILINE)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)")
_DAYS = {"yesterday": -1, "today": 0, "tomorrow": 1}
# Printed once for each instant: as its local time where the local zone is UTC, else as "(in UTC)".
_IN_UTC = re.compile(r": \w{3} (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) UTC$", re.MULTILINE)


def normalized(expressions: Sequence[str]) -> list[str]:
    """The OnCalendar= values in systemd's normalized form. Raises BadInput for one that it does not take."""
    forms = []
    for expression in expressions:
        output = _analyze("calendar", [expression], what="a calendar expression")
        form = _NORMALIZED.search(output)
        if not form:
            raise LshError(f"systemd-analyze did not say what {visible(expression)} means")
        forms.append(form[1])
    return forms


def instants(lines: Sequence[str], *, after: datetime, count: int) -> list[datetime]:
    """The first ``count`` instants after ``after`` at which a timer with all these OnCalendar= lines elapses; UTC."""
    if not lines:
        return []
    base = f"--base-time={after.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    output = _analyze("calendar", lines, base, f"--iterations={count}", what="a calendar expression")
    found = {datetime.fromisoformat(each).replace(tzinfo=UTC) for each in _IN_UTC.findall(output)}
    return sorted(found)[:count]


def parse_timestamp(text: str, *, zone: str | None = None) -> datetime:
    """An instant as systemd.time(7) writes it ("2027-01-31 02:00", "+3h", "yesterday"), in local time or ``zone``'s.

    Beyond that: "tomorrow 9:00" and "today 18:30", and RFC 3339 with its zone ("2027-01-31T02:00:00Z").
    """
    if _RFC3339.fullmatch(text):
        try:
            return datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError):
            raise BadInput(f"{visible(text)} is not a point in time") from None
    day, blank, clock = text.partition(" ")
    if blank and day in _DAYS:
        date = datetime.now(ZoneInfo(zone or local_zone())).date() + timedelta(days=_DAYS[day])
        text = f"{date} {clock}"
    output = _analyze("timestamp", [text], what="a point in time", zone=zone)
    match = _UNIX_SECONDS.search(output)
    if not match:
        raise LshError(f"systemd-analyze did not say when {visible(text)} is")
    return datetime.fromtimestamp(float(match[1]), UTC)


def local_zone() -> str:
    """The name of the machine's time zone, by which systemd reads a line that names none."""
    try:
        target = str(Path("/etc/localtime").readlink())
    except OSError:  # no such link: systemd takes UTC
        return "UTC"
    _, mark, name = target.partition("zoneinfo/")
    return name if mark else "UTC"


def _analyze(verb: str, arguments: Sequence[str], *options: str, what: str, zone: str | None = None) -> str:
    # TZ would move the local time away from the one that the manager uses.
    environment = {name: value for name, value in os.environ.items() if name != "TZ"}
    environment |= {"LC_ALL": "C", "SYSTEMD_COLORS": "0"} | ({"TZ": zone} if zone else {})
    shown = " ".join(map(visible, arguments))
    try:
        process = subprocess.run(
            ["systemd-analyze", verb, *options, "--", *arguments], capture_output=True, text=True, env=environment
        )
    except ValueError:  # a NUL byte
        raise BadInput(f"{shown} is not {what}", hint="see systemd.time(7)") from None
    except FileNotFoundError:
        raise LshError("systemd-analyze is not installed", hint="it is part of the package systemd") from None
    if process.returncode:
        raise BadInput(f"{shown} is not {what}", hint="see systemd.time(7)")
    return process.stdout
