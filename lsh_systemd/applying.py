"""What job files want and what there is → what is to be done; then all of it, or nothing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lsh_systemd import audit, checks, follow, hooks, progress
from lsh_systemd.batch import Batch, Change
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.jobs import Found
from lsh_systemd.jobspec import Wanted
from lsh_systemd.located import Place, Remark

if TYPE_CHECKING:
    from lsh_systemd.job import Job

Action = Literal["add", "change", "remove", "unchanged"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is to be done with one job. ``wanted`` is None of one that goes, ``found`` of one that comes.

    ``files``: the unit files that it gets. ``difference``: setting → (what it is, what it becomes).
    """

    id: str
    action: Action
    wanted: Wanted | None = None
    found: Found | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    difference: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Plan:
    steps: tuple[Step, ...]
    refused: tuple[Remark, ...]
    notes: tuple[Remark, ...]

    @property
    def changes(self) -> list[Step]:
        return [step for step in self.steps if step.action != "unchanged"]


def compare(
    wanted: Iterable[Wanted],
    present: Mapping[str, Found],
    *,
    prune: frozenset[str] = frozenset(),
    suspect: frozenset[str] = frozenset(),
) -> list[Step]:
    """What it takes, by id. ``prune``: the projects whose other jobs go. ``suspect``: jobs that are to be written anew
    even where they look as wanted."""
    steps = []
    named = set()
    for each in wanted:
        job, found = each.job, present.get(each.job.id)
        named.add(job.id)
        if found is None:
            steps.append(Step(id=job.id, action="add", wanted=each, difference=_difference(None, each)))
            continue
        difference = _difference(found, each)
        same = not (difference or found.changed or found.transient or job.id in suspect)
        steps.append(
            Step(id=job.id, action="unchanged" if same else "change", wanted=each, found=found, difference=difference)
        )
    for job_id, found in present.items():
        if job_id not in named and found.job and not found.transient and found.job.applied in prune:
            steps.append(
                Step(id=job_id, action="remove", found=found, difference=dict(audit.difference(found.job, None)))
            )
    return sorted(steps, key=lambda step: step.id)


def _difference(found: Found | None, wanted: Wanted) -> dict[str, tuple[Any, Any]]:
    job = wanted.job
    difference: dict[str, tuple[Any, Any]] = dict(audit.difference(found.job if found else None, job))
    was = found.pair.enabled or not (found.job and found.job.activators) if found else True
    if job.activators and was != wanted.enabled:
        difference["enabled"] = (was if found else None, wanted.enabled)
    return difference


def adoption(
    wanted: Wanted, before: "Job | None", *, prune: frozenset[str] = frozenset(), force: bool = False
) -> Remark | None:
    """What is to be said where the project has not made the job that it changes. Raises BadInput where another one has
    (which this apply does not speak for, as in ``prune``), unless that is meant (``force``)."""
    name, project = wanted.job.id, wanted.job.applied
    if before is None or before.applied == project:
        return None
    if before.applied is None:
        message = f"{name} was made by hand; from now on it is the project {project}'s, whose --prune may remove it"
    elif force or before.applied in prune:
        message = f"{name} was the project {before.applied}'s; from now on it is {project}'s"
    else:
        hint = f"--force makes it {project}'s; or choose another name"
        raise BadInput(f"{name} is the project {before.applied}'s", hint=hint)
    return Remark(place=wanted.place, message=message)


