"""What is beside a job: the queue that it may wait in, and the other hosts."""

from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.responses import Response

from lsh_systemd import caps
from lsh_systemd.api import fleet, fleetqueue
from lsh_systemd.api import jobs as api
from lsh_systemd.api.dash.page import go, pages, render
from lsh_systemd.api.gate import needs
from lsh_systemd.api.parts import Desk, desk
from lsh_systemd.errors import LshError

routes = pages()
Here = Annotated[Desk, Depends(desk)]
_RUNS, _QUEUED = 20, 50


@routes.get("/ui/queue", openapi_extra=needs("viewer"))
def queue(request: Request, desk: Here) -> Response:
    return render(request, "queue", places=api.waiting(desk), limits=caps.load(desk.scope))


@routes.get("/ui/queue/{job_id}/leave", openapi_extra=needs("operator"))
def ask_to_leave(job_id: str, request: Request, desk: Here) -> Response:
    found = desk.job(job_id)
    question = "The run that waits is not made. The schedule goes on."
    to = f"/ui/queue/{found.id}/leave"
    return render(request, "confirm", what=f"cancel {found.id}", question=question, to=to, back="/ui/queue")


@routes.post("/ui/queue/{job_id}/leave", openapi_extra=needs("operator"))
def leave(job_id: str, desk: Here) -> Response:
    api.leave(desk, job_id)
    return go("/ui/queue", "left")


@routes.get("/ui/fleet", openapi_extra=needs("viewer"))
def fleet_page(request: Request) -> Response:
    """At once: the hosts come after it, as Supabase may take its time."""
    return render(request, "fleet", asked=False, hosts=[], runs=[], queue=[], problem=None)


@routes.get("/ui/fleet/hosts", openapi_extra=needs("viewer"))
def hosts(request: Request, desk: Here) -> Response:
    told: dict[str, Any] = {"hosts": [], "runs": [], "queue": [], "problem": None}
    questions = [("hosts", {}), ("runs", {"unsuccessful": True, "limit": _RUNS}), ("queue", {"limit": _QUEUED})]
    try:
        answers = fleet.ask(desk, "several", questions=questions)
        told |= {what: rows for (what, _), rows in zip(questions, answers, strict=True)}
        told["queue"] = fleetqueue.shown(desk, told["queue"])
    except LshError as error:
        told["problem"] = error
    return render(request, "fleet", asked=True, **told)
