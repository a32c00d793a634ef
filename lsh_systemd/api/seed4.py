"""Health and status, in the shapes that older systems gave them."""

import os
import time
from typing import Annotated, Any

from fastapi import Depends, Request

from lsh_systemd import __version__, ledger
from lsh_systemd.api.access import OPEN
from lsh_systemd.api.document import gives
from lsh_systemd.api.gate import needs, router
from lsh_systemd.api.parts import Desk, Parts, desk
from lsh_systemd.api.problems import Json
from lsh_systemd.errors import LshError
from lsh_systemd.manager import RUNNING_STATES
from lsh_systemd.run import rfc3339
from lsh_systemd.unit import is_run_unit

routes = router(tags=["health"])
# Anybody may ask: what is told is looked up this often at most.
_SECONDS = 1.0
HEALTH = gives("Health") | {503: {"description": "The same, and says what is wrong."} | gives("Health")[200]}
# What SQLite may want at once.
_LEAST_FREE_BYTES = 2**20


def health_of(request: Request) -> Json:
    """What anybody may know: 503 where jobs cannot be looked after. No path or reason, which `doctor` tells."""
    told = health_told(request)
    body = told | {"timestamp": rfc3339(time.time_ns() // 1000)}
    return Json(body, status_code=503 if told["status"] == "unhealthy" else 200)


def health_told(request: Request) -> dict[str, Any]:
    """How it was at the last look, a second ago at most."""
    parts: Parts = request.app.state.parts
    at, told = getattr(request.app.state, "health", (0.0, None))
    if told is None or time.monotonic() - at > _SECONDS:
        told = _health(parts)
        request.app.state.health = (time.monotonic(), told)
    return dict(told)


def _health(parts: Parts) -> dict[str, Any]:
    problems, warnings, running = [], [], 0
    try:
        units = parts.manager.units("lsh-*.service", states=RUNNING_STATES)
        running = sum(map(is_run_unit, units))
        if not parts.agent_runs():
            warnings.append("the agent does not run: alerts are not sent")
    except LshError:
        problems.append("systemd does not answer")
    try:
        parts.ledger().query("SELECT 1 FROM runs LIMIT 1")
    except LshError:
        problems.append("the store of runs cannot be read")
    if _is_full(parts):
        problems.append("the disk of the store is full: runs wait in the journal")
    return {
        "status": "unhealthy" if problems else "healthy",
        "service": "LSH Daemon",
        "version": __version__,
        "active_commands": running,
        "problems": problems,
        "warnings": warnings,
    }


@routes.get("/health", openapi_extra=needs(OPEN), responses=HEALTH)
def health(request: Request) -> Json:
    """Whether jobs are looked after. Needs no key."""
    return health_of(request)


@routes.get("/status", openapi_extra=needs("viewer"), responses=gives("Status"))
def status(desk: Annotated[Desk, Depends(desk)]) -> Json:
    """How the server is."""
    return Json(status_of(desk))


def status_of(desk: Desk) -> dict[str, Any]:
    parts = desk.parts
    resident = _resident_bytes()
    return {
        "running": True,
        "pid": os.getpid(),
        "uptime": round(time.time() - parts.began, 3),
        "memoryUsage": {"rss": resident, "heapUsed": resident},
        "version": __version__,
        "scope": str(parts.scope),
        "systemd": parts.manager.version,
        "agent": "active" if parts.agent_runs() else "inactive",
        "jobs": len(desk.all()),
        "role": desk.caller.role,
    }


def _is_full(parts: Parts) -> bool:
    try:
        told = os.statvfs(ledger.path(parts.scope).parent)
    except OSError:
        return False
    return told.f_bavail * told.f_frsize < _LEAST_FREE_BYTES


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
