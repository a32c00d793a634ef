"""/api/cron/…: what used to steer a processor of jobs. systemd is that now; each path does what comes nearest to it."""

import json
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from fastapi import Body, Depends, Query, Request
from starlette.responses import Response

from lsh_systemd import caps, catchup, daemons
from lsh_systemd.api import jobs
from lsh_systemd.api.access import OPEN, WEBHOOK, Forbidden
from lsh_systemd.api.document import gives
from lsh_systemd.api.gate import needs, router
from lsh_systemd.api.kept import write_whole
from lsh_systemd.api.parts import Desk, desk
from lsh_systemd.api.problems import Json
from lsh_systemd.api.runs import attention, reporter, usec_of
from lsh_systemd.api.seed4 import HEALTH, health_of, status_of
from lsh_systemd.dispatch import overview
from lsh_systemd.errors import BadInput, LshError, refused
from lsh_systemd.refresh import change_caps
from lsh_systemd.run import rfc3339
from lsh_systemd.scope import Scope, state_dir
from lsh_systemd.stuck import going

routes = router(tags=["cron"])
Here = Annotated[Desk, Depends(desk)]
Given = Annotated[dict[str, Any] | None, Body()]
_MOST_JOBS = 100_000
_MOST_MINUTES = 525_600
# What metrics call an outcome → runs --result; "failed" is all that are no success.
_OUTCOMES = {"completed": "success", "success": "success", "timeout": "timeout"}


def paused_file(scope: Scope) -> Path:
    """The jobs whose schedules POST /api/cron/stop has let rest."""
    return state_dir(scope) / "api-paused.json"


@routes.post("/start", openapi_extra=needs("admin"), responses=gives("CronStarted"))
def start(desk: Here, body: Given = None) -> Response:
    """Let the schedules count that `stop` let rest, and have the agent run. `maxConcurrentJobs` caps how much runs at
    once; `batchSize` has no meaning, as systemd starts each job when it is due."""
    desk.for_all()
    most = _number(body or {}, "maxConcurrentJobs", _MOST_JOBS)
    problems = []
    if most is not None:
        old = caps.load(desk.scope)
        new = replace(old, total=most)
        if new != old:
            problems += change_caps(desk.control, new, desk.parts.collect)
    file = paused_file(desk.scope)
    resumed, failed = list[str](), list[str]()
    for name in _paused(file):
        found = desk.parts.jobs.find(name)
        if found is None or found.pair.enabled:
            continue
        try:
            desk.control.enable(found)
            resumed.append(found.id)
        except LshError as error:
            failed.append(found.id)
            problems.append(f"{found.id}: {error.message}")
    _keep_paused(file, failed)
    if not desk.parts.agent_runs():
        daemons.enable(desk.parts.manager)
    return Json({"success": not problems, "status": "started", "resumed": resumed, "problems": problems})


@routes.post("/stop", openapi_extra=needs("admin"), responses=gives("CronStopped"))
def stop(desk: Here) -> Response:
    """Let all schedules rest until `start`. Runs in progress go on, and a job can still be started by hand."""
    desk.for_all()
    file = paused_file(desk.scope)
    enabled = [found for found in desk.all() if found.pair.enabled and found.job and found.activators]
    # Written first: what is stopped half way can be started again.
    _keep_paused(file, {*_paused(file), *(found.id for found in enabled)})
    for found in enabled:
        desk.control.disable(found)
    return Json({"success": True, "status": "stopped", "paused": [found.id for found in enabled]})


@routes.get("/health", openapi_extra=needs(OPEN), responses=HEALTH)
def health(request: Request) -> Response:
    """Whether jobs are looked after. Needs no key."""
    return health_of(request)


@routes.get("/status", openapi_extra=needs("viewer"), responses=gives("CronStatus"))
def status(desk: Here) -> Response:
    """How the server is, what runs and what waits, and whether `stop` has let schedules rest."""
    places = jobs.waiting(desk)
    running = [each["job"] for each in places if each["state"] == "running"]
    limits = caps.load(desk.scope)
    paused = _paused(paused_file(desk.scope))
    return Json(
        status_of(desk)
        | {
            "isRunning": not paused,
            "paused": len(paused),
            "activeJobs": running,
            "pendingJobs": len(places) - len(running),
            "config": {"maxConcurrentJobs": limits.total, "maxJobsPerUser": limits.per_user},
        }
    )


@routes.get("/queue", openapi_extra=needs("viewer"), responses=gives("CronQueue"))
def queue(desk: Here) -> Response:
    """What runs and what waits for a cap."""
    places = jobs.waiting(desk)
    counts = {state: sum(each["state"] == state for each in places) for state in ("running", "waiting")}
    return Json({"processing": counts["running"], "pending": len(places) - counts["running"], "jobs": places})


@routes.get("/insights", openapi_extra=needs("viewer"), responses=gives("CronInsights"))
def insights(desk: Here) -> Response:
    """What deserves attention, the worst first."""
    return Json({"insights": attention(desk)})


