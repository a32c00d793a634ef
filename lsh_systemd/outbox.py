"""What is to be told and what has been, in the store: alerts, how it stands with each URL, what is muted.

An alert is written in the transaction that takes its run off the list of news, and leaves the waiting ones when its
message has been taken: whatever dies in between, it is told at least once.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lsh_systemd.run import Run, rfc3339
from lsh_systemd.store import Store

ON = "alerts"  # the state's key that has the store's triggers note what ends
_KEPT_DAYS, _KEPT = 90, 10_000
_COLUMNS = "id, rule, target, event, job, run_id, created_usec, title, body, state, done_usec, error"


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One thing told to one URL (``target``: which of its rule's). ``state``: waiting, sent, muted or given-up."""

    id: int
    rule: str
    target: int
    event: str
    job: str
    run_id: str | None
    created_usec: int
    title: str
    body: str
    state: str
    done_usec: int | None
    error: str | None

    def to_json(self) -> dict[str, Any]:
        """The shape that ``alerts history --json`` promises."""
        return {
            "rule": self.rule,
            "target": self.target,
            "event": self.event,
            "job": self.job or None,
            "run": self.run_id,
            "created_at": rfc3339(self.created_usec),
            "title": self.title,
            "body": self.body,
            "state": self.state,
            "done_at": rfc3339(self.done_usec),
            "error": self.error,
        }


@dataclass(frozen=True, kw_only=True)
class Target:
    """How it stands with a URL of a rule: last sent to; failures in a row, the last one's words, when to try again."""

    sent_usec: int = 0
    tries: int = 0
    next_usec: int = 0
    error: str | None = None


