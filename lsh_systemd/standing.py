"""How it stands with the Supabase project: whether it answers, knows the key, has our tables, and lets us write."""

import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from lsh_systemd import connect, schema
from lsh_systemd.errors import LshError
from lsh_systemd.finding import Finding
from lsh_systemd.remote import RemoteAway, RemoteForbidden, RemoteOutdated
from lsh_systemd.scope import Scope
from lsh_systemd.text import visible

_MIGRATE = f"{schema.URL_VARIABLE}=postgresql://… lshctl supabase migrate"
_WRITING_KEY = "the project's secret key (sb_secret_…, or the older service_role key)"
_TIMEOUT_SECONDS = 10.0
# A clock that is off by more is worth a word; and from how much on runs of several hosts cannot be compared.
_OFF_SECONDS, _WRONG_SECONDS = 2.0, 60.0
# PostgreSQL's word for a role that lacks a right: the key itself was known.
_NO_RIGHT = "42501"


def examine(scope: Scope) -> Iterator[Finding]:
    """What is found, in the order in which it should be mended; after an error in reaching it, nothing more."""
    try:
        target = connect.target(scope)
        remote = connect.connect(scope, timeout_seconds=_TIMEOUT_SECONDS)
    except LshError as error:
        yield Finding(check="project", level="error", message=error.message, fix=error.hint)
        return
    yield Finding(check="project", level="ok", message=target.url)
    asked = time.time()
    try:
        told = remote.rpc("lsh_check")
        answered = time.time()
        if not isinstance(told, dict):
            raise RemoteOutdated("lsh_check does not answer as it should")
    except LshError as error:
        yield from _failed(error)
        return
    finally:
        remote.close()
    yield Finding(check="answer", level="ok", message=f"in {answered - asked:.2f} s")
    yield _schema(told)
    yield _rights(told)
    yield _clock(told, (asked + answered) / 2)


def _failed(error: LshError) -> Iterator[Finding]:
    if isinstance(error, RemoteAway):
        fix = "is the URL the project's, does the project run, and is there a way to it?"
        yield Finding(check="answer", level="error", message=error.message, fix=fix)
        return
    yield Finding(check="answer", level="ok", message="it answers")
    if isinstance(error, RemoteForbidden) and error.code == _NO_RIGHT:
        fix = f"give it {_WRITING_KEY}: with this one, nothing may be read or written"
        yield Finding(check="rights", level="error", message=error.message, fix=fix)
    elif isinstance(error, RemoteForbidden):
        fix = f"give it {_WRITING_KEY}, from the project's settings, API Keys"
        yield Finding(check="key", level="error", message=f"the key is not taken: {error.message}", fix=fix)
    elif isinstance(error, RemoteOutdated):
        yield Finding(check="schema", level="error", message="lsh-systemd's tables are not there", fix=_MIGRATE)
    else:
        yield Finding(check="answer", level="error", message=error.message, fix=error.hint)


def _schema(told: Mapping[str, Any]) -> Finding:
    there, known = str(told.get("schema_version")), schema.newest(schema.bundled())
    if there == known:
        return Finding(check="schema", level="ok", message=there)
    if there < known:
        message = f"it has {visible(there)}, and this lshctl needs {known}"
        return Finding(check="schema", level="error", message=message, fix=_MIGRATE)
    message = f"it has {visible(there)}, newer than this lshctl's {known}"
    return Finding(check="schema", level="warning", message=message, fix="update lsh-systemd")


def _rights(told: Mapping[str, Any]) -> Finding:
    role, may_not = visible(str(told.get("role"))), told.get("may_not")
    lacking = [str(each) for each in may_not] if isinstance(may_not, list) else []
    if not lacking and told.get("sees_all") is True:
        return Finding(check="rights", level="ok", message=f"the key's role {role} may read and write")
    what = ", ".join(lacking[:3]) + (" and more" if len(lacking) > 3 else "")
    message = (
        f"the key's role {role} may not {visible(what)}" if lacking else f"the key's role {role} does not see all rows"
    )
    return Finding(check="rights", level="error", message=message, fix=f"give it {_WRITING_KEY}")


def _clock(told: Mapping[str, Any], here: float) -> Finding:
    """``here``: this machine's time (s since 1970) half way between asking and the answer."""
    try:
        ahead = here - datetime.fromisoformat(str(told.get("now"))).timestamp()
    except (ValueError, OverflowError):
        return Finding(check="clock", level="error", message="the database's time is no time", fix=_MIGRATE)
    level = "ok" if abs(ahead) < _OFF_SECONDS else "warning" if abs(ahead) < _WRONG_SECONDS else "error"
    message = f"this machine's is {abs(ahead):.2f} s {'ahead of' if ahead >= 0 else 'behind'} the database's"
    return Finding(
        check="clock", level=level, message=message, fix=None if level == "ok" else "timedatectl set-ntp true"
    )