@routes.get("/metrics", openapi_extra=needs("viewer"), responses=gives("CronMetrics"))
def metrics(
    desk: Here,
    start: Annotated[str | None, Query(alias="startDate", max_length=100)] = None,
    end: Annotated[str | None, Query(alias="endDate", max_length=100, description="That day is in it.")] = None,
    outcome: Annotated[str | None, Query(max_length=40, description="success, failed, or a result as timeout")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """The figures of a time, of all jobs together and of each; the newest runs that ended so, with an `outcome`."""
    since, until = usec_of(start), usec_of(end)
    if end is not None and until is not None and len(end.strip()) == len("2027-01-31"):
        until += 86_400_000_000
    seen = desk.seen_ids()
    with reporter(desk, since, until) as told:
        of_jobs = [each for each in told.jobs() if seen is None or each["job"] in seen]
        overall = told.overall() if seen is None else None
    answer: dict[str, Any] = {"overall": overall, "jobs": of_jobs}
    if outcome is not None:
        answer["runs"] = _runs(desk, since, until, outcome, limit, seen)
    return Json(answer)


def _runs(
    desk: Desk, since: int | None, until: int | None, outcome: str, limit: int, seen: set[str] | None
) -> list[dict[str, Any]]:
    failed = outcome in ("failed", "failure", "error")
    result = None if failed else _OUTCOMES.get(outcome, outcome)
    store = desk.store()
    runs = [
        run
        for job in ([None] if seen is None else sorted(seen))
        for run in store.runs(
            job=job,
            since_usec=since,
            until_usec=until,
            result=result,
            unsuccessful=failed,
            limit=limit,
            output=False,
        )
    ]
    runs.sort(key=lambda run: -(run.started_usec or 0))
    return [{k: v for k, v in run.to_json().items() if k != "output"} for run in runs[:limit]]


@routes.post("/trigger", openapi_extra=needs("operator"), responses=gives("CronTriggered", 404))
def trigger(desk: Here, body: Given = None) -> Response:
    """Start the job `jobId`; without one, what was missed while the machine was off, for jobs that make up for it."""
    return Json(_triggered(desk, body or {}))


@routes.post("/webhook", openapi_extra=needs(WEBHOOK), responses=gives("CronTriggered", 404))
def webhook(desk: Here, body: Given = None) -> Response:
    """The same as trigger, for callers outside: with `X-Webhook-Secret`, which is CRON_WEBHOOK_SECRET here."""
    return Json(_triggered(desk, body or {}))


def _triggered(desk: Desk, body: dict[str, Any]) -> dict[str, Any]:
    wanted = body.get("jobId", body.get("job"))
    if wanted is not None:
        if not isinstance(wanted, str):
            raise BadInput("jobId must be text")
        return {"success": True, "status": "triggered"} | jobs.start(desk, desk.job(wanted))
    if desk.caller.jobs:
        raise Forbidden("this key is for some jobs only: name one", hint='{"jobId": "…"}')
    missed = [each.found.id for each in catchup.backlogs(desk.control, desk.store()) if each.due]
    if missed:  # not here: it waits for each run
        daemons.provide(desk.parts.manager, [daemons.CATCH_UP])
        desk.parts.manager.start(daemons.CATCH_UP)
    running = sum(each.state == "running" for each in overview(desk.control))
    return {"success": True, "status": "triggered", "caught_up": missed, "running": running}


@routes.post("/reset-stuck-jobs", openapi_extra=needs("operator"), responses=gives("CronReset"))
def reset_stuck_jobs(desk: Here, body: Given = None) -> Response:
    """End the runs that are stuck: longer than their job's `stuck_after`, or than `timeoutMinutes`."""
    minutes = _number(body or {}, "timeoutMinutes", _MOST_MINUTES)
    limit = timedelta(minutes=minutes) if minutes is not None else None
    ended = []
    for each in list(going(desk.parts.manager, desk.all())):
        if each.stuck if limit is None else timedelta(seconds=each.seconds) >= limit:
            desk.control.stop(each.found)
            ended.append({"job": each.found.id, "run_id": each.run_id, "seconds": round(each.seconds, 3)})
    now = rfc3339(time.time_ns() // 1000)
    return Json({"success": True, "resetCount": len(ended), "jobs": ended, "timestamp": now})


def _number(body: dict[str, Any], name: str, most: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if type(value) is not int or not 1 <= value <= most:
        raise BadInput(f"{name} must be a whole number from 1 to {most}")
    return value


def _keep_paused(file: Path, names: Iterable[str]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        write_whole(file, json.dumps(sorted(names)))
    except OSError as error:
        raise refused(f"cannot write {file}: {error.strerror}", error) from None


def _paused(file: Path) -> list[str]:
    try:
        told = json.loads(file.read_text())
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError) as error:
        raise LshError(f"cannot read {file}: {error}") from None
    return [each for each in told if isinstance(each, str)] if isinstance(told, list) else []
