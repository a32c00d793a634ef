"""The list of jobs, and what is done with one."""

import time
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Query, Request
from starlette.responses import Response

from lsh_systemd.api import changes
from lsh_systemd.api import jobs as api
from lsh_systemd.api.dash import plots
from lsh_systemd.api.dash.page import go, pages, render
from lsh_systemd.api.gate import needs
from lsh_systemd.api.parts import Desk, desk
from lsh_systemd.figures import Figures

routes = pages()
Here = Annotated[Desk, Depends(desk)]
_PAGE = 50
_DAYS = 14
STATES = ("running", "stuck", "failed", "retrying", "waiting", "disabled", "stopped", "elapsed", "manual", "invalid")


@routes.get("/ui/jobs", openapi_extra=needs("viewer"))
@routes.get("/admin/cron", openapi_extra=needs("viewer"))
def list_jobs(
    request: Request,
    desk: Here,
    q: Annotated[str, Query(max_length=200)] = "",
    state: Annotated[str, Query(max_length=40)] = "",
    tag: Annotated[str, Query(max_length=200)] = "",
    after: Annotated[str, Query(max_length=300)] = "",
) -> Response:
    statuses = desk.all_statuses()
    tags = sorted({each for status in statuses if status.found.job for each in status.found.job.tags})
    found = [each for each in statuses if api.fits(each.found, tag or None, None, q or None)]
    found = [each for each in found if not state or api.is_in(each, state)]
    rest = [each for each in found if each.found.id > after]
    shown = rest[:_PAGE]
    store, today = desk.store(), time.time_ns() // 1000 // plots.DAY_USEC
    days = Figures(store.query).days(today - _DAYS + 1, [each.found.id for each in shown])
    strips = {each.found.id: plots.strip(days.get(each.found.id, {}), today, _DAYS) for each in shown}
    return render(
        request,
        "jobs",
        rows=shown,
        strips=strips,
        count=len(found),
        total=len(statuses),
        q=q,
        state=state,
        tag=tag,
        states=STATES,
        tags=tags,
        following=shown[-1].found.id if len(rest) > len(shown) else "",
        after=after,
    )


def _start(desk: Desk, job_id: str) -> str:
    return "queued" if api.start(desk, desk.job(job_id))["queued"] else "started"


def _stop(desk: Desk, job_id: str) -> str:
    return "stopped" if desk.control.stop(desk.job(job_id)) else "idle"


def _restart(desk: Desk, job_id: str) -> str:
    _stop(desk, job_id)
    return _start(desk, job_id)


def _enable(desk: Desk, job_id: str) -> str:
    desk.control.enable(desk.job(job_id))
    return "enabled"


def _disable(desk: Desk, job_id: str) -> str:
    desk.control.disable(desk.job(job_id))
    return "disabled"


def _remove(desk: Desk, job_id: str) -> str:
    changes.remove(desk, job_id, "*")
    return "removed"


# What there is to do with a job: the role that it needs, and what to ask first where it ends or takes away something.
_VERBS: dict[str, tuple[str, Callable[[Desk, str], str], str]] = {
    "start": ("operator", _start, ""),
    "stop": ("operator", _stop, "The run in progress is ended. The schedule goes on."),
    "restart": ("operator", _restart, "The run in progress is ended, and the job begins anew."),
    "enable": ("operator", _enable, ""),
    "disable": ("operator", _disable, "The schedule rests until it is enabled again. A run in progress goes on."),
    "remove": (
        "admin",
        _remove,
        "Its schedule and unit files go. Its runs stay on record, and one in progress goes on.",
    ),
}


def _doing(verb: str) -> None:
    """The routes of a verb: the POST, and, where it asks first, a page that does."""
    role, do, question = _VERBS[verb]

    def done(job_id: str, desk: Here) -> Response:
        found = desk.job(job_id)
        return go("/ui/jobs" if verb == "remove" else f"/ui/jobs/{found.id}", do(desk, found.id))

    def ask(job_id: str, request: Request, desk: Here) -> Response:
        found = desk.job(job_id)
        here = f"/ui/jobs/{found.id}"
        return render(request, "confirm", what=f"{verb} {found.id}", question=question, to=f"{here}/{verb}", back=here)

    routes.add_api_route(f"/ui/jobs/{{job_id}}/{verb}", done, methods=["POST"], openapi_extra=needs(role))
    if question:
        routes.add_api_route(f"/ui/jobs/{{job_id}}/{verb}", ask, methods=["GET"], openapi_extra=needs(role))


for _verb in _VERBS:
    _doing(_verb)
