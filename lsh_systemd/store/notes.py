"""What the ledger has beside the runs: how far the journal has been read, and who changed what."""

from collections.abc import Iterable
from dataclasses import fields

from lsh_systemd.audit import Change
from lsh_systemd.gap import Gap
from lsh_systemd.store.database import Database

_CHANGE = [field.name for field in fields(Change)]
_CHANGE_NAMES = ", ".join(f'"{name}"' for name in _CHANGE)


class Notes(Database):
    """The place in the journal, its gaps, and the audit."""

    def cursor(self) -> str | None:
        """The journal cursor up to which everything is in the store."""
        return self.state("cursor")

    def set_cursor(self, cursor: str) -> None:
        self.set_state("cursor", cursor)

    def boots(self) -> set[str]:
        """The boots whose journal has been begun to be read."""
        return {row[0] for row in self.query("SELECT id FROM boots")}

    def add_boots(self, ids: Iterable[str]) -> None:
        self._db.executemany("INSERT OR IGNORE INTO boots (id) VALUES (?)", ((each,) for each in ids))

    def add_gap(self, gap: Gap) -> bool:
        """Note what the journal dropped before it was read; whether that is new."""
        values = (gap.cursor, gap.from_usec, gap.to_usec, gap.entries)
        found = "INSERT OR IGNORE INTO gaps (cursor, from_usec, to_usec, entries) VALUES (?, ?, ?, ?)"
        return self._db.execute(found, values).rowcount > 0

    def gaps(self, since_usec: int = 0) -> list[Gap]:
        """What the journal has dropped unread since then, the newest last."""
        found = "SELECT cursor, from_usec, to_usec, entries FROM gaps WHERE to_usec >= ? ORDER BY from_usec"
        return [Gap(*row) for row in self.query(found, (since_usec,))]

    def put_changes(self, changes: Iterable[Change]) -> None:
        """Write who changed what; one that is there stays as it is."""
        insert = f"INSERT OR IGNORE INTO audit ({_CHANGE_NAMES}) VALUES ({', '.join('?' * len(_CHANGE))})"
        self._db.executemany(insert, ([getattr(change, name) for name in _CHANGE] for change in changes))

    def changes(self, *, job: str | None = None, since_usec: int | None = None, limit: int = 0) -> list[Change]:
        """Changes, the newest first; of a job also those under the names that it had before. ``limit`` 0 is all."""
        terms = ["at_usec >= ?"]
        values: list[object] = [since_usec or 0]
        if job is not None:
            names = self._names_of(job)
            terms.append("(" + " OR ".join(["job = ? AND at_usec <= ?"] * len(names) + ['"before" = ?']) + ")")
            values += [value for name in names for value in name] + [job]
        clause = f"WHERE {' AND '.join(terms)} ORDER BY at_usec DESC, rowid DESC LIMIT ?"
        rows = self.query(f"SELECT {_CHANGE_NAMES} FROM audit {clause}", (*values, limit or -1))
        return [Change(**dict(zip(_CHANGE, row, strict=True))) for row in rows]

    def _names_of(self, job: str) -> list[tuple[str, int]]:
        """The job's id, and those that it had before, each with the time up to which it had it (µs since 1970)."""
        names = [(job, 2**62)]
        for name, until in names:  # which grows meanwhile, back in time
            find = 'SELECT "before", at_usec FROM audit WHERE job = ? AND at_usec < ? AND "before" IS NOT NULL'
            names += set(self.query(find, (name, until))) - set(names)
        return names
