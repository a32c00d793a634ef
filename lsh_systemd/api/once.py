"""Idempotency-Key: a POST that is sent again is answered again, and not done again."""

import hmac
import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import Request
from starlette.responses import Response

from lsh_systemd.api.gate import key_given
from lsh_systemd.api.parts import Desk
from lsh_systemd.api.problems import Conflict, Json
from lsh_systemd.errors import BadInput
from lsh_systemd.store import Store

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
# What is being done for longer than this has died with the server.
_MINUTE_USEC = 60_000_000


def answered(
    request: Request, desk: Desk, body: Mapping[str, Any], do: Callable[[], dict[str, Any]], *, status: int = 200
) -> Response:
    """Do it and answer; with an Idempotency-Key that has been seen in the last day, answer what was answered then.
    ``Location`` in the answer becomes a header."""
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
    if before is not None:
        old_status, old_body = before
        return _answer(json.loads(old_body), old_status, repeated=True)
    try:
        told = do()
    except BaseException:
        # Not done: it may be tried again.
        with store.transaction():
            store.query("DELETE FROM api_answers WHERE key = ?", (key,))
        raise
    with store.transaction():
        store.query(
            "UPDATE api_answers SET status = ?, body = ? WHERE key = ?", (status, json.dumps(told).encode(), key)
        )
    return _answer(told, status)


def begin(store: Store, key: str, fingerprint: str) -> tuple[int, bytes] | None:
    """Note that it is being done; what was answered, where it has been."""
    now = time.time_ns() // 1000
    with store.transaction():
        store.query("DELETE FROM api_answers WHERE at_usec < ?", (now - _DAY_USEC,))
        rows = store.query("SELECT fingerprint, at_usec, status, body FROM api_answers WHERE key = ?", (key,))
        if rows:
            known, at_usec, status, body = rows[0]
            if known != fingerprint:
                raise BadInput("this Idempotency-Key was used for another request", hint="take a new one for each")
            if status is not None:
                return status, body
            if now - at_usec < _MINUTE_USEC:
                raise Conflict("the same request is being worked on", hint="try again in a moment")
        insert = "INSERT OR REPLACE INTO api_answers (key, fingerprint, at_usec) VALUES (?, ?, ?)"
        store.query(insert, (key, fingerprint, now))
    return None


def _answer(told: dict[str, Any], status: int, *, repeated: bool = False) -> Response:
    told = dict(told)
    headers = {"Idempotency-Replayed": "true"} if repeated else {}
    for name in ("Location", "ETag"):
        if name in told:
            headers[name] = told.pop(name)
    return Json(told, status_code=status, headers=headers)
