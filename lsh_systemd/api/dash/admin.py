"""Pages for administrators: who is told of what, who changed what, and how all is set."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from starlette.responses import Response

from lsh_systemd import caps, config
from lsh_systemd.api.dash.page import pages, render
from lsh_systemd.api.gate import needs
from lsh_systemd.api.keys import Keys
from lsh_systemd.api.parts import Desk, desk
from lsh_systemd.api.runs import alert_history, alert_rules, changes_of, secrets_of
from lsh_systemd.api.seed4 import status_of

routes = pages()
Here = Annotated[Desk, Depends(desk)]
_ROWS = 100


@routes.get("/ui/alerts", openapi_extra=needs("admin"))
def alerts(request: Request, desk: Here) -> Response:
    return render(request, "alerts", rules=alert_rules(desk), history=alert_history(desk, _ROWS))


@routes.get("/ui/audit", openapi_extra=needs("admin"))
def audit(request: Request, desk: Here, job: Annotated[str, Query(max_length=300)] = "") -> Response:
    return render(request, "audit", changes=changes_of(desk, job or None, None, _ROWS), job=job)


@routes.get("/ui/settings", openapi_extra=needs("admin"))
def settings(request: Request, desk: Here) -> Response:
    """As they are; they are changed by who may edit lsh.toml, or call lshctl, on the machine."""
    desk.for_all()
    limits = caps.load(desk.scope)
    return render(
        request,
        "settings",
        status={name: value for name, value in status_of(desk).items() if not isinstance(value, dict)},
        file=str(config.path(desk.scope)),
        settings=dict(_flat(asdict(config.load(desk.scope)))),
        limits={"in all": limits.total, "of a user": limits.per_user, **limits.groups},
        keys=[key.to_json() for key in Keys(desk.scope).all()],
        secrets=secrets_of(desk),
    )


def _flat(table: dict[str, Any], before: str = "") -> Any:
    """{"api": {"idle_seconds": 300}} → ("api.idle_seconds", 300) …"""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, list(value) if isinstance(value, tuple) else value
