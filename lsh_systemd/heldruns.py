"""What this host holds of the fleet's queue: a file each, that outlives the machine; and what a run finds of it."""

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lsh_systemd.errors import LshError, refused
from lsh_systemd.scope import Scope, fleet_dir, work_dir

_JOB = re.compile(r"[a-z0-9-]{1,200}")
# No unit has this name.
_HEARD = "heard"


@dataclass(frozen=True, kw_only=True)
class Held:
    """A queued run that this host has taken. ``begun``: whether its unit may have been started, in that boot.
    ``verdict``, of one that is never started: refused, or released; ``message``: why."""

    id: int
    token: int
    job: str
    params: Mapping[str, Any]
    user: str
    attempt: int
    created_at: str
    created_by: str | None
    boot_id: str
    begun: bool = False
    verdict: str | None = None
    message: str | None = None


def sound(told: Mapping[str, Any]) -> Held:
    """The run that a file of ours, or the fleet's answer, tells of. Raises ValueError where it tells of none: its token
    becomes a file's name and a unit's, and who writes to the database need not be who may write files here."""
    try:
        held = Held(**told)
    except TypeError:
        raise ValueError("fields are missing, or too many") from None
    texts = (held.job, held.user, held.created_at, held.boot_id)
    perhaps = (held.created_by, held.verdict, held.message)
    if (
        not all(type(each) is int and 0 <= each < 2**63 for each in (held.id, held.token, held.attempt))
        or not all(isinstance(each, str) for each in texts)
        or not all(each is None or isinstance(each, str) for each in perhaps)
        or not isinstance(held.params, Mapping)
        or type(held.begun) is not bool
        or not _JOB.fullmatch(held.job)
        or datetime.fromisoformat(held.created_at).tzinfo is None
    ):
        raise ValueError("a field is not of its kind")
    return held


class HeldRuns:
    """Those of one scope."""

    def __init__(self, scope: Scope) -> None:
        self._scope, self.path = scope, work_dir(scope) / "fleet"

    def all(self) -> list[Held]:
        """All of them, by their tokens."""
        found = []
        for file in self.path.glob("[0-9]*") if self.path.is_dir() else ():
            with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):  # not ours
                found.append(sound(json.loads(file.read_bytes())))
        return sorted(found, key=lambda each: each.token)

    def keep(self, held: Held) -> None:
        """Write it down, so that it is on the disk."""
        self._write(self.path / str(held.token), json.dumps(asdict(held)))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one who works on them. Raises LshError where somebody else does."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o755)
            folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise LshError(f"cannot open {self.path}: {error.strerror}") from None
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise LshError("the fleet's queue is being worked on already") from None
        finally:
            os.close(folder)

    def heard(self) -> float | None:
        """When the fleet was last heard of in this boot (CLOCK_MONOTONIC, s), as far as is known."""
        try:
            return float((fleet_dir(self._scope) / _HEARD).read_text())
        except (OSError, ValueError):
            return None

    def note_heard(self, at: float) -> None:
        self._write(fleet_dir(self._scope) / _HEARD, f"{at}\n")

    def forget(self, held: Held, unit: str) -> None:
        for file in (self.path / str(held.token), fleet_dir(self._scope) / unit):
            file.unlink(missing_ok=True)

    def give(self, unit: str, text: str) -> None:
        """Write what the unit reads as its EnvironmentFile=."""
        self._write(fleet_dir(self._scope) / unit, text)

    def take_back(self, unit: str) -> None:
        """Let the unit's next run find nothing."""
        with contextlib.suppress(OSError):
            (fleet_dir(self._scope) / unit).unlink()

    def _write(self, file: Path, text: str) -> None:
        temporary = file.with_name(f".{file.name}.new")
        try:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(descriptor)
            temporary.replace(file)
        except OSError as error:
            raise refused(f"cannot write {file}: {error.strerror}", error) from None
