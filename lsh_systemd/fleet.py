"""What all hosts have reported, read from Supabase. Reports are reckoned there: the figures that a host's own have, of
the same runs."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from lsh_systemd import fleetorders
from lsh_systemd.errors import BadInput
from lsh_systemd.mirrored import Row, run_of_row, usec_of
from lsh_systemd.remote import Remote, RemoteOutdated
from lsh_systemd.run import Run, rfc3339
from lsh_systemd.text import visible

# So many heartbeats may fail to come.
_MISSED_HEARTBEATS = 3
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HOST = (
    "name id last_seen_at first_seen_at lsh_version systemd_version os kernel architecture timezone cpus memory_bytes "
    "booted_at waiting_rows heartbeat_seconds"
).split()
_JOB = (
    "id name host scope description command schedule timezone enabled state next_at category tags priority updated_at "
    "created_by modified_by removed_at definition"
).split()
_TIMES = ("last_seen_at", "first_seen_at", "booted_at", "next_at", "updated_at", "removed_at")
Where = list[tuple[str, str, Any]]


class Fleet:
    """``hosts`` of each question: names or IDs, none for all. Raises BadInput for one that is not known."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def hosts(self, hosts: Sequence[str] = ()) -> list[Row]:
        """Each host in the shape that ``fleet hosts --json`` promises, by name."""
        where = self._among("id", hosts)
        rows = list(self._remote.select("hosts", columns=",".join(_HOST), where=where, order=["name", "id"]))
        now = self._remote.clock_usec() or 0
        return [_told(row) | {"online": _is_online(row, now)} for row in rows]

    def jobs(self, hosts: Sequence[str] = (), *, removed: bool = False) -> list[Row]:
        """Each job that hosts have (or have had) as ``fleet jobs --json`` promises it, by id and host."""
        where = self._among("host", hosts)
        where += [] if removed else [("removed_at", "is", "null")]
        columns = f"{','.join(_JOB)},hosts(name)"
        rows = self._remote.select("jobs", columns=columns, where=where, order=["id", "host", "scope"])
        return [_told(row) | {"host": row["hosts"]["name"], "host_id": row["host"]} for row in map(dict, rows)]

    def runs(
        self,
        hosts: Sequence[str] = (),
        *,
        job: str | None = None,
        since_usec: int | None = None,
        until_usec: int | None = None,
        result: str | None = None,
        unsuccessful: bool = False,
        limit: int = 0,
    ) -> Iterator[tuple[Run, Row]]:
        """Runs, the newest first, each with host_id and scope; ``limit`` 0 is all."""
        where = self._among("host", hosts)
        where += [("job", "eq", job)] if job is not None else []
        where += [("started_at", "gte", rfc3339(since_usec))] if since_usec is not None else []
        where += [("started_at", "lt", rfc3339(until_usec))] if until_usec is not None else []
        where += [("result", "eq", result)] if result is not None else []
        where += [("result", "not.in", "(success,skipped)")] if unsuccessful else []
        rows = self._remote.select("runs", where=where, order=["-started_at", "host", "id"], limit=limit or None)
        for row in rows:
            yield run_of_row(row), {"host_id": row["host"], "scope": row["scope"]}

    def report(
        self,
        hosts: Sequence[str] = (),
        *,
        by: str = "job",
        job: str | None = None,
        since_usec: int | None = None,
        until_usec: int | None = None,
    ) -> list[Row]:
        """What the ended runs come to, in the words of ``report --json``, for each job, host, both, or all together."""
        params = {
            "grouped": by,
            "of_hosts": self._ids(hosts) or None,
            "of_jobs": [job] if job is not None else None,
            "since": rfc3339(since_usec),
            "until": rfc3339(until_usec),
        }
        told = self._remote.rpc("lsh_fleet_report", params)
        if not isinstance(told, list):
            raise RemoteOutdated("lsh_fleet_report does not answer as it should", hint="lshctl supabase test")
        return told

    def _among(self, column: str, hosts: Sequence[str]) -> Where:
        return [(column, "in", f"({','.join(self._ids(hosts))})")] if hosts else []

    def _ids(self, hosts: Sequence[str]) -> list[str]:
        """Of hosts that have the same name, all."""
        found: list[str] = []
        for each in hosts:
            key = "id" if _ID.fullmatch(each) else "name"
            ids = [row["id"] for row in self._remote.select("hosts", columns="id", where=[(key, "eq", each)])]
            if not ids:
                raise BadInput(f"no host {visible(each)} has reported", hint="lshctl fleet hosts")
            found += ids
        return found


def shaped(run: Run, more: Row) -> Row:
    """One of ``Fleet.runs`` as ``fleet runs --json`` promises it."""
    return {name: value for name, value in (run.to_json() | more).items() if name != "output"}


def answer(remote: Remote, what: str, asked: Mapping[str, Any]) -> Any:
    """The answer to a question by its name, in the shape that the command of that name promises; to "several"
    ``questions``, a list of theirs."""
    if what == "several":
        return [answer(remote, name, each) for name, each in asked["questions"]]
    fleet = Fleet(remote)
    if what == "runs":
        return [shaped(run, more) for run, more in fleet.runs(**asked)]
    if what == "cancel":
        return {"id": asked["number"], "state": fleetorders.cancel(remote, **asked)}
    questions: dict[str, Callable[..., Any]] = {
        "hosts": fleet.hosts,
        "jobs": fleet.jobs,
        "report": fleet.report,
        "queue": partial(fleetorders.rows, remote),
        "enqueue": lambda by, **order: fleetorders.add(remote, fleetorders.order(by=by, **order)),
        "limits": partial(fleetorders.limits, remote),
    }
    if what not in questions:
        raise BadInput(f"the fleet is not asked for {visible(what)}")
    return questions[what](**asked)


def _is_online(row: Row, now_usec: int) -> bool:
    seen = usec_of(row["last_seen_at"]) or 0
    return bool(now_usec - seen <= _MISSED_HEARTBEATS * row["heartbeat_seconds"] * 1_000_000)


def _told(row: Row) -> Row:
    """The row with its times as we tell them."""
    times = {name: rfc3339(usec_of(row[name])) for name in _TIMES if name in row}
    return {name: value for name, value in (row | times).items() if name not in ("hosts", "heartbeat_seconds")}
