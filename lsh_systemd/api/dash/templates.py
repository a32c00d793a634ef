"""Templates: what there is, and a form of each that makes a job, with a preview of what would come of it."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.responses import Response

from lsh_systemd import cron
from lsh_systemd.api import policy
from lsh_systemd.api import templates as api
from lsh_systemd.api.access import Forbidden
from lsh_systemd.api.dash.fields import AS_IT_IS, KINDS, NEW, own_body, text_of, value_of
from lsh_systemd.api.dash.outcome import Outcome, previewed
from lsh_systemd.api.dash.page import go, pages, render
from lsh_systemd.api.gate import fields, needs
from lsh_systemd.api.parts import Desk, desk
from lsh_systemd.api.problems import status_of
from lsh_systemd.api.shapes import masked
from lsh_systemd.describe import describe
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.jobfile import from_plain
from lsh_systemd.jobtemplate import Parameter, Template
from lsh_systemd.scope import Scope, config_dir

routes = pages()
Here = Annotated[Desk, Depends(desk)]
Given = Annotated[dict[str, str], Depends(fields)]
# A form's fields for parameters are named so, then as the parameter.
_SET = "set_"


@dataclass(frozen=True)
class Field:
    """A parameter in a form: what stands there, and what is wrong with that."""

    parameter: Parameter
    text: str
    problem: LshError | None = None


@routes.get("/ui/templates", openapi_extra=needs("viewer"))
def list_templates(request: Request, desk: Here) -> Response:
    rows = [(each, _owner(desk, each), _missing(each)) for each in api.found(desk)]
    return render(request, "templates", rows=rows)


@routes.get("/ui/templates/{template_id}", openapi_extra=needs("viewer"))
def show_template(template_id: str, request: Request, desk: Here) -> Response:
    template = api.find(desk, template_id)
    texts = {_SET + each.name: text_of(each.default) for each in template.parameters}
    return _page(request, desk, template, {"enabled": "1", **texts})


@routes.post("/ui/templates/{template_id}", openapi_extra=needs("admin"))
def make(template_id: str, request: Request, desk: Here, given: Given) -> Response:
    template = api.find(desk, template_id)
    try:
        made = api.create(desk, template.id, _body(template, given))
    except (BadInput, Forbidden) as error:
        return _page(request, desk, template, given, Outcome(problem=error))
    return go(f"/ui/jobs/{made['id']}", "made")


@routes.post("/ui/templates/{template_id}/preview", openapi_extra=needs("admin"))
def preview(template_id: str, request: Request, desk: Here, given: Given) -> Response:
    """The same form, with what would be made."""
    template = api.find(desk, template_id)
    try:
        told = api.preview(desk, template.id, _body(template, given))
        outcome = previewed(from_plain(told["definition"]), told["files"], told["warnings"])
    except (BadInput, Forbidden) as error:
        outcome = Outcome(problem=error)
    return _page(request, desk, template, given, outcome)


def _body(template: Template, given: Mapping[str, str]) -> dict[str, Any]:
    """The body of a POST that makes the job."""
    values = {each.name: value_of(each, given.get(_SET + each.name, "")) for each in template.parameters}
    told = {name: value for name, value in values.items() if value is not None}
    return own_body(given) | {"values": told, "enabled": "enabled" in given}


def _page(
    request: Request, desk: Desk, template: Template, given: Mapping[str, str], outcome: Outcome | None = None
) -> Response:
    rules, outcome = desk.parts.settings(), outcome or Outcome()
    whole = desk.caller.may("admin")
    entries = [_field(each, given, asked=outcome.problem is not None) for each in template.parameters]
    if wrong := [each.problem.message for each in entries if each.problem]:
        outcome = Outcome(problem=BadInput("; ".join(wrong)))
    try:
        policy.check_template(rules, template.id, ())
        forbidden = None
    except Forbidden as error:
        forbidden = error
    return render(
        request,
        "template",
        code=status_of(outcome.problem) if outcome.problem else 200,
        template=template,
        owner=_owner(desk, template),
        missing=_missing(template),
        job=template.job if whole else masked(template.job),
        own={name: text_of(template.job.get(name)) for name in ("name", "timeout", "retries", "run_as")},
        when=_in_words(template.when),
        fields=entries,
        given=NEW | {"kind": AS_IT_IS, "retries": "", "run_as": ""} | dict(given),
        kinds={AS_IT_IS: "as the template has it"} | KINDS,
        users=rules.run_as if desk.scope is Scope.SYSTEM else (),
        rules=rules,
        enabled="enabled" in given,
        forbidden=forbidden,
        outcome=outcome,
    )


def _field(parameter: Parameter, given: Mapping[str, str], *, asked: bool) -> Field:
    """``asked``: whether the form has been refused, so that each field is to say what is wrong with it."""
    text, problem = given.get(_SET + parameter.name, ""), None
    if asked:
        try:
            if value_of(parameter, text) is None and parameter.default is None:
                problem = BadInput(f"{parameter.name} has to be said")
        except BadInput as error:
            problem = error
    return Field(parameter, text, problem)


def _owner(desk: Desk, template: Template) -> str:
    if not template.source:
        return "lsh-systemd"
    machine = str(config_dir(Scope.SYSTEM) / "templates.d")
    return "this machine" if template.source.startswith(machine + "/") else "your own"


def _missing(template: Template) -> list[str]:
    """The programs that its jobs call and that are not here."""
    return [each for each in template.needs if not shutil.which(each)]


def _in_words(when: str) -> str:
    """The template's schedule, with what it means where cron's words say it all."""
    try:
        return f"{when}: {describe(cron.parse(when, seconds=False, key='template'))}"
    except BadInput:
        return when
