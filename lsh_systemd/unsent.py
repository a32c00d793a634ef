"""What Supabase has not got yet, as the ledger's tables have it: sync_outbox, sync_renames,
sync_jobs and sync_log."""

import json
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from lsh_systemd.mirrored import ALERT_COLUMNS, CHANGE_COLUMNS, RUN_COLUMNS
from lsh_systemd.rows import CODEC
from lsh_systemd.store import Store

# Under this the store remembers as which host and into which project it is sent; only then is anything noted.
_ON = "sync"
_PROGRESS = "sync:progress"
# Which table of the ledger has each kind, and the columns that are sent.
_TABLES = {"runs": ("runs", RUN_COLUMNS), "alerts": ("alerts", ALERT_COLUMNS), "audit": ("audit", CHANGE_COLUMNS)}
KINDS = tuple(_TABLES)
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 5.0, 900.0
# What comes in so long after the last time goes together.
_GATHER_SECONDS = 10
# How often a host says that it is there.
HEARTBEAT_SECONDS = 300
# So many outputs are read together, each up to so long.
_OUTPUTS_AT_ONCE, _LONG_BYTES = 25, 65_536
_LOG_KEPT = 1000
_REASON_CHARACTERS = 500


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How it stands. ``sent_usec``: when all was last sent; ``ended_usec``: when it was last tried; after failures,
    how many there have been since and when to try again; times are µs since 1970, 0 is never."""

    sent_usec: int = 0
    ended_usec: int = 0
    tries: int = 0
    next_usec: int = 0
    error: str | None = None


@dataclass(frozen=True)
class Refused:
    """What will not be taken as it is."""

    kind: str
    id: str
    reason: str
    at_usec: int


@dataclass(frozen=True)
class Rename:
    """A job had another id until then."""

    id: int
    before: str
    after: str
    at_usec: int


def pause_after(tries: int) -> float:
    """How many seconds to wait after so many failures in a row: each time twice as long, and never quite the same, so
    that hosts that were cut off together do not come back together."""
    longest = min(_FIRST_PAUSE_SECONDS * 2.0 ** min(tries - 1, 30), _LONGEST_PAUSE_SECONDS)
    return random.uniform(longest / 2, longest)


class Unsent:
    """The tables of one store. What is written without ``transaction`` is committed at once."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def hurry(self) -> None:
        """From now on nothing that is written here waits for the disk: what a power cut takes is sent once more."""
        self._do("PRAGMA synchronous = NORMAL")

    def turn_on(self, host: str, url: str) -> None:
        """Have what changes noted; for a project that is new to this ledger, all that there is.

        Where the ledger has come from another host (a backup, restored), what it brought is that host's to tell.
        """
        wanted = f"{host} {url}"
        if self.store.state(_ON) == wanted:
            return
        with self.store.transaction():
            known = self.store.state(_ON)
            self._forget()
            self.store.set_state(_ON, wanted)
            if known is None or known.startswith(f"{host} "):
                for kind, (table, _) in _TABLES.items():
                    order = "started_usec" if kind == "runs" else "rowid"
                    self._do(
                        f"INSERT INTO sync_outbox (kind, id) SELECT '{kind}', CAST(id AS TEXT) "
                        f"FROM {table} ORDER BY {order}"
                    )

    def turn_off(self) -> None:
        if self.is_on():
            with self.store.transaction():
                self._forget()
                self.store.set_state(_ON, None)

    def is_on(self) -> bool:
        return self.store.state(_ON) is not None

    def _forget(self) -> None:
        for table in ("sync_outbox", "sync_renames", "sync_jobs"):
            self._do(f"DELETE FROM {table}")
        self.store.set_state(_PROGRESS, None)

    # --- what waits

    def waiting(self) -> dict[str, int]:
        """How many of each kind."""
        counts: dict[str, int] = dict(
            self._do("SELECT kind, count(*) FROM sync_outbox WHERE refused IS NULL GROUP BY kind")
        )
        return counts

    def is_waiting(self) -> bool:
        waits = "SELECT EXISTS (SELECT 1 FROM sync_outbox WHERE refused IS NULL) OR EXISTS (SELECT 1 FROM sync_renames)"
        return bool(self._do(waits)[0][0])

    def page(self, kind: str, after: int, limit: int) -> list[tuple[int, str, Sequence[Any] | None]]:
        """What waits with a version above ``after``, in their order: version, id, and the values of the columns that
        are sent; None where the thing itself is gone (pruned)."""
        table, columns = _TABLES[kind]
        names = ", ".join(f'it."{name}"' for name in columns)
        # (of alerts, whose ids are numbers, the cast is what makes the index do)
        key = "CAST(box.id AS INTEGER)" if kind == "alerts" else "box.id"
        rows = self._do(
            f"SELECT box.version, box.id, it.id IS NULL, {names} FROM (SELECT version, id FROM sync_outbox "
            "WHERE kind = ? AND refused IS NULL AND version > ? ORDER BY version LIMIT ?) AS box "
            f"LEFT JOIN {table} AS it ON it.id = {key} ORDER BY box.version",
            *(kind, after, limit),
        )
        return [(version, each, None if gone else values) for version, each, gone, *values in rows]

    def outputs(self, ids: Sequence[str]) -> Iterator[tuple[str, bytes, str | None]]:
        """Of the runs that have some: id, output as it is kept, and its codec; a few at a time, and long ones alone."""
        for start in range(0, len(ids), _OUTPUTS_AT_ONCE):
            part = ids[start : start + _OUTPUTS_AT_ONCE]
            rows = self._do(
                f"SELECT id, iif(length(output) <= {_LONG_BYTES}, output, NULL), {CODEC} FROM runs "
                f"WHERE id IN ({', '.join('?' * len(part))}) AND length(output) > 0",
                *part,
            )
            found = {each: (output, codec) for each, output, codec in rows}
            for each in part:
                if each in found:
                    output, codec = found[each]
                    yield each, self._output(each) if output is None else output, codec

    def _output(self, run_id: str) -> bytes:
        rows = self._do("SELECT output FROM runs WHERE id = ?", run_id)
        return bytes(rows[0][0]) if rows else b""  # pruned since

    def settle(self, versions: Iterable[int]) -> None:
        """These are over there. What has changed meanwhile has another version, and waits on."""
        with self.store.transaction():
            done = json.dumps([*versions])
            self._do("DELETE FROM sync_outbox WHERE version IN (SELECT value FROM json_each(?))", done)

    def postpone(self, version: int) -> None:
        """Let all others go first."""
        with self.store.transaction():
            found = self._do("SELECT kind, id FROM sync_outbox WHERE version = ?", version)
            self._do("DELETE FROM sync_outbox WHERE version = ?", version)
            for kind, each in found:
                self._do("INSERT INTO sync_outbox (kind, id) VALUES (?, ?)", kind, each)

    def refuse(self, reasons: Mapping[int, str]) -> None:
        """Set them aside, with the reason."""
        with self.store.transaction():
            for version, reason in reasons.items():
                self._do(
                    "UPDATE sync_outbox SET refused = ?, refused_usec = ? WHERE version = ?",
                    *(reason[:_REASON_CHARACTERS], _now(), version),
                )

    def refused(self) -> list[Refused]:
        """The newest first."""
        rows = self._do(
            "SELECT kind, id, refused, refused_usec FROM sync_outbox WHERE refused IS NOT NULL ORDER BY version DESC"
        )
        return [Refused(*row) for row in rows]

    def retry(self) -> int:
        """Let all wait again that was set aside, and not for the next try; how many these are."""
        with self.store.transaction():
            count = self._do("SELECT count(*) FROM sync_outbox WHERE refused IS NOT NULL")[0][0]
            self._do("DELETE FROM sync_jobs WHERE id IN (SELECT id FROM sync_outbox WHERE kind = 'jobs')")
            self._do("DELETE FROM sync_outbox WHERE kind = 'jobs'")
            self._do("UPDATE sync_outbox SET refused = NULL, refused_usec = NULL WHERE refused IS NOT NULL")
        return int(count)

    # --- jobs

    def renames(self) -> list[Rename]:
        """What jobs have been renamed since Supabase was last told, in the order of that."""
        return [Rename(*row) for row in self._do('SELECT id, "before", "after", at_usec FROM sync_renames ORDER BY id')]

    def settle_rename(self, rename: Rename) -> None:
        with self.store.transaction():
            self._do("DELETE FROM sync_renames WHERE id = ?", rename.id)

    def jobs(self) -> dict[str, str]:
        """Those that Supabase has: id → digest of the row."""
        return dict(self._do("SELECT id, digest FROM sync_jobs"))

    def settle_jobs(self, digests: Mapping[str, str | None], refused: Mapping[str, str]) -> None:
        """Note what it has now (None: the job is gone), and which it has refused, and why."""
        with self.store.transaction():
            for each, digest in digests.items():
                self._do("DELETE FROM sync_jobs WHERE id = ?", each)
                self._do("DELETE FROM sync_outbox WHERE kind = 'jobs' AND id = ?", each)
                if digest is not None:
                    self._do("INSERT INTO sync_jobs (id, digest) VALUES (?, ?)", each, digest)
                if each in refused:
                    self._do(
                        "INSERT INTO sync_outbox (kind, id, refused, refused_usec) VALUES ('jobs', ?, ?, ?)",
                        *(each, refused[each][:_REASON_CHARACTERS], _now()),
                    )

    # --- how it stands

    def progress(self) -> Progress:
        text = self.store.state(_PROGRESS)
        return Progress(**json.loads(text)) if text else Progress()

    def due_usec(self, now_usec: int) -> int:
        """When it is next to be sent (µs since 1970). A clock that was set back must not hold it for longer."""
        progress = self.progress()
        if progress.tries:
            return min(progress.next_usec, now_usec + 3_600_000_000)
        pause = _GATHER_SECONDS if self.is_waiting() else HEARTBEAT_SECONDS
        return min(progress.ended_usec, now_usec) + pause * 1_000_000

    def set_progress(self, progress: Progress) -> None:
        with self.store.transaction():
            self.store.set_state(_PROGRESS, json.dumps(asdict(progress)))

    def set_failed(self, error: str, *, after_seconds: float = 0.0) -> None:
        """It has not gone through; it is to be tried again after a pause, and not before so many seconds."""
        before, now = self.progress(), _now()
        wait = max(pause_after(before.tries + 1), after_seconds)
        failed = replace(before, ended_usec=now, tries=before.tries + 1, next_usec=now + round(wait * 1e6), error=error)
        self.set_progress(failed)

    def log(self, *, began_usec: int, sent: Mapping[str, int], refused: int, error: str | None) -> None:
        with self.store.transaction():
            self._do(
                "INSERT INTO sync_log (at_usec, seconds, sent, refused, error) VALUES (?, ?, ?, ?, ?)",
                *(began_usec, max(0, _now() - began_usec) / 1e6, json.dumps(sent), refused, error),
            )
            self._do("DELETE FROM sync_log WHERE id <= (SELECT max(id) FROM sync_log) - ?", _LOG_KEPT)

    def history(self, *, search: str | None = None, limit: int = 0) -> list[dict[str, Any]]:
        """What was tried, the newest first; ``search``: only where it is part of what was sent or of the error."""
        rows = self._do(
            "SELECT at_usec, seconds, sent, refused, error FROM sync_log "
            "WHERE ?1 IS NULL OR instr(lower(sent || ' ' || ifnull(error, '')), lower(?1)) ORDER BY id DESC LIMIT ?2",
            *(search, limit or -1),
        )
        names = ("at_usec", "seconds", "sent", "refused", "error")
        return [dict(zip(names, row, strict=True)) | {"sent": json.loads(row[2])} for row in rows]

    def _do(self, statement: str, *values: object) -> list[Any]:
        return self.store.query(statement, values)


def _now() -> int:
    return time.time_ns() // 1000
