"""A job's page."""

import time
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Request
from starlette.responses import Response

from lsh_systemd import analyze, credentials, cron, hooks
from lsh_systemd.api import jobs as api
from lsh_systemd.api.dash import plots
from lsh_systemd.api.dash.page import pages, render
from lsh_systemd.api.gate import needs
from lsh_systemd.api.parts import Desk, desk
from lsh_systemd.api.runs import Wanted, reporter, runs_of
from lsh_systemd.api.shapes import masked
from lsh_systemd.cli.sheet import lines
from lsh_systemd.describe import describe
from lsh_systemd.errors import LshError
from lsh_systemd.figures import Figures
from lsh_systemd.job import Job
from lsh_systemd.jobfile import to_plain
from lsh_systemd.jobs import Found, JobNotFound
from lsh_systemd.status import schedule_text

routes = pages()
Here = Annotated[Desk, Depends(desk)]
_COMING = 5
_DRAWN, _LISTED = 100, 15
_DAYS = 30
# These have places of their own on the page.
_TOLD_ELSEWHERE = ("name", "command", "description", "secrets")


@routes.get("/ui/jobs/{job_id}", openapi_extra=needs("viewer"))
@routes.get("/admin/cron/{job_id}", openapi_extra=needs("viewer"))
def show_job(job_id: str, request: Request, desk: Here) -> Response:
    try:
        found = desk.job(job_id)
    except JobNotFound:
        return _gone(request, desk, desk.known(job_id))
    status = desk.statuses([found])[0]
    job, zone, whole = found.job, analyze.local_zone(), desk.caller.may("admin")
    runs = runs_of(desk, Wanted(job=found.id), _DRAWN)
    with reporter(desk, time.time_ns() // 1000 - _DAYS * plots.DAY_USEC, None, job=found.id) as told:
        report = told.jobs([found.id])[0]
    today = time.time_ns() // 1000 // plots.DAY_USEC
    days = Figures(desk.store().query).days(today - _DAYS + 1, [found.id]).get(found.id, {})
    drawn, highest = plots.bars(runs)
    plain = to_plain(job) if job else {}
    plain = plain if whole else masked(plain)
    return render(
        request,
        "job",
        id=found.id,
        found=found,
        job=job,
        status=status,
        schedule=_in_words(job) if job else [],
        coming=_coming(desk, found) if status.next_usec else [],
        week=plots.week(job, zone, datetime.now(UTC)) if job and status.next_usec else [],
        week_zone=job.timezone or zone if job else zone,
        definition={name: value for name, value in plain.items() if name not in _TOLD_ELSEWHERE},
        secrets=credentials.names(job) if job else [],
        files=found.files if whole else {},
        drop_ins=found.drop_ins(),
        figures=list(lines(report))[1:],
        report=report,
        days=plots.strip(days, today, _DAYS),
        bars=drawn,
        highest=highest,
        runs=runs[:_LISTED],
    )


def _gone(request: Request, desk: Desk, job_id: str) -> Response:
    """The page of a job that has been removed: its runs are still known."""
    return render(request, "gone", id=job_id, runs=runs_of(desk, Wanted(job=job_id), _LISTED))


def _coming(desk: Desk, found: Found) -> list[int]:
    try:
        return api.coming(desk, found, _COMING)
    except LshError:
        return []  # its lines are not as systemd reads them: its state tells that


def _in_words(job: Job) -> list[tuple[str, str]]:
    """What starts the job: as it was given, and in words where there are any."""
    told = [(each, describe(cron.parse(each, seconds=job.seconds, key=job.id))) for each in job.schedule]
    if not told and (text := schedule_text(job)):
        return [(text, _kind(job))]
    return told + [(each, "") for each in hooks.waits_for(job)]


def _kind(job: Job) -> str:
    if job.calendar:
        return "as systemd writes calendars"
    if job.every:
        return "again and again"
    if job.at:
        return "once"
    return "when the machine has started" if job.on_boot else ""
