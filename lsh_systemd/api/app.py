"""The application: its routes, at their own paths and below /api."""

import asyncio
import contextlib
import functools
import re
from collections.abc import AsyncIterator

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import compile_path

from lsh_systemd import __version__
from lsh_systemd.api import (
    changes,
    document,
    events,
    fleet,
    fleetqueue,
    jobs,
    livelogs,
    metrics,
    problems,
    runs,
    seed4,
    seed5,
    templates,
)
from lsh_systemd.api.dash import admin, beside, forms, job, overview, session
from lsh_systemd.api.dash import jobs as dash_jobs
from lsh_systemd.api.dash import runs as dash_runs
from lsh_systemd.api.dash import templates as dash_templates
from lsh_systemd.api.feed import Feed
from lsh_systemd.api.gate import Gate, GuardedRoute, needs, router
from lsh_systemd.api.parts import Parts
from lsh_systemd.api.problems import Json
from lsh_systemd.scope import Scope

# So many requests are worked on at once; each thread has its own connection to the store.
_THREADS = 16
_DESCRIPTION = """Jobs as systemd units. Every path is also below `/api`. Times are RFC 3339 in UTC, durations in
seconds, sizes in bytes; errors are `application/problem+json`. A key goes into `X-API-Key` or `Authorization:
Bearer`; `x-role` tells which role a path needs."""

meta = router()


@meta.get("/openapi.json", openapi_extra=needs("viewer"), include_in_schema=False)
def openapi(request: Request) -> Response:
    return Json(request.app.openapi())


_PAGES = (
    session.routes,
    overview.routes,
    dash_jobs.routes,
    forms.routes,
    dash_templates.routes,
    job.routes,
    dash_runs.routes,
    beside.routes,
    admin.routes,
    session.lost,
)
_TWICE = (
    seed4.routes,
    jobs.routes,
    changes.routes,
    templates.routes,
    runs.routes,
    fleet.routes,
    fleetqueue.routes,
    events.routes,
    livelogs.routes,
    metrics.routes,
    meta,
)
# All that there are, and what stands before their paths.
ROUTES = (
    *((routes, prefix) for prefix in ("", "/api") for routes in _TWICE),
    (seed5.routes, "/api/cron"),
    *((routes, "") for routes in _PAGES),
)


def make(scope: Scope) -> FastAPI:
    """The application for a scope. Nothing outside is touched before the first request, but for the environment."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
        feed: Feed = app.state.feed
        following = asyncio.create_task(app.state.parts.manager.look_after())
        try:
            async with feed.running():
                yield
        finally:
            following.cancel()

    app = FastAPI(
        title="lsh-systemd",
        version=__version__,
        description=_DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        default_response_class=Json,
        redirect_slashes=False,
        responses=problems.RESPONSES,
    )
    app.state.parts, app.state.gate = Parts(scope), Gate(scope)
    app.state.feed, app.state.followers = Feed(app.state.parts), livelogs.Followers()
    problems.install(app, _allowed)
    for routes, prefix in ROUTES:
        app.include_router(routes, prefix=prefix, include_in_schema=prefix != "/api")
    if origins := app.state.parts.settings().cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["*"],
            allow_headers=[
                "Authorization",
                "Content-Type",
                "Idempotency-Key",
                "If-Match",
                "Last-Event-ID",
                "X-API-Key",
            ],
            expose_headers=["ETag", "Link", "Location", "X-Request-ID", "X-Total-Count"],
        )
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    return app


def _allowed(path: str) -> set[str]:
    """The methods that there are at the path."""
    return {method for place, methods in _places() if place.fullmatch(path) for method in methods}


@functools.cache
def _places() -> list[tuple[re.Pattern[str], set[str]]]:
    return [
        (compile_path(prefix + route.path)[0], route.methods or set())
        for routes, prefix in ROUTES
        for route in routes.routes
        if isinstance(route, GuardedRoute)
    ]


def _described(app: FastAPI) -> dict[str, object]:
    if app.openapi_schema is None:
        told = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        told.setdefault("components", {})["securitySchemes"] = {
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "webhook": {"type": "apiKey", "in": "header", "name": "X-Webhook-Secret"},
            "bearer": {"type": "http", "scheme": "bearer"},
        }
        app.openapi_schema = document.complete(told)
    return app.openapi_schema
