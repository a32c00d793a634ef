"""Health and status, in the shapes that older systems gave them."""

import os
import time
from pathlib import Path
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
from lsh_systemd.scope import unit_dir
from lsh_systemd.store import StoreDamaged
from lsh_systemd.unit import is_run_unit

routes = router(tags=["health"])
# Anybody may ask: what is told is looked up this often at most.
_SECONDS = 1.0
HEALTH = gives("Health") | {503: {"description": "The same, and says what is wrong."} | gives("Health")[200]}
# What SQLite may want at once, and a job.
_LEAST_FREE_BYTES, _LEAST_FOR_UNITS = 2**20, 2**16


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
    except StoreDamaged:
        problems.append("the store of runs is damaged: it is being made anew")
        parts.mend()
    except (LshError, OSError):
        problems.append("the store of runs cannot be read")
    if no := _refuses(ledger.path(parts.scope).parent, _LEAST_FREE_BYTES):
        problems.append(f"the disk of the store is {no}: runs wait in the journal")
    if no := _refuses(unit_dir(parts.scope), _LEAST_FOR_UNITS):
        problems.append(f"the disk of the unit files is {no}: no job can be made or changed")
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


def _refuses(folder: Path, least_bytes: int) -> str:
    """What keeps the folder's disk from taking anything; empty where nothing does."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    try:
        told = os.statvfs(there)
    except OSError:
        return ""
    if told.f_flag & os.ST_RDONLY:
        return "read-only"
    full = told.f_bavail * told.f_frsize < least_bytes or (told.f_files > 0 and told.f_favail == 0)
    return "full" if full else ""


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
