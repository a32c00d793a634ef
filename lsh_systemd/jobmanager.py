"""Jobs from Python: what lshctl does, as methods. ``from lsh_systemd import JobManager``."""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from lsh_systemd.cli.common import App
from lsh_systemd.errors import BadInput
from lsh_systemd.job import Job
from lsh_systemd.jobtemplate import Template
from lsh_systemd.run import Run
from lsh_systemd.scope import Scope
from lsh_systemd.status import Status, overview, schedule_text
from lsh_systemd.text import escape_controls, visible

if TYPE_CHECKING:
    from lsh_systemd.manager import Manager

_log = logging.getLogger("lsh_systemd")


@dataclass(frozen=True, kw_only=True)
class JobInfo:
    """A job as it is now. ``state``: as in `lshctl list`. ``next_run`` is aware, None where none is to come.
    ``last_run`` is None where there was none, ``definition`` where an edit of the unit files has left none."""

    id: str
    name: str
    command: str
    schedule: str | None
    state: str
    enabled: bool
    next_run: datetime | None
    last_run: Run | None
    definition: Job | None


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the runs of a job come to, or, where ``job`` is None, those of all. Rates run from 0 to 1, durations and CPU
    time are in seconds, memory is in bytes; None where there is nothing to tell from. ``figures`` is all there is, in
    the shape of `lshctl report --json`. As text, it is the sheet that `lshctl report JOB` prints."""

    job: str | None
    runs: int
    successes: int
    failures: int
    retries: int
    success_rate: float | None
    duration_mean: float | None
    duration_p50: float | None
    duration_p95: float | None
    cpu_seconds_mean: float | None
    memory_peak_max: int | None
    figures: Mapping[str, Any]

    def __str__(self) -> str:
        from lsh_systemd.cli.sheet import lines

        told = (f"{label:>16}  {value}" for label, value in lines(dict(self.figures)))
        return "\n".join(escape_controls(line, keep="") for line in told)  # what a failed run has said may be in it


@dataclass(frozen=True, kw_only=True)
class ComprehensiveReport:
    """All there is to tell: of all jobs together, and of each. As text: `lshctl report --all --format markdown`."""

    overall: Report
    jobs: tuple[Report, ...]

    def __str__(self) -> str:
        from lsh_systemd.cli.forms import markdown

        jobs = [dict(each.figures) for each in self.jobs]
        return "\n".join(markdown({"overall": dict(self.overall.figures), "jobs": jobs}))


class JobManager:
    """The jobs of the machine (``scope="system"``) or your own (``"user"``); root's default is the machine's.

    with JobManager() as manager:
        job = manager.create_from_template("database-backup", name="Production Backup", values={"db": "prod"})
        run = manager.run(job.id)
        print(run.result, f"{manager.report(job.id).success_rate:.0%}")
        print(manager.comprehensive_report())

    Jobs are named by their id or name. Methods raise BadInput (``lsh_systemd.errors``) for what cannot be, JobNotFound
    and JobExists among it, and LshError where systemd, a file or the journal fails; both have a ``message`` and a
    ``hint``. Each call stands for itself: nothing has to be closed. What is doubtful about a command is a warning of
    the logger "lsh_systemd". Not for several threads at once: give each its own.
    """

    def __init__(self, scope: str | None = None) -> None:
        import os

        usual = Scope.SYSTEM if os.getuid() == 0 else Scope.USER
        try:
            self.scope = usual if scope is None else Scope(scope)
        except ValueError:
            raise BadInput(f"{visible(str(scope))} is no scope", hint="it is system or user") from None
        self._manager: Manager | None = None

    def connect(self) -> Self:
        """Make sure that systemd answers. Raises LshError where it does not."""
        with self._app() as app:
            app.manager.units("lsh-*")
        return self

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(self, *exception: object) -> None:
        return None

    # --- jobs

    def templates(self) -> tuple[Template, ...]:
        """The templates that jobs can be made from: those of lsh-systemd and of templates.d, by id."""
        from lsh_systemd import specfiles

        return tuple(sorted(specfiles.templates(self.scope).values(), key=lambda each: each.id))

    def create_from_template(
        self,
        template: str | Template,
        *,
        values: Mapping[str, Any] | None = None,
        enabled: bool = True,
        transient: bool = False,
        **fields: Any,
    ) -> JobInfo:
        """Make a job of a template: one's id, or ``jobtemplate.from_plain(id, {"job": {…}})``.

        ``values``: what it asks for, as --set. ``fields``: those of the job that are to be other than the template's,
        as in job files (name, command, schedule, working_dir, retries, timeout …).
        """
        from lsh_systemd import jobfields, specfiles

        found = specfiles.template(self.scope, template) if isinstance(template, str) else template
        plain, counts = jobfields.instantiate(found, values or {}, own=_plain(fields))
        return self._create(plain, enabled=enabled and counts, transient=transient)

    def create(
        self, name: str, command: str | Sequence[str], *, enabled: bool = True, transient: bool = False, **fields: Any
    ) -> JobInfo:
        """Make a job. ``command``: a line for the shell, or words that run without one. ``fields``: as in job files,
        such as ``schedule="0 2 * * *", working_dir="/backups", priority=8, retries=3, timeout="30m"``; spans may be
        timedeltas."""
        plain = _plain({"name": name, "command": command} | fields)
        return self._create(plain, enabled=enabled, transient=transient)

    def _create(self, plain: Mapping[str, Any], *, enabled: bool, transient: bool) -> JobInfo:
        from lsh_systemd import checks
        from lsh_systemd.jobfile import from_plain

        with self._app() as app:
            job = checks.allowing(from_plain(plain), self.scope)
            for warning in checks.check(job, self.scope):
                _log.warning("%s: %s", job.id, warning)
            app.control.add(job, enabled=enabled, transient=transient)
        return self.get(job.id)

    def list(self) -> tuple[JobInfo, ...]:
        """All jobs, by id."""
        with self._app() as app:
            last_runs = app.store.last_runs()
            return tuple(map(_info, overview(app.jobs.all(), manager=app.manager, last_runs=last_runs)))

    def get(self, name: str) -> JobInfo:
        """One job. Raises JobNotFound."""
        with self._app() as app:
            found = app.jobs.get(name)
            last = app.store.runs(job=found.id, limit=1)
            last_runs = {found.id: last[0]} if last else {}
            return _info(overview([found], manager=app.manager, last_runs=last_runs)[0])

    def remove(self, name: str, *, force: bool = False) -> None:
        """Remove the job; its runs stay on record, one in progress goes on. ``force``: also where others name it."""
        from lsh_systemd import follow

        with self._app() as app:
            found = app.jobs.get(name)
            if not force:
                follow.check_removable(app.jobs, [found])
            _ = app.store  # first: a run without a record is known by its unit file alone
            app.control.remove(found)

    def enable(self, name: str) -> None:
        """Let the schedule count, now and after a reboot."""
        with self._app() as app:
            app.control.enable(app.jobs.get(name))

    def disable(self, name: str) -> None:
        """Let the schedule rest. A run in progress goes on."""
        with self._app() as app:
            app.control.disable(app.jobs.get(name))

    # --- runs

    def start(self, name: str) -> str | None:
        """Start the job now; the id of its run, or of the one in progress. None where it waits for its turn in the
        queue (`lshctl limits`)."""
        with self._app() as app:
            return self._start(app, name, wait=False)

    def run(self, name: str) -> Run:
        """Start the job now and wait for the end of its run, however it ends."""
        from lsh_systemd.cli.operate import ended

        with self._app() as app:
            run_id = self._start(app, name, wait=True)
            assert run_id
            return ended(app, app.jobs.get(name), run_id)

    def _start(self, app: App, name: str, *, wait: bool) -> str | None:
        from lsh_systemd.cli.operate import queued

        found = app.jobs.get(name)
        if found.job and app.control.is_capped(found.job) and not app.control.is_running(found):
            return queued(app, found, wait=wait)
        return app.control.start(found)

    def stop(self, name: str) -> bool:
        """End the run in progress, or the wait for a retry; whether there was either."""
        with self._app() as app:
            return app.control.stop(app.jobs.get(name))

    def runs(self, name: str | None = None, *, limit: int = 20, result: str | None = None) -> tuple[Run, ...]:
        """Runs that have been, with their output, the newest first: of a job, or of all. ``limit`` 0 is all."""
        from lsh_systemd.cli.history import known_job

        with self._app() as app:
            job = None if name is None else known_job(app, name)
            return tuple(app.store.runs(job=job, limit=limit, result=result))

    # --- reports

    def report(self, name: str, *, since: datetime | None = None, until: datetime | None = None) -> Report:
        """What the runs of a job come to, also of one that was removed; all of them, or those of a time."""
        from lsh_systemd.cli.history import known_job

        with self._app() as app:
            job = known_job(app, name)
            return self._reports(app, [job], since, until, only=job).jobs[0]

    def reports(self, *, since: datetime | None = None, until: datetime | None = None) -> tuple[Report, ...]:
        """A report on each job that there is, or that has runs, by id."""
        return self.comprehensive_report(since=since, until=until).jobs

    def comprehensive_report(
        self, *, since: datetime | None = None, until: datetime | None = None
    ) -> ComprehensiveReport:
        """All there is to tell: of all jobs together, and of each."""
        with self._app() as app:
            return self._reports(app, [each.id for each in app.jobs.all()], since, until)

    def _reports(
        self,
        app: App,
        names: Sequence[str],
        since: datetime | None,
        until: datetime | None,
        *,
        only: str | None = None,
    ) -> ComprehensiveReport:
        from lsh_systemd.figures import Figures
        from lsh_systemd.report import Reporter

        app.store.settle()
        with app.store.snapshot():
            reporter = Reporter(Figures(app.store.query), since_usec=_usec(since), until_usec=_usec(until), job=only)
            jobs = tuple(map(_report, reporter.jobs(names)))
            return ComprehensiveReport(overall=_report(reporter.overall()), jobs=jobs)

    @contextlib.contextmanager
    def _app(self) -> Iterator[App]:
        """The parts that a call works with: the bus is the same all along, the ledger is brought up to date anew."""
        app = App(self.scope)
        if self._manager is not None:
            app.manager = self._manager
        try:
            yield app
        finally:
            self._manager = vars(app).get("manager", self._manager)
            if "store" in vars(app):
                app.store.close()


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a job as jobfile reads them."""
    from lsh_systemd.span import format_span

    plain: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, timedelta):
            value = format_span(value)
        elif isinstance(value, Path):
            value = str(value)
        elif isinstance(value, tuple):
            value = list(value)
        plain[name] = value
    return plain


def _info(status: Status) -> JobInfo:
    from datetime import UTC

    found, job = status.found, status.found.job
    next_run = None if status.next_usec is None else datetime.fromtimestamp(status.next_usec / 1e6, UTC)
    return JobInfo(
        id=found.id,
        name=job.name if job else found.id,
        command=job.command_line if job else "",
        schedule=schedule_text(job) if job else None,
        state=status.state,
        enabled=found.pair.enabled,
        next_run=next_run,
        last_run=status.last_run,
        definition=job,
    )


def _report(figures: Mapping[str, Any]) -> Report:
    own = ("job", "runs", "successes", "retries", "success_rate", "duration_mean", "duration_p50", "duration_p95",
           "cpu_seconds_mean", "memory_peak_max")  # fmt: skip
    failures = sum(figures["failures_by_result"].values())
    return Report(**{name: figures[name] for name in own}, failures=failures, figures=figures)


def _usec(moment: datetime | None) -> int | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise BadInput("a point in time needs its zone", hint="datetime.now(UTC) - timedelta(days=30)")
    return round(moment.timestamp() * 1e6)
