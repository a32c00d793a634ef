"""The forms that make a job and change one, with a preview of what would come of it."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from starlette.responses import Response

from lsh_systemd.api import changes
from lsh_systemd.api.access import Forbidden
from lsh_systemd.api.dash.fields import KINDS, NEW, changed_body, has_seconds, new_body, shown
from lsh_systemd.api.dash.outcome import COMING, Outcome, instants, previewed
from lsh_systemd.api.dash.page import go, pages, render
from lsh_systemd.api.gate import fields, needs
from lsh_systemd.api.parts import Desk, desk
from lsh_systemd.api.problems import status_of
from lsh_systemd.api.shapes import etag
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.explaining import explain
from lsh_systemd.jobfile import from_plain, to_plain
from lsh_systemd.jobs import Found

routes = pages()
Here = Annotated[Desk, Depends(desk)]
Given = Annotated[dict[str, str], Depends(fields)]


@routes.get("/ui/new", openapi_extra=needs("admin"))
def new_page(request: Request) -> Response:
    return _form(request, NEW)


@routes.post("/ui/new", openapi_extra=needs("admin"))
def make(request: Request, desk: Here, given: Given) -> Response:
    try:
        made = changes.create(desk, new_body(given), enabled="enabled" in given)
    except (BadInput, Forbidden) as error:
        return _form(request, given, Outcome(problem=error))
    return go(f"/ui/jobs/{made['id']}", "made")


@routes.post("/ui/new/preview", openapi_extra=needs("admin"))
def preview(request: Request, desk: Here, given: Given) -> Response:
    """The same form, with what would be made."""
    try:
        told = changes.preview(desk, new_body(given))
    except (BadInput, Forbidden) as error:
        return _form(request, given, Outcome(problem=error))
    return _form(request, given, previewed(from_plain(told["definition"]), told["files"], told["warnings"]))


@routes.get("/ui/jobs/{job_id}/edit", openapi_extra=needs("admin"))
def edit_page(job_id: str, request: Request, desk: Here) -> Response:
    found = desk.job(job_id)
    return _form(request, shown(to_plain(found.valid_job)), found=found, version=etag(found))


@routes.post("/ui/jobs/{job_id}/edit", openapi_extra=needs("admin"))
def edit(job_id: str, request: Request, desk: Here, given: Given) -> Response:
    found, version = desk.job(job_id), given.get("version", "")
    try:
        body = changed_body(to_plain(found.valid_job), given)
        changes.change(desk, found.id, body, version)
    except (BadInput, Forbidden) as error:
        return _form(request, given, Outcome(problem=error), found=found, version=version)
    return go(f"/ui/jobs/{found.id}", "changed")


@routes.post("/ui/jobs/{job_id}/edit/preview", openapi_extra=needs("admin"))
def preview_edit(job_id: str, request: Request, desk: Here, given: Given) -> Response:
    found, version = desk.job(job_id), given.get("version", "")
    try:
        job, warnings = changes.changed_job(desk, found, changed_body(to_plain(found.valid_job), given))
        outcome = previewed(job, desk.control.render(job), warnings)
    except (BadInput, Forbidden) as error:
        outcome = Outcome(problem=error)
    return _form(request, given, outcome, found=found, version=version)


@routes.get("/ui/explain", openapi_extra=needs("viewer"))
def said(
    request: Request,
    desk: Here,
    kind: Annotated[str, Query(max_length=20)] = "cron",
    when: Annotated[str, Query(max_length=2000)] = "",
    timezone: Annotated[str, Query(max_length=100)] = "",
    name: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """What a schedule means, while it is being written."""
    lines = [each.strip() for each in when.splitlines() if each.strip()]
    told: dict[str, Any] = {"sentences": [], "coming": [], "problem": None}
    try:
        if kind == "cron":
            zone, named = timezone or None, name or None
            each = [
                explain(desk.scope, line, zone=zone, name=named, seconds=has_seconds(line))[0] for line in lines[:10]
            ]
            told["sentences"] = [one["description"] for one in each]
            told["coming"] = sorted(instant for one in each for instant in one["next"])[:COMING]
        elif kind == "calendar":
            told["coming"] = instants(lines)
    except LshError as error:
        told["problem"] = error
    return render(request, "explain", **told)


def _form(
    request: Request,
    given: Mapping[str, str],
    outcome: Outcome | None = None,
    *,
    found: Found | None = None,
    version: str = "",
) -> Response:
    outcome = outcome or Outcome()
    return render(
        request,
        "form",
        code=status_of(outcome.problem) if outcome.problem else 200,
        # Where lines cannot hold a job's variables, their field is left out.
        given={name: text for name, text in NEW.items() if name != "env" or not found} | dict(given),
        enabled="enabled" in given or given is NEW,
        id=found.id if found else "",
        etag=version,
        kinds=KINDS,
        outcome=outcome,
    )
