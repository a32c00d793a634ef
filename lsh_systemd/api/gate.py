"""The one place where it is decided whether a request may enter: every route passes through it, or cannot be made."""

import base64
import binascii
import os
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from lsh_systemd import environment
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
    caller_of,
    find,
    is_made_here,
    same,
)
from lsh_systemd.api.keys import Keys
from lsh_systemd.api.sessions import Sessions, csrf, witness
from lsh_systemd.errors import BadInput
from lsh_systemd.scope import Scope
from lsh_systemd.text import visible

_HINT = "X-API-Key: KEY, or Authorization: Bearer KEY; lshctl api key create makes one"
_NOBODY = Caller(id="", name="nobody", role="nobody")
_OWN_NAME = "LSH_API_KEY"
_HARMLESS = ("GET", "HEAD")
# Parameters that may be repeated.
_SEVERAL = frozenset({"host"})


class Gate:
    """Keys of the scope's file, LSH_API_KEY (an admin's) and CRON_WEBHOOK_SECRET, the sessions of browsers that have
    shown a key, and who has tried wrong ones."""

    def __init__(self, scope: Scope) -> None:
        self._keys, self._sessions = Keys(scope), Sessions(scope)
        self._wrong_keys, self._wrong_secrets = Failures(), Failures()
        self.cookie = f"lsh_{scope}"  # cookies know no ports: a machine's API and a user's have one each
        exposed = environment.exposed(scope)
        self._own = _secret("LSH_API_KEY", exposed)
        self._webhook = _secret("CRON_WEBHOOK_SECRET", exposed)

    def admit(self, request: Request, role: str) -> Caller:
        """Who calls. Raises Unauthorized, Forbidden or TooManyFailures."""
        caller = self._known(request, role)
        # Also of who is refused: the log tells it, and the page that he gets is his.
        request.state.caller = request.scope["lsh.caller"] = caller
        if not caller.may("operator" if role == WEBHOOK else role):
            raise Forbidden(f"this needs the role {role}; the key has {caller.role}")
        return caller

    def _known(self, request: Request, role: str) -> Caller:
        if role == OPEN:
            return _NOBODY
        if role == WEBHOOK and "x-webhook-secret" in request.headers:
            return self._by_secret(request, request.headers["x-webhook-secret"])
        given = key_given(request)
        return self._by_session(request) if given is None else self.by_key(request, given)

    def still(self, caller: Caller) -> bool:
        """Whether the caller of a long request would still be let in."""
        if caller.session and self._sessions.known(caller.session) is None:
            return False
        now = datetime.now(UTC)
        return not caller.id or any(key.id == caller.id and not key.is_over(now) for key in self._keys.all())

    def log_in(self, request: Request, key: str) -> str:
        """The token of a new session of who has this key. Raises as ``admit``."""
        return self._sessions.begin(self.by_key(request, key), self._own)

    def log_out(self, request: Request) -> None:
        if token := self.token(request):
            self._sessions.end(token)

    def token(self, request: Request) -> str:
        """What the browser's cookie says; empty where it has none, or a key was given instead."""
        return "" if key_given(request) is not None else request.cookies.get(self.cookie, "")

    def _by_session(self, request: Request) -> Caller:
        """Who has logged in with this browser: the key's holder, as long as the key is one."""
        token = self.token(request)
        session = self._sessions.find(token) if token else None
        if session is None:
            raise Unauthorized("a key is needed", hint=_HINT)
        if not session.key and self._own and same(session.witness, witness(token, self._own)):
            return Caller(id="", name=_OWN_NAME, role="admin", session=session.id)
        now = datetime.now(UTC)
        key = next((each for each in self._keys.all() if each.id == session.key and not each.is_over(now)), None)
        if key is None:
            raise Unauthorized("the key is not known, or not any more", hint=_HINT)
        return caller_of(key, session=session.id)

    async def check_meant(self, request: Request) -> None:
        """Raise Forbidden for a change that a page of somebody else's has this browser ask for."""
        token = self.token(request)
        if request.method in _HARMLESS or not token:
            return
        given = request.headers.get("x-csrf-token") or (await fields(request)).get("csrf", "")
        if not is_own(request) or not same(given, csrf(token)):
            raise Forbidden("this did not come from a page of ours", hint="load the page again")

    def by_key(self, request: Request, given: str) -> Caller:
        """Who has this key. Raises Unauthorized or TooManyFailures."""
        address, now = _address(request), time.monotonic()
        caller = find(given, self._keys.all(), datetime.now(UTC))
        if caller is not None:
            return caller
        # Nobody guesses a key that was made here; one that a person made up must not be tried at will.
        if wait := self._wrong_keys.wait(address, now):
            raise TooManyFailures(int(wait) + 1)
        if self._own and not is_made_here(given) and same(given, self._own):
            return Caller(id="", name=_OWN_NAME, role="admin")
        self._wrong_keys.count(address, now)
        raise Unauthorized("the key is not known, or not any more", hint=_HINT)

    def _by_secret(self, request: Request, given: str) -> Caller:
        address, now = _address(request), time.monotonic()
        if wait := self._wrong_secrets.wait(address, now):
            raise TooManyFailures(int(wait) + 1)
        if self._webhook and same(given, self._webhook):
            return Caller(id="", name="webhook", role="operator")
        self._wrong_secrets.count(address, now)
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
            if gate.admit(request, self.role).session:
                await gate.check_meant(request)
            _check_single(request)
            try:
                return await handle(request)
            finally:
                if request.method not in _HARMLESS:
                    request.app.state.parts.forget()

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


def _check_single(request: Request) -> None:
    """Raise BadInput for a parameter that is there twice: of two, one would be passed over."""
    told = request.query_params
    for name in told:
        if name not in _SEVERAL and len(told.getlist(name)) > 1:
            raise BadInput(f"the parameter {visible(name)} is given more than once")


def is_own(request: Request) -> bool:
    """Whether a page of ours, or no page at all, sends the request, as far as the browser says."""
    if site := request.headers.get("sec-fetch-site"):
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc == request.headers.get("host")
    except ValueError:
        return False


async def fields(request: Request) -> dict[str, str]:
    """The fields of a form, as browsers send it; of several with one name, all in lines."""
    try:
        told = parse_qs((await request.body()).decode(), keep_blank_values=True, max_num_fields=200)
    except ValueError:
        raise BadInput("this is not a form") from None
    return {name: "\n".join(values) for name, values in told.items()}


def _address(request: Request) -> str:
    """Where a request comes from; all of a Unix socket's are one."""
    return request.client.host if request.client else "unix"


def _secret(name: str, exposed: Sequence[str]) -> str:
    """What the environment has; nothing where the file that tells it is not its owner's alone."""
    value = os.environ.get(name, "").strip()
    if value and name in exposed:
        print(f"<3>{name} is not taken: others may read or change its file; lshctl doctor", file=sys.stderr, flush=True)
        return ""
    if value and len(value) < LEAST_CHARACTERS:
        raise BadInput(
            f"{name} is shorter than {LEAST_CHARACTERS} characters", hint="openssl rand -base64 32 makes one"
        )
    return value
