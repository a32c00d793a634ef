"""What is under way: each verb on a job is noted while it goes on, so that one that was killed in the middle is known.

A note is a file with the job's id whose writer holds a lock on it, which death gives back. It holds the verb, and what
else is needed to bring it to an end: see ``midway``.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lsh_systemd.scope import Scope, work_dir

Say = Callable[..., None]


@dataclass(frozen=True)
class Left:
    """A verb that was cut off. ``done`` takes its note away."""

    job: str
    words: tuple[str, ...]
    done: Callable[[], None]


class UnderWay:
    """The notes of one scope."""

    def __init__(self, scope: Scope) -> None:
        self.path = work_dir(scope) / "under-way"
        self._held: set[str] = set()  # by this process

    @contextlib.contextmanager
    def held(self, job: str, *words: str) -> Iterator[Say]:
        """Keep others from this job's note, and have these words in it; what is yielded puts other words there.

        A disk that takes no note hinders no verb.
        """
        if job in self._held:
            yield lambda *words: None
            return
        descriptor = self._open(job)
        if descriptor is None:
            yield lambda *words: None
            return
        self._held.add(job)
        try:
            _write(descriptor, words)
            yield lambda *words: _write(descriptor, words)
        finally:
            self._held.discard(job)
            with contextlib.suppress(OSError):
                (self.path / job).unlink()
            os.close(descriptor)

    def left(self) -> Iterator[Left]:
        """The verbs that were cut off, each kept from others until the next is asked for."""
        try:
            paths = sorted(self.path.iterdir())
        except OSError:
            return
        for path in paths:
            with contextlib.suppress(OSError), path.open("r") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError: it goes on
                self._held.add(path.name)
                try:
                    yield Left(path.name, tuple(file.read(1000).split()), path.unlink)
                finally:
                    self._held.discard(path.name)

    def _open(self, job: str) -> int | None:
        with contextlib.suppress(OSError):
            self.path.mkdir(parents=True, exist_ok=True, mode=0o750)
            while True:
                descriptor = os.open(self.path / job, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if _is_same(descriptor, self.path / job):
                    return descriptor
                os.close(descriptor)  # the verb before took it away when it ended
        return None


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _write(descriptor: int, words: tuple[str, ...]) -> None:
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, " ".join(words).encode(), 0)
