"""Crontabs → jobs: first a plan, which changes nothing; then all of it, or nothing."""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from lsh_systemd import checks, crontab, crontabs, progress
from lsh_systemd.batch import Batch, Change
from lsh_systemd.cronjobs import Account, base_name, free_name, job_from
from lsh_systemd.crontab import Crontab, Entry, Form
from lsh_systemd.crontabs import Source
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.job import Job
from lsh_systemd.jobs import Found
from lsh_systemd.scope import Scope
from lsh_systemd.text import visible

Action = Literal["add", "unchanged", "differs"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One line of a crontab and the job it becomes. ``found``: the job of that name that is there; ``files``: the unit
    files that it gets."""

    source: Source
    entry: Entry
    job: Job
    action: Action
    found: Found | None = None
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Remark:
    """A line that cannot be taken, or a note on one; ``line`` None: on the whole."""

    source: str
    line: int | None
    message: str
    text: str = ""
    hint: str | None = None

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}, line {self.line}"
        return f"{place}: {self.message}" + (f" ({self.hint})" if self.hint else "")


@dataclass(frozen=True, kw_only=True)
class Plan:
    steps: tuple[Step, ...]
    refused: tuple[Remark, ...]
    notes: tuple[Remark, ...]

    def steps_to(self, action: Action) -> list[Step]:
        return [step for step in self.steps if step.action == action]


class Importer:
    """What `lshctl import crontab` does in one scope."""

    def __init__(self, *, control: Batch, account: Callable[[str], Account | None] = crontabs.account) -> None:
        self._control, self._account = control, account
        self.scope = control.scope

    def plan(self, sources: Iterable[Source], *, check_form: bool = False) -> Plan:
        """What would be done. ``check_form``: refuse a user's crontab whose commands all begin with a user's name."""
        drafts: list[tuple[Source, Entry, Job]] = []
        refused: list[Remark] = []
        notes: list[Remark] = []
        for source in sources:
            read = crontab.parse(source.text, source.form)
            if check_form and source.form is Form.USER:
                self._check_form(source, read)
            label = source.label
            refused += [Remark(source=label, line=b.line, message=b.reason, text=b.text, hint=b.hint) for b in read.bad]
            notes += [Remark(source=label, line=note.line, message=note.text) for note in read.notes]
            for entry in read.entries:
                try:
                    job = self._draft(source, entry)
                except LshError as error:
                    refused.append(_refusal(source, entry, error))
                    continue
                drafts.append((source, entry, job))
                # No reason to refuse it: cron has run it until now.
                notes += [
                    Remark(source=label, line=entry.line, message=f"{each.message}; it is taken all the same")
                    for each in checks.findings(job, self.scope)
                ]
        steps = self._steps(drafts, refused, notes)
        return Plan(steps=tuple(steps), refused=tuple(refused), notes=tuple(notes))

    def apply(self, plan: Plan, *, take_over: bool) -> list[Path]:
        """Make the jobs of the plan, replace those that differ, comment the lines out where that is asked for; the
        backups of the crontabs. Whatever fails, all is as it was before."""
        changes = [
            Change(
                job=step.job,
                found=step.found,
                enabled=step.found is None or step.found.pair.enabled,
                files=step.files,
            )
            for step in (*plan.steps_to("add"), *plan.steps_to("differs"))
        ]
        backups: list[Path] = []
        with contextlib.ExitStack() as undo:

            def take_over_lines() -> None:
                for source, text in _taken_over(plan) if take_over else []:
                    backup = crontabs.rewrite(source, text, scope=self.scope)
                    undo.callback(_restore, source, backup)
                    backups.append(backup)

            self._control.carry_out(changes, verb="import", finish=take_over_lines)
            undo.pop_all()
        return backups

    def _draft(self, source: Source, entry: Entry) -> Job:
        """The job of a line, under the name that it has if nobody else wants it."""
        user = entry.user or source.owner
        account = self._account(user)
        if account is None:
            hint = "--form user: the file has no user column" if entry.user else None
            raise BadInput(f"there is no user {visible(user)}", hint=hint)
        if self.scope is Scope.USER and account.name != source.owner:
            raise BadInput(f"it runs as {account.name}", hint="only root's import can make such a job: sudo lshctl …")
        # Users do not know of each other's names: in the machine's scope, bob's backup is bob-backup.
        prefix = account.name if entry.user is None and self.scope is Scope.SYSTEM and account.name != "root" else ""
        name = free_name(base_name(entry, label=source.name, prefix=prefix), ())
        return job_from(entry, name=name, form=source.form, scope=self.scope, account=account)

    def _steps(self, drafts: list[tuple[Source, Entry, Job]], refused: list[Remark], notes: list[Remark]) -> list[Step]:
        """Each draft beside what is there: first the jobs that are the same but for the name, so that a line added
        or taken away above does not give all the others new names."""
        existing = {found.id: found for found in self._control.jobs.all()}
        by_key: dict[object, list[Found]] = defaultdict(list)
        for found in existing.values():
            if found.job and not found.transient:
                by_key[_key(found.job)].append(found)
        claimed: set[str] = set()
        twins: dict[int, Found] = {}
        for at, (_, _, job) in enumerate(drafts):
            for found in sorted(by_key[_key(job)], key=lambda found: (found.id != job.id, found.id)):
                if found.id not in claimed and found.job and replace(job, name=found.job.name) == found.job:
                    twins[at] = found
                    claimed.add(found.id)
                    break
        steps = []
        for at, (source, entry, job) in enumerate(progress.each("looking at lines", drafts)):
            if twin := twins.get(at):
                steps.append(Step(source=source, entry=entry, job=twin.valid_job, action="unchanged", found=twin))
                if not twin.pair.enabled:
                    message = f"{twin.id} is there, and its schedule rests"
                    notes.append(Remark(source=source.label, line=entry.line, message=message))
                continue
            try:
                step = self._new_step(source, entry, job, claimed, existing)
            except LshError as error:
                refused.append(_refusal(source, entry, error))
                continue
            claimed.add(step.job.id)
            steps.append(step)
        return steps

    def _new_step(self, source: Source, entry: Entry, job: Job, claimed: set[str], existing: dict[str, Found]) -> Step:
        job = replace(job, name=free_name(job.name, claimed))
        found = existing.get(job.id)
        files = self._control.render(job)
        if found is None:
            self._control.check_new(job, transient=False)
            return Step(source=source, entry=entry, job=job, action="add", files=files)
        _ = found.valid_job
        return Step(source=source, entry=entry, job=job, action="differs", found=found, files=files)

    def _check_form(self, source: Source, read: Crontab) -> None:
        words = {entry.command.split()[0] for entry in read.entries}
        if words and all(self._account(word) for word in words):
            raise BadInput(
                f"in {source.label}, each command begins with the name of a user: {', '.join(sorted(words))}",
                hint="--form system reads that as the user column, --form user as the command",
            )


def _key(job: Job) -> object:
    """Equal for jobs that may be the same: cheaper than to compare each with each."""
    return job.command, job.schedule, job.run_as, job.stdin


def _refusal(source: Source, entry: Entry, error: LshError) -> Remark:
    text = source.text.split("\n")[entry.line - 1]
    return Remark(source=source.label, line=entry.line, message=error.message, text=text, hint=error.hint)


def _restore(source: Source, backup: Path) -> None:
    with contextlib.suppress(LshError):
        crontabs.restore(source, backup)


def _taken_over(plan: Plan) -> list[tuple[Source, str]]:
    """The crontabs with a comment in the place of each line that is a job now."""
    by_source: dict[str, tuple[Source, list[str]]] = {}
    for step in plan.steps:
        _, lines = by_source.setdefault(step.source.label, (step.source, step.source.text.split("\n")))
        at = step.entry.line - 1
        lines[at] = f"# {step.job.timer} has this now: {lines[at].lstrip()}"
    return [(source, "\n".join(lines)) for source, lines in by_source.values()]
