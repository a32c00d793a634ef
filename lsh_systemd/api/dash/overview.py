"""The first page: how everything is."""

import time
from typing import Annotated

from fastapi import Depends, Request
from starlette.responses import Response

from lsh_systemd import analyze
from lsh_systemd.api.dash import plots
from lsh_systemd.api.dash.page import pages, render
from lsh_systemd.api.gate import needs
from lsh_systemd.api.parts import Desk, desk
from lsh_systemd.api.runs import Wanted, attention, runs_of
from lsh_systemd.api.seed4 import health_told
from lsh_systemd.figures import Figures

routes = pages()
Here = Annotated[Desk, Depends(desk)]
_ROWS, _DAYS = 10, 30
_WEEK_USEC = 7 * plots.DAY_USEC


@routes.get("/ui", openapi_extra=needs("viewer"))
def overview(request: Request, desk: Here) -> Response:
    statuses, now = desk.all_statuses(), time.time_ns() // 1000
    zone, until = analyze.local_zone(), now + plots.DAY_USEC
    coming = sorted(
        (each for each in statuses if each.next_usec and each.found.job), key=lambda each: each.next_usec or 0
    )
    since = now - _WEEK_USEC
    return render(
        request,
        "overview",
        health=health_told(request),
        jobs=len(statuses),
        running=[each for each in statuses if each.state in ("running", "stuck")],
        failed=[each for each in statuses if each.state in ("failed", "retrying", "invalid")],
        coming=[
            plots.line(each.found.valid_job, each.next_usec or 0, zone, until, now)
            for each in coming[:_ROWS]
            if each.next_usec
        ],
        missed=runs_of(desk, Wanted(result="missed", since_usec=since), _ROWS),
        failures=runs_of(desk, Wanted(unsuccessful=True, since_usec=since), _ROWS),
    )


@routes.get("/ui/figures", openapi_extra=needs("viewer"))
def figures(request: Request, desk: Here) -> Response:
    """The part of the first page that takes longest: it comes after the rest."""
    seen, today = desk.seen_ids(), time.time_ns() // 1000 // plots.DAY_USEC
    days = Figures(desk.store().query).days_together(today - _DAYS + 1, None if seen is None else sorted(seen))
    told = desk.parts.attention.get(desk.caller.jobs, lambda: attention(desk))
    return render(request, "figures", attention=told, days=plots.strip(days, today, _DAYS))
