"""The files that a command runs: who could change what they do."""

import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path


def weaknesses(program: str, *, uid: int) -> Iterator[tuple[str, bool]]:
    """Why somebody else could change what this program does when the user runs it: words, and whether that is certain.

    Nothing where it is not there, or may not be looked at.
    """
    try:
        path = Path(program).resolve()
        status = path.stat()
    except (OSError, RuntimeError, ValueError):
        return
    if not stat.S_ISREG(status.st_mode):
        return
    who = "root" if uid == 0 else "the job's user"
    if status.st_mode & 0o002:
        yield f"everybody may change {program}, which {who} runs (chmod o-w {path})", True
    elif status.st_uid not in (0, uid):
        yield f"{program} belongs to {_name(status.st_uid)}, and {who} runs it (chown root {path})", uid == 0
    elif status.st_mode & 0o020 and status.st_gid not in (0, _group(uid)):
        yield f"a group may change {program}, which {who} runs (chmod g-w {path})", False
    for folder in path.parents:
        try:
            mode = folder.stat().st_mode
        except OSError:
            return
        if mode & 0o002 and not mode & stat.S_ISVTX:
            yield f"everybody may replace {program}, which {who} runs: {folder} is open to all", True
            return


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return os.getgid()
