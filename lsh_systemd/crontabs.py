"""The crontabs of this machine: files under /etc, those behind crontab(1), and whatever file or stream is named."""

import os
import pwd
import re
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lsh_systemd import plainfile
from lsh_systemd.cronjobs import Account
from lsh_systemd.crontab import Form
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.scope import Scope, state_dir
from lsh_systemd.text import visible

CRONTAB = Path("/etc/crontab")
CRON_D = Path("/etc/cron.d")
ANACRONTAB = Path("/etc/anacrontab")

_LARGEST = 16 * 2**20
# What Debian's cron takes for a name in /etc/cron.d: no dot, so no backup of an editor's or of dpkg's.
_CRON_D_NAME = re.compile("[A-Za-z0-9_-]+")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A crontab that was read. ``owner`` is whose jobs they are where no column says it; ``name`` what a file of
    /etc/cron.d is called. Standard input has neither ``path`` nor ``user``."""

    label: str
    text: str
    form: Form
    owner: str
    name: str = ""
    path: Path | None = None
    user: str | None = None  # as crontab(1) calls whose it is

    @property
    def is_live(self) -> bool:
        """Whether cron reads it where it is."""
        return self.user is not None or (self.path is not None and self.path.is_relative_to("/etc"))


def of_file(path: Path, *, form: Form | None, owner: str) -> Source:
    """A crontab in a file; where no form is given, its place tells it."""
    path = Path(os.path.abspath(path))  # noqa: PTH100 (a link is to be shown as it was named)
    in_cron_d = path.parent == CRON_D
    if form is None:
        form = Form.SYSTEM if in_cron_d or path == CRONTAB else Form.USER
        form = Form.ANACRON if path.name == "anacrontab" else form
    name = path.name if in_cron_d else ""
    return Source(label=str(path), text=_read(path), form=form, owner=owner, name=name, path=path)


def of_stdin(*, form: Form | None, owner: str) -> Source:
    text = sys.stdin.buffer.read().decode(errors="surrogateescape")
    return Source(label="standard input", text=text, form=form or Form.USER, owner=owner)


def of_user(user: str) -> Source:
    """A user's crontab, through crontab(1)."""
    done = _crontab("-l", user=user)
    if done.returncode:
        problem = done.stderr.decode(errors="replace").strip() or f"crontab -l failed for {user}"
        raise BadInput(problem, hint="crontab -l shows the one to import; a file can be named, too")
    text = done.stdout.decode(errors="surrogateescape")
    return Source(label=f"the crontab of {user}", text=text, form=Form.USER, owner=user, user=user)


def of_system() -> tuple[list[Source], list[str]]:
    """/etc/crontab, /etc/cron.d and /etc/anacrontab; and in words what of it cron does not read either."""
    sources: list[Source] = []
    skipped: list[str] = []
    candidates = [CRONTAB, *sorted(CRON_D.iterdir() if CRON_D.is_dir() else []), ANACRONTAB]
    for path in candidates:
        if not path.is_file():
            continue
        if path.parent == CRON_D and not _CRON_D_NAME.fullmatch(path.name):
            if not path.name.startswith("."):
                skipped.append(f"{path}: not read by Debian's cron, because of its name")
            continue
        status = path.stat()
        if status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            skipped.append(f"{path}: not read by cron, because others than root may write it")
            continue
        sources.append(of_file(path, form=None, owner="root"))
    return sources, skipped


def account(name: str) -> Account | None:
    """The user of that name on this machine."""
    try:
        found = pwd.getpwnam(name)
    except (KeyError, ValueError):
        return None
    return Account(name=found.pw_name, home=found.pw_dir, has_home=Path(found.pw_dir).is_dir())


