"""The file of keys: api-keys.json beside the store, for its owner only. It holds digests, never a key."""

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from lsh_systemd.api.access import Key
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.scope import Scope, state_dir
from lsh_systemd.text import visible


def path(scope: Scope) -> Path:
    return state_dir(scope) / "api-keys.json"


class Keys:
    """The keys of a scope, read anew whenever the file is another one."""

    def __init__(self, scope: Scope) -> None:
        self.path = path(scope)
        self._seen: tuple[int, int] | None = None
        self._keys: list[Key] = []

    def all(self) -> list[Key]:
        """Raises LshError for a file that cannot be read: then nobody may enter."""
        try:
            told = self.path.stat()
        except FileNotFoundError:
            self._seen, self._keys = None, []
            return self._keys
        except OSError as error:
            raise LshError(f"cannot read {self.path}: {error.strerror}") from None
        if self._seen != (told.st_ino, told.st_mtime_ns):
            self._keys = self._read()
            self._seen = (told.st_ino, told.st_mtime_ns)
        return self._keys

    def add(self, key: Key) -> None:
        self._change(lambda keys: [*keys, key])

    def revoke(self, wanted: str) -> Key:
        """Take away the key of this id, or of this name where it is the only one; the key that was."""
        found: list[Key] = []

        def without(keys: Sequence[Key]) -> list[Key]:
            found.extend(each for each in keys if wanted in (each.id, each.name))
            if len(found) != 1:
                many = "several keys are" if found else "no key is"
                raise BadInput(f"{many} called {visible(wanted)}", hint="lshctl api key list shows their ids")
            return [each for each in keys if each is not found[0]]

        self._change(without)
        return found[0]

    def _change(self, change: Callable[[Sequence[Key]], list[Key]]) -> None:
        try:
            with self._locked():
                keys = change(self._read() if self.path.exists() else [])
                text = json.dumps([asdict(key) for key in keys], indent=1)
                descriptor, temporary = tempfile.mkstemp(prefix=".api-keys.", dir=self.path.parent)  # 0600
                with os.fdopen(descriptor, "w") as stream:
                    stream.write(text + "\n")
                    stream.flush()
                    os.fsync(descriptor)
                Path(temporary).replace(self.path)
        except OSError as error:
            raise LshError(f"cannot write {self.path}: {error.strerror}", hint="try sudo") from None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _read(self) -> list[Key]:
        try:
            rows = json.loads(self.path.read_text())
            return [Key(**(row | {"jobs": tuple(row["jobs"])})) for row in rows]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise LshError(
                f"cannot read {self.path}: {error}", hint="mend it, or remove it and make new keys"
            ) from None
