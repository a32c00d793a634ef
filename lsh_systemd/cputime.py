"""Bounds how much CPU time something may take, such as a regular expression on a text that somebody else chose."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in the midst of it when the process has used so many seconds of CPU. In the main thread only.

    Time on a busy machine does not count. Python's regular expressions look for signals as they go (seen on 3.11).
    """

    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {seconds:g} s of CPU")

    before = signal.signal(signal.SIGVTALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    finally:
        signal.signal(signal.SIGVTALRM, before)
