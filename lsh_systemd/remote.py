"""Supabase, spoken to: the only module that knows supabase, and what its errors mean. It is loaded by those alone who
have a project to talk to: importing costs a tenth of a second and 50 MB.

What came back is told by four errors: nobody answered as they should (RemoteAway: try again), the key may not do it
(RemoteForbidden) or the tables are not those that we know (RemoteOutdated), both till somebody changes that, or it was
refused for what it is (RemoteRefused: never again as it is).
"""

import re
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.text import visible

INSTALL = "apt install lsh-systemd-supabase, or pip install 'lsh-systemd[supabase]' where lshctl is"
# Where that package has it, for us alone.
_PACKAGED = "/usr/lib/lsh-systemd-supabase"
TIMEOUT_SECONDS = 30.0
# PostgREST answers with so many rows at most.
_PAGE = 1000
# What PostgreSQL says of a row, a value or a query that will never do, whichever HTTP status PostgREST makes of it.
_REFUSING = ("21", "22", "23", "42", "54", "0A", "P0", "PGRST1")
# A schema, table, column or function that is not there.
_OUTDATED = ("3F000", "42P01", "42703", "42883", "PGRST2")
_FORBIDDING = ("42501", "28000", "28P01", "PGRST300", "PGRST301", "PGRST302", "PGRST303")


@dataclass(frozen=True, kw_only=True)
class Target:
    """A project's URL and an API key for it."""

    url: str
    key: str = field(repr=False)


class RemoteError(LshError):
    """Supabase did not do it. ``code``: PostgreSQL's or PostgREST's own word for why, if there is one."""

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class RemoteAway(RemoteError):
    """Nobody answered, or not now. It may have been done all the same. ``retry_after``: seconds, if the server said."""

    retry_after: float | None = None


class RemoteForbidden(RemoteError):
    """The key is not known (any more), or may not do this."""


class RemoteOutdated(RemoteError):
    """The project's tables or functions are not those that this version knows."""


class RemoteRefused(RemoteError):
    """These rows, or this query, will never do as they are."""


def is_there() -> bool:
    """Whether the library is installed."""
    _look_into_package()
    return find_spec("supabase") is not None


def _look_into_package() -> None:
    """Let its versions go first: the distribution's own of what it needs may be too old for it."""
    if _PACKAGED not in sys.path and Path(_PACKAGED).is_dir():
        sys.path.insert(0, _PACKAGED)


