"""Runs, what they wrote, and what there is to tell of them; schedules explained; secrets' names, alerts, the audit."""

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from starlette.responses import Response

from lsh_systemd import analyze
from lsh_systemd.alertrule import shown, told_of
from lsh_systemd.alerts import rules_of
from lsh_systemd.api.document import gives
from lsh_systemd.api.gate import needs, router
from lsh_systemd.api.parts import Desk, desk
from lsh_systemd.api.problems import Json, NotFound
from lsh_systemd.api.shapes import next_page
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.explaining import explain
from lsh_systemd.figures import Figures
from lsh_systemd.insights import insights
from lsh_systemd.loglines import journalctl
from lsh_systemd.outbox import Outbox
from lsh_systemd.report import Reporter
from lsh_systemd.run import Run, rfc3339
from lsh_systemd.sayings import told
from lsh_systemd.text import visible
from lsh_systemd.vault import Vault

routes = router(tags=["runs"])
Here = Annotated[Desk, Depends(desk)]
Instant = Annotated[str | None, Query(max_length=100, description="RFC 3339, or as systemd takes it: yesterday, -2h.")]
_BYTES: dict[int | str, dict[str, Any]] = {200: {"content": {"application/octet-stream": {}}}}
_MOST = 1000
_MOST_LINES = 10_000
_LOG_SECONDS = 60
_DAY_USEC = 86_400_000_000


def usec_of(text: str | None) -> int | None:
    return None if text is None else round(analyze.parse_timestamp(text).timestamp() * 1e6)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which runs: what ``Store.runs`` takes."""

    job: str | None = None
    since_usec: int | None = None
    until_usec: int | None = None
    result: str | None = None
    unsuccessful: bool = False


def runs_of(desk: Desk, wanted: Wanted, limit: int) -> list[Run]:
    """So many of the runs that the caller may see, the newest first, without what they wrote."""
    seen, store = desk.seen_ids() if wanted.job is None else None, desk.store()
    if seen is None:
        return store.runs(**asdict(wanted), limit=limit, output=False)
    each_job = (store.runs(**asdict(replace(wanted, job=each)), limit=limit, output=False) for each in seen)
    together = (run for of_job in each_job for run in of_job)
    return sorted(together, key=lambda run: -(run.started_usec or 0))[:limit]


def _shaped(desk: Desk, run: Run, *, output: bool) -> dict[str, Any]:
    shape = told(desk.scope, run).to_json()
    return shape if output else {name: value for name, value in shape.items() if name != "output"}


def _listed(
    desk: Desk,
    request: Request,
    job: str | None,
    since: str | None,
    until: str | None,
    result: str | None,
    failed: bool,
    limit: int,
) -> Response:
    wanted = Wanted(job=job, since_usec=usec_of(since), until_usec=usec_of(until), result=result, unsuccessful=failed)
    found = runs_of(desk, wanted, limit + 1)
    headers = {}
    if len(found) > limit and found[limit - 1].started_usec is not None:
        asked = {"since": since, "result": result, "failed": failed or None, "limit": limit}
        if not request.path_params:  # else it stands in the path
            asked["job"] = job
        headers = next_page(request.url.path, **asked, until=rfc3339(found[limit - 1].started_usec))
    return Json([_shaped(desk, run, output=False) for run in found[:limit]], headers=headers)


Limit = Annotated[int, Query(ge=1, le=_MOST)]
Result = Annotated[str | None, Query(max_length=40)]


@routes.get("/runs", openapi_extra=needs("viewer"), responses=gives("Run", many=True))
def list_runs(
    desk: Here,
    request: Request,
    job: Annotated[str | None, Query(max_length=300)] = None,
    since: Instant = None,
    until: Instant = None,
    result: Result = None,
    failed: bool = False,
    limit: Limit = 50,
) -> Response:
    """Runs, the newest first, without what they wrote. `Link` leads to older ones."""
    return _listed(desk, request, desk.known(job) if job else None, since, until, result, failed, limit)


@routes.get("/jobs/{job_id}/runs", openapi_extra=needs("viewer"), responses=gives("Run", many=True))
def runs_of_job(
    job_id: str,
    desk: Here,
    request: Request,
    since: Instant = None,
    until: Instant = None,
    result: Result = None,
    failed: bool = False,
    limit: Limit = 50,
) -> Response:
    """A job's runs, also of one that has been removed."""
    return _listed(desk, request, desk.known(job_id), since, until, result, failed, limit)


