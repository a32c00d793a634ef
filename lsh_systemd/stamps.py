"""Up to when a timer's times are accounted for: the stamps that systemd keeps for Persistent=yes, as files' times.

A job that catch-up makes up for (``--catch-up all``) has one of the same kind, which systemd does not look at.
"""

import contextlib
import os
import time
from pathlib import Path

from lsh_systemd.scope import Scope, timer_stamp_dir, work_dir


class Stamps:
    """The stamps of one scope. What cannot be done to one is left: a stamp is worth no failure of the job itself."""

    def __init__(self, scope: Scope) -> None:
        self._dir = timer_stamp_dir(scope)
        self._resting = work_dir(scope) / "resting"

    def path(self, timer: str) -> Path:
        return self._dir / f"stamp-{timer}"

    def read(self, timer: str) -> int | None:
        """The time (µs since 1970) up to which all is accounted for; None where there is no stamp."""
        try:
            return self.path(timer).stat().st_mtime_ns // 1000
        except OSError:
            return None

    def make(self, timer: str, usec: int | None = None) -> None:
        """Account for everything up to this time (None: now), whether or not there is a stamp."""
        with contextlib.suppress(OSError):
            self._dir.mkdir(parents=True, exist_ok=True)
            self.path(timer).touch()
            self.renew(timer, usec)

    def renew(self, timer: str, usec: int | None = None) -> None:
        """A timer that has changed or rested must not make up for times that were never its own."""
        with contextlib.suppress(OSError):
            at = time.time_ns() if usec is None else usec * 1000
            os.utime(self.path(timer), ns=(at, at))

    def rest(self, timer: str) -> None:
        """Note that the timer was disabled through us: nothing is missed until it is enabled again."""
        with contextlib.suppress(OSError):
            self._resting.mkdir(parents=True, exist_ok=True, mode=0o750)
            (self._resting / timer).touch()

    def wake(self, timer: str) -> None:
        with contextlib.suppress(OSError):
            (self._resting / timer).unlink()

    def rests(self, timer: str) -> bool:
        return (self._resting / timer).exists()

    def forget(self, timer: str) -> None:
        """A new job of the same name must not inherit when the old one ran last."""
        self.wake(timer)
        with contextlib.suppress(OSError):
            self.path(timer).unlink()

    def move(self, old: str, new: str) -> None:
        """What is known of a timer is known of it under its new name."""
        for folder, prefix in ((self._dir, "stamp-"), (self._resting, "")):
            with contextlib.suppress(OSError):
                (folder / f"{prefix}{old}").rename(folder / f"{prefix}{new}")
