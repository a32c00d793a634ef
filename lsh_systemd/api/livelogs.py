"""A job's lines as they come: journalctl's, passed on as Server-Sent Events."""

import asyncio
import contextlib
import json
import re
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Header, Query, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from lsh_systemd.api.events import STREAM, STREAM_HEADERS
from lsh_systemd.api.gate import Gate, needs, router
from lsh_systemd.api.parts import Desk, desk
from lsh_systemd.api.problems import Busy, of_error
from lsh_systemd.api.runs import line_of, lines_of
from lsh_systemd.errors import BadInput
from lsh_systemd.text import escape_in_json

if TYPE_CHECKING:
    from lsh_systemd.api.feed import Feed

routes = router(tags=["live"])
# Each listener has a process of its own.
MOST = 20
_LINE_BYTES = 4 * 2**20
_HEARTBEAT_SECONDS = 5.0
_CURSOR = re.compile(r"[A-Za-z0-9=;]{1,300}")


class Followers:
    """How many there are. Counted on the event loop alone, so that two cannot take the last place."""

    def __init__(self) -> None:
        self.count = 0


class Following(StreamingResponse):
    """A stream that is counted from before its first byte until it has ended, however that comes."""

    def __init__(self, followers: Followers, stream: AsyncIterator[bytes]) -> None:
        super().__init__(stream, media_type="text/event-stream", headers=STREAM_HEADERS)
        self._followers = followers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._followers.count >= MOST:
            busy = Busy(f"{MOST} listen to logs already", hint="try again later, or GET /jobs/ID/logs")
            await of_error(busy)(scope, receive, send)
            return
        self._followers.count += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._followers.count -= 1


@routes.get(
    "/jobs/{job_id}/logs/live", openapi_extra=needs("viewer"), response_class=StreamingResponse, responses=STREAM
)
def follow_logs(
    job_id: str,
    request: Request,
    desk: Annotated[Desk, Depends(desk)],
    lines: Annotated[int, Query(ge=0, le=1000, description="So many that there are already.")] = 10,
    run: Annotated[str | None, Query(pattern="^[0-9a-f]{32}$")] = None,
    last_event_id: Annotated[str | None, Header(max_length=300)] = None,
) -> StreamingResponse:
    """A job's lines in the journal as they come, each a `line` in the shape that `/jobs/ID/logs` gives; goes on after
    `Last-Event-ID`."""
    command = [*_of_this_machine(lines_of(desk, job_id, run)), "--follow", "--merge", "--output=json"]
    if last_event_id is None:
        command.append(f"--lines={lines}")
    elif _CURSOR.fullmatch(last_event_id):
        command += ["--lines=all", f"--after-cursor={last_event_id}"]
    else:
        raise BadInput("Last-Event-ID is not the id of a line")
    gate: Gate = request.app.state.gate
    feed: Feed = request.app.state.feed
    stream = _follow(command, lambda: not feed.closed and gate.still(desk.caller))
    return Following(request.app.state.followers, stream)


def _of_this_machine(command: list[str]) -> list[str]:
    """With --follow, journalctl shows the boot that the kernel tells; in a container that is not the journal's
    (252: nothing comes at all). --merge takes that back, and would take in other machines' journals instead."""
    own = "_MACHINE_ID=" + Path("/etc/machine-id").read_text().strip()
    return [word for each in (*command, "+") for word in ((own, each) if each == "+" else (each,))][:-1]


async def _follow(command: list[str], still: Callable[[], bool]) -> AsyncIterator[bytes]:
    process = None
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, limit=_LINE_BYTES
        )
        assert process.stdout
        yield b"retry: 3000\n: listening\n\n"
        while still():
            try:
                async with asyncio.timeout(_HEARTBEAT_SECONDS):
                    line = await process.stdout.readline()
            except TimeoutError:
                yield b": heartbeat\n\n"
                continue
            except ValueError:  # longer than any that we pass on
                continue
            if not line:
                return  # journalctl has ended: who listens comes back, and goes on where he was
            with contextlib.suppress(ValueError):
                yield frame(json.loads(line))
    finally:
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()


def frame(entry: dict[str, Any]) -> bytes:
    """A journal entry as an event; its id is its cursor."""
    told = line_of(entry)
    text = escape_in_json(json.dumps(told, ensure_ascii=False, separators=(",", ":")))
    cursor = told["cursor"]
    mark = f"id: {cursor}\n" if isinstance(cursor, str) and _CURSOR.fullmatch(cursor) else ""
    return f"{mark}event: line\ndata: {text}\n\n".encode(errors="replace")
