"""Logging in and out, and the files that pages want."""

import asyncio
from pathlib import Path

import anyio.to_thread
from fastapi import Request
from starlette.responses import FileResponse, Response

from lsh_systemd.api.access import OPEN, Forbidden, TooManyFailures, Unauthorized
from lsh_systemd.api.dash.page import HOME, ask_for_key, go, own_path, pages
from lsh_systemd.api.gate import Gate, fields, is_own, needs
from lsh_systemd.api.problems import NotFound
from lsh_systemd.api.sessions import LASTS
from lsh_systemd.errors import BadInput
from lsh_systemd.text import visible

routes = pages()
# What is at no other address of ours: asked last.
lost = pages()
_STATIC = Path(__file__).parents[2] / "static"
_LONGEST_FORM = 4096
_FORM_SECONDS = 10
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_FILES = {path.name: path for path in _STATIC.iterdir() if path.suffix in _TYPES}


@routes.get("/", openapi_extra=needs(OPEN))
def root() -> Response:
    return go(HOME)


@routes.get("/ui/login", openapi_extra=needs(OPEN))
def login_page(request: Request) -> Response:
    answer = ask_for_key(request, to=HOME)
    answer.status_code = 200  # it was asked for
    return answer


@routes.post("/ui/login", openapi_extra=needs(OPEN))
async def log_in(request: Request) -> Response:
    """Begin a session for who has the key."""
    gate: Gate = request.app.state.gate
    size = request.headers.get("content-length", "")
    if not size.isdecimal() or len(size) > 5 or int(size) > _LONGEST_FORM:  # nobody is known yet
        raise BadInput("this is not our form")
    async with asyncio.timeout(_FORM_SECONDS):
        given = await fields(request)
    key, to = given.get("key", "").strip(), own_path(given.get("to", ""))
    if not is_own(request):
        raise Forbidden("this did not come from a page of ours", hint="load the page again")
    if not key:
        return ask_for_key(request, BadInput("the key is missing"), to=to)
    try:
        token = await anyio.to_thread.run_sync(gate.log_in, request, key)
    except (Unauthorized, TooManyFailures) as error:
        return ask_for_key(request, error, to=to)
    answer = go(to)
    answer.set_cookie(
        gate.cookie,
        token,
        max_age=int(LASTS.total_seconds()),
        httponly=True,
        samesite="strict",
        # A proxy that ends TLS says so, whether or not we take its word in other things.
        secure="https" in (request.url.scheme, request.headers.get("x-forwarded-proto")),
    )
    return answer


@routes.post("/ui/logout", openapi_extra=needs("viewer"))
def log_out(request: Request) -> Response:
    gate: Gate = request.app.state.gate
    gate.log_out(request)
    answer = go("/ui/login")
    answer.delete_cookie(gate.cookie, httponly=True, samesite="strict")
    return answer


@routes.get("/ui/static/{name}", openapi_extra=needs(OPEN))
def static(name: str) -> Response:
    """What pages load: the same for everybody."""
    file = _FILES.get(name)
    if file is None:
        raise NotFound(f"there is no file {visible(name)}")
    headers = {"Cache-Control": "max-age=3600", "Content-Type": _TYPES[file.suffix] + "; charset=utf-8"}
    return FileResponse(file, headers=headers)


@lost.get("/ui/{path:path}", openapi_extra=needs("viewer"))
def nothing(path: str) -> Response:
    if not path:
        return go(HOME)
    raise NotFound(f"there is no page {visible(path)}")
