"""The queue of runs that wait for a cap: one file each, in the order of their names; see libexec/common.

A file is named RANK:µs:JOB, the rank by the job's priority (a promoted one is before all), and holds lines NAME=VALUE:
what triggered the run and, of a retry, its attempt. While there is one, lsh-queue.path keeps lsh-queue.service running.
"""

import contextlib
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from lsh_systemd.errors import refused
from lsh_systemd.scope import Scope, work_dir

PROMOTED = "-0"
_NAME = re.compile(r"([0-9-][0-9]):([0-9]{1,17}):([a-z0-9-]+)")
_TRIGGERS = frozenset({"timer", "manual", "retry", "hook", "api", "catch-up", "path"})


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A run that waits: since ``since_usec`` (µs since 1970). ``fields`` are more of its file's lines."""

    name: str
    rank: str
    since_usec: int
    job: str
    trigger: str = "timer"
    fields: Mapping[str, str] = field(default_factory=dict)


class Queue:
    """The waiting runs of a scope."""

    def __init__(self, scope: Scope) -> None:
        self.path = work_dir(scope) / "queue"

    def entries(self) -> list[Entry]:
        """All waiting runs in their order, with what their names tell."""
        try:
            names = sorted(os.listdir(self.path))  # noqa: PTH208  (ten thousand names: no Path for each)
        except OSError:
            return []
        matches = [match for name in names if (match := _NAME.fullmatch(name))]
        return [Entry(name=m[0], rank=m[1], since_usec=int(m[2]), job=m[3]) for m in matches]

    def read(self, entry: Entry) -> Entry | None:
        """The entry with what its file says; None where it has gone."""
        try:
            lines = (self.path / entry.name).read_text(errors="replace").splitlines()
        except OSError:
            return None
        fields = {name: value for name, mark, value in (line.partition("=") for line in lines) if mark}
        trigger = fields.pop("trigger", "timer")
        return Entry(
            name=entry.name,
            rank=entry.rank,
            since_usec=entry.since_usec,
            job=entry.job,
            trigger=trigger if trigger in _TRIGGERS else "timer",
            fields=fields,
        )

    def of(self, job_id: str) -> Entry | None:
        """The job's place in it; None where it does not wait."""
        return next((entry for entry in self.entries() if entry.job == job_id), None)

    def add(self, job_id: str, *, rank: int, trigger: str, fields: Mapping[str, str] | None = None) -> None:
        """Let the job wait, unless it does already."""
        if self.of(job_id):
            return
        lines = {"trigger": trigger, **(fields or {})}
        temporary = self.path / f".{job_id}.{os.getpid()}"
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
            temporary.replace(self.path / f"{rank:02}:{time.time_ns() // 1000}:{job_id}")
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise refused(f"cannot write to the queue {self.path}: {error.strerror}", error) from None

    def remove(self, entry: Entry) -> bool:
        """Take it out; False where it has gone already."""
        try:
            (self.path / entry.name).unlink()
        except OSError:
            return False
        return True

    def promote(self, entry: Entry) -> bool:
        """Put it before all others; False where it has gone already."""
        try:
            (self.path / entry.name).rename(self.path / f"{PROMOTED}:{entry.since_usec}:{entry.job}")
        except OSError:
            return False
        return True

    def rename(self, old: str, new: str) -> None:
        """Let what waits under the job's old id wait under its new one."""
        if entry := self.of(old):
            with contextlib.suppress(OSError):
                (self.path / entry.name).rename(self.path / f"{entry.rank}:{entry.since_usec}:{new}")

    def note_start(self, entry: Entry, unit: str, before: str) -> None:
        """Note the unit that is being started for it, and the id of that one's run before: see ``dispatch``."""
        path = self.path / entry.name
        temporary = self.path / f".{entry.job}.start"
        temporary.write_text(path.read_text() + f"starting={unit}\nbefore={before}\n")
        temporary.replace(path)
