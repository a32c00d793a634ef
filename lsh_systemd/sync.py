"""The ledger → Supabase: what is not there yet is sent, the newest version of each thing, as often as it takes.

It is done in a process of its own (lsh-sync.service), which ends when all is sent: Supabase's library is large, and the
agent is not to need the network. Rows are upserted under their own keys, so that what was written without our hearing
of it is written once more, and is there once. Nothing is held open in the ledger while the network is waited for.
"""

import contextlib
import fcntl
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from lsh_systemd import __version__, analyze, connect, host, ledger, mirrored, progress
from lsh_systemd.errors import LshError
from lsh_systemd.jobs import Jobs
from lsh_systemd.manager import Manager
from lsh_systemd.mirrored import Row
from lsh_systemd.remote import Remote, RemoteAway, RemoteOutdated, RemoteRefused
from lsh_systemd.run import rfc3339
from lsh_systemd.scope import Scope, state_dir
from lsh_systemd.status import overview, schedule_text
from lsh_systemd.store import Store
from lsh_systemd.unsent import HEARTBEAT_SECONDS, KINDS, Progress, Rename, Unsent

BATCH = 500
# The first of our migrations over there that has all that is sent. A newer one may have more.
SCHEMA = "20261122000400"
# What the outputs of a request may come to: a request has to get through a slow line in time.
_OUTPUT_CHARACTERS = 1 << 20
# A renamed job's rows are renamed where they are, so many for each that a batch has.
_RENAMED_AT_ONCE = 10
# A request is made again at once so often, if that is not asked to take longer than this.
_PAUSES_SECONDS = (0.5, 1.0, 2.0)
_PATIENCE_SECONDS = 5.0
_ROWS: Mapping[str, Callable[..., Row]] = {
    "runs": mirrored.run_row,
    "alerts": mirrored.alert_row,
    "audit": mirrored.change_row,
}
K = TypeVar("K")
T = TypeVar("T")


@dataclass
class Tally:
    """What one go has come to: rows taken, by table, and how many were refused."""

    sent: Counter[str] = field(default_factory=Counter)
    refused: int = 0


@dataclass(frozen=True)
class _Batch:
    """What goes together: rows under the versions that they settle, and of runs the outputs."""

    versions: tuple[int, ...]
    rows: Sequence[tuple[int, Row]]
    outputs: Sequence[tuple[int, Row]] = ()


