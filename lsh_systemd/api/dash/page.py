"""How pages are drawn, and what a browser gets in place of one that goes wrong."""

import functools
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jinja2
from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import HTMLResponse, RedirectResponse, Response

from lsh_systemd import __version__, analyze
from lsh_systemd.api.access import Caller, TooManyFailures, Unauthorized
from lsh_systemd.api.dash import words
from lsh_systemd.api.gate import Gate, GuardedRoute
from lsh_systemd.api.problems import status_of
from lsh_systemd.api.sessions import csrf
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.text import escape_controls

_TEMPLATES = Path(__file__).parents[2] / "templates/dash"
# Everything comes from this server; nothing that stands in a page is run.
_POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
HOME = "/ui"
# Where a page may lead to after the log-in: to one of ours.
_OWN = (HOME, "/admin/cron")
# With the role that each needs.
_NAV = (
    ("Overview", HOME, "viewer"),
    ("Jobs", "/ui/jobs", "viewer"),
    ("Templates", "/ui/templates", "viewer"),
    ("Runs", "/ui/runs", "viewer"),
    ("Queue", "/ui/queue", "viewer"),
    ("Fleet", "/ui/fleet", "viewer"),
    ("Alerts", "/ui/alerts", "admin"),
    ("Audit", "/ui/audit", "admin"),
    ("Settings", "/ui/settings", "admin"),
)
# After a change: what has been done, in words. What is not here is not shown.
DONE = {
    "started": "Started.",
    "queued": "It waits in the queue for its turn.",
    "stopped": "Stopped.",
    "idle": "It did not run.",
    "enabled": "Its schedule counts from now on.",
    "disabled": "Its schedule rests now.",
    "made": "The job is made.",
    "changed": "The job is changed.",
    "removed": "The job is removed; its runs stay on record.",
    "left": "It does not wait any more.",
}


class PageRoute(GuardedRoute):
    """A route to a page. What is refused is told in a page, and who has no session gets one to log in."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options | {"include_in_schema": False})

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def told(request: Request) -> Response:
            try:
                return await handle(request)
            except Unauthorized:
                return ask_for_key(request)
            except LshError as error:
                return of_error(request, error)
            except RequestValidationError:
                return of_error(request, BadInput("the address of this page has a part that cannot be"))

        return told


def pages() -> APIRouter:
    return APIRouter(route_class=PageRoute)


def render(request: Request, name: str, *, code: int = 200, **values: Any) -> HTMLResponse:
    """A page of ours. Whatever it is given is text there, never markup."""
    gate: Gate = request.app.state.gate
    caller: Caller | None = getattr(request.state, "caller", None)
    token = gate.token(request) if caller and caller.session else ""
    text = _templates().get_template(name + ".html.j2").render(
        caller=caller if caller and caller.may("viewer") else None,
        csrf=csrf(token) if token else "",
        path=request.url.path,
        here=own_path(_whole_path(request)),
        done=DONE.get(request.query_params.get("done", "")),
        scope=request.app.state.parts.scope,
        **values,
    )  # fmt: skip
    return HTMLResponse(text.encode(errors="replace"), code, {"Content-Security-Policy": _POLICY})


def ask_for_key(request: Request, problem: LshError | None = None, *, to: str | None = None) -> Response:
    """The page to log in, which leads back to where the browser wanted to go."""
    to = to or (own_path(_whole_path(request)) if request.method == "GET" else HOME)
    status = status_of(problem) if problem else 401
    answer = render(request, "login", code=status, problem=problem, to=to)
    # What asks for a part of a page gets the whole: it is to be loaded anew.
    answer.headers["HX-Refresh"] = "true"
    return answer


def of_error(request: Request, error: LshError) -> Response:
    # Hints that name paths are for programs.
    hint = error.hint if error.hint and "GET /" not in error.hint else None
    answer = render(request, "error", code=status_of(error), message=error.message, hint=hint)
    if isinstance(error, TooManyFailures):
        answer.headers["Retry-After"] = str(error.seconds)
    return answer


def go(path: str, done: str = "") -> Response:
    """To that page, by GET, which then tells what has been done."""
    return RedirectResponse(path + (f"?done={done}" if done else ""), status_code=303)


def own_path(text: str) -> str:
    """The path, where it is one of our pages; else the first page."""
    path = text.partition("?")[0]
    return text if any(path == own or path.startswith(own + "/") for own in _OWN) and text.isprintable() else HOME


def _whole_path(request: Request) -> str:
    query = [(name, value) for name, value in request.query_params.multi_items() if name != "done"]
    return request.url.path + ("?" + urlencode(query) if query else "")


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Nothing is to turn a line around either.
        finalize=lambda value: escape_controls(value) if type(value) is str else value,
    )
    environment.filters |= words.FILTERS
    environment.globals |= {
        "nav": _NAV,
        "version": __version__,
        "host": socket.gethostname(),
        "zone": analyze.local_zone(),
        "no_text": words.NOTHING,
    }
    return environment
