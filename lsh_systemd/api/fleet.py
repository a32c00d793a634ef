"""What all hosts have reported to Supabase. The server has no network: it asks lsh-ask.socket, and for each question
systemd starts a process that has one."""

import json
import socket
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Request
from starlette.responses import Response

from lsh_systemd import connect, daemons
from lsh_systemd.api.document import gives
from lsh_systemd.api.gate import needs, router
from lsh_systemd.api.parts import Desk, desk
from lsh_systemd.api.problems import Busy, Conflict, Elsewhere, Json, NotFound
from lsh_systemd.api.runs import Instant, Limit, Result, usec_of
from lsh_systemd.api.shapes import masked, next_page
from lsh_systemd.errors import BadInput
from lsh_systemd.job import job_id
from lsh_systemd.scope import Scope, runtime_dir

routes = router(tags=["fleet"])
Here = Annotated[Desk, Depends(desk)]
Hosts = Annotated[
    list[Annotated[str, Query(max_length=300)]] | None,
    Query(alias="host", max_length=100, description="Only of this host, by its name or ID; may be repeated."),
]
Job = Annotated[str | None, Query(max_length=300)]
# As long as the unit may take.
_SECONDS = 120.0


@routes.get("/fleet/hosts", openapi_extra=needs("viewer"), responses=gives("Row", 404, 502, many=True))
def hosts(desk: Here, host: Hosts = None) -> Response:
    """The hosts that report to Supabase, and when each was last heard of."""
    return Json(ask(desk, "hosts", hosts=host or []))


@routes.get("/fleet/jobs", openapi_extra=needs("viewer"), responses=gives("Row", 404, 502, many=True))
def jobs(desk: Here, host: Hosts = None, removed: bool = False) -> Response:
    """The jobs of all hosts; with `removed` also those that are gone."""
    told = ask(desk, "jobs", hosts=host or [], removed=removed)
    whole = desk.caller.may("admin")
    return Json(told if whole else [each | {"definition": masked(each["definition"] or {})} for each in told])


@routes.get("/fleet/runs", openapi_extra=needs("viewer"), responses=gives("Row", 404, 502, many=True))
def runs(
    desk: Here,
    request: Request,
    host: Hosts = None,
    job: Job = None,
    since: Instant = None,
    until: Instant = None,
    result: Result = None,
    failed: bool = False,
    limit: Limit = 50,
) -> Response:
    """Runs of all hosts, the newest first, without what they wrote. `Link` leads to older ones."""
    asked = {"job": _id(job), "since_usec": usec_of(since), "until_usec": usec_of(until), "result": result}
    told = ask(desk, "runs", hosts=host or [], **asked, unsuccessful=failed, limit=limit + 1)
    headers = {}
    if len(told) > limit and told[limit - 1]["started_at"]:
        given = {"job": job, "since": since, "result": result, "failed": failed or None, "limit": limit}
        headers = next_page(request.url.path, host=host, **given, until=told[limit - 1]["started_at"])
    return Json(told[:limit], headers=headers)


@routes.get("/fleet/report", openapi_extra=needs("viewer"), responses=gives("Row", 404, 502, many=True))
def report(
    desk: Here,
    host: Hosts = None,
    job: Job = None,
    by: Literal["job", "host", "both", "all"] = "job",
    since: Instant = None,
    until: Instant = None,
) -> Response:
    """The figures of all hosts' runs, for each job (on whichever host), host, job of a host, or all together."""
    since_usec, until_usec = usec_of(since), usec_of(until)
    if since_usec is not None and until_usec is not None and until_usec <= since_usec:
        raise BadInput("until is not after since")
    asked = {"by": by, "job": _id(job), "since_usec": since_usec, "until_usec": until_usec}
    return Json(ask(desk, "report", hosts=host or [], **asked))


def _id(job: str | None) -> str | None:
    return None if job is None else job_id(job)


def ask(desk: Desk, what: str, **asked: Any) -> Any:
    """The answer. Raises BadInput for a host that nobody knows, NotFound where there is no project, Conflict for what
    has ended already, Busy, Elsewhere."""
    desk.for_all()
    if connect.url(desk.scope) is None:
        raise NotFound("no Supabase project is set here", hint="lsh.toml's [supabase] url = …: see README, Supabase")
    text = _answer(desk, json.dumps({"what": what, **asked}).encode() + b"\n")
    if not text:
        raise Busy("too much is asked of the fleet at once, or its unit failed", hint="ask again in a moment")
    try:
        told = json.loads(text)
    except ValueError:
        raise Elsewhere("the answer is not whole", hint="journalctl -u 'lsh-ask@*'") from None
    if "error" in told:
        kind = Conflict if told["ended"] else BadInput if told["bad_input"] else Elsewhere
        raise kind(told["error"], hint=told["hint"])
    return told["answer"]


def _answer(desk: Desk, question: bytes) -> bytes:
    path = Path("/run/lsh/ask.sock") if desk.scope is Scope.SYSTEM else runtime_dir() / "lsh/ask.sock"
    if not path.exists():
        manager = desk.parts.manager
        daemons.provide(manager, daemons.ASK)
        manager.start(daemons.ASK_SOCKET)
        manager.wait(daemons.ASK_SOCKET, {"active", "failed"}, seconds=30)
    parts = []
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(_SECONDS)
            link.connect(str(path))
            link.sendall(question)
            while part := link.recv(2**16):
                parts.append(part)
    except (BrokenPipeError, ConnectionResetError):  # turned away
        return b""
    except OSError as error:
        raise Elsewhere(f"{daemons.ASK_SOCKET} does not answer: {error}") from None
    return b"".join(parts)
