"""The jobs that there are, read from their unit files; nothing else lists them."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lsh_systemd import hooks, unit
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.job import LONGEST_ID, PREFIX, RESERVED_IDS, Job, job_id
from lsh_systemd.scope import Scope, transient_unit_dir, unit_dir
from lsh_systemd.text import visible
from lsh_systemd.unitdir import UnitDir, UnitPair, WatchedDir


class JobNotFound(BadInput):
    """No job has that name."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A job as it stands on disk. ``job`` is None where its files no longer tell it; ``problem`` says why."""

    id: str
    job: Job | None
    pair: UnitPair
    dir: UnitDir
    transient: bool
    changed: bool
    problem: str | None = None

    @property
    def service(self) -> str:
        return f"{PREFIX}{self.id}.service"

    @property
    def timer(self) -> str:
        return f"{PREFIX}{self.id}.timer"

    @property
    def files(self) -> dict[str, str]:
        files = {self.service: self.pair.service}
        return files | ({self.timer: self.pair.timer} if self.pair.timer else {}) | dict(self.pair.others)

    @property
    def activators(self) -> tuple[str, ...]:
        """Those of its units that start it by themselves."""
        return tuple(name for name in self.files if name.endswith((".timer", ".path", ".socket")))

    @property
    def valid_job(self) -> Job:
        """The job; raises BadInput where the files no longer tell it."""
        if self.job is None:
            raise BadInput(
                f"the unit file of {self.id} was edited so that it tells no job any more: {self.problem}",
                hint=f"mend the [X-Lsh] section of {self.dir.path / self.service}, or remove the job and add it anew",
            )
        return self.job

    def written_usec(self) -> int:
        """When the service file was last written (µs since 1970); 0 where it is gone."""
        try:
            return (self.dir.path / self.service).stat().st_mtime_ns // 1000
        except OSError:
            return 0

    def enabled_usec(self) -> int:
        """When its timer was enabled (µs since 1970); 0 where it is not."""
        try:
            return (self.dir.path / "timers.target.wants" / self.timer).lstat().st_mtime_ns // 1000
        except OSError:
            return 0

    def drop_ins(self) -> list[Path]:
        """The administrator's own additions, which we never touch."""
        return _drop_ins(self.dir, (self.service, self.timer, *self.pair.others))


def _drop_ins(folder: UnitDir, units: Iterable[str]) -> list[Path]:
    folders = (folder.path / f"{name}.d" for name in units)
    found = (path for each in folders if each.is_dir() for path in each.glob("*.conf"))
    return sorted(path for path in found if path.name != hooks.FOLLOWED)


