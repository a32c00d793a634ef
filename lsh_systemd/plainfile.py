"""Files that others may have put there, read without hanging on a pipe or a device; and who could put another there."""

import errno
import itertools
import os
import stat
from pathlib import Path


def read(path: Path, most: int, *, pipe: bool = False) -> tuple[bytes, os.stat_result]:
    """What is in the file, and its status; one byte more than ``most`` where there are more. Raises OSError; also for
    what is no plain file, unless it may be a ``pipe``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | (0 if pipe else os.O_NONBLOCK))
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not (pipe or stat.S_ISREG(status.st_mode)):
            raise OSError(errno.EINVAL, "it is no plain file")
        return file.read(most + 1), status


def stranger(path: Path, *, adding: bool = False) -> Path | None:
    """The first folder on the way to the file, as it is named and as its links lead to it, where somebody else than us
    and root could put another in its place; ``adding``: or one beside it. Raises OSError."""
    given = path.absolute()
    ours = (0, os.geteuid())
    for at in (given, given.resolve()):
        for below, folder in itertools.pairwise([at, *at.parents]):
            status = folder.stat()
            # In /tmp and its like what is there is its owner's to replace.
            kept = status.st_mode & stat.S_ISVTX and not adding and below.lstat().st_uid in ours
            if status.st_uid not in ours or (status.st_mode & 0o022 and not kept):
                return folder
    return None
