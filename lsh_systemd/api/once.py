"""Idempotency-Key: a POST that is sent again is answered again, and not done again, even where the server died."""

import contextlib
import functools
import hmac
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.responses import Response

from lsh_systemd.api.gate import key_given
from lsh_systemd.api.parts import Desk
from lsh_systemd.api.problems import Conflict, Json
from lsh_systemd.errors import BadInput
from lsh_systemd.store import Store, StoreUnavailable

# For the OpenAPI document.
HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key for the same request: for a day it is answered again, and not done again.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_DAY_USEC = 86_400_000_000


@dataclass(frozen=True, kw_only=True)
class Before:
    """What came of the same request before: its answer, or, with ``status`` None, nothing that anybody has told: who
    did it was cut off. ``at_usec``: when it came (µs since 1970)."""

    at_usec: int
    status: int | None
    body: bytes


class _Doing:
    """The keys that are being worked on by this process."""

    def __init__(self) -> None:
        self._lock, self._keys = threading.Lock(), set[str]()

    def __contains__(self, key: str) -> bool:
        with self._lock:
            return key in self._keys

    @contextlib.contextmanager
    def if_written(self, key: str) -> Iterator[Callable[[], None]]:
        """Within, others may be told already that it is worked on; where nothing comes of it, it is not."""
        taken = False

        def take() -> None:
            nonlocal taken
            with self._lock:
                self._keys.add(key)
            taken = True

        try:
            yield take
        except BaseException:
            if taken:
                self.remove(key)
            raise

    def remove(self, key: str) -> None:
        with self._lock:
            self._keys.discard(key)


doing = _Doing()


def answered(
    request: Request,
    desk: Desk,
    body: Mapping[str, Any],
    do: Callable[[], dict[str, Any]],
    *,
    again: Callable[[int], dict[str, Any]] | None = None,
    status: int = 200,
) -> Response:
    """Do it and answer; with an Idempotency-Key that has been seen in the last day, answer what was answered then.
    ``again``: what to do where it was begun at a time (µs since 1970) and cut off; else it is done as if it had not
    been. ``Location`` in the answer becomes a header."""
    given = request.headers.get("idempotency-key")
    if given is None:
        return _answer(do(), status)
    if not _KEY.fullmatch(given):
        raise BadInput("an Idempotency-Key is up to 255 printable characters")
    store = desk.parts.ledger()
    key = f"{desk.caller.name} {desk.caller.id} {given}"
    asked = json.dumps([request.method, request.url.path.removeprefix("/api"), str(request.query_params), body])
    # Keyed with what is kept nowhere: of a password in the body, a bare hash could be guessed.
    fingerprint = hmac.new((key_given(request) or "").encode(errors="surrogateescape"), asked.encode(), "sha256")
    before = begin(store, key, fingerprint.hexdigest())
    if before is not None and before.status is not None:
        return _answer(json.loads(before.body), before.status, repeated=True)
    try:
        told = again(before.at_usec) if before and again else do()
    except BaseException:
        # Not done: it may be tried again.
        _note(store, "DELETE FROM api_answers WHERE key = ?", key)
        raise
    else:
        _note(
            store, "UPDATE api_answers SET status = ?, body = ? WHERE key = ?", status, json.dumps(told).encode(), key
        )
    finally:
        doing.remove(key)
    return _answer(told, status)


def _note(store: Store, statement: str, *values: object) -> None:
    """Where the disk is full by now, it stays noted as begun, and what was done is found when it is asked for again."""
    with contextlib.suppress(StoreUnavailable), store.transaction():
        store.query(statement, values)


def begin(store: Store, key: str, fingerprint: str) -> Before | None:
    """Note that it is being done, by this process, until ``doing`` says otherwise; what came of it before."""
    with doing.if_written(key) as take, store.transaction():
        now = time.time_ns() // 1000
        store.query("DELETE FROM api_answers WHERE at_usec < ?", (now - _DAY_USEC,))
        rows = store.query("SELECT fingerprint, at_usec, status, body FROM api_answers WHERE key = ?", (key,))
        if rows:
            known, at_usec, status, body = rows[0]
            if known != fingerprint:
                raise BadInput("this Idempotency-Key was used for another request", hint="take a new one for each")
            if status is not None:
                return Before(at_usec=at_usec, status=status, body=body)
            if key in doing if body == _this_process() else _goes_on(bytes(body or b"")):
                raise Conflict("the same request is being worked on", hint="try again in a moment")
            now = at_usec
        insert = "INSERT OR REPLACE INTO api_answers (key, fingerprint, at_usec, body) VALUES (?, ?, ?, ?)"
        store.query(insert, (key, fingerprint, now, _this_process()))
        take()
    return Before(at_usec=now, status=None, body=b"") if rows else None


@functools.cache
def _this_process() -> bytes:
    """What is noted of who does it."""
    return f"{os.getpid()} {_began(os.getpid())}".encode()


def _goes_on(process: bytes) -> bool:
    """Whether the process that noted this is there, and not another one of its number."""
    pid, _, began = process.decode().partition(" ")
    return bool(pid.isdecimal() and began and _began(int(pid)) == began)


def _began(pid: int) -> str:
    """When a process began, in clock ticks since the boot of that ID; empty where there is none."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return f"{told} {Path('/proc/sys/kernel/random/boot_id').read_text().strip()}"
    except (OSError, IndexError):
        return ""


def _answer(told: dict[str, Any], status: int, *, repeated: bool = False) -> Response:
    told = dict(told)
    headers = {"Idempotency-Replayed": "true"} if repeated else {}
    for name in ("Location", "ETag"):
        if name in told:
            headers[name] = told.pop(name)
    return Json(told, status_code=status, headers=headers)
