"""Jobs: listed, shown, started and stopped."""

from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import anyio.to_thread
from fastapi import Depends, Query, Request, Response

from lsh_systemd.api import once
from lsh_systemd.api.document import gives
from lsh_systemd.api.gate import needs, router
from lsh_systemd.api.parts import Desk, desk
from lsh_systemd.api.problems import Json, NotFound
from lsh_systemd.api.shapes import detailed, etag, next_page, short
from lsh_systemd.errors import BadInput
from lsh_systemd.jobs import Found
from lsh_systemd.queue import Queue
from lsh_systemd.run import Cause, rfc3339
from lsh_systemd.status import Status

routes = router(tags=["jobs"])
Here = Annotated[Desk, Depends(desk)]
# What older systems called the states.
_CALLED = {
    "scheduled": "waiting",
    "pending": "waiting",
    "active": "running",
    "stopped": "disabled",
    "paused": "disabled",
}
MOST = 1000


@routes.get("/jobs", openapi_extra=needs("viewer"), responses=gives("Job", many=True))
async def list_jobs(
    desk: Here,
    request: Request,
    status: Annotated[
        str | None, Query(max_length=40, description="Only jobs in this state: running, failed …")
    ] = None,
    tag: Annotated[str | None, Query(max_length=200)] = None,
    category: Annotated[str | None, Query(max_length=200)] = None,
    q: Annotated[
        str | None, Query(max_length=200, description="Part of the name, the command or the description.")
    ] = None,
    limit: Annotated[int, Query(ge=0, le=MOST, description="At most so many; 0 is all.")] = 0,
    after: Annotated[
        str, Query(max_length=300, description="Only those behind this id: where the page before ended.")
    ] = "",
) -> Response:
    """The jobs, by id. `Link` leads to the next page, `X-Total-Count` tells how many there are."""
    # All that the answer is made of: what else stands in the URL is in neither.
    key = (desk.caller.jobs, request.url.path, status, tag, category, q, limit, after)
    recent, sign = desk.parts.recent, await desk.parts.sign()
    told = recent.there(key, sign)
    if told is None:  # only then is a thread needed
        make = partial(_page, desk, request.url.path, status, tag, category, q, limit, after)
        told = await anyio.to_thread.run_sync(recent.get, key, make, sign)
    body, headers = told
    return Response(body, headers=headers, media_type=Json.media_type)


def _page(
    desk: Desk,
    path: str,
    status: str | None,
    tag: str | None,
    category: str | None,
    q: str | None,
    limit: int,
    after: str,
) -> tuple[bytes, dict[str, str]]:
    """The answer's body and its headers."""
    rows = desk.statuses([each for each in desk.all() if fits(each, tag, category, q)])
    if status is not None:
        rows = [each for each in rows if is_in(each, status)]
    headers = {"X-Total-Count": str(len(rows))}
    rows = [each for each in rows if each.found.id > after]
    if limit and len(rows) > limit:
        rows = rows[:limit]
        asked = {"status": status, "tag": tag, "category": category, "q": q, "limit": limit}
        headers |= next_page(path, **asked, after=rows[-1].found.id)
    return bytes(Json([short(each) for each in rows]).body), headers


def is_in(status: Status, state: str) -> bool:
    """Whether the job is in that state, by whichever of its names."""
    wanted = {state, _CALLED.get(state, state)} | ({"stuck"} if state in ("running", "active") else set())
    return status.state in wanted


def fits(found: Found, tag: str | None, category: str | None, q: str | None) -> bool:
    job = found.job
    """Whether the job has the tag, the category, and the text in its name, command or description."""
    if tag is not None and (job is None or tag not in job.tags):
        return False
    if category is not None and (job is None or job.category != category):
        return False
    if q is None:
        return True
    texts = (found.id, *((job.name, job.command_line, job.description) if job else ()))
    return any(q.lower() in each.lower() for each in texts)


@routes.get("/jobs/{job_id}", openapi_extra=needs("viewer"), responses=gives("JobDetails"))
def show_job(job_id: str, desk: Here) -> Response:
    """All there is to know of a job. Its `ETag` is what a change wants in `If-Match`."""
    found = desk.job(job_id)
    told = detailed(desk.statuses([found])[0], whole=desk.caller.may("admin"))
    return Json(told, headers={"ETag": etag(found)})


@routes.get("/jobs/{job_id}/next", openapi_extra=needs("viewer"), responses=gives("Coming"))
def next_of_job(job_id: str, desk: Here, count: Annotated[int, Query(ge=1, le=1000)] = 5) -> Response:
    """The coming instants of a job."""
    found = desk.job(job_id)
    return Json({"id": found.id, "next": [rfc3339(each) for each in coming(desk, found, count)]})


def coming(desk: Desk, found: Found, count: int) -> list[int]:
    """The next instants of a job, as systemd reckons them (µs since 1970)."""
    from lsh_systemd import analyze, unit

    if lines := unit.on_calendar(found.pair.timer):
        instants = analyze.instants(lines, after=datetime.now(UTC), count=count)
        return [round(each.timestamp() * 1e6) for each in instants]
    first = desk.control.next_elapse(found.timer)
    interval = found.valid_job.interval
    step = round(interval.total_seconds() * 1e6) if interval else 0
    return [first + each * step for each in range(count if step else 1)] if first else []