class Applier:
    """What `lshctl apply` and `diff` do in one scope."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def plan(self, wanted: Iterable[Wanted], *, prune: frozenset[str] = frozenset(), force: bool = False) -> Plan:
        """What would be done, and all that stands against it."""
        present = {found.id: found for found in self._batch.jobs.all()}
        wanted = list(wanted)
        steps = compare(wanted, present, prune=prune, suspect=self._batch.unfinished())
        refused: list[Remark] = []
        notes: list[Remark] = []
        new = [step.wanted.job for step in steps if step.action == "add" and step.wanted]
        taken = self._batch.check_free(new) if new else {}
        planned = []
        for step in progress.each("looking at jobs", steps):
            each = step.wanted
            if each is None or step.action == "unchanged":
                planned.append(step)
                continue
            try:
                if step.id in taken:
                    raise taken[step.id]
                if adopted := adoption(each, step.found.job if step.found else None, prune=prune, force=force):
                    notes.append(adopted)
                planned.append(self._rendered(step, each, notes, force=force))
            except LshError as error:
                refused.append(_refusal(each, error))
                planned.append(step)
        refused += self._check_following(planned, present)
        return Plan(
            steps=tuple(planned), refused=tuple(sorted(refused, key=lambda each: each.place)), notes=tuple(notes)
        )

    def carry_out(self, plan: Plan, *, force: bool = False, verb: str = "apply") -> None:
        """Do all of it; whatever fails, all is as it was before."""
        self._batch.carry_out(
            [
                Change(
                    job=step.wanted.job if step.wanted else None,
                    found=step.found,
                    enabled=step.wanted.enabled if step.wanted else False,
                    files=step.files,
                )
                for step in plan.changes
            ],
            verb=verb,
            force=force,
        )

    def _rendered(self, step: Step, wanted: Wanted, notes: list[Remark], *, force: bool) -> Step:
        """The step with its unit files. Raises LshError for what cannot be."""
        job, found = wanted.job, step.found
        before = found.job if found else None
        if found and found.transient:
            raise BadInput(f"there is a transient job {job.id}", hint=f"lshctl remove {job.id}")
        if found and not force:
            _ = found.valid_job
            if found.changed and job.id not in self._batch.unfinished():
                raise BadInput(f"the unit files of {job.id} were edited by hand", hint="--force undoes that")
        if job.at and job != before:
            self._batch.check_time(job)
        self._batch.check_secrets(job, before)
        if not checks.is_judged(job, before):
            found_in = checks.findings(job, self._batch.scope)
            destroys = [each.message for each in found_in if each.destroys]
            if destroys and not (job.allow_dangerous or checks.allowed_by_environment()):
                raise checks.DangerousCommand(
                    f"the command is dangerous: {'; '.join(destroys)}",
                    hint="where it is meant so: allow_dangerous: true",
                )
            notes += [Remark(place=wanted.at("command"), message=each.message) for each in found_in]
        files = self._batch.render(job)
        return Step(id=step.id, action=step.action, wanted=wanted, found=found, files=files, difference=step.difference)

    def _check_following(self, steps: Iterable[Step], present: Mapping[str, Found]) -> list[Remark]:
        """Jobs that name others that will not be there, or that would start each other for ever."""
        after: dict[str, Job] = {name: found.job for name, found in present.items() if found.job}
        there = set(present)
        places: dict[str, Place] = {}
        fresh = set()
        gone = set()
        for step in steps:
            if step.wanted:
                after[step.id] = step.wanted.job
                there.add(step.id)
                places[step.id] = step.wanted.place
                if step.action != "unchanged":
                    fresh.add(step.id)
            else:
                after.pop(step.id, None)
                there.discard(step.id)
                gone.add(step.id)
        refused = []
        edges = follow.edges(after.values())
        for job in after.values():
            for other in sorted({*job.after, *(other for _, other in hooks.hooked_jobs(job))} - there):
                if job.id in fresh or other in gone:
                    place = places[job.id] if job.id in places else Place(file=str(_file(present[job.id])))
                    hint = f"a command of one word is written command:{other}" if other not in job.after else None
                    refused.append(
                        Remark(place=place, message=f"there is no job {other} to follow or to start", hint=hint)
                    )
        circled: set[str] = set()
        for job_id in sorted(fresh - circled):
            if job_id not in circled and (way := follow.cycle(edges, job_id)):
                circled |= set(way)
                message = f"these jobs would start each other for ever: {' → '.join(way)}"
                refused.append(Remark(place=places[job_id], message=message))
        return refused


def _file(found: Found) -> Path:
    return found.dir.path / found.service


def _refusal(wanted: Wanted, error: LshError) -> Remark:
    place = wanted.at("command") if isinstance(error, checks.DangerousCommand) else wanted.place
    return Remark(place=place, message=error.message, hint=error.hint)
