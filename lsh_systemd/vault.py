"""The secrets of a scope on disk: encrypted by systemd-creds where systemd can decrypt them for a job, else in a file
that only its owner may read.

A value is passed through pipes alone: it is in no argument, no variable and no file but the secret's own.
"""

import contextlib
import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.scope import Scope, secrets_dir

# The host's key (/var/lib/systemd/credential.secret) and no TPM: a secret outlives a new firmware or main board.
_KEY = "--with-key=host"
# systemd's limit for an encrypted file; older ones count its base64 (seen on 252, no longer on 262).
_ENCRYPTED_BYTES = 1024 * 1024 + 128 * 1024
_SECONDS = 60
_UNFINISHED = ".new"


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A secret that there is; ``changed_usec`` is when it got its value (µs since 1970)."""

    name: str
    changed_usec: int
    encrypted: bool


class Vault:
    """The secrets of one scope. ``encrypts``: whether this systemd can decrypt secrets for the scope's jobs;
    ``takes_large``: also such as pass its limit only when their base64 is decoded."""

    def __init__(self, scope: Scope, *, encrypts: bool, takes_large: bool) -> None:
        self.scope, self.encrypts, self.path = scope, encrypts, secrets_dir(scope)
        self._takes_large = takes_large

    def all(self) -> list[Stored]:
        """All secrets, by name."""
        found: dict[str, Stored] = {}
        try:
            for path in sorted(self.path.iterdir()):  # .cred before .plain
                if path.suffix in (".cred", ".plain") and not path.name.startswith(".") and path.is_file():
                    stored = Stored(
                        name=path.stem,
                        changed_usec=path.stat().st_mtime_ns // 1000,
                        encrypted=path.suffix == ".cred",
                    )
                    found.setdefault(path.stem, stored)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _refused("read", self.path, error) from None
        return [found[name] for name in sorted(found)]

    def find(self, name: str) -> Stored | None:
        return next((each for each in self.all() if each.name == name), None)

    def store(self, name: str, value: bytes) -> Stored:
        """Keep the value under the name: whole or, whatever fails, the old one as it was.

        A secret stays in the form that it has, as the units of its jobs name its file.
        """
        with self._locked():
            before = self.find(name)
            encrypted = before.encrypted if before else self.encrypts
            if encrypted:
                self._write(self._file(name, True), self._encrypted(name, value))
            else:
                self._write(self._file(name, False), value)
        stored = self.find(name)
        assert stored
        return stored

    def value(self, name: str) -> bytes:
        """The value of a secret that there is. Raises LshError where this machine cannot decrypt it."""
        stored = self.find(name)
        if stored is None:
            raise BadInput(f"there is no secret {name}")
        path = self._file(name, stored.encrypted)
        if stored.encrypted:
            return self._creds("decrypt", f"--name={name}", str(path), "-", what=f"decrypt the secret {name}")
        try:
            return path.read_bytes()
        except OSError as error:
            raise _refused("read", path, error) from None

    def remove(self, name: str) -> None:
        with self._locked():
            try:
                for encrypted in (True, False):
                    self._file(name, encrypted).unlink(missing_ok=True)
                _sync(self.path)
            except OSError as error:
                raise _refused("remove", self.path / name, error) from None

    def _file(self, name: str, encrypted: bool) -> Path:
        return self.path / (f"{name}.cred" if encrypted else f"{name}.plain")

    def _encrypted(self, name: str, value: bytes) -> bytes:
        what = f"encrypt the secret {name}"
        data = self._creds("encrypt", _KEY, f"--name={name}", "-", "-", what=what, value=value)
        if len(data) > _ENCRYPTED_BYTES and not self._takes_large:
            raise BadInput(f"the value of {name} is too large", hint="this systemd takes about 850 KiB, encrypted")
        return data

    def _creds(self, verb: str, *argv: str, what: str, value: bytes = b"") -> bytes:
        user = ("--user",) if self.scope is Scope.USER else ()
        command = ["systemd-creds", verb, *user, *argv]
        try:
            done = subprocess.run(command, input=value, capture_output=True, timeout=_SECONDS, check=False)
        except FileNotFoundError:
            raise LshError(f"cannot {what}: there is no systemd-creds", hint="it is a part of systemd") from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise LshError(f"cannot {what}: {_reason(error)}") from None
        if done.returncode != 0:
            words = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
            hint = "is it from another machine? lshctl secrets set gives it a value anew" if verb == "decrypt" else None
            raise LshError(f"cannot {what}: {words[-1]}", hint=hint)
        return done.stdout

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """The folder is there, for nobody else to look into; other lshctl's wait."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            raise _refused("open", self.path, error) from None
        try:
            if os.fstat(folder).st_mode & 0o077:
                os.fchmod(folder, 0o700)
            fcntl.flock(folder, fcntl.LOCK_EX)
            for left in self.path.glob(f".*{_UNFINISHED}"):  # by one that was killed
                left.unlink(missing_ok=True)
            yield
        except PermissionError as error:
            raise _refused("write", self.path, error) from None
        finally:
            os.close(folder)

    def _write(self, path: Path, data: bytes) -> None:
        temporary = ""
        try:
            descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=_UNFINISHED, dir=self.path)  # 0600
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            Path(temporary).replace(path)
            _sync(self.path)
        except OSError as error:
            raise _refused("write", path, error) from None
        finally:
            if temporary:
                Path(temporary).unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "it took too long"


def _refused(verb: str, path: Path, error: OSError) -> LshError:
    hint = "try sudo, or --user for secrets of your own" if isinstance(error, PermissionError) else None
    return LshError(f"cannot {verb} {path}: {error.strerror or error}", hint=hint)
