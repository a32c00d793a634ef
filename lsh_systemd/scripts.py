"""The files that a command runs: who could change what they do."""

import os
import pwd
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path


def weaknesses(program: str, *, uid: int) -> Iterator[tuple[str, bool]]:
    """Why somebody else could change what this program does when the user runs it: words, and whether that is certain.

    Nothing where it is not there, or may not be looked at.
    """
    try:
        given = Path(program).absolute()
        path = given.resolve()
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
    # Of a link, both it and what it leads to can be replaced.
    yield from _replaceable(program, [*given.parents, *path.parents], uid=uid)


def import_weaknesses(folder: Path, module: str, *, uid: int) -> Iterator[tuple[str, bool]]:
    """Why somebody else could change what the user runs by importing the module from the folder, likewise; for Python
    runs each package on the way, and takes any file that is added there for a module that others ask for."""
    yield from _replaceable(str(folder / "*.py"), [folder], uid=uid, adding=True)
    at = folder
    for part in module.split("."):
        for file in (*at.glob(f"{part}.*"), *(at / part).glob("__init__.*")):
            yield from weaknesses(str(file), uid=uid)
        at /= part


def _replaceable(
    program: str, folders: Iterable[Path], *, uid: int, adding: bool = False
) -> Iterator[tuple[str, bool]]:
    """The first reason why somebody else could replace the file; ``adding``: or put another one beside it."""
    who = "root" if uid == 0 else "the job's user"
    for folder in folders:
        try:
            status = folder.stat()
        except OSError:
            return
        kept = status.st_mode & stat.S_ISVTX and not adding
        if status.st_mode & 0o002 and not kept:
            yield f"everybody may replace {program}, which {who} runs: {folder} is open to all", True
            return
        if status.st_uid not in (0, uid):
            owner = _name(status.st_uid)
            yield f"{owner} may replace {program}, which {who} runs: {folder} belongs to {owner}", uid == 0
            return
        if status.st_mode & 0o020 and not kept and status.st_gid not in (0, _group(uid)):
            yield f"a group may replace {program}, which {who} runs (chmod g-w {folder})", False
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
