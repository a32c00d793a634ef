"""Jobs that follow other jobs: who follows whom, and what that takes outside the follower's own files.

A job that others run after gets a drop-in of ours that tells of its successes, and each follower a folder in which
those are counted (see libexec/after).
"""

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lsh_systemd import hooks
from lsh_systemd.errors import BadInput, refused
from lsh_systemd.job import Job
from lsh_systemd.jobs import Found, JobNotFound, Jobs
from lsh_systemd.manager import Manager
from lsh_systemd.scope import Scope, rounds_dir
from lsh_systemd.text import visible
from lsh_systemd.unitdir import UnitDir

_DROP_IN = """\
# Made by lshctl: other jobs run after this one.
[Unit]
OnSuccess=lsh-succeeded@{job}.service
"""


@dataclass(frozen=True, order=True, kw_only=True)
class Edge:
    """``then`` may start when ``first`` has ended; ``kind``: after, on-success or on-failure."""

    first: str
    then: str
    kind: str


def edges(jobs: Iterable[Job]) -> list[Edge]:
    """All that the jobs say of each other, sorted."""
    found = set()
    for job in jobs:
        found |= {Edge(first=other, then=job.id, kind="after") for other in job.after}
        found |= {Edge(first=job.id, then=other, kind=kind) for kind, other in hooks.hooked_jobs(job)}
    return sorted(found)


def cycle(found: Iterable[Edge], start: str) -> list[str]:
    """The shortest way from a job back to itself, both ends included; empty where there is none."""
    following: dict[str, list[str]] = {}
    for edge in found:
        following.setdefault(edge.first, []).append(edge.then)
    ways = [[start]]
    seen: set[str] = set()
    for way in ways:  # grows as it is walked
        for then in following.get(way[-1], ()):
            if then == start:
                return [*way, then]
            if then not in seen:
                seen.add(then)
                ways.append([*way, then])
    return []


def check(jobs: Jobs, job: Job, *, old: Found | None = None) -> None:
    """Raise BadInput where the job follows, or starts, one that is not there, or itself by some way.

    ``old``: the job as it is, under the same name or another; what it named before may be gone by now.
    """
    named = {*job.after, *(other for _, other in hooks.hooked_jobs(job))}
    _check_ambiguous(jobs, job, old)
    if not named and old is None:
        return
    known = old.job if old else None
    before = {*known.after, *(other for _, other in hooks.hooked_jobs(known))} if known else set()
    for other in sorted(named - before - {job.id}):
        try:
            jobs.get(other)
        except JobNotFound as error:
            hint = error.hint if other in job.after else f"a command of one word is written command:{other}"
            raise BadInput(f"there is no job {other} to follow or to start", hint=hint) from None
    if not named and (old is None or old.id == job.id):
        return
    others = [each.job for each in jobs.all() if each.job and each.id != job.id and (not old or each.id != old.id)]
    if old and old.id != job.id:
        others = [hooks.renamed(each, old.id, job.id) for each in others]
    way = cycle(edges([*others, job]), job.id)
    if way:
        raise BadInput(f"these jobs would start each other for ever: {' → '.join(way)}", hint="lshctl graph shows all")


def _check_ambiguous(jobs: Jobs, job: Job, old: Found | None) -> None:
    known = {*old.job.on_success, *old.job.on_failure} if old and old.job else set()
    for hook in {*job.on_success, *job.on_failure} - known:
        text = hook.removeprefix(hooks.COMMAND)
        if text != hook and len(text) <= 200 and (found := jobs.find(text)) and found.job and found.job.name == text:
            raise BadInput(
                f"the hook {visible(text)} may be a command or the job {found.id}", hint=f"write job:{found.id}"
            )


def followers(jobs: Jobs, job_id: str) -> list[Found]:
    """The jobs that name this one."""
    return [
        each
        for each in jobs.all()
        if each.job and (job_id in each.job.after or any(job_id == other for _, other in hooks.hooked_jobs(each.job)))
    ]


def check_removable(jobs: Jobs, going: Sequence[Found]) -> None:
    """Raise BadInput where a job that stays names one that goes."""
    gone = {each.id for each in going}
    staying = [each.job for each in jobs.all() if each.job and each.id not in gone]
    for edge in edges(staying):
        if gone & {edge.first, edge.then}:
            job, other = (edge.first, edge.then) if edge.first in gone else (edge.then, edge.first)
            how = "runs after it" if edge.kind == "after" else f"starts it ({edge.kind})"
            raise BadInput(f"{other} {how}: {job} stays", hint="remove both, or use --force")


def provide(manager: Manager, folder: UnitDir, jobs: Jobs, changed: Iterable[str], *, reload: bool = True) -> bool:
    """Have the drop-ins of those jobs there, or away, as the folder's jobs say now; systemd reads them at once.

    Without ``reload`` that is left to the caller, who is told whether it is due."""
    changed = set(changed)
    if not changed:
        return False
    here = [each.job for each in jobs.all() if each.job and each.dir.path == folder.path]
    followed = {other for job in here for other in job.after}
    stale = False
    for job_id in sorted(changed):
        service = f"lsh-{job_id}.service"
        drop_ins = UnitDir(folder.path / f"{service}.d")
        text = _DROP_IN.format(job=job_id) if job_id in followed else None
        if drop_ins.text(hooks.FOLLOWED) == text:
            continue
        if text:
            drop_ins.write({hooks.FOLLOWED: text})
        else:
            drop_ins.remove(hooks.FOLLOWED)
            with contextlib.suppress(OSError):
                drop_ins.path.rmdir()
        stale = stale or manager.is_loaded(service)
    if stale and reload:
        manager.reload()
    return stale and not reload


def begin_anew(scope: Scope, job: Job) -> None:
    """What succeeded until now counts no more."""
    forget(scope, job.id)
    if job.after:
        folder = rounds_dir(scope) / job.id / "in"
        try:
            for each in (*reversed(folder.parents[:3]), folder):
                each.mkdir(exist_ok=True, mode=0o750, parents=True)
        except OSError as error:
            raise refused(f"cannot write {folder}: {error.strerror}", error) from None


def forget(scope: Scope, job_id: str) -> None:
    with contextlib.suppress(OSError):
        shutil.rmtree(rounds_dir(scope) / job_id)


def rename(scope: Scope, old: str, new: str) -> None:
    """Successes that were counted go on counting: those for the job itself, and its own for its followers."""
    folder = rounds_dir(scope)
    moves = [(folder / old, folder / new)]
    with contextlib.suppress(OSError):
        moves += [(path, path.with_name(new)) for path in folder.glob(f"*/*/{old}")]
    for source, target in moves:
        _move(source, target)


def _move(source: Path, target: Path) -> None:
    with contextlib.suppress(OSError):
        source.rename(target)


def dangling(job: Job, known: Mapping[str, Found]) -> Iterator[Edge]:
    """What the job says of jobs that are not there."""
    return (edge for edge in edges([job]) if not {edge.first, edge.then} <= known.keys())
