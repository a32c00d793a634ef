"""Runs, and a run's page."""

from typing import Annotated

from fastapi import Depends, Query, Request
from starlette.responses import Response

from lsh_systemd.api.dash.page import pages, render
from lsh_systemd.api.gate import needs
from lsh_systemd.api.parts import Desk, desk
from lsh_systemd.api.runs import Wanted, run_of, runs_of, usec_of
from lsh_systemd.hints import hints
from lsh_systemd.run import rfc3339
from lsh_systemd.sayings import told

routes = pages()
Here = Annotated[Desk, Depends(desk)]
_PAGE = 50
RESULTS = (
    "success exit-code signal core-dump timeout oom-kill watchdog resources lost missed skipped".split()  # as runs have
)


@routes.get("/ui/runs", openapi_extra=needs("viewer"))
def list_runs(
    request: Request,
    desk: Here,
    job: Annotated[str, Query(max_length=300)] = "",
    result: Annotated[str, Query(max_length=40)] = "",
    before: Annotated[str, Query(max_length=100)] = "",
) -> Response:
    """``result`` may also be "failed": all that are neither success nor skipped."""
    wanted = Wanted(
        job=desk.known(job) if job else None,
        result=None if result in ("", "failed") else result,
        unsuccessful=result == "failed",
        until_usec=usec_of(before or None),
    )
    found = runs_of(desk, wanted, _PAGE + 1)
    last = found[_PAGE - 1].started_usec if len(found) > _PAGE else None
    return render(
        request,
        "runs",
        runs=[told(desk.scope, run) for run in found[:_PAGE]],
        job=wanted.job or "",
        result=result,
        results=RESULTS,
        before=before,
        following=rfc3339(last) or "",
    )


@routes.get("/ui/runs/{run_id}", openapi_extra=needs("viewer"))
def show_run(run_id: str, request: Request, desk: Here) -> Response:
    run = told(desk.scope, run_of(desk, run_id))
    found = desk.parts.jobs.find(run.job)
    job = found.job if found else None
    return render(
        request,
        "run",
        run=run,
        there=found is not None,
        output=run.output.decode("utf-8", "replace"),
        numbers=run.to_json()["metrics"],
        hints=hints(job, run) if job and run.failed else [],
    )