def start(desk: Desk, found: Found) -> dict[str, Any]:
    """Start it now; where caps let it wait, put it into the queue. A run in progress is what it is."""
    if found.job is None:
        raise BadInput(f"the files of {found.id} tell no job any more")
    if desk.control.is_capped(found.job) and not desk.control.is_running(found):
        fields = {"by": desk.caller.signature}
        desk.parts.manager.pin(found.service)
        Queue(desk.scope).add(found.id, rank=found.job.queue_rank, trigger="api", fields=fields)
        return {"id": found.id, "run_id": None, "queued": True}
    run_id = desk.control.start(found, Cause(trigger="api", by=desk.caller.signature))
    return {"id": found.id, "run_id": run_id, "queued": False}


def _started(desk: Desk, request: Request, job_id: str, status: str) -> Response:
    def again(since_usec: int) -> dict[str, Any]:
        """Where the server died over it: the run that it had begun, else one now."""
        found = desk.job(job_id)
        desk.parts.collect()
        runs = desk.parts.ledger().runs(job=found.id, since_usec=since_usec, output=False)
        # Who had begun it is told only after it has begun: that may not have come about.
        ours = {("api", desk.caller.signature), ("manual", None)}
        begun = [run.id for run in runs if (run.trigger, run.triggered_by) in ours]
        return {"id": found.id, "run_id": begun[-1], "queued": False} if begun else start(desk, found)

    return once.answered(
        request,
        desk,
        {},
        lambda: {"status": status} | start(desk, desk.job(job_id)),
        again=lambda since_usec: {"status": status} | again(since_usec),
    )


@routes.post(
    "/jobs/{job_id}/trigger",
    openapi_extra=needs("operator", parameters=[once.HEADER]),
    responses=gives("JobStarted", 409),
)
def trigger_job(job_id: str, desk: Here, request: Request) -> Response:
    """Start the job now, whatever its schedule says. One that runs already is not started again."""
    return _started(desk, request, job_id, "triggered")


@routes.post(
    "/jobs/{job_id}/start",
    openapi_extra=needs("operator", parameters=[once.HEADER]),
    responses=gives("JobStarted", 409),
)
def start_job(job_id: str, desk: Here, request: Request) -> Response:
    """The same as trigger."""
    return _started(desk, request, job_id, "started")


@routes.post(
    "/jobs/{job_id}/restart",
    openapi_extra=needs("operator", parameters=[once.HEADER]),
    responses=gives("JobStarted", 409),
)
def restart_job(job_id: str, desk: Here, request: Request) -> Response:
    """End the run in progress, where there is one, and start the job."""

    def restart() -> dict[str, Any]:
        found = desk.job(job_id)
        desk.control.stop(found)
        return {"status": "restarted"} | start(desk, found)

    return once.answered(request, desk, {}, restart)


@routes.post(
    "/jobs/{job_id}/stop", openapi_extra=needs("operator", parameters=[once.HEADER]), responses=gives("JobStopped", 409)
)
def stop_job(job_id: str, desk: Here, request: Request) -> Response:
    """End the job's run in progress. Its schedule goes on."""

    def stop() -> dict[str, Any]:
        found = desk.job(job_id)
        return {"status": "stopped", "id": found.id, "was_running": desk.control.stop(found)}

    return once.answered(request, desk, {}, stop)


@routes.post(
    "/jobs/{job_id}/enable", openapi_extra=needs("operator", parameters=[once.HEADER]), responses=gives("JobDone", 409)
)
def enable_job(job_id: str, desk: Here, request: Request) -> Response:
    """Let the schedule count."""

    def enable() -> dict[str, Any]:
        found = desk.job(job_id)
        return {"status": "enabled", "id": found.id, "next": rfc3339(desk.control.enable(found))}

    return once.answered(request, desk, {}, enable)


@routes.post(
    "/jobs/{job_id}/disable", openapi_extra=needs("operator", parameters=[once.HEADER]), responses=gives("JobDone", 409)
)
def disable_job(job_id: str, desk: Here, request: Request) -> Response:
    """Let the schedule rest. A run in progress goes on."""

    def disable() -> dict[str, Any]:
        found = desk.job(job_id)
        desk.control.disable(found)
        return {"status": "disabled", "id": found.id}

    return once.answered(request, desk, {}, disable)


@routes.get("/queue", openapi_extra=needs("viewer"), responses=gives("Place", many=True))
def queue(desk: Here) -> Response:
    """What runs, then what waits for a cap."""
    return Json(waiting(desk))


@routes.delete("/queue/{job_id}", openapi_extra=needs("operator"), status_code=204)
def leave_queue(job_id: str, desk: Here) -> Response:
    """Take a waiting run out of the queue: it is not made."""
    leave(desk, job_id)
    return Response(status_code=204)


def leave(desk: Desk, job_id: str) -> None:
    found, queue = desk.job(job_id), Queue(desk.scope)
    entry = queue.of(found.id)
    if entry is None or not queue.remove(entry):
        raise NotFound(f"{found.id} does not wait")


def waiting(desk: Desk) -> list[dict[str, Any]]:
    from lsh_systemd.dispatch import overview

    seen = desk.seen_ids()
    return [
        {
            "job": each.job,
            "state": each.state,
            "position": each.position,
            "since": rfc3339(each.since_usec),
            "trigger": each.trigger,
            "waits_for": each.waits_for,
        }
        for each in overview(desk.control)
        if seen is None or each.job in seen
    ]