class Remote:
    """One project's tables and functions. Not for several threads at once."""

    def __init__(self, target: Target, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        _look_into_package()
        try:
            import httpx
            from supabase import ClientOptions, create_client
        except ImportError:
            raise LshError("Supabase's library is not installed", hint=INSTALL) from None
        # That the other end hangs up while we write is an error to us, and not our end.
        self._sigpipe = signal.signal(signal.SIGPIPE, signal.SIG_IGN) if _is_main_thread() else None
        self._httpx = httpx
        self._answer: Any = None
        self._http = httpx.Client(
            timeout=timeout_seconds, event_hooks={"response": [self._keep]}, follow_redirects=False
        )
        options = ClientOptions(httpx_client=self._http, postgrest_client_retry=False, auto_refresh_token=False)
        try:
            self._client = create_client(target.url, target.key, options)
        except Exception as error:  # its own kind of error, whose text may hold the key
            raise BadInput(f"{visible(target.url)} is not a Supabase URL ({type(error).__name__})") from None

    def close(self) -> None:
        self._http.close()
        if self._sigpipe is not None and _is_main_thread():
            signal.signal(signal.SIGPIPE, self._sigpipe)

    def upsert(self, table: str, rows: Sequence[Mapping[str, Any]], *, on_conflict: str) -> None:
        """Insert the rows, or write them over those that have the same ``on_conflict`` columns; all or none.

        No two of them may have the same key.
        """
        query = self._client.table(table).upsert(
            [dict(row) for row in rows], on_conflict=on_conflict, returning=self._minimal()
        )
        self._execute(query, f"write {table}")

    def select(
        self,
        table: str,
        *,
        columns: str = "*",
        where: Sequence[tuple[str, str, Any]] = (),
        order: Sequence[str] = (),
        limit: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """The rows, page by page. ``where``: (column, PostgREST's operator such as ``eq``, value); ``order``: column
        names, ``-`` before one that falls: name enough of them for the order to be sure, or pages may overlap."""
        start = 0
        while limit is None or start < limit:
            count = _PAGE if limit is None else min(_PAGE, limit - start)
            query = self._client.table(table).select(columns)
            for column, operator, value in where:
                query = query.filter(column, operator, value)
            for column in order:
                query = query.order(column.removeprefix("-"), desc=column.startswith("-"))
            rows = self._execute(query.range(start, start + count - 1), f"read {table}")
            if not isinstance(rows, list):
                raise RemoteAway(f"cannot read {table}: the answer is not Supabase's")
            yield from rows
            if len(rows) < count:
                return
            start += len(rows)

    def rpc(self, name: str, params: Mapping[str, Any] | None = None) -> Any:
        """What the SQL function returns."""
        return self._execute(self._client.rpc(name, dict(params or {})), f"call {name}")

    def clock_usec(self) -> int | None:
        """The server's time as its last answer tells it (µs since 1970, to the second); None before there was one."""
        from email.utils import parsedate_to_datetime

        try:
            return int(parsedate_to_datetime(self._answer.headers["date"]).timestamp() * 1e6)
        except (AttributeError, KeyError, ValueError):
            return None

    def _keep(self, answer: Any) -> None:
        self._answer = answer

    def _minimal(self) -> Any:
        from postgrest.types import ReturnMethod

        return ReturnMethod.minimal

    def _execute(self, query: Any, what: str) -> Any:
        from postgrest.exceptions import APIError

        self._answer = None
        try:
            data = query.execute().data
            # For a body that is no JSON, the library gives the text as it is.
            if not self._answer.content or self._answer.headers.get("content-type", "").startswith("application/json"):
                return data
            raise RemoteAway(f"cannot {what}: the answer is not Supabase's")
        except APIError as error:
            raise self._error(what, error.code, error.message) from None
        except (self._httpx.TransportError, self._httpx.StreamError) as error:
            raise RemoteAway(f"cannot {what}: {_reason(error)}") from None
        except UnicodeEncodeError:
            raise RemoteRefused(f"cannot {what}: half a character (a lone surrogate)", code="22021") from None
        except ValueError:  # it answered, with something that is no JSON, or NaN was to be sent
            if self._answer is None:
                raise RemoteRefused(f"cannot {what}: a value that JSON has no words for", code="22P02") from None
            raise RemoteAway(f"cannot {what}: the answer is not Supabase's") from None
        finally:
            if self._answer is not None:
                # Read already. It and the answer hold each other, and all that was sent, till Python tidies up.
                self._answer.stream = self._httpx.ByteStream(b"")

    def _error(self, what: str, code: str | None, message: str | None) -> RemoteError:
        status = self._answer.status_code if self._answer is not None else 0
        code = code if message and re.fullmatch(r"[0-9A-Z]{5}|PGRST\w{1,4}", str(code)) else None
        words = f"cannot {what}: "
        words += visible(" ".join(message.split())[:300]) if code and message else f"HTTP status {status}"
        if status in (401, 403) or (code or "").startswith(_FORBIDDING):
            return RemoteForbidden(words, code=code)
        if (code or "").startswith(_OUTDATED) or status == 404:
            return RemoteOutdated(words, code=code, hint="lshctl supabase test")
        if (code or "").startswith(_REFUSING) or (400 <= status < 500 and status not in (408, 425, 429)):
            return RemoteRefused(words, code=code or str(status))
        away = RemoteAway(words, code=code or str(status))
        wait = str(self._answer.headers.get("retry-after", "")) if self._answer is not None else ""
        away.retry_after = float(wait) if re.fullmatch(r"\d{1,6}", wait) else None
        return away


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _reason(error: Exception) -> str:
    return visible(str(error)) or type(error).__name__