def caller() -> str:
    """The user who runs us."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        raise LshError(f"there is no user with the number {os.getuid()}") from None


def rewrite(source: Source, text: str, *, scope: Scope) -> Path:
    """Put another text in the place of the crontab that was read; the path of the backup. Raises LshError, and has
    changed nothing, where somebody else has changed it since it was read."""
    check_rewritable(source)
    now = of_user(source.user).text if source.user else _read(_the_file(source))
    if now != source.text:
        raise LshError(f"{source.label} was changed by somebody else just now", hint="look at it and try again")
    backup = _back_up(source, scope)
    try:
        _write(source, text)
    except BaseException:
        backup.unlink(missing_ok=True)
        raise
    return backup


def restore(source: Source, backup: Path) -> None:
    """Undo ``rewrite``."""
    _write(source, source.text)
    backup.unlink(missing_ok=True)


def check_rewritable(source: Source) -> None:
    """Raise BadInput for what came through a pipe; and where its folder is another's, who could lead root's writing
    to any other file."""
    if source.path is None and source.user is None:
        raise BadInput("--take-over needs a file: there are no lines to comment out in standard input")
    if source.path is None or os.geteuid() != 0:
        return
    try:
        folder = plainfile.stranger(source.path)
    except OSError as error:
        raise _refused("read", source.path, error) from None
    if folder:
        raise BadInput(
            f"--take-over would have root write where others may, too: {folder}",
            hint="call lshctl as the folder's owner, or comment the lines out yourself",
        )


def _back_up(source: Source, scope: Scope) -> Path:
    """A copy as it is: beside the file, under a name that no cron takes for a crontab; or in our own folder."""
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    if source.user:
        folder = state_dir(scope) / "crontabs"
        backup, mode = folder / f"{source.user}.{stamp}", 0o600
    else:
        path = _the_file(source)
        backup, mode = path.with_name(f"{path.name}.{stamp}.lsh~"), stat.S_IMODE(path.stat().st_mode)
    try:
        backup.parent.mkdir(parents=True, exist_ok=True)
        _write_file(backup, source.text, mode=mode)
    except OSError as error:
        raise _refused("write", backup, error) from None
    return backup


def _write(source: Source, text: str) -> None:
    if source.user:
        done = _crontab("-", user=source.user, text=text)
        if done.returncode:
            raise LshError(f"crontab did not take it: {done.stderr.decode(errors='replace').strip()}")
        return
    path = _the_file(source)
    try:
        was = path.stat()
        _write_file(path, text, mode=stat.S_IMODE(was.st_mode), owner=(was.st_uid, was.st_gid))
    except OSError as error:
        raise _refused("write", path, error) from None


def _write_file(path: Path, text: str, *, mode: int, owner: tuple[int, int] | None = None) -> None:
    """The whole file or nothing; cron reads no name that begins with a dot."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode(errors="surrogateescape"))
            file.flush()
            if owner and owner != (os.getuid(), os.getgid()):
                os.fchown(descriptor, *owner)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _the_file(source: Source) -> Path:
    assert source.path
    return source.path.resolve()


def _crontab(verb: str, *, user: str, text: str = "") -> "subprocess.CompletedProcess[bytes]":
    # Only root may name somebody, and then only by a name that is no option.
    whose = [] if user == caller() else ["-u", user]
    try:
        return subprocess.run(
            ["crontab", *whose, verb], input=text.encode(errors="surrogateescape"), capture_output=True
        )
    except FileNotFoundError:
        raise LshError("crontab is not installed", hint="name a file: lshctl import crontab FILE") from None


def _read(path: Path) -> str:
    try:
        data, _ = plainfile.read(path, _LARGEST, pipe=path.is_relative_to("/dev"))  # <(…) of the shell's
    except OSError as error:
        raise _refused("read", path, error) from None
    if len(data) > _LARGEST:
        raise BadInput(f"{visible(str(path))} is larger than {_LARGEST // 2**20} MiB", hint="is it a crontab?")
    return data.decode(errors="surrogateescape")


def _refused(verb: str, path: Path, error: OSError) -> LshError:
    hint = "try sudo" if isinstance(error, PermissionError) else None
    return BadInput(f"cannot {verb} {visible(str(path))}: {error.strerror or error}", hint=hint)
