"""A bar on the terminal, while work goes on that takes long; gone when it is done."""

import contextlib
import mmap
import os
import shutil
import sys
import time
from collections.abc import Iterator

from lsh_systemd import progress

# What takes no longer shows no bar; and how often it is drawn.
_PATIENCE_SECONDS = 0.5
_PAUSE_SECONDS = 0.1
_WIDTH = 30


@contextlib.contextmanager
def shown() -> Iterator[None]:
    """Show on standard error how the work within comes on, where that is a terminal that can take a line back."""
    if not sys.stderr.isatty() or os.environ.get("TERM", "") in ("", "dumb"):
        yield
        return
    bar = _Bar()
    with progress.listening(bar.show):
        try:
            yield
        finally:  # after Ctrl-C, too
            bar.clear()


class _Bar:
    def __init__(self) -> None:
        self._next = time.monotonic() + _PATIENCE_SECONDS
        # Shared with children: the one that reads the journal draws, and may die of it.
        self._drawn = mmap.mmap(-1, 1)

    def show(self, what: str, done: float, total: float) -> None:
        if done >= total:
            self.clear()
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + _PAUSE_SECONDS
            self._draw(what, max(done / total, 0))

    def _draw(self, what: str, part: float) -> None:
        columns = shutil.get_terminal_size().columns
        full = round(part * _WIDTH)
        line = f"[{'#' * full}{'-' * (_WIDTH - full)}] {part:4.0%}  {what}"[: columns - 1]
        # The cursor stands at its beginning: what else is said meanwhile is written over it.
        self._drawn[0] = 1
        self._write(f"\r{line}\x1b[K\r")

    def clear(self) -> None:
        if self._drawn[0]:
            self._drawn[0] = 0
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()
