"""The file in which a run says of itself what it has to say ($LSH_METRICS): only its user, and root, come near it."""

import contextlib
import fcntl
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from lsh_systemd import said
from lsh_systemd.errors import LshError
from lsh_systemd.run import Run
from lsh_systemd.said import Said
from lsh_systemd.scope import Scope, said_file

# A run that says very much, its progress a thousand times, has its file made short again.
_LONG = said.MAX_BYTES // 2


def say(path: Path, what: Said) -> None:
    """Add it to what the run has said. Raises LshError where the file cannot be written."""
    try:
        with _locked(path) as file:
            os.write(file, said.lines(what).encode())
            if os.fstat(file).st_size > _LONG:
                new = path.with_name(f".{path.name}.new")
                # The folder is the job's user's, and root may be saying this.
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                with os.fdopen(os.open(new, flags, 0o600), "w") as shorter:
                    shorter.write(said.lines(_read(file)))
                new.replace(path)
    except OSError as error:
        raise LshError(f"cannot write {path}: {error.strerror}", hint="only the run's own user may") from None


def told(scope: Scope, run: Run) -> Run:
    """The run with what it has said up to now, where it goes on and the caller may read that."""
    if not run.running:
        return run
    try:
        file = os.open(said_file(scope, run.unit), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return run
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return run
        now = _read(file)
    except OSError:
        return run
    finally:
        os.close(file)
    return replace(run, message=now.message, metrics=json.dumps(dict(now.metrics)), progress=now.progress)


def _read(file: int) -> Said:
    """What the end of the file says, without the line that the beginning of it may cut."""
    size = os.fstat(file).st_size
    data = os.pread(file, said.MAX_BYTES, max(0, size - said.MAX_BYTES))
    if size > said.MAX_BYTES:
        data = data.partition(b"\n")[2]
    return said.parse(data.decode("utf-8", "replace"))


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The file, for appending, and nobody else's while it lasts; not one that was replaced while we waited for it."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file).st_ino == path.stat().st_ino:
                yield file
                return
        finally:
            os.close(file)
