"""The one place where it is decided whether a request may enter: every route passes through it, or cannot be made."""

import base64
import binascii
import os
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from lsh_systemd.api.access import (
    LEAST_CHARACTERS,
    OPEN,
    ROLES,
    WEBHOOK,
    Caller,
    Failures,
    Forbidden,
    TooManyFailures,
    Unauthorized,
    find,
    is_made_here,
    same,
)
from lsh_systemd.api.keys import Keys
from lsh_systemd.errors import BadInput
from lsh_systemd.scope import Scope

_HINT = "X-API-Key: KEY, or Authorization: Bearer KEY; lshctl api key create makes one"
_NOBODY = Caller(id="", name="nobody", role="nobody")


class Gate:
    """Keys of the scope's file, LSH_API_KEY (an admin's) and CRON_WEBHOOK_SECRET, and who has tried wrong ones."""

    def __init__(self, scope: Scope) -> None:
        self._keys, self._failures = Keys(scope), Failures()
        self._own = _secret("LSH_API_KEY")
        self._webhook = _secret("CRON_WEBHOOK_SECRET")

    def admit(self, request: Request, role: str) -> Caller:
        """Who calls. Raises Unauthorized, Forbidden or TooManyFailures."""
        if role == OPEN:
            return _NOBODY
        if role == WEBHOOK and "x-webhook-secret" in request.headers:
            return self._by_secret(request, request.headers["x-webhook-secret"])
        caller = self._by_key(request)
        if not caller.may("operator" if role == WEBHOOK else role):
            raise Forbidden(f"this needs the role {role}; the key has {caller.role}")
        return caller

    def still(self, caller: Caller) -> bool:
        """Whether the caller of a long request would still be let in."""
        now = datetime.now(UTC)
        return not caller.id or any(key.id == caller.id and not key.is_over(now) for key in self._keys.all())

    def _by_key(self, request: Request) -> Caller:
        given = key_given(request)
        if given is None:
            raise Unauthorized("a key is needed", hint=_HINT)
        address, now = _address(request), time.monotonic()
        caller = find(given, self._keys.all(), datetime.now(UTC))
        if caller is not None:
            return caller
        # Nobody guesses a key that was made here; one that a person made up must not be tried at will.
        if wait := self._failures.wait(address, now):
            raise TooManyFailures(int(wait) + 1)
        if self._own and not is_made_here(given) and same(given, self._own):
            return Caller(id="", name="LSH_API_KEY", role="admin")
        self._failures.count(address, now)
        raise Unauthorized("the key is not known, or not any more", hint=_HINT)

    def _by_secret(self, request: Request, given: str) -> Caller:
        address, now = _address(request), time.monotonic()
        if wait := self._failures.wait(address, now):
            raise TooManyFailures(int(wait) + 1)
        if self._webhook and same(given, self._webhook):
            return Caller(id="", name="webhook", role="operator")
        self._failures.count(address, now)
        raise Unauthorized("the webhook's secret is wrong", hint="CRON_WEBHOOK_SECRET in the API's environment")


class GuardedRoute(APIRoute):
    """A route that lets in who has the role that it was made with. Without one it cannot be made."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.role = str((options.get("openapi_extra") or {}).get("x-role"))
        if self.role not in (*ROLES, OPEN, WEBHOOK):
            raise ValueError(f"no role for the route {args[:1]}")
        super().__init__(*args, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            gate: Gate = request.app.state.gate
            # Before anything is read of the request's body.
            request.state.caller = gate.admit(request, self.role)
            request.scope["lsh.caller"] = request.state.caller
            try:
                return await handle(request)
            finally:
                if request.method != "GET":
                    request.app.state.parts.recent.forget()

        return guarded


def router(**options: Any) -> APIRouter:
    return APIRouter(route_class=GuardedRoute, **options)


def needs(role: str, **more: Any) -> dict[str, Any]:
    """What a route says of itself in the OpenAPI document, and what the gate goes by."""
    security: list[dict[str, list[str]]] = [] if role == OPEN else [{"key": []}, {"bearer": []}]
    security += [{"webhook": []}] if role == WEBHOOK else []
    return {"x-role": role, "security": security} | more


def key_given(request: Request) -> str | None:
    """The key: X-API-Key, Bearer, or (for URLs http://:KEY@host) the password of Basic."""
    if key := request.headers.get("x-api-key"):
        return key.strip()
    kind, _, value = request.headers.get("authorization", "").strip().partition(" ")
    if kind.lower() == "bearer" and value.strip():
        return value.strip()
    # A browser would send Basic by itself, wherever the request comes from.
    if kind.lower() == "basic" and not {"origin", "sec-fetch-site"} & set(request.headers):
        try:
            told = base64.b64decode(value.strip(), validate=True).decode("utf-8", "surrogateescape")
        except (binascii.Error, ValueError):
            return None
        user, _, password = told.partition(":")
        return password or user or None
    return None


def _address(request: Request) -> str:
    """Where a request comes from; all of a Unix socket's are one."""
    return request.client.host if request.client else "unix"


def _secret(name: str) -> str:
    value = os.environ.get(name, "").strip()
    if value and len(value) < LEAST_CHARACTERS:
        raise BadInput(
            f"{name} is shorter than {LEAST_CHARACTERS} characters", hint="openssl rand -base64 32 makes one"
        )
    return value