class Jobs:
    """The jobs of one scope: those that stay, and those that end with the boot. ``keep``: what was read is kept, and is
    read again only once a file of it has changed; for processes that live long."""

    def __init__(self, scope: Scope, *, keep: bool = False) -> None:
        self.scope = scope
        self.lasting = UnitDir(unit_dir(scope))
        self.transient = UnitDir(transient_unit_dir(scope))
        self._kept: dict[tuple[Path, str], tuple[WatchedDir, Found | None]] | None = {} if keep else None

    def left_drop_ins(self, job: Job) -> list[Path]:
        """An administrator's additions that a new job would find: those to one of that name that was removed."""
        return _drop_ins(self.lasting, (job.unit, job.timer, *unit.other_files(job)))

    def all(self) -> list[Found]:
        """All jobs, by id. Of two with the same name, systemd takes the lasting one, and so do we."""
        found: dict[str, Found] = {}
        seen = set()
        for folder in (self.transient, self.lasting):
            for service in filter(unit.is_job_unit, folder.services(PREFIX)):
                wanted = unit.id_of_unit(service)
                seen.add((folder.path, wanted))
                each = self._read_or_tell(folder, wanted)
                if each:
                    found[each.id] = each
        if self._kept:
            self._kept = {place: kept for place, kept in self._kept.copy().items() if place in seen}
        return [found[name] for name in sorted(found)]

    def ids(self) -> list[str]:
        """The ids of all jobs by their files' names alone, which are not looked into."""
        services = {name for folder in (self.transient, self.lasting) for name in folder.services(PREFIX)}
        return sorted({unit.id_of_unit(name) for name in filter(unit.is_job_unit, services)} - RESERVED_IDS)

    def written(self) -> tuple[int, ...]:
        """When the folders last got or lost a file, and those of what is enabled a link (ns since 1970)."""
        return self.transient.written() + self.lasting.written()

    def find(self, name: str) -> Found | None:
        """The job of that id or name, or None."""
        try:
            wanted = job_id(name)
        except BadInput:
            return None
        if len(wanted) > LONGEST_ID:
            return None
        return self._read(self.lasting, wanted) or self._read(self.transient, wanted)

    def get(self, name: str) -> Found:
        """The job of that id or name. Raises JobNotFound, naming the nearest one."""
        found = self.find(name)
        if found:
            return found
        names = [each.id for each in self.all()]
        near = difflib.get_close_matches(name.lower(), names, n=1)
        hint = f"did you mean {near[0]}?" if near else "lshctl list shows what there is"
        raise JobNotFound(f"there is no job {visible(name)} in the {self.scope} scope", hint=hint)

    def foreign(self, job: Job, folders: Sequence[Path]) -> Path | None:
        """A unit file of somebody else that has the name of one of the job's, in any folder of systemd's."""
        for folder in folders:
            for name in (job.unit, job.timer, *unit.other_files(job)):
                path = folder / name
                if path.is_symlink() or path.exists():
                    return path
        return None

    def _read_or_tell(self, folder: UnitDir, wanted: str) -> Found | None:
        """One file that cannot be read must not hide all the others."""
        try:
            return self._read(folder, wanted)
        except LshError as error:
            pair = UnitPair(service="", timer="", enabled=folder.is_enabled(f"{PREFIX}{wanted}.timer"))
            return Found(
                id=wanted, job=None, pair=pair, dir=folder, transient=False, changed=False, problem=error.message
            )

    def _read(self, folder: UnitDir, wanted: str) -> Found | None:
        if self._kept is None:
            return self._read_anew(folder, wanted)
        watched, found = self._kept.get((folder.path, wanted), (None, None))
        if watched is None or not watched.is_as_before():
            self._kept.pop((folder.path, wanted), None)
            watched = WatchedDir(folder.path)
            found = self._read_anew(watched, wanted)
            if found:
                found = replace(found, dir=folder)  # what others do there is not to be noted
                if watched.is_settled:
                    self._kept[folder.path, wanted] = (watched, found)
        return found

    def _read_anew(self, folder: UnitDir, wanted: str) -> Found | None:
        service = f"{PREFIX}{wanted}.service"
        pair = folder.read(service, f"{PREFIX}{wanted}.timer")
        if pair is None:
            return None
        job: Job | None = None
        changed, problem = True, None
        try:
            files = unit.read(pair.service, pair.timer, folder.text)
            if files.job.id == wanted:
                job, changed = files.job, files.changed
                enabled = pair.enabled or any(map(folder.is_enabled, hooks.activators(job)))
                pair = replace(pair, enabled=enabled, others={n: t for n, t in files.others.items() if t})
            else:
                problem = f"it names the job {visible(files.job.name)}"
        except unit.NotOurs:
            return None
        except unit.Unreadable as error:
            problem = error.message
        if job is None:
            names = (f"{PREFIX}{wanted}{ending}" for ending in hooks.ENDINGS)
            pair = replace(pair, others={name: text for name in names if (text := folder.text(name))})
        return Found(
            id=wanted,
            job=job,
            pair=pair,
            dir=folder,
            transient=folder.path == self.transient.path,
            changed=changed,
            problem=problem,
        )
