"""What people ask of the fleet's queue: to add a run, to show and cancel runs, and how many may go on at once."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from lsh_systemd import analyze, host
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.job import job_id
from lsh_systemd.mirrored import Row
from lsh_systemd.remote import Remote, RemoteAway
from lsh_systemd.sharing import check_value
from lsh_systemd.text import check_line, visible

STATES = ("queued", "running", "succeeded", "failed", "lost", "cancelled")
# How many runs of each user may go on where nobody has said, the highest priority, the most retries and limits.
PRIORITIES, RETRIES, MOST = 10, 100, 999_999
_COLUMNS = (
    "id,scope,job,params,user_name,priority,run_at,only_host,tags,key,retries,state,attempt,created_at,created_by,"
    "cancelled_at,cancelled_by,token,claimed_at,ended_at,run,result,exit_status,message,hosts(name)"
)
_TIMES = ("run_at", "created_at", "cancelled_at", "claimed_at", "ended_at")


class Ended(LshError):
    """What is to be cancelled has ended already."""


def order(
    job: str,
    *,
    by: str,
    user: str | None = None,
    params: Mapping[str, object] | None = None,
    priority: int = 5,
    run_at: str | None = None,
    only_host: str | None = None,
    tags: Sequence[str] = (),
    retries: int = 0,
    key: str | None = None,
    owner: str | None = None,
) -> dict[str, Any]:
    """A run for the queue, as Supabase's function takes it: said twice, it is added once. ``run_at``: any time that
    systemd knows; ``owner``: the job is this user's own. Raises BadInput."""
    return {
        "p_nonce": str(uuid.uuid4()),
        "p_job": job_id(job),
        "p_scope": f"user:{_name('user', owner)}" if owner else "system",
        "p_params": {_name("parameter", name): check_value(name, value) for name, value in (params or {}).items()},
        "p_user": _name("user", user or by),
        "p_priority": priority,
        "p_run_at": analyze.parse_timestamp(run_at).isoformat() if run_at else None,
        "p_host": _name("host", only_host),
        "p_tags": [_name("tag", tag) for tag in tags],
        "p_retries": retries,
        "p_key": _name("key", key),
        "p_by": by,
    }


def add(remote: Remote, request: Mapping[str, Any]) -> Row:
    """Put an ``order`` into the queue: {"id", "added"}; not added where its key is there already."""
    added: Row = _call(remote, "lsh_queue_add", {**request, "p_tenant": _tenant(remote)})
    return added


def rows(
    remote: Remote, *, states: Sequence[str] = (), everything: bool = False, job: str | None = None, limit: int = 100
) -> list[Row]:
    """Runs of the queue, the newest last, as ``fleet queue --json`` promises them: those in these states, else all, or
    what waits or goes on. ``limit`` 0: no limit."""
    if wrong := [state for state in states if state not in STATES]:
        raise BadInput(f"{visible(wrong[0])} is no state", hint=f"there are {', '.join(STATES)}")
    wanted = states or (STATES if everything else STATES[:2])
    where: list[tuple[str, str, Any]] = [("state", "in", f"({','.join(wanted)})")]
    where += [("job", "eq", job_id(job))] if job else []
    found = remote.select("queued_runs", columns=_COLUMNS, where=where, order=["-id"], limit=limit or None)
    return [_plain(row) for row in found][::-1]


def cancel(remote: Remote, number: int, *, by: str) -> str:
    """Take a run out of the queue: "cancelled"; or have its host end it: "cancelling". Raises BadInput where there is
    none, Ended."""
    state = _call(remote, "lsh_queue_cancel", {"p_id": number, "p_by": by})
    if state is None:
        raise BadInput(f"there is no run {number} in the fleet's queue", hint="lshctl fleet queue --all")
    if state not in ("cancelled", "cancelling"):
        raise Ended(f"run {number} has ended already: {state}")
    return str(state)


def limits(remote: Remote, given: Mapping[str, int | None] | None = None, *, by: str = "") -> Row:
    """How many runs may go on at once: {"global", "user"}, None is no limit; after those that are ``given`` are set."""
    tenant = _tenant(remote)
    if given:
        _call(remote, "lsh_queue_set_limits", {"p_limits": dict(given), "p_by": by, "p_tenant": tenant})
    (now,) = _call(remote, "lsh_queue_limits", {"p_tenant": tenant})
    return {"global": now["total"], "user": now["per_user"]}


def _tenant(remote: Remote) -> str:
    """The fleet that this host belongs to; a host that has never been heard of belongs to the default one."""
    found = remote.select("hosts", columns="tenant", where=[("id", "eq", host.machine())])
    return next((str(row["tenant"]) for row in found), "default")


def _call(remote: Remote, name: str, request: Mapping[str, Any]) -> Any:
    """Call it, once more where there was no answer: all of these may be said twice."""
    try:
        return remote.rpc(name, request)
    except RemoteAway:
        return remote.rpc(name, request)


def _name(what: str, value: Any) -> Any:
    if value is not None:
        check_line(what, value, longest=200)
        if not value.strip():
            raise BadInput(f"the {what} is empty")
    return value


def _plain(row: Row) -> Row:
    """Times as RFC 3339 in UTC."""
    plain = {name: value for name, value in row.items() if name not in ("hosts", "user_name")}
    for name in _TIMES:
        if plain[name]:
            at = datetime.fromisoformat(plain[name]).astimezone(UTC)
            plain[name] = f"{at:%Y-%m-%dT%H:%M:%S.%f}Z"
    return plain | {"user": row["user_name"], "host": row["hosts"]["name"] if row["hosts"] else None}
