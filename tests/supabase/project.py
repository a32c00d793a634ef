"""A Supabase project with our tables, as `lshctl supabase migrate` leaves it, and hosts that report to it."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsh_systemd.remote import Remote, Target
from lsh_systemd.run import Run
from lsh_systemd.schema import Schema, bundled
from lsh_systemd.store import Store
from lsh_systemd.sync import Sync
from lsh_systemd.unsent import Unsent
from tests.supabase.stack import Stack

if TYPE_CHECKING:
    from lsh_systemd.mirrored import Row

NOW = 1_795_329_711_000_000


@contextmanager
def migrated() -> Iterator[Stack]:
    with Stack() as stack:
        list(Schema(stack.db_url).migrate(bundled()))
        stack.stop("postgrest")  # it reads the schema anew when it feels like it
        stack.start("postgrest")
        yield stack


class Host:
    """One host's ledger and what it takes to send it."""

    def __init__(self, stack: Stack, path: Path, *, url: str | None = None, name: str = "host-1") -> None:
        self.stack, self.id, self.name = stack, str(uuid.uuid4()), name
        self.store = Store(path)
        self.unsent = Unsent(self.store)
        self.jobs: dict[str, Row] = {}
        self.patience_seconds = 1.0
        self.url, self.key = url or stack.url, stack.secret_key
        self.turn_on()

    @classmethod
    def of(cls, other: "Host") -> "Host":
        """The same, with the ledger opened once more: for another thread."""
        host = cls.__new__(cls)
        host.__dict__ |= other.__dict__ | {"store": Store(other.store.path)}
        host.unsent = Unsent(host.store)
        return host

    def turn_on(self) -> None:
        self.unsent.turn_on(self.id, self.url)

    def sync(self, **options: Any) -> dict[str, int]:
        remote = Remote(Target(url=self.url, key=self.key), timeout_seconds=self.patience_seconds)
        sync = Sync(
            self.unsent, remote, host=self.id, owner="system",
            facts=lambda: {"id": self.id, "name": self.name, "lsh_version": "1"}, jobs=lambda: self.jobs, **options,
        )  # fmt: skip
        try:
            tally = sync.run()
            return dict(tally.sent)
        finally:
            remote.close()

    def run(self, number: int = 0, **fields: Any) -> Run:
        """A run that has ended, put into the ledger."""
        began = NOW + number * 1_000_000
        run = replace(
            Run(id=uuid.uuid4().hex, job="job-1", unit="lsh-job-1.service", host="host-1", boot_id=uuid.uuid4().hex,
                started_usec=began, ended_usec=began + 500_000, duration_usec=500_000, result="success", exit_status=0,
                output=f"hello {number}\n".encode(), output_bytes=8, metrics='{"rows": 3}'),
            **fields,
        )  # fmt: skip
        self.put(run)
        return run

    def put(self, *runs: Run) -> None:
        with self.store.transaction():
            self.store.put(runs)

    def fill(self, count: int, **fields: Any) -> None:
        with self.store.transaction():
            self.store.put(
                Run(id=uuid.uuid4().hex, job=f"job-{number % 7}", unit="u", host="h", result="success",
                    started_usec=NOW + number, output=b"line\n", output_bytes=5, **fields)
                for number in range(count)
            )  # fmt: skip

    def there(self, columns: str = "count(*)", table: str = "runs") -> str:
        return self.stack.sql(f"SELECT {columns} FROM {table} WHERE host = '{self.id}'")

    def check_all_there(self) -> None:
        """Every run of the ledger once, as it is now, with its output; and nothing waits."""
        told = sorted(self.there("id, coalesce(result, ''), coalesce(message, '')").splitlines())
        ours = sorted(f"{uuid.UUID(run.id)}|{run.result or ''}|{run.message or ''}" for run in self.store.runs())
        assert told == ours
        outputs = sorted(self.there("run", "run_output").splitlines())
        assert outputs == sorted(str(uuid.UUID(run.id)) for run in self.store.runs() if run.output)
        assert (self.unsent.waiting(), self.unsent.refused()) == ({}, [])
