"""The views for dashboards that were there before: their names, their columns, and what stands in them."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lsh_systemd.remote import Remote
from tests.supabase.stack import Stack

# As their documents have them.
VIEWS = {
    "shell_jobs": "id user_id session_id job_id command status working_directory started_at completed_at exit_code "
    "output error",
    "shell_sessions": "id session_id hostname working_directory environment_variables started_at ended_at is_active",
    "cronJob": "id name description schedule isEnabled timeoutMs maxRetries createdAt updatedAt createdBy "
    "lastModifiedBy",
    "cronJobExecution": "id cronJobId startedAt completedAt durationMs status exitCode output errorMessage stackTrace "
    "triggeredBy triggeredByUserId retryCount memoryUsageMb cpuUsagePercent",
    "cronJobConfig": "id key value description createdAt updatedAt",
    "puppet_job_execution_logs": "id job_id batch_id executor_id start_time end_time duration_ms outcome error_message "
    "error_type memory_usage_mb cpu_time_ms execution_context created_at updated_at",
    "puppet_cron_processor_state": "id processor_id hostname process_id is_active last_heartbeat last_batch_at "
    "last_batch_size max_concurrent_jobs batch_size timeout_seconds total_jobs_processed total_batches_processed "
    "success_rate_percent created_at updated_at",
}


@pytest.fixture
def host(hosts_key: Remote) -> str:
    """One with a job."""
    host = uuid.uuid4().hex
    hosts_key.upsert("hosts", [{"id": host, "name": f"host-{host}", "last_seen_at": "now"}], on_conflict="id")
    job = {"host": host, "id": "nightly", "name": f"Nightly {host}", "command": "true", "retries": 2}
    more = {"timeout_usec": 90_000_000, "definition": {"working_dir": "/srv"}}
    hosts_key.upsert("jobs", [{**job, **more}], on_conflict="host,scope,id")
    return host


@pytest.mark.parametrize("view", VIEWS)
def test_views_have_the_columns_that_dashboards_know(project: Stack, view: str) -> None:
    columns = f"SELECT attname FROM pg_attribute WHERE attrelid = '\"{view}\"'::regclass AND attnum > 0 ORDER BY attnum"
    assert project.sql(columns).splitlines() == VIEWS[view].split()


@pytest.mark.parametrize(
    ("result", "daemon", "service", "processor", "wrong"),
    [
        (None, "running", "running", "started", None),
        ("success", "completed", "completed", "completed", None),
        ("exit-code", "failed", "failed", "failed", "no disk"),
        ("timeout", "failed", "timeout", "timeout", "no disk"),
        ("lost", "failed", "failed", "failed", "no disk"),
        ("skipped", "stopped", "cancelled", "cancelled", None),
    ],
)
def test_what_they_make_of_a_run(
    hosts_key: Remote, host: str, result: str | None, daemon: str, service: str, processor: str, wrong: str | None
) -> None:
    run = uuid.uuid4().hex
    told = {
        "host": host,
        "id": run,
        "job": "nightly",
        "unit": "lsh-nightly.service",
        "result": result,
        "trigger": "timer",
    }
    times = {"started_at": "2026-11-22T02:00:00.5Z", "ended_at": "2026-11-22T02:00:03Z", "duration_usec": 2_500_000}
    used = {"cpu_usec": 1_250_000, "memory_peak_bytes": 2**60, "attempt": 2, "exit_status": 3}
    hosts_key.upsert(
        "runs", [{**told, **times, **used, "trigger": "timer", "message": "no disk"}], on_conflict="host,id"
    )
    [shell] = hosts_key.select("shell_jobs", where=[("id", "eq", run)])
    assert (shell["status"], shell["error"], shell["working_directory"]) == (daemon, wrong, "/srv")
    [job] = hosts_key.select("cronJob", where=[("name", "eq", f"Nightly {host}")])
    assert (job["timeoutMs"], job["maxRetries"], job["schedule"], job["createdBy"]) == (90_000, 2, "", "system")
    [done] = hosts_key.select("cronJobExecution", where=[("cronJobId", "eq", job["id"]), ("id", "eq", run)])
    assert (done["status"], done["errorMessage"], done["durationMs"], done["exitCode"]) == (service, wrong, 2500, 3)
    assert (done["cpuUsagePercent"], done["memoryUsageMb"], done["retryCount"]) == (50, 2**31 - 1, 1)
    assert done["triggeredBy"] == "scheduler"
    [logged] = hosts_key.select("puppet_job_execution_logs", where=[("id", "eq", run)])
    assert (logged["outcome"], logged["error_message"], logged["job_id"]) == (processor, wrong, job["id"])


def test_a_job_that_was_removed_is_none_and_its_runs_stay(hosts_key: Remote, host: str) -> None:
    run = {"host": host, "id": uuid.uuid4().hex, "job": "nightly", "unit": "lsh-nightly.service", "result": "success"}
    hosts_key.upsert("runs", [run], on_conflict="host,id")
    removed = {"host": host, "id": "nightly", "name": f"Nightly {host}", "command": "true", "removed_at": "now"}
    hosts_key.upsert("jobs", [removed], on_conflict="host,scope,id")
    assert list(hosts_key.select("cronJob", where=[("name", "eq", f"Nightly {host}")])) == []
    assert list(hosts_key.select("cronJobExecution", where=[("id", "eq", run["id"])]))


def test_a_host_is_a_session_and_a_processor(hosts_key: Remote, host: str) -> None:
    away = uuid.uuid4().hex
    last = {"id": away, "name": f"host-{away}", "last_seen_at": "2026-01-01T00:00:00Z"}
    hosts_key.upsert("hosts", [last], on_conflict="id")
    now = datetime.now(UTC)
    ends = [("success", 0), ("exit-code", 0), ("success", 0), (None, 0), ("skipped", 0), ("success", 3)]
    run = {"host": host, "job": "nightly", "unit": "lsh-nightly.service"}
    started = [
        {**run, "id": uuid.uuid4().hex, "result": result, "started_at": str(now - timedelta(days=days))}
        for result, days in ends
    ]
    hosts_key.upsert("runs", started, on_conflict="host,id")
    for each, is_active, runs, rate in ((host, True, 4, 66.67), (away, False, 0, 0)):
        where = [("hostname", "eq", f"host-{each}")]
        [session] = hosts_key.select("shell_sessions", where=where)
        [state] = hosts_key.select("puppet_cron_processor_state", where=where)
        assert (session["is_active"], session["ended_at"] is None, state["is_active"]) == (is_active,) * 3
        assert (state["total_jobs_processed"], state["success_rate_percent"]) == (runs, rate)


def test_settings(hosts_key: Remote) -> None:
    rows: list[dict[str, Any]] = [{"key": "test-days", "value": 30}, {"key": "test-word", "value": "hello"}]
    hosts_key.upsert("settings", rows, on_conflict="tenant,key")
    shown = {row["key"]: row["value"] for row in hosts_key.select("cronJobConfig")}
    assert (shown["test-days"], shown["test-word"]) == ("30", "hello")
