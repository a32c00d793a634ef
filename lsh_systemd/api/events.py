"""/events: what happens, as Server-Sent Events."""

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Header, Query, Request
from starlette.responses import StreamingResponse

from lsh_systemd.api.feed import Feed, Frame
from lsh_systemd.api.gate import Gate, needs, router
from lsh_systemd.errors import BadInput

if TYPE_CHECKING:
    from lsh_systemd.api.access import Caller

routes = router(tags=["live"])
STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}
# Proxies are to pass on what comes at once.
STREAM_HEADERS = {"X-Accel-Buffering": "no"}


@routes.get("/events", openapi_extra=needs("viewer"), response_class=StreamingResponse, responses=STREAM)
async def events(
    request: Request,
    last_event_id: Annotated[str | None, Header(max_length=40)] = None,
    after: Annotated[str | None, Query(max_length=40, description="As Last-Event-ID, which goes before it.")] = None,
    job: Annotated[str | None, Query(max_length=300, description="Only this job's.")] = None,
    types: Annotated[str | None, Query(max_length=200, description="Only these, as started,failed.")] = None,
) -> StreamingResponse:
    """started, finished, failed, skipped, missed, queued, changed, as they happen. With `Last-Event-ID`, also what has
    happened since that one, as far as the newest 10,000 go back."""
    caller: Caller = request.state.caller
    gate: Gate = request.app.state.gate
    feed: Feed = request.app.state.feed
    marks = tuple(f"\nevent: {each.strip()}\n".encode() for each in types.split(",")) if types else ()

    def wants(frame: Frame) -> bool:
        if job is not None and frame.job != job:
            return False
        if marks and not any(mark in frame.text for mark in marks):
            return False
        return caller.covers(frame.job, frame.category, frame.tags)

    stream = feed.listen(_place(last_event_id or after), wants, lambda: gate.still(caller))
    return StreamingResponse(stream, media_type="text/event-stream", headers=STREAM_HEADERS)


def _place(given: str | None) -> int | None:
    if given is None or not given.strip():
        return None
    if not (given.isascii() and given.isdecimal() and len(given) <= 18):
        raise BadInput("Last-Event-ID is the id of an event: a number")
    return int(given)
