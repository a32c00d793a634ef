"""Jobs: made, changed and removed, as far as the administrator's policy goes."""

import os
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Depends, Header, Query, Request, Response

from lsh_systemd import checks
from lsh_systemd.api import once, policy, reach
from lsh_systemd.api.document import gives, may_fail
from lsh_systemd.api.gate import needs, router
from lsh_systemd.api.parts import Desk, desk
from lsh_systemd.api.problems import Changed, Json, NoMatchGiven
from lsh_systemd.api.shapes import JobChanges, NewJob, changed, detailed, etag, plain_of
from lsh_systemd.errors import BadInput
from lsh_systemd.held import not_held
from lsh_systemd.job import Job
from lsh_systemd.jobfile import from_plain, to_plain
from lsh_systemd.jobs import Found
from lsh_systemd.run import rfc3339

routes = router(tags=["jobs"])
Here = Annotated[Desk, Depends(desk)]
Match = Annotated[str | None, Header(alias="If-Match", max_length=200, examples=["*"])]
MADE = gives("JobMade", 409, status=201) | {200: {"description": "What would be made."} | gives("Definition")[200]}


@routes.post("/jobs", openapi_extra=needs("admin", parameters=[once.HEADER]), status_code=201, responses=MADE)
def create_job(
    body: NewJob,
    desk: Here,
    request: Request,
    dry_run: Annotated[bool, Query(description="Say what would be made, and make nothing.")] = False,
) -> Response:
    """Make a job. What the policy of this machine wants and the body does not say (a user of its own, the sandbox) is
    filled in."""
    told = body.model_dump()
    if dry_run:
        return Json(preview(desk, told))
    return once.answered(
        request,
        desk,
        told,
        lambda: create(desk, told, enabled=body.enabled),
        again=lambda since_usec: create(desk, told, enabled=body.enabled, cut_off=True),
        status=201,
    )


def _new_job(desk: Desk, told: dict[str, Any], *, from_template: bool) -> tuple[Job, list[str]]:
    """The job, and what there is to warn of. Raises BadInput, DangerousCommand or Forbidden."""
    rules = desk.parts.settings()
    plain = policy.filled_in(plain_of(told), rules, desk.scope)
    if "timeout" not in plain and (seconds := _default_timeout()):
        plain["timeout"] = seconds
    job = from_plain(plain)
    reach.check_new(desk, job)  # first: what the policy says of drop-ins tells of the name
    left = bool(desk.parts.jobs.left_drop_ins(job))
    policy.check(job, rules, desk.scope, drop_ins=left, from_template=from_template)
    return job, checks.check(job, desk.scope)


def create(
    desk: Desk, told: dict[str, Any], *, enabled: bool, from_template: bool = False, cut_off: bool = False
) -> dict[str, Any]:
    """Make the job that the body of a POST tells of, or a template has given; what is answered. ``cut_off``: it was
    being made already, and the server died over it, so that there may be a part of it, or all."""
    job, warnings = _new_job(desk, told, from_template=from_template)
    control = desk.control  # finishes, or takes back, what was cut off
    made = desk.parts.jobs.find(job.id) if cut_off else None
    if made is not None and made.job == job:
        next_usec = control.enable(made) if enabled and job.activators else None  # or an error
    else:
        next_usec = control.add(job, enabled=enabled)
    found = desk.parts.jobs.get(job.id)
    warnings += not_held(desk.control, job)
    return {
        "id": job.id,
        "status": "created",
        "next": rfc3339(next_usec),
        "warnings": warnings,
        "Location": f"/jobs/{job.id}",
        "ETag": etag(found),
    }


def preview(desk: Desk, told: dict[str, Any], *, from_template: bool = False) -> dict[str, Any]:
    """What would be made."""
    job, warnings = _new_job(desk, told, from_template=from_template)
    desk.control.check_new(job, transient=False)
    files = desk.control.render(job)
    return {"id": job.id, "status": "valid", "definition": to_plain(job), "files": files, "warnings": warnings}


@routes.patch("/jobs/{job_id}", openapi_extra=needs("admin"), responses=gives("JobDetails", 409, 412, 428))
def change_job(job_id: str, body: JobChanges, desk: Here, if_match: Match = None) -> Response:
    """Change some of a job's fields; the rest stays. `enabled` lets its schedule count or rest."""
    found = change(desk, job_id, body.model_dump(), if_match)
    return Json(detailed(desk.statuses([found])[0], whole=True), headers={"ETag": etag(found)})


def change(desk: Desk, job_id: str, told: dict[str, Any], if_match: str | None) -> Found:
    """Change what the body of a PATCH tells of; the job as it is then."""
    found = _matched(desk, job_id, if_match)
    enabled = told.get("enabled")
    if enabled not in (None, True, False):
        raise BadInput("enabled must be true or false")
    job, _ = changed_job(desk, found, told)
    if job != found.job:
        desk.parts.collect()  # first: what the timer started is told by the schedule it had
        desk.control.update(found, job)
        found = desk.parts.jobs.get(found.id)
    if enabled is not None and enabled != found.pair.enabled:
        desk.control.enable(found) if enabled else desk.control.disable(found)
        found = desk.parts.jobs.get(found.id)
    return found


def changed_job(desk: Desk, found: Found, told: dict[str, Any]) -> tuple[Job, list[str]]:
    """What the job would be after that change, and what there is to warn of. Raises as ``change``."""
    job = from_plain(changed(to_plain(found.valid_job), told))
    if job.id != found.id:
        raise BadInput("a change keeps the name", hint=f"lshctl rename {found.id} {job.id}")
    policy.check(job, desk.parts.settings(), desk.scope, before=found.job, drop_ins=bool(found.drop_ins()))
    reach.check_changed(desk, job, found)
    if job.at and job.at != found.valid_job.at:
        desk.control.check_time(job)
    return job, checks.check(job, desk.scope, before=found.job)


@routes.delete("/jobs/{job_id}", openapi_extra=needs("admin"), status_code=204, responses=may_fail(409, 412, 428))
def remove_job(job_id: str, desk: Here, if_match: Match = None) -> Response:
    """Remove a job: its schedule and unit files. Its runs stay on record, and one in progress goes on."""
    remove(desk, job_id, if_match)
    return Response(status_code=204)


def remove(desk: Desk, job_id: str, if_match: str | None) -> None:
    found = _matched(desk, job_id, if_match)
    reach.check_removable(desk, found)
    desk.parts.collect()  # first: a run without a record is known by its unit file alone
    desk.control.remove(_matched(desk, job_id, if_match))


def _matched(desk: Desk, job_id: str, if_match: str | None) -> Found:
    """The job, in the version that the caller means. `*` is whichever there is."""
    found = desk.job(job_id)
    if if_match is None:
        raise NoMatchGiven("a change needs If-Match", hint="the ETag of GET /jobs/ID; * for whichever version")
    wanted = {each.strip() for each in if_match.split(",")}
    if "*" not in wanted and etag(found) not in wanted:
        raise Changed(f"{found.id} has been changed since", hint="look at it and try again")
    return found


def _default_timeout() -> int | None:
    """LSH_JOB_TIMEOUT, in seconds: for jobs that are made here and name none."""
    told = os.environ.get("LSH_JOB_TIMEOUT", "")
    if not told:
        return None
    if not (told.isascii() and told.isdecimal() and timedelta(seconds=1) <= timedelta(seconds=int(told[:9]))):
        raise BadInput("LSH_JOB_TIMEOUT is not a number of seconds")
    return int(told)
