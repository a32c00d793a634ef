"""Errors as RFC 9457 tells them: application/problem+json."""

import json
import sys
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from lsh_systemd.api.access import Forbidden, TooManyFailures, Unauthorized
from lsh_systemd.errors import BadInput, LshError, NoSpace, refused
from lsh_systemd.jobs import JobNotFound
from lsh_systemd.manager import AccessDenied, ManagerUnavailable, NoSuchUnit
from lsh_systemd.store import StoreDamaged, StoreUnavailable
from lsh_systemd.text import escape_controls, escape_in_json


class NotFound(BadInput):
    """There is no such thing, or not for this key."""


class Conflict(BadInput):
    """It is not as the caller thought."""


class Busy(LshError):
    """Too many do the same already."""


class Elsewhere(LshError):
    """Supabase did not do it, or how it is reached is not right."""


class Changed(BadInput):
    """If-Match names another version."""


class NoMatchGiven(BadInput):
    """A change without If-Match."""


# The first that fits; JobExists is told by its name, as control is not to be imported for an error.
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (Unauthorized, 401),
    (Forbidden, 403),
    (TooManyFailures, 429),
    (JobNotFound, 404),
    (NotFound, 404),
    (NoSuchUnit, 404),
    (Changed, 412),
    (NoMatchGiven, 428),
    (Busy, 503),
    (Elsewhere, 502),
    (Conflict, 409),
    (AccessDenied, 403),
    (ManagerUnavailable, 503),
    (NoSpace, 507),
    (StoreUnavailable, 503),
    (BadInput, 400),
)


class Json(JSONResponse):
    """JSON of which nothing can move a cursor where it is printed."""

    def render(self, content: Any) -> bytes:
        return escape_in_json(json.dumps(content, ensure_ascii=False, separators=(",", ":"))).encode(errors="replace")


class Problem(Json):
    media_type = "application/problem+json"


_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "error"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "hint": {"type": "string"},
        "error": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
    "example": {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "there is no job 'x'",
        "error": "…",
    },
}
CONTENT = {"application/problem+json": {"schema": _SCHEMA}}
# Any path may answer so, where systemd, the journal or the disk does not do what it should.
RESPONSES: dict[int | str, dict[str, Any]] = {"5XX": {"description": "It cannot be done now.", "content": CONTENT}}


def status_of(error: LshError) -> int:
    if type(error).__name__ == "JobExists":
        return 409
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def problem(
    status: int, detail: str, *, hint: str | None = None, headers: Mapping[str, str] | None = None, **more: Any
) -> Response:
    """``error`` repeats ``detail``: what older clients look for."""
    detail = escape_controls(detail, keep="")
    told = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    told |= {"hint": escape_controls(hint, keep="")} if hint else {}
    return Problem(told | {"error": detail} | more, status_code=status, headers=dict(headers or {}))


def of_error(error: LshError) -> Response:
    status, headers = status_of(error), {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, TooManyFailures):
        headers["Retry-After"] = str(error.seconds)
    return problem(status, error.message, hint=error.hint, headers=headers)


def install(app: FastAPI, allowed: Callable[[str], set[str]]) -> None:
    """Have all errors told so; ``allowed``: the methods that there are at a path."""

    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, LshError)
        if isinstance(error, StoreDamaged):
            await run_in_threadpool(request.app.state.parts.mend)
        return of_error(error)

    async def of_the_system(request: Request, error: Exception) -> Response:
        assert isinstance(error, OSError)
        print(f"<3>{escape_controls(repr(error), keep='')}", file=sys.stderr, flush=True)
        return of_error(refused(f"the system said no: {error.strerror or type(error).__name__}", error))

    async def of_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = error.headers
        if error.status_code == 405:  # Starlette's own word is that of the first route alone
            headers = {"Allow": ", ".join(sorted(allowed(request.url.path)))}
        return problem(error.status_code, str(error.detail), headers=headers)

    async def of_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = [
            {"where": ".".join(str(each) for each in fault["loc"]), "what": str(fault["msg"])}
            for fault in error.errors()[:20]
        ]
        told = "; ".join(f"{fault['where']}: {fault['what']}" for fault in faults)
        return problem(422, told[:2000], errors=faults)

    async def unforeseen(request: Request, error: Exception) -> Response:
        return problem(500, "this should not have happened; the API's journal tells more")

    app.add_exception_handler(LshError, ours)
    app.add_exception_handler(OSError, of_the_system)
    app.add_exception_handler(Exception, unforeseen)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(RequestValidationError, of_validation)
