"""One run of a command, now: a transient unit that is started, followed through the journal, and forgotten.

Not by StartTransientUnit: on systemd 252, a daemon-reload while such a unit runs (any package upgrade does one) reads
the file that systemd itself has written for it, and that drops ExecStopPostEx= and turns "$" and ";" in commands
into "\\$" and "\\;" (seen). A unit file under /run goes through the same renderer as every job, and is as transient.
"""

import contextlib
import signal
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lsh_systemd.collector import SETTLE_SECONDS, quiet_seconds
from lsh_systemd.control import Control
from lsh_systemd.errors import LshError
from lsh_systemd.fold import Fold
from lsh_systemd.job import Job
from lsh_systemd.journal import PATIENCE_SECONDS
from lsh_systemd.run import Run, as_written
from lsh_systemd.trust import is_believed
from lsh_systemd.unit import is_once

if TYPE_CHECKING:
    from lsh_systemd.jobs import Found

_TIMEOUT_STATUS = 124  # as timeout(1)


class RunOnce:
    """``start``, then ``output`` to its end, then ``finished`` and ``exit_status``."""

    def __init__(self, *, control: Control, job: Job) -> None:
        self._control, self._job = control, job
        self._journal = control.journal
        self._cursor: str | None = None
        self._found: Found | None = None
        self._run: Run | None = None
        self.id = ""

    def start(self) -> str:
        """Make the unit and start it; the run's id."""
        self._sweep()
        self._cursor = self._journal.tail()
        self._control.add(self._job, transient=True, once=True)
        self._found = self._control.jobs.get(self._job.id)
        try:
            self.id = self._control.start(self._found)
        except BaseException:
            self._forget()
            raise
        return self.id

    def output(self) -> Iterator[bytes]:
        """What the command writes, as it comes, until its end."""
        fold = Fold(
            self._control.scope,
            uid=self._journal.uid,
            last=lambda unit: None,
            known=lambda unit: unit == self._job.unit,
            trusted=lambda unit, uid: is_believed(self._control.scope, self._found, uid),
        )
        newest, late, gone = time.monotonic(), False, False
        for each in self._journal.follow(self._job.unit, self._cursor, pause=SETTLE_SECONDS):
            if each is None:
                # The last lines may come in after the record: the run is over when it is and nothing follows.
                if self._run:
                    quiet = quiet_seconds(self._journal, self._run, told_usec=time.time() * 1e6, late=late)
                elif self._goes_on():
                    continue
                else:  # it may have ended since we looked: its record is still to be read
                    newest, quiet, gone = newest if gone else time.monotonic(), PATIENCE_SECONDS, True
                if time.monotonic() - newest >= quiet:
                    return
                continue
            newest, late = time.monotonic(), False
            entry, message = each
            if entry.get("MESSAGE_ID"):
                fold.feed([entry])
                run = fold.changed.get(self.id)
                self._run = run if run and run.result is not None else None
            else:
                late = self._run is not None
                yield as_written(message, entry.get("_LINE_BREAK"))

    def finished(self) -> Run:
        """The run that has ended. Raises LshError where neither the record nor systemd told its end."""
        if self._run is None:
            raise LshError(f"{self._job.id} has ended, but the journal does not tell how", hint="lshctl doctor")
        return self._run

    def exit_status(self) -> int:
        """The command's own exit status; 128 + N for a signal, 124 for a timeout."""
        run = self.finished()
        if run.result == "timeout":
            return _TIMEOUT_STATUS
        if run.exit_status is not None:
            return run.exit_status
        if run.signal:
            return 128 + int(getattr(signal, f"SIG{run.signal}", 0))
        return 0 if run.result == "success" else 1

    def stop(self) -> None:
        """End the command (Ctrl-C)."""
        if self._found:
            self._control.stop(self._found)

    def close(self) -> None:
        """Leave no unit file behind, also where the unit's own clean-up could not run (it failed before its start)."""
        if self._found and not self._goes_on():
            self._forget()

    def _goes_on(self) -> bool:
        return self._found is not None and self._control.is_running(self._found)

    def _forget(self) -> None:
        if self._found:
            with contextlib.suppress(LshError):
                self._control.remove(self._found)

    def _sweep(self) -> None:
        """Remove what earlier, detached runs may have left: a run as another user cannot remove its own file."""
        for found in self._control.jobs.all():
            if found.transient and is_once(found.pair.service) and not self._control.is_running(found):
                with contextlib.suppress(LshError):
                    self._control.remove(found)
