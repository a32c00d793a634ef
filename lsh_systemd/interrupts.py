"""Ctrl-C where it must not strike at once."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def later() -> Iterator[list[int]]:
    """Let a Ctrl-C count at the end only; what is yielded is empty until one has come. In a callback of GLib's it would
    be lost, or end Python itself. To any thread but the main one, or where it is ignored, none comes anyway."""
    came: list[int] = []
    strikes = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not strikes or threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield came
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt
