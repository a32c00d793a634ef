"""The way to another machine's HTTP API: requests, answers, and errors in words."""

import http.client
import json
import os
import urllib.error
import urllib.request
from email.message import Message
from typing import IO, Any
from urllib.parse import quote, urlencode, urlsplit

import click

from lsh_systemd.api.access import is_loopback
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.text import visible

_SECONDS = 120.0
_MOST_BYTES = 256 * 1024 * 1024
# What the server says of bad input, as against what it could not do.
_BAD_INPUT = frozenset({400, 404, 409, 412, 413, 422, 428})


class _Straight(urllib.request.HTTPRedirectHandler):
    """Follows nobody: the key is for one server."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        raise LshError(
            f"{visible(req.full_url)} leads elsewhere, to {visible(newurl)}", hint="--url with that, if it is right"
        )


class Http:
    """The API at a URL; its key is LSH_API_KEY's. Raises BadInput for what is no URL of one."""

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host, parts = None, urlsplit("")
        if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or not url.isprintable():
            raise BadInput(f"{visible(url)} is not the URL of an API", hint="such as https://jobs.example.org")
        if parts.username or parts.password:
            raise BadInput(
                "a key does not go into the URL here: others see command lines", hint="LSH_API_KEY=… lshctl …"
            )
        self.base, self._key = url.rstrip("/"), os.environ.get("LSH_API_KEY", "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise BadInput("LSH_API_KEY is not a key")
        if self._key and parts.scheme == "http" and not is_loopback(host):
            click.echo("lshctl: http:// shows the key to whoever listens on the way; https:// does not", err=True)
        # What stays on this machine goes past http_proxy, which would see the key.
        straight = [urllib.request.ProxyHandler({})] if is_loopback(host) else []
        self._opener = urllib.request.build_opener(_Straight, *straight)

    def get(self, *path: str, **query: Any) -> Any:
        """The JSON at a path; each part of it is quoted. A list in the query is its items, one by one."""
        given = {name: value for name, value in query.items() if value is not None}
        return self._ask("GET", path, urlencode({name: _word(value) for name, value in given.items()}, doseq=True))

    def post(self, *path: str, body: Any = None) -> Any:
        return self._ask("POST", path, body={} if body is None else body)

    def patch(self, *path: str, body: Any) -> Any:
        return self._ask("PATCH", path, body=body)

    def delete(self, *path: str) -> Any:
        return self._ask("DELETE", path, headers={"If-Match": "*"})

    def _ask(
        self,
        method: str,
        path: tuple[str, ...],
        query: str = "",
        *,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        url = "/".join([self.base, *(quote(each, safe="") for each in path)]) + (f"?{query}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        told = {"Accept": "application/json", "User-Agent": "lshctl"} | (headers or {})
        told |= {"X-API-Key": self._key} if self._key else {}
        told |= {"Content-Type": "application/json"} if data is not None else {}
        request = urllib.request.Request(url, data=data, headers=told, method=method)
        try:
            with self._opener.open(request, timeout=_SECONDS) as answer:
                text = answer.read(_MOST_BYTES)
        except urllib.error.HTTPError as error:
            raise of_answer(error, url) from None
        except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or str(error) or type(error).__name__
            raise LshError(
                f"{visible(self.base)} does not answer: {reason}", hint="is the URL right, and does it run?"
            ) from None
        try:
            return json.loads(text) if text else None
        except (ValueError, RecursionError):
            raise LshError(f"{visible(url)} does not answer as lsh-systemd does", hint="is the URL right?") from None


def of_answer(error: urllib.error.HTTPError, url: str) -> LshError:
    """What the server says went wrong."""
    try:
        told = json.loads(error.read(100_000))
    except (ValueError, OSError, RecursionError):
        told = None
    told = told if isinstance(told, dict) else {}
    message = str(told.get("detail") or f"{visible(url)} answers {error.code}")
    if problems := told.get("problems"):  # what /health says with its 503
        message = "; ".join(map(str, problems)) if isinstance(problems, list) else str(problems)
    hint = str(told["hint"]) if told.get("hint") else None
    if error.code == 401:
        hint = "LSH_API_KEY has the key; lshctl api key create makes one there"
    kind = BadInput if error.code in _BAD_INPUT else LshError
    return kind(message[:2000], hint=hint)


def _word(value: Any) -> str | list[str]:
    if isinstance(value, list | tuple):
        return [str(each) for each in value]
    return str(value).lower() if isinstance(value, bool) else str(value)
