"""Small lists that the API keeps in files of its own: beside the store, for their owner only, in JSON."""

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lsh_systemd.errors import LshError, refused

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)
else:
    T = TypeVar("T")


def write_whole(file: Path, text: str) -> None:
    """For the owner only, whole or not at all: where the disk is full, what was there stays. Raises OSError."""
    descriptor, name = tempfile.mkstemp(prefix=f".{file.stem}.", dir=file.parent)  # 0600
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(descriptor)
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class Kept(Generic[T]):
    """Dataclasses in a file, read anew whenever the file is another one. ``shape`` makes one of its JSON object."""

    def __init__(self, path: Path, shape: Callable[[dict[str, Any]], T], hint: str) -> None:
        self.path, self._shape, self._hint = path, shape, hint
        self._seen: tuple[int, int] | None = None
        self._rows: list[T] = []

    def all(self) -> list[T]:
        """Raises LshError for a file that cannot be read."""
        try:
            told = self.path.stat()
        except FileNotFoundError:
            self._seen, self._rows = None, []
            return self._rows
        except OSError as error:
            raise LshError(f"cannot read {self.path}: {error.strerror}") from None
        if self._seen != (told.st_ino, told.st_mtime_ns):
            self._rows = self._read()
            self._seen = (told.st_ino, told.st_mtime_ns)
        return self._rows

    def change(self, change: Callable[[Sequence[T]], list[T]]) -> None:
        """Put in their place what ``change`` makes of them; whoever else changes them waits."""
        try:
            with self._locked():
                rows = change(self._read() if self.path.exists() else [])
                write_whole(self.path, json.dumps([asdict(row) for row in rows], indent=1) + "\n")
        except OSError as error:
            raise refused(f"cannot write {self.path}: {error.strerror}", error, hint="try sudo") from None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _read(self) -> list[T]:
        try:
            return [self._shape(row) for row in json.loads(self.path.read_text())]
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise LshError(f"cannot read {self.path}: {error}", hint=self._hint) from None