class Sync:
    """Sends what one scope's ledger has. ``host`` is the machine's ID, ``owner`` whose jobs they are; ``facts`` tells
    what there is to know of the host, ``jobs`` the rows of its jobs by their ids."""

    def __init__(
        self,
        unsent: Unsent,
        remote: Remote,
        *,
        host: str,
        owner: str,
        facts: Callable[[], Row],
        jobs: Callable[[], Mapping[str, Row]],
        batch: int = BATCH,
    ) -> None:
        self.unsent, self.remote = unsent, remote
        self._host, self._owner, self._facts, self._jobs = host, owner, facts, jobs
        self._batch, self._total = batch, 0

    def run(self) -> Tally:
        """Send all that there is. Raises what the server's answer was, or that there was none; how it went is noted."""
        began, tally = time.time_ns() // 1000, Tally()
        self.unsent.hurry()
        before = self.unsent.progress()
        try:
            self._run(tally, before)
        except LshError as error:
            after = getattr(error, "retry_after", None)
            self.unsent.log(began_usec=began, sent=tally.sent, refused=tally.refused, error=error.message)
            self.unsent.set_failed(error.message, after_seconds=after or 0.0)
            raise
        now = time.time_ns() // 1000
        self.unsent.set_progress(Progress(sent_usec=now, ended_usec=now))
        if tally.sent or tally.refused:
            self.unsent.log(began_usec=began, sent=tally.sent, refused=tally.refused, error=None)
        return tally

    def _run(self, tally: Tally, before: Progress) -> None:
        self._total = sum(self.unsent.waiting().values())
        self._check_schema()
        self._send_host()
        self._send_jobs(tally)
        # What was too much at once for the line, or for the server's patience, may go in smaller pieces.
        limit = max(1, self._batch >> min(before.tries, 9))
        while True:
            self._send_renames(limit, tally)
            for kind in KINDS:
                self._send(kind, limit, tally)
            if not self.unsent.renames():
                return

    def _check_schema(self) -> None:
        version = str(self._patiently(lambda: self.remote.rpc("lsh_schema_version")))
        if version < SCHEMA:
            raise RemoteOutdated(
                f"the project's tables are those of {version}, and {SCHEMA} is wanted", hint="lshctl supabase migrate"
            )

    def _send_host(self) -> None:
        """The host's own row comes first: the others hang on it. For the database's clock, "now" is now."""
        row = {**self._facts(), "heartbeat_seconds": HEARTBEAT_SECONDS, "last_seen_at": "now"}
        if self._owner == "system":
            row["waiting_rows"] = sum(self.unsent.waiting().values())
        self._patiently(lambda: self.remote.upsert("hosts", [mirrored.fit(row)], on_conflict="id"))

    def _send_jobs(self, tally: Tally) -> None:
        """Those that have changed; those that are gone are marked, and stay for the sake of their runs."""
        rows, known = self._jobs(), self.unsent.jobs() or self._jobs_there()
        digests = {each: mirrored.digest(row) for each, row in rows.items()}
        changed = [(each, row) for each, row in rows.items() if known.get(each) != digests[each]]
        for number in range(0, len(changed), self._batch):
            part = changed[number : number + self._batch]
            refused = dict(self._put("jobs", "host,scope,id", part))
            self.unsent.settle_jobs({each: digests[each] for each, _ in part}, refused)
            tally.sent["jobs"] += len(part) - len(refused)
            tally.refused += len(refused)
        done = sum(tally.sent.values()) + tally.refused
        progress.tell("sending", done, max(done, self._total))
        gone = sorted(known.keys() - rows.keys())
        if gone:
            where = {"on_host": self._host, "of_scope": self._owner}
            self._patiently(lambda: self.remote.rpc("lsh_jobs_removed", {**where, "ids": gone}))
            self.unsent.settle_jobs(dict.fromkeys(gone), {})
            tally.sent["jobs"] += len(gone)

    def _jobs_there(self) -> dict[str, str]:
        """What Supabase has of our jobs, where the ledger does not know: it is new, or was made anew."""
        where = [("host", "eq", self._host), ("scope", "eq", self._owner), ("removed_at", "is", "null")]
        rows = self._patiently(lambda: list(self.remote.select("jobs", columns="id", where=where, order=["id"])))
        return {row["id"]: "" for row in rows}

    def _send_renames(self, limit: int, tally: Tally) -> None:
        """One by one and before all that has changed since: what is there goes by the names of before it."""
        for each in self.unsent.renames():
            while self._patiently(partial(self._rename, each, limit * _RENAMED_AT_ONCE)):
                pass
            self.unsent.settle_rename(each)
            tally.sent["renames"] += 1

    def _rename(self, rename: Rename, most: int) -> bool:
        """So many rows; whether there may be more."""
        where = {"on_host": self._host, "of_scope": self._owner}
        ids = {"old_id": rename.before, "new_id": rename.after}
        limits = {"renamed_at": rfc3339(rename.at_usec), "most": most}
        return self.remote.rpc("lsh_job_renamed", where | ids | limits) is True

    def _send(self, kind: str, limit: int, tally: Tally) -> None:
        """All that waits of a kind. While the server has one batch, the next is made ready, and the last is settled."""
        with ThreadPoolExecutor(1) as network:
            under_way: tuple[_Batch, Future[dict[int, str]]] | None = None
            for batch in self._batches(kind, limit):
                answer = self._answer(*under_way) if under_way else {}
                done, under_way = under_way, (batch, network.submit(self._send_batch, kind, batch))
                if done:
                    self._settle(kind, done[0], answer, tally)
            if under_way:
                self._settle(kind, under_way[0], self._answer(*under_way), tally)

    def _answer(self, batch: _Batch, coming: Future[dict[int, str]]) -> dict[int, str]:
        try:
            return coming.result()
        except RemoteAway as error:
            # It answers, and chokes perhaps on this one thing: the others are not to wait for that.
            if len(batch.versions) == 1 and error.code is not None:
                self.unsent.postpone(batch.versions[0])
            raise

    def _settle(self, kind: str, batch: _Batch, refused: Mapping[int, str], tally: Tally) -> None:
        self.unsent.refuse(refused)
        self.unsent.settle(version for version in batch.versions if version not in refused)
        tally.sent[kind] += sum(version not in refused for version, _ in batch.rows)
        tally.refused += len(refused)

    def _batches(self, kind: str, limit: int) -> Iterator[_Batch]:
        last = 0
        # Of a job that was renamed meanwhile, nothing goes by its new name before Supabase has heard of that.
        while (page := self.unsent.page(kind, last, limit)) and not self.unsent.renames():
            last = page[-1][0]
            rows = [
                (version, _ROWS[kind](values, host=self._host, scope=self._owner))
                for version, _, values in page
                if values is not None
            ]
            if kind != "runs":
                yield _Batch(tuple(version for version, _, _ in page), rows)
                continue
            yield from self._with_outputs([version for version, _, _ in page], rows)

    def _with_outputs(self, versions: Sequence[int], rows: Sequence[tuple[int, Row]]) -> Iterator[_Batch]:
        """The runs in as many batches as their outputs want."""
        by_id = {row["id"]: version for version, row in rows}
        begun, outputs, size = 0, list[tuple[int, Row]](), 0
        for run_id, output, codec in self.unsent.outputs([*by_id]):
            version = by_id[run_id]
            try:
                row = mirrored.output_row(run_id, output, codec, host=self._host)
            except ValueError:  # damaged: the run itself is not
                continue
            if outputs and size + len(row["output"]) > _OUTPUT_CHARACTERS:
                yield _part(versions, rows, outputs, begun, version)
                begun, outputs, size = version, [], 0
            outputs.append((version, row))
            size += len(row["output"])
        yield _part(versions, rows, outputs, begun, versions[-1] + 1)

    def _send_batch(self, kind: str, batch: _Batch) -> dict[int, str]:
        """Called in the network's thread: nothing in it touches the ledger. What was refused, and why."""
        refused = dict(self._put(kind, "host,id", batch.rows))
        outputs = [(version, row) for version, row in batch.outputs if version not in refused]
        return refused | {
            version: f"its output: {reason}" for version, reason in self._put("run_output", "host,run", outputs)
        }

    def _put(self, table: str, key: str, rows: Sequence[tuple[K, Row]]) -> list[tuple[K, str]]:
        """Write the rows; those that will never do are found by halving what is refused, and all others go."""
        if not rows:
            return []
        try:
            self._patiently(lambda: self.remote.upsert(table, [row for _, row in rows], on_conflict=key))
        except RemoteRefused as error:
            if len(rows) == 1:
                return [(rows[0][0], error.message)]
            middle = len(rows) // 2
            return self._put(table, key, rows[:middle]) + self._put(table, key, rows[middle:])
        return []

    def _patiently(self, action: Callable[[], T]) -> T:
        """Do it, and again after short pauses where nobody answered. Raises RemoteAway where that is not enough."""
        for pause in _PAUSES_SECONDS:
            try:
                return action()
            except RemoteAway as error:
                wait = random.uniform(pause / 2, pause) if error.retry_after is None else error.retry_after
                if wait > _PATIENCE_SECONDS:
                    raise
                time.sleep(wait)
        return action()