@routes.get("/runs/{run_id}", openapi_extra=needs("viewer"), responses=gives("RunWithOutput"))
def show_run(run_id: str, desk: Here) -> Response:
    """One run, with what it wrote."""
    return Json(_shaped(desk, run_of(desk, run_id), output=True))


@routes.get("/runs/{run_id}/output", openapi_extra=needs("viewer"), response_class=Response, responses=_BYTES)
def output_of_run(run_id: str, desk: Here) -> Response:
    """What a run wrote, byte by byte."""
    headers = {"Content-Disposition": "attachment"}
    return Response(run_of(desk, run_id).output, media_type="application/octet-stream", headers=headers)


def run_of(desk: Desk, run_id: str) -> Run:
    """The run whose id this is or begins. Raises NotFound."""
    found = desk.store().run(run_id) if run_id and set(run_id) <= set("0123456789abcdef") else []
    seen = [run for run in found if desk.caller.sees(run.job, _job(desk, run.job))]
    if len(seen) != 1:
        raise NotFound(f"there is no run {visible(run_id)}" if not seen else "several runs begin so")
    return seen[0]


def _job(desk: Desk, job_id: str) -> Any:
    found = desk.parts.jobs.find(job_id)
    return found.job if found else None


@routes.get("/jobs/{job_id}/logs", openapi_extra=needs("viewer"), responses=gives("Line", many=True))
def logs_of_job(
    job_id: str,
    desk: Here,
    lines: Annotated[int, Query(ge=1, le=_MOST_LINES)] = 200,
    since: Instant = None,
    until: Instant = None,
    run: Annotated[str | None, Query(pattern="^[0-9a-f]{32}$")] = None,
) -> Response:
    """A job's lines in the journal, the oldest first, with what systemd said of it."""
    command = [*lines_of(desk, job_id, run), "--output=json", f"--lines={lines}"]
    for name, text in (("since", since), ("until", until)):
        if (usec := usec_of(text)) is not None:
            command.append(f"--{name}=@{usec // 1_000_000}")
    try:
        done = subprocess.run(command, capture_output=True, timeout=_LOG_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LshError(f"cannot run journalctl: {error}") from None
    return Json([line_of(json.loads(each)) for each in done.stdout.splitlines()])


def lines_of(desk: Desk, job_id: str, run_id: str | None) -> list[str]:
    """The journalctl command for a job's lines, or those of one of its runs: not of whatever else has such an id."""
    job = desk.known(job_id)
    if run_id is not None and run_of(desk, run_id).job != job:
        raise NotFound(f"{job} has no run {visible(run_id)}")
    return journalctl(desk.scope, job, run_id)


def line_of(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry as journalctl's JSON has it → as the API tells it."""
    message = entry.get("MESSAGE")
    if isinstance(message, list):  # bytes that are no text
        message = bytes(message).decode("utf-8", "backslashreplace")
    at = str(entry.get("__REALTIME_TIMESTAMP", ""))
    return {
        "at": rfc3339(int(at)) if at.isdecimal() else None,
        "message": message,
        "priority": entry.get("PRIORITY"),
        "identifier": entry.get("SYSLOG_IDENTIFIER"),
        "run_id": entry.get("_SYSTEMD_INVOCATION_ID") or entry.get("INVOCATION_ID"),
        "cursor": entry.get("__CURSOR"),
    }


@contextlib.contextmanager
def reporter(desk: Desk, since: int | None, until: int | None, *, job: str | None = None) -> Iterator[Reporter]:
    """Reports on one moment's ledger; times are µs since 1970."""
    if since is not None and until is not None and until <= since:
        raise BadInput("until is not after since")
    store = desk.store()
    store.settle()
    with store.snapshot():
        yield Reporter(Figures(store.query), since_usec=since, until_usec=until, job=job)


@routes.get("/report", openapi_extra=needs("viewer"), responses=gives("Report", many=True))
def report(desk: Here, since: Instant = None, until: Instant = None) -> Response:
    """A report on each job: rate of success, durations, failures, how that changes."""
    seen = desk.seen_ids()
    with reporter(desk, usec_of(since), usec_of(until)) as told:
        reports = told.jobs([each.id for each in desk.all()])
    return Json([each for each in reports if seen is None or each["job"] in seen])


@routes.get("/jobs/{job_id}/report", openapi_extra=needs("viewer"), responses=gives("Report"))
def report_of_job(job_id: str, desk: Here, since: Instant = None, until: Instant = None) -> Response:
    """A report on one job."""
    job = desk.known(job_id)
    with reporter(desk, usec_of(since), usec_of(until), job=job) as told:
        return Json(told.jobs([job])[0])


def attention(desk: Desk, days: int = 7) -> list[dict[str, Any]]:
    """What deserves attention in the jobs that the key is for, the worst first."""
    found = {each.id: each for each in desk.all()}
    active = frozenset(
        each.id
        for each in found.values()
        if each.pair.enabled and each.job and (each.job.schedule or each.job.calendar or each.job.every)
    )
    with reporter(desk, time.time_ns() // 1000 - days * _DAY_USEC, None) as told:
        reports = [each for each in told.jobs() if each["job"] in found]
        return [asdict(each) for each in insights(reports, told.streaks([each["job"] for each in reports]), active)]


@routes.get("/insights", openapi_extra=needs("viewer"), responses=gives("Insight", many=True))
def show_insights(desk: Here) -> Response:
    """What deserves attention, the worst first: of the last seven days."""
    return Json(attention(desk))


@routes.get("/explain", openapi_extra=needs("viewer"), responses=gives("Explanation"))
def explain_cron(
    desk: Here,
    expression: Annotated[str, Query(max_length=1000, examples=["*/15 9-17 * * 1-5"])],
    timezone: Annotated[str | None, Query(max_length=100)] = None,
    start: Annotated[Instant, Query(alias="from")] = None,
    count: Annotated[int, Query(alias="next", ge=1, le=1000)] = 5,
    seconds: bool = False,
    name: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """A cron expression: in words, as OnCalendar, and its next instants."""
    told, _, _ = explain(desk.scope, expression, zone=timezone, start=start, count=count, seconds=seconds, name=name)
    # Which other jobs start at the same minute is not for a key that is for some jobs only.
    return Json(told if not desk.caller.jobs else told | {"warnings": []})


@routes.get("/secrets", openapi_extra=needs("admin"), responses=gives("Secret", many=True))
def secrets(desk: Here) -> Response:
    """The names of the secrets. What they hold is told to jobs only."""
    return Json(secrets_of(desk))


def secrets_of(desk: Desk) -> list[dict[str, Any]]:
    desk.for_all()
    stored = Vault(desk.scope, encrypts=False, takes_large=False).all()
    return [
        {"name": each.name, "changed_at": rfc3339(each.changed_usec), "encrypted": each.encrypted} for each in stored
    ]


@routes.get("/alerts", openapi_extra=needs("admin"), responses=gives("AlertRule", many=True))
def alerts(desk: Here) -> Response:
    """The rules of who is told of what; of their URLs without what may be a password."""
    return Json(alert_rules(desk))


def alert_rules(desk: Desk) -> list[dict[str, Any]]:
    desk.for_all()
    return [
        {
            "name": rule.name,
            "tells_of": told_of(rule),
            "jobs": list(rule.jobs),
            "to": [shown(url) for url in rule.to],
        }
        for rule in rules_of(desk.scope)
    ]


@routes.get("/alerts/history", openapi_extra=needs("admin"), responses=gives("Alert", many=True))
def alerts_told(desk: Here, limit: Limit = 50) -> Response:
    """What has been told, or waits to be; the newest first."""
    return Json(alert_history(desk, limit))


def alert_history(desk: Desk, limit: int) -> list[dict[str, Any]]:
    seen = desk.seen_ids()
    found = Outbox(desk.store()).history(limit if seen is None else 0)
    return [each.to_json() for each in found if seen is None or each.job in seen][:limit]


@routes.get("/audit", openapi_extra=needs("admin"), responses=gives("Change", many=True))
def audit(
    desk: Here,
    job: Annotated[str | None, Query(max_length=300)] = None,
    since: Instant = None,
    limit: Limit = 50,
) -> Response:
    """Who changed which job when and how, the newest first."""
    return Json(changes_of(desk, job, usec_of(since), limit))


def changes_of(desk: Desk, job: str | None, since_usec: int | None, limit: int) -> list[dict[str, Any]]:
    seen = desk.seen_ids()
    if job is not None:
        job = desk.known(job) if seen is not None else job
    changes = desk.store().changes(job=job, since_usec=since_usec, limit=limit if seen is None else 0)
    return [each.to_json() for each in changes if seen is None or each.job in seen][:limit]
