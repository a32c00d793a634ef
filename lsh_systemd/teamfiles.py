"""What of the team's secrets is on this machine: the key, the environment files, and notes of what they came from."""

import contextlib
import fcntl
import json
import os
import signal
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lsh_systemd.envtext import MAX_BYTES
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.scope import Scope, config_dir, state_dir
from lsh_systemd.text import visible

CREDENTIAL = "lsh-secrets-key"
VARIABLE = "LSH_SECRETS_KEY"
_KEY_BYTES = 4096
_MINE_ALONE = 0o600


def key_path(scope: Scope) -> Path:
    """Where the team's key lies, if it is not elsewhere."""
    return config_dir(scope) / "secrets.key"


def key(scope: Scope, file: Path | None = None, environ: Mapping[str, str] = os.environ) -> bytes | None:
    """The team's key: from the file, where one is named; else from the credential of that name, the variable, or the
    usual file. None where there is none. Raises BadInput for one that others may read, or that is none.
    """
    if file is not None:
        return _key_in(file, private=True)
    credential = Path(environ.get("CREDENTIALS_DIRECTORY") or "/nonexistent", CREDENTIAL)
    if credential.exists():
        return _key_in(credential, private=False)
    if value := environ.get(VARIABLE):
        return as_key(value.encode(errors="surrogateescape"), VARIABLE)
    usual = key_path(scope)
    return _key_in(usual, private=True) if usual.exists() else None


def as_key(value: bytes, what: str) -> bytes:
    """The key without the newline at its end, which editors and echo put there."""
    value = value.rstrip(b"\r\n")
    if not value or len(value) > _KEY_BYTES:
        raise BadInput(f"{what} holds no key", hint="openssl rand -base64 32 makes a good one")
    return value


def _key_in(file: Path, *, private: bool) -> bytes:
    what = visible(str(file))
    with _opened(file) as (descriptor, status):
        if private and status.st_mode & 0o077:
            raise BadInput(f"the team's key {what} may be read by others", hint=f"chmod 600 {what}")
        return as_key(_read(descriptor, _KEY_BYTES + 2), what)


def load(path: Path) -> bytes:
    """The environment file's bytes (one more than its limit, at most). Raises BadInput for what is no file."""
    with _opened(path) as (descriptor, before):
        data = _read(descriptor, MAX_BYTES + 1)
        after = os.fstat(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise LshError(f"{visible(str(path))} was written to while it was read", hint="try again")
    return data


def is_there(path: Path) -> bool:
    """Whether an environment file would be overwritten. Raises BadInput for what must not be: no regular file."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _refused("read", path, error) from None
    if stat.S_ISLNK(mode):
        raise BadInput(f"{visible(str(path))} is a symbolic link", hint="name the file that it leads to")
    if not stat.S_ISREG(mode):
        raise BadInput(f"{visible(str(path))} is not a file")
    return True


def save(path: Path, data: bytes) -> None:
    """Write the environment file, whole or not at all, for its owner alone; one that is there keeps its owner, and is
    left alone where it is so already."""
    owner = path.stat() if is_there(path) else None
    if owner and stat.S_IMODE(owner.st_mode) == _MINE_ALONE and load(path) == data:
        return
    try:
        _write(path, data, owner)
    except OSError as error:
        raise _refused("write", path, error) from None


class Notes:
    """What this machine remembers: the version that each environment file came from, and the newest version of each
    environment that it has seen. By project, as environments of two have nothing to do with each other.

    Where the notes cannot be kept (in a sandbox), that is told by ``note`` alone: nothing is lost but the comfort.
    """

    def __init__(self, scope: Scope, project: str) -> None:
        self.path, self._project = state_dir(scope) / "team.json", project

    def base(self, env: str, file: Path) -> int | None:
        """The version that the file came from, or was pushed as."""
        version = self._of(self._load(), env)["files"].get(_absolute(file))
        return version if type(version) is int else None

    def seen(self, env: str) -> int:
        """The newest version that this machine knows of; 0 for none."""
        seen = self._of(self._load(), env).get("seen")
        return seen if type(seen) is int else 0

    def note(self, env: str, *, file: Path | None = None, base: int | None = None, seen: int) -> None:
        """Remember. Raises OSError where that cannot be."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            data = self._load()
            own = self._of(data, env)
            own["seen"] = seen
            if file is not None:
                own["files"][_absolute(file)] = base
            _write(self.path, json.dumps(data, indent=1).encode() + b"\n", None)
        finally:
            os.close(folder)

    def _load(self) -> dict[str, Any]:
        try:
            data = json.loads(self.path.read_text())
        except (OSError, ValueError, RecursionError):  # of notes that are lost, the next push or pull makes new ones
            return {}
        return data if isinstance(data, dict) else {}

    def _of(self, data: dict[str, Any], env: str) -> dict[str, Any]:
        """The environment's own notes, made in ``data`` where there are none."""
        for name in (self._project, env):
            if not isinstance(data.get(name), dict):
                data[name] = {}
            data = data[name]
        if not isinstance(data.get("files"), dict):
            data["files"] = {}
        return data


def _absolute(file: Path) -> str:
    return str(file.parent.resolve() / file.name)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[int, os.stat_result]]:
    """A regular file, open for reading."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _refused("read", path, error) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BadInput(f"{visible(str(path))} is not a file")
        yield descriptor, status
    except OSError as error:
        raise _refused("read", path, error) from None
    finally:
        os.close(descriptor)


def _read(descriptor: int, most: int) -> bytes:
    data = b""
    while len(data) < most and (more := os.read(descriptor, most - len(data))):
        data += more
    return data


def _write(path: Path, data: bytes, owner: os.stat_result | None) -> None:
    """Write and rename. A signal waits until that is done, so that it leaves nothing behind."""
    waiting = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)  # 0600
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if owner and os.geteuid() == 0:
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            os.fchmod(descriptor, _MINE_ALONE)
            os.fsync(descriptor)
        Path(temporary).replace(path)
        temporary = ""
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        signal.pthread_sigmask(signal.SIG_SETMASK, waiting)


def _refused(verb: str, path: Path, error: OSError) -> LshError:
    kind = BadInput if isinstance(error, FileNotFoundError) and verb == "read" else LshError
    return kind(f"cannot {verb} {visible(str(path))}: {error.strerror or error}")