def _part(
    versions: Sequence[int],
    rows: Sequence[tuple[int, Row]],
    outputs: Sequence[tuple[int, Row]],
    first: int,
    end: int,
) -> _Batch:
    return _Batch(
        tuple(version for version in versions if first <= version < end),
        [row for row in rows if first <= row[0] < end],
        outputs,
    )


@contextlib.contextmanager
def session(scope: Scope, manager: Manager) -> Iterator[Sync]:
    """What sends this scope's ledger to the project that is set. Two at once would do everything twice: the second
    waits. Raises BadInput where no project is set."""
    url, me, owner = connect.url(scope), host.machine(), host.owner(scope)
    store = Store(ledger.path(scope))
    descriptor = os.open(state_dir(scope) / "sync.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        unsent = Unsent(store)
        if url:
            unsent.turn_on(me, url)
        try:
            remote = connect.connect(scope)
        except LshError as error:  # no key, or one that others may read
            if url:
                unsent.set_failed(error.message)
            raise
        with contextlib.closing(remote):
            yield Sync(
                unsent,
                remote,
                host=me,
                owner=owner,
                facts=lambda: _facts(manager),
                jobs=lambda: _jobs(scope, manager, store, host=me, owner=owner),
            )
    finally:
        os.close(descriptor)
        store.close()


def _facts(manager: Manager) -> Row:
    own = {"lsh_version": __version__, "systemd_version": manager.version, "timezone": analyze.local_zone()}
    return host.facts() | own


def _jobs(scope: Scope, manager: Manager, store: Store, *, host: str, owner: str) -> dict[str, Row]:
    """The rows of all jobs, by their ids, as their files and systemd tell them."""
    rows = {}
    for each in overview(Jobs(scope).all(), manager=manager, last_runs={}):
        found, changes = each.found, store.changes(job=each.found.id)
        rows[found.id] = mirrored.job_row(
            found.job,
            id=found.id,
            host=host,
            scope=owner,
            schedule=schedule_text(found.job) if found.job else None,
            enabled=found.pair.enabled,
            state=each.state,
            next_at=rfc3339(each.next_usec),
            created_by=changes[-1].actor if changes else None,
            modified_by=changes[0].actor if changes else None,
            updated_at=rfc3339(found.written_usec()),
        )
    return rows
