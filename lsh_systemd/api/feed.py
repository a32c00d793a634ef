"""What happens, as it happens: one look at the store for all listeners, however many there are.

The events are rows of the store, made by triggers, so that a listener who comes back finds what he has missed,
also after the server ended. They are read by one thread, made into text once, and kept for a while; a listener holds
no more than his place among them. A slow one waits for his own connection alone.
"""

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from lsh_systemd.api.parts import Parts
from lsh_systemd.errors import LshError
from lsh_systemd.queue import Queue
from lsh_systemd.run import rfc3339
from lsh_systemd.store import Store
from lsh_systemd.text import escape_in_json

if TYPE_CHECKING:
    from lsh_systemd.job import Job

HEARTBEAT_SECONDS = 15.0
_LOOK_SECONDS = 0.25
# After a failure (a full disk, say).
_RETRY_SECONDS = 5.0
_AT_ONCE = 500
_KEPT = 2000
# To who has the ids of another ledger's events.
_RESET = b"event: reset\ndata: {}\n\n"


@dataclass(frozen=True, slots=True)
class Frame:
    """An event as it goes over the wire, and what decides who may have it."""

    id: int
    job: str
    category: str
    tags: tuple[str, ...]
    text: bytes


class Feed:
    """The events of a scope."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._frames: deque[Frame] = deque(maxlen=_KEPT)
        self._newest = -1
        self._listeners = 0
        self.closed = False
        self._news, self._wanted = asyncio.Event(), asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "feed")
        self._store: Store | None = None
        self._epoch = 0  # counts ledgers: one that was restored or made anew has other events
        self._queued: set[str] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            self.close()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self._thread.shutdown()

    def close(self) -> None:
        """Let all listeners go: the server ends."""
        self.closed = True
        self._news.set()

    async def listen(
        self, after: int | None, wants: Callable[[Frame], bool], still: Callable[[], bool]
    ) -> AsyncIterator[bytes]:
        """The frames after an event, or from now on; a comment where there is nothing to tell for long."""
        self._listeners += 1
        self._wanted.set()
        try:
            newest = await self._on_thread(self._look_at_newest)
            place = newest if after is None or after > newest else after
            epoch = self._epoch
            yield b"retry: 3000\n: listening\n\n" + (_RESET if after is not None and after > newest else b"")
            while not self.closed and still():
                news = self._news
                if epoch != self._epoch:
                    epoch, place = self._epoch, self._newest
                    yield _RESET
                frames = await self._after(place)
                if frames:
                    place = frames[-1].id
                    if text := b"".join(frame.text for frame in frames if wants(frame)):
                        yield text
                    continue
                try:
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        await news.wait()
                except TimeoutError:
                    yield b": heartbeat\n\n"
        except (LshError, OSError):  # the store cannot be read: who listens comes back, and goes on where he was
            yield b"retry: 5000\n: the store cannot be read\n\n"
        finally:
            self._listeners -= 1

    async def _after(self, place: int) -> list[Frame]:
        if place >= self._newest >= 0:
            return []
        if self._frames and self._frames[0].id <= place + 1:
            return [frame for frame in self._frames if frame.id > place]
        frames: list[Frame] = await self._on_thread(lambda: self._read(place))
        return frames

    async def _follow(self) -> None:
        while True:
            if not self._listeners:
                self._wanted.clear()
                if not self._listeners:
                    await self._wanted.wait()
            known = self._newest
            try:
                newest, frames = await self._on_thread(partial(self._look, known))
            except (LshError, OSError):
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if newest < known:
                self._epoch += 1
                self._frames.clear()
            self._frames.extend(frames)
            if newest != known:
                self._newest = newest
                news, self._news = self._news, asyncio.Event()
                news.set()
            await asyncio.sleep(_LOOK_SECONDS)

    async def _on_thread(self, do: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, do)

    # --- on the thread

    def _look(self, known: int) -> tuple[int, list[Frame]]:
        """Up to which event all is known now, and those since ``known`` (-1: none is looked for)."""
        if not self._parts.agent_runs():
            self._parts.collect(at_most_every=1.0)
        newest = self._look_at_newest()
        if known < 0 or newest < known:
            return newest, []
        self._note_queued()
        frames = self._read(known)
        return (frames[-1].id if frames else known), frames

    def _look_at_newest(self) -> int:
        rows = self._open().query("SELECT max(id) FROM events")
        return int(rows[0][0] or 0)

    def _open(self) -> Store:
        store = self._parts.ledger()
        if store is not self._store:
            turn_on(store)
            self._store, self._queued = store, {entry.name for entry in Queue(self._parts.scope).entries()}
        return store

    def _note_queued(self) -> None:
        """What has come into the queue: the store knows of runs only once they have begun."""
        entries = {entry.name: entry for entry in Queue(self._parts.scope).entries()}
        new = [entry for name, entry in entries.items() if name not in self._queued]
        self._queued = set(entries)
        if new:
            insert = "INSERT OR IGNORE INTO events (at_usec, event, job, about) VALUES (?, 'queued', ?, ?)"
            store = self._open()
            with store.transaction():
                for entry in new:
                    store.query(insert, (entry.since_usec, entry.job, entry.name.partition(":")[2]))

    def _read(self, place: int) -> list[Frame]:
        store = self._open()
        find = "SELECT id, at_usec, event, job, about FROM events WHERE id > ? ORDER BY id LIMIT ?"
        jobs: dict[str, Job | None] = {}
        frames = []
        for number, at_usec, event, job_id, about in store.query(find, (place, _AT_ONCE)):
            if job_id not in jobs:
                found = self._parts.jobs.find(job_id) if job_id else None
                jobs[job_id] = found.job if found else None
            job = jobs[job_id]
            told = {"id": number, "type": event, "job": job_id or None, "at": rfc3339(at_usec)}
            told |= _more(store, event, about)
            text = escape_in_json(json.dumps(told, ensure_ascii=False, separators=(",", ":")))
            frames.append(
                Frame(
                    id=number,
                    job=job_id,
                    category=job.category if job else "",
                    tags=job.tags if job else (),
                    text=f"id: {number}\nevent: {event}\ndata: {text}\n\n".encode(errors="replace"),
                )
            )
        return frames


def turn_on(store: Store) -> None:
    """Have events kept from now on."""
    if store.state("events") is None:
        with store.transaction():
            store.set_state("events", str(time.time_ns() // 1000))


def turn_off(store: Store) -> None:
    """Keep no more of them: nobody is to listen."""
    with store.transaction():
        store.set_state("events", None)
        store.query("DELETE FROM events")


def _more(store: Store, event: str, about: str) -> dict[str, Any]:
    """The run, without its output, as it is now; of a change what was done, but not by whom: that is for admins."""
    if event == "changed":
        rows = store.query("SELECT verb FROM audit WHERE id = ?", (about,))
        return {"verb": rows[0][0] if rows else None}
    if event == "queued":
        return {}
    runs = [run for run in store.run(about) if run.id == about]
    run = {name: value for name, value in runs[0].to_json().items() if name != "output"} if runs else None
    return {"run_id": about, "run": run}
