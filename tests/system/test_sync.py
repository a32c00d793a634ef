"""Runs of booted machines, reported to a real Supabase by their agents."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.supabase.project import project
from tests.supabase.stack import Stack
from tests.system.lsh import Lsh
from tests.system.machine import eventually

_CONFIG = {"system": "/etc/lsh", "user": "/home/bob/.config/lsh"}


@pytest.fixture(scope="session")
def supabase() -> Iterator[Stack]:
    """The machines share this host's network: they reach its loopback."""
    with project() as stack:
        yield stack


def connect(lsh: Lsh, stack: Stack) -> None:
    """Set the project and its key, as README says."""
    folder, machine = _CONFIG[lsh.scope], lsh.machine
    machine.run("mkdir", "-p", folder, user=lsh.user)
    machine.write(f"{folder}/lsh.toml", f'[supabase]\nurl = "{stack.url}"\n', user=lsh.user)
    machine.write(f"{folder}/supabase.key", f"{stack.secret_key}\n", user=lsh.user)
    machine.run("chmod", "600", f"{folder}/supabase.key", user=lsh.user)


@pytest.fixture
def reporting(lsh: Lsh, supabase: Stack) -> Iterator[Lsh]:
    connect(lsh, supabase)
    lsh("agent", "enable")
    yield lsh
    lsh("agent", "disable")
    lsh.machine.run("rm", "-r", _CONFIG[lsh.scope])


def test_a_run_is_reported_by_the_agent(reporting: Lsh, supabase: Stack) -> None:
    """With its job and who made it; while it goes on, and when it has ended; after a while that Supabase was away."""
    lsh = reporting
    assert all(each["level"] == "ok" for each in lsh.json_of("sync", "test"))
    status = lsh.json_of("sync", "status")

    def there(table: str, job: str, columns: str) -> list[dict[str, Any]]:
        key = "id" if table == "jobs" else "job"
        where = f"host = '{status['host']}' AND {key} = '{job}'"
        rows = f"SELECT {columns} FROM {table} WHERE {where}"
        return list(json.loads(supabase.sql(f"SELECT coalesce(json_agg(each), '[]') FROM ({rows}) each")))

    owner = "system" if lsh.scope == "system" else "user:bob"
    flag = lsh.new_path()
    job = lsh.add("--schedule", "0 3 * * *", "--", f"echo hello; while ! test -e {flag}; do sleep 0.1; done")
    lsh("start", job)
    eventually(lambda: there("runs", job, "result") == [{"result": None}], timeout=60)
    lsh.machine.run("touch", flag)
    eventually(lambda: there("runs", job, "result, scope") == [{"result": "success", "scope": owner}], timeout=60)
    (run,) = lsh.ended(job)
    (told,) = there("runs", job, "replace(id::text, '-', '') AS id, cpu_usec")
    assert told == {"id": run["id"], "cpu_usec": round(run["cpu_seconds"] * 1e6)}
    assert supabase.sql(f"SELECT output FROM run_output WHERE run = '{run['id']}'") == "hello"
    (mirrored,) = there("jobs", job, "scope, command, schedule, enabled, created_by, removed_at")
    assert mirrored["schedule"] == "0 3 * * *" and mirrored["created_by"] == lsh.user and mirrored["removed_at"] is None
    assert supabase.sql(f"SELECT count(*) FROM audit WHERE job = '{job}' AND verb = 'add'") == "1"
    supabase.stop("postgrest")
    lsh.run(job)
    eventually(lambda: lsh.json_of("sync", "status")["failures"], timeout=60)
    supabase.start("postgrest")
    lsh("sync", "retry")
    eventually(lambda: lsh.json_of("sync", "status")["waiting"] == {}, timeout=60)
    assert len(there("runs", job, "id")) == 2
    lsh("remove", job)
    eventually(lambda: there("jobs", job, "removed_at")[0]["removed_at"], timeout=60)
    # Neither the agent nor the unit's properties nor the log have the key.
    shown = lsh.systemctl("show", "lsh-sync.service", "lsh-agent.service").stdout
    shown += lsh.machine.journal_text() + lsh("sync", "status").stdout + lsh("sync", "history", "--json").stdout
    assert supabase.secret_key not in shown