class Outbox:
    """The tables of alerts in one scope's store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def _do(self, statement: str, *values: object) -> list[Any]:
        return self.store.query(statement, values)

    def turn_on(self, now_usec: int) -> int:
        """Have ended runs noted; since when they are (µs since 1970)."""
        since = self.store.state(ON)
        if since and int(since) <= now_usec:
            return int(since)
        with self.store.transaction():
            self.store.set_state(ON, str(now_usec))  # for the first time; or the clock was set back
        return now_usec

    def turn_off(self) -> None:
        """There are no rules any more: nothing is noted, and what still waited is given up."""
        if self.store.state(ON) is not None:
            with self.store.transaction():
                self.store.set_state(ON, None)
                for alerts in self.waiting().values():
                    self.give_up(alerts)
                for table in ("alert_news", "alert_open", "missed_checks"):
                    self._do(f"DELETE FROM {table}")

    def digest_due(self, rule: str) -> int | None:
        """When the rule's next digest is due (µs); None where that is not settled yet."""
        text = self.store.state(f"digest:{rule}")
        return int(text) if text else None

    def set_digest_due(self, rule: str, usec: int) -> None:
        self.store.set_state(f"digest:{rule}", str(usec))

    # --- what is new

    def news(self, limit: int) -> list[tuple[str, Run | None]]:
        """Ids of runs that have ended and not been looked at, the oldest first, with the run if it is still there."""
        ids = [row[0] for row in self._do("SELECT run_id FROM alert_news ORDER BY rowid LIMIT ?", limit)]
        return [(each, next(iter(self.store.run(each)), None)) for each in ids]

    def forget_news(self, ids: Iterable[str]) -> None:
        for each in ids:
            self._do("DELETE FROM alert_news WHERE run_id = ?", each)

    # --- what a rule has said of a job

    def is_open(self, rule: str, job: str, what: str) -> bool:
        found = self._do("SELECT 1 FROM alert_open WHERE rule = ? AND job = ? AND what = ?", rule, job, what)
        return bool(found)

    def open(self, rule: str, job: str, what: str) -> None:
        self._do("INSERT OR IGNORE INTO alert_open (rule, job, what) VALUES (?, ?, ?)", rule, job, what)

    def close(self, rule: str, job: str, what: str) -> None:
        self._do("DELETE FROM alert_open WHERE rule = ? AND job = ? AND what = ?", rule, job, what)

    # --- alerts

    def add(
        self, *, rule: str, targets: int, event: str, job: str, run_id: str | None, title: str, body: str, now_usec: int
    ) -> None:
        """Have it told to all URLs of the rule; a run's event only once."""
        for target in range(targets):
            self._do(
                "INSERT OR IGNORE INTO alerts (rule, target, event, job, run_id, created_usec, title, body, state) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'waiting')",
                *(rule, target, event, job, run_id, now_usec, title, body),
            )

    def has(self, rule: str, event: str, run_id: str) -> bool:
        """Whether the rule tells, or has told, of it."""
        found = self._do(
            "SELECT 1 FROM alerts WHERE rule = ? AND event = ? AND run_id = ? LIMIT 1", rule, event, run_id
        )
        return bool(found)

    def waiting(self) -> dict[tuple[str, int], list[Alert]]:
        """What is to be told, by rule and URL, the oldest first."""
        found: dict[tuple[str, int], list[Alert]] = {}
        for alert in self._select("WHERE state = 'waiting' ORDER BY id"):
            found.setdefault((alert.rule, alert.target), []).append(alert)
        return found

    def given_up(self) -> dict[tuple[str, int], int]:
        """How many alerts could never be delivered, by rule and URL."""
        rows = self._do("SELECT rule, target, count(*) FROM alerts WHERE state = 'given-up' GROUP BY rule, target")
        return {(rule, target): count for rule, target, count in rows}

    def history(self, limit: int) -> list[Alert]:
        """The newest first; ``limit`` 0 is all."""
        return self._select("ORDER BY id DESC LIMIT ?", limit or -1)

    def settle(self, alerts: Iterable[Alert], state: str, *, error: str | None = None) -> None:
        """They are no longer waiting."""
        now = time.time_ns() // 1000
        for each in alerts:
            self._do("UPDATE alerts SET state = ?, done_usec = ?, error = ? WHERE id = ?", state, now, error, each.id)

    def give_up(self, alerts: Iterable[Alert]) -> None:
        """Nobody is there any more to tell it to."""
        self.settle(alerts, "given-up", error="its rule is gone")

    def purge(self, now_usec: int) -> None:
        """Forget what was settled long ago, or is more than anybody will read."""
        old = now_usec - _KEPT_DAYS * 86_400_000_000
        newest = "SELECT id FROM alerts ORDER BY id DESC LIMIT ?"
        self._do(
            f"DELETE FROM alerts WHERE state != 'waiting' AND (created_usec < ? OR id NOT IN ({newest}))", old, _KEPT
        )

    def _select(self, clause: str, *values: object) -> list[Alert]:
        names = _COLUMNS.split(", ")
        rows = self._do(f"SELECT {_COLUMNS} FROM alerts {clause}", *values)
        return [Alert(**dict(zip(names, row, strict=True))) for row in rows]

    # --- how it stands with the URLs

    def targets(self) -> Mapping[tuple[str, int], Target]:
        rows = self._do("SELECT rule, target, sent_usec, tries, next_usec, error FROM alert_targets")
        return {
            (rule, target): Target(sent_usec=sent, tries=tries, next_usec=again, error=error)
            for rule, target, sent, tries, again, error in rows
        }

    def set_target(self, rule: str, target: int, state: Target) -> None:
        self._do(
            "INSERT OR REPLACE INTO alert_targets (rule, target, sent_usec, tries, next_usec, error) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            *(rule, target, state.sent_usec, state.tries, state.next_usec, state.error),
        )

    def forget_target(self, rule: str, target: int) -> None:
        """Another URL is in its place: what the old one has taken or refused says nothing of that."""
        self._do("DELETE FROM alert_targets WHERE rule = ? AND target = ?", rule, target)

    def forget_rule(self, rule: str) -> None:
        """A new rule of the same name begins anew."""
        with self.store.transaction():
            for table in ("alerts", "alert_targets", "alert_open"):
                self._do(f"DELETE FROM {table} WHERE rule = ?", rule)
            self._do("DELETE FROM alert_mutes WHERE kind = 'rule' AND name = ?", rule)
            self.store.set_state(f"digest:{rule}", None)

    # --- what is muted

    def mutes(self, now_usec: int) -> dict[tuple[str, str], int | None]:
        """(rule or job, name) → until when (µs), None for no end; what is over is gone."""
        rows = self._do("SELECT kind, name, until_usec FROM alert_mutes")
        return {(kind, name): until for kind, name, until in rows if until is None or until > now_usec}

    def mute(self, kind: str, name: str, until_usec: int | None) -> None:
        self._do("INSERT OR REPLACE INTO alert_mutes (kind, name, until_usec) VALUES (?, ?, ?)", kind, name, until_usec)

    def unmute(self, kind: str, name: str) -> None:
        self._do("DELETE FROM alert_mutes WHERE kind = ? AND name = ?", kind, name)

    # --- missed runs

    def missed_checked(self) -> dict[str, int]:
        """Job → up to when its expected times have been looked at (µs)."""
        return dict(self._do("SELECT job, checked_usec FROM missed_checks"))

    def set_missed_checked(self, job: str, usec: int) -> None:
        self._do("INSERT OR REPLACE INTO missed_checks (job, checked_usec) VALUES (?, ?)", job, usec)
