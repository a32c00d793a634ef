"""The fleet's queue: runs put into it, shown and cancelled, and its limits; done by lsh-ask.socket, as in ``fleet``."""

from typing import Annotated, Any

from fastapi import Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from lsh_systemd.api import once
from lsh_systemd.api.document import gives
from lsh_systemd.api.fleet import ask
from lsh_systemd.api.gate import needs, router
from lsh_systemd.api.parts import Desk, desk
from lsh_systemd.api.problems import Json
from lsh_systemd.api.runs import Limit
from lsh_systemd.audit import MASK
from lsh_systemd.fleetorders import MOST, PRIORITIES, RETRIES

routes = router(tags=["fleet"])
Here = Annotated[Desk, Depends(desk)]
Name = Annotated[str, Field(max_length=200)]
Number = Annotated[int | None, Field(ge=1, le=MOST)]

_EXAMPLE: dict[str, Any] = {"job": "resize", "params": {"FILE": "a.jpg"}, "priority": 7, "retries": 2, "key": "a.jpg"}


class QueuedRun(BaseModel):
    """A run of a job that hosts offer (`add --from-fleet`)."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": _EXAMPLE})

    job: Annotated[str, Field(max_length=300)]
    params: dict[str, str] = Field(default={}, description="The job's parameters.", max_length=100)
    host: Name | None = Field(default=None, description="Only this host, by its name or ID.")
    tags: list[Name] = Field(default=[], description="Only a host with these tags.", max_length=100)
    priority: int = Field(default=5, ge=0, le=PRIORITIES, description="The highest first.")
    at: Name | None = Field(default=None, description="Not before this time; any that systemd knows.")
    user: Name | None = Field(default=None, description="For whom, as the limit of each user counts; the key's name.")
    retries: int = Field(default=0, ge=0, le=RETRIES, description="How often again after a failure or a loss.")
    key: Name | None = Field(default=None, description="Added only where there is none with this key.")
    owner: Name | None = Field(default=None, description="The job is this user's own, not the machine's.")


class QueueLimits(BaseModel):
    """How many runs may go on at once on all hosts together; null lifts a limit, what is not named stays."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, json_schema_extra={"example": {"global": 20}})

    total: Number = Field(default=None, alias="global", description="Of all queued runs.")
    user: Number = Field(default=None, description="Of the runs of each user.")


@routes.get("/fleet/queue", openapi_extra=needs("viewer"), responses=gives("Row", 404, 502, many=True))
def show_queue(
    desk: Here,
    state: Annotated[
        list[Annotated[str, Query(max_length=20)]] | None,
        Query(max_length=6, description="Of queued, running, succeeded, failed, lost, cancelled; may be repeated."),
    ] = None,
    all: Annotated[bool, Query(description="Those that have ended, too.")] = False,
    job: Annotated[str | None, Query(max_length=300)] = None,
    limit: Limit = 100,
) -> Response:
    """What waits in the fleet's queue, and what of it runs where; the newest last. Only admins see parameters."""
    return Json(shown(desk, ask(desk, "queue", states=state or [], everything=all, job=job, limit=limit)))


@routes.post(
    "/fleet/queue",
    openapi_extra=needs("operator", parameters=[once.HEADER]),
    status_code=201,
    responses=gives("Row", 404, 409, 502, status=201),
)
def add(body: QueuedRun, desk: Here, request: Request) -> Response:
    """Put a run into the fleet's queue; a host that offers the job makes it. Not `added` where its key is there."""
    told = body.model_dump()
    given = {name: told[name] for name in ("job", "params", "tags", "priority", "user", "retries", "key", "owner")}
    asked = given | {"only_host": body.host, "run_at": body.at, "by": desk.caller.name}
    return once.answered(request, desk, told, lambda: ask(desk, "enqueue", **asked), status=201)


@routes.delete("/fleet/queue/{number}", openapi_extra=needs("operator"), responses=gives("Row", 409, 502))
def cancel(number: Annotated[int, Field(ge=1, lt=2**63)], desk: Here) -> Response:
    """Take a run out of the fleet's queue (`cancelled`), or have its host end it (`cancelling`)."""
    return Json(ask(desk, "cancel", number=number, by=desk.caller.name))


@routes.get("/fleet/limits", openapi_extra=needs("viewer"), responses=gives("Row", 404, 502))
def show_limits(desk: Here) -> Response:
    """How many runs of the fleet's queue may go on at once, on all hosts together; null is no limit."""
    return Json(ask(desk, "limits"))


@routes.patch("/fleet/limits", openapi_extra=needs("admin"), responses=gives("Row", 404, 502))
def set_limits(body: QueueLimits, desk: Here) -> Response:
    """Set them; what holds then."""
    return Json(ask(desk, "limits", given=body.model_dump(exclude_unset=True, by_alias=True), by=desk.caller.name))


def shown(desk: Desk, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As the caller may see them: parameters become variables of the run."""
    if desk.caller.may("admin"):
        return rows
    return [row | {"params": dict.fromkeys(row["params"], MASK)} for row in rows]
