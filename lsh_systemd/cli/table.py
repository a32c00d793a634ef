"""Tables and times for people: aligned and coloured on a terminal, plain in a pipe."""

import shutil
import sys
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from lsh_systemd.said import fraction
from lsh_systemd.text import escape_controls

_BAR_CELLS = 10
_COLOURS = {
    "success": "green",
    "running": "cyan",
    "waiting": "green",
    "disabled": "bright_black",
    "stopped": "yellow",
    "stuck": "yellow",
    "retrying": "yellow",
    "skipped": "yellow",
    "changed": "yellow",
    "manual": None,
    "elapsed": "bright_black",
}
# Every other result is a failure.
_FAILURES = frozenset(
    "failed invalid exit-code signal core-dump timeout oom-kill watchdog resources protocol start-limit-hit "
    "lost missed".split()
)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, state_column: int | None = None) -> None:
    """Print rows under a head; the last column is cut to the terminal's width, and never in a pipe."""
    shown = [[escape_controls(cell, keep="").replace("\n", " ") for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(head, *shown, strict=True)]
    room = (
        shutil.get_terminal_size().columns - sum(widths[:-1]) - 2 * (len(widths) - 1) if sys.stdout.isatty() else None
    )
    click.echo(click.style(_line(head, widths, room), bold=True))
    for row in shown:
        cells = [_pad(cell, width) for cell, width in zip(row, widths, strict=True)]
        cells[-1] = _cut(row[-1], room)
        if state_column is not None:
            cells[state_column] = paint(cells[state_column])
        click.echo("  ".join(cells).rstrip())


def paint(state: str) -> str:
    """The state or result in its colour."""
    colour = colour_of(state.strip())
    return click.style(state, fg=colour) if colour else state


def colour_of(state: str) -> str | None:
    return "red" if state in _FAILURES else _COLOURS.get(state)


def local_time(usec: int | None) -> str:
    """ "2026-11-23 02:00:00" in the machine's time zone; "-" for no time."""
    return (
        f"{datetime.fromtimestamp(usec // 1_000_000, UTC).astimezone():%Y-%m-%d %H:%M:%S}" if usec is not None else "-"
    )


def relative(usec: int, now_usec: int) -> str:
    """ "in 3h 12min" or "5s ago"."""
    return f"in {duration((usec - now_usec) / 1e6)}" if usec >= now_usec else f"{duration((now_usec - usec) / 1e6)} ago"


def duration(seconds: float | None) -> str:
    """The two largest units: 1.234 → "1.23s", 4000 → "1h 6min"."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.3g}s"
    parts: list[str] = []
    rest = int(seconds)
    for unit, size in (("y", 31_557_600), ("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
        if parts and (len(parts) == 2 or not count):
            break
    return " ".join(parts)


def size(count: int | None) -> str:
    """1536000 → "1.5M" (powers of 1024)."""
    if count is None:
        return "-"
    value = float(count)
    for unit in ("B", "K", "M", "G"):
        if value < 1024:
            return f"{value:.3g}{unit}"
        value /= 1024
    return f"{value:.3g}T"


def bar(progress: str | None) -> str:
    """ "40/100" → "[████······] 40/100 (40%)"; empty for none."""
    if progress is None:
        return ""
    part = fraction(progress)
    full = int(part * _BAR_CELLS)
    return f"[{'█' * full}{'·' * (_BAR_CELLS - full)}] {progress} ({int(part * 100)}%)"


def number(value: float) -> str:
    """As a person writes it: 1234567, 0.25, 1.23e+20; six digits where it is no whole number."""
    is_plain = value % 1 == 0 or abs(value) >= 1e6
    return f"{value:.0f}" if is_plain and abs(value) < 1e15 else f"{value:.6g}"


def percent(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1%}"


def _line(cells: Sequence[str], widths: Sequence[int], room: int | None) -> str:
    return "  ".join([*map(_pad, cells[:-1], widths[:-1]), _cut(cells[-1], room)]).rstrip()


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _cut(text: str, room: int | None) -> str:
    room = None if room is None else max(room, 8)
    if room is None or _width(text) <= room:
        return text
    while text and _width(text) > room - 1:
        text = text[:-1]
    return text + "…"


def _width(text: str) -> int:
    """Columns on a terminal: East Asian wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
