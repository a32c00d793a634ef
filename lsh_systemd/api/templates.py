"""Templates of jobs: what there is, and jobs made from them."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field, StrictBool
from starlette.responses import Response

from lsh_systemd import jobfields, specfiles
from lsh_systemd.api import changes, once, policy
from lsh_systemd.api.document import gives
from lsh_systemd.api.gate import needs, router
from lsh_systemd.api.parts import Desk, desk
from lsh_systemd.api.problems import Json, NotFound
from lsh_systemd.api.shapes import masked, when
from lsh_systemd.errors import BadInput
from lsh_systemd.jobtemplate import Template
from lsh_systemd.text import visible

routes = router(tags=["templates"])
Here = Annotated[Desk, Depends(desk)]

_EXAMPLE: dict[str, Any] = {
    "values": {"db": "prod", "folder": "/backups"},
    "name": "Backup of prod",
    "schedule": {"cron": "0 2 * * *", "timezone": "Europe/Berlin"},
}


class FromTemplate(BaseModel):
    """The values of a template's parameters, and fields of a job in the place of the template's own."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"example": _EXAMPLE})

    values: dict[str, Any] = Field(default={}, description="Parameter → value; the others have their defaults.")
    enabled: StrictBool | None = Field(
        default=None, description="Whether the schedule counts from the start; null: as the template has it."
    )


@routes.get("/templates", openapi_extra=needs("viewer"), responses=gives("Template", many=True))
def list_templates(desk: Here) -> Response:
    """The templates, by id: those of lsh-systemd, of the machine, and of the user whose jobs these are."""
    return Json([_told(desk, each) for each in found(desk)])


@routes.get("/templates/{template_id}", openapi_extra=needs("viewer"), responses=gives("Template"))
def show_template(template_id: str, desk: Here) -> Response:
    """What a template asks for, and the job that it gives."""
    return Json(_told(desk, find(desk, template_id)))


@routes.post(
    "/templates/{template_id}/jobs",
    openapi_extra=needs("admin", parameters=[once.HEADER]),
    status_code=201,
    responses=changes.MADE,
)
def create_job(
    template_id: str,
    body: FromTemplate,
    desk: Here,
    request: Request,
    dry_run: Annotated[bool, Query(description="Say what would be made, and make nothing.")] = False,
) -> Response:
    """Make a job from a template, as far as the policy goes; what POST /jobs answers."""
    told = body.model_dump()
    if dry_run:
        return Json(preview(desk, template_id, told))
    return once.answered(
        request,
        desk,
        told,
        lambda: create(desk, template_id, told),
        again=lambda since_usec: create(desk, template_id, told, cut_off=True),
        status=201,
    )


def found(desk: Desk) -> list[Template]:
    return sorted(specfiles.templates(desk.scope).values(), key=lambda each: each.id)


def find(desk: Desk, template_id: str) -> Template:
    """Raises NotFound, naming the nearest one."""
    templates = specfiles.templates(desk.scope)
    if template_id not in templates:
        raise NotFound(f"there is no template {visible(template_id)}", hint="GET /templates lists them")
    return templates[template_id]


def create(desk: Desk, template_id: str, told: Mapping[str, Any], *, cut_off: bool = False) -> dict[str, Any]:
    """Make the job that the body of a POST tells of; what is answered. ``cut_off`` as in ``changes.create``."""
    plain, enabled = _job_of(desk, template_id, told)
    return changes.create(desk, plain, enabled=enabled, from_template=True, cut_off=cut_off)


def preview(desk: Desk, template_id: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """What would be made."""
    return changes.preview(desk, _job_of(desk, template_id, told)[0], from_template=True)


def _job_of(desk: Desk, template_id: str, told: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """The job's plain data, and whether its schedule counts. Raises BadInput or Forbidden."""
    template = find(desk, template_id)
    own = {name: value for name, value in told.items() if name not in ("values", "enabled", "schedule")}
    if "schedule" in told:
        own |= when(told["schedule"]) or {"schedule": None}
    policy.check_template(desk.parts.settings(), template.id, own)
    for name in ("name", "command"):
        if name in own and own[name] is None:
            raise BadInput(f"a job cannot be without its {name}")
    plain, enabled = jobfields.instantiate(template, told.get("values") or {}, own=own)
    return plain, enabled if told.get("enabled") is None else bool(told["enabled"])


def _told(desk: Desk, template: Template) -> dict[str, Any]:
    """Who may not make jobs need not know what the machine's own templates give them."""
    told = template.to_json()
    return told if desk.caller.may("admin") else told | {"job": masked(told["job"])}
