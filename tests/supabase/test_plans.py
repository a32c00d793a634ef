"""What reports ask is answered by an index, in a ledger that is large enough for PostgreSQL to prefer one."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from lsh_systemd.schema import Schema, bundled
from tests.supabase.stack import Stack

_CLAIMS = json.dumps({"role": "authenticated", "app_metadata": {"lsh_tenant": "one"}})
# 1,000 hosts of two tenants, 20 of 400 jobs on each; 120,000 runs in 60 days, which come in as time passes. Of a
# hundred, two fail; of all, 50 go on.
_FILL = """
INSERT INTO hosts (id, name, tenant)
    SELECT md5('host' || n)::uuid, 'host' || n, (ARRAY['one', 'two'])[1 + n % 2] FROM generate_series(1, 1000) n;
INSERT INTO runs (host, id, job, unit, started_at, ended_at, received_at, duration_usec, result)
    SELECT md5('host' || 1 + n % 1000)::uuid, md5('run' || n)::uuid, 'job' || n / 1000 % 20 + 20 * (n % 20),
        'lsh-job.service', at, at, at, 1000000,
        CASE WHEN n % 50 = 0 THEN 'exit-code' WHEN n <= 50 THEN NULL ELSE 'success' END
    FROM generate_series(1, 120000) n, LATERAL (SELECT now() - (120000 - n) * interval '43.2 s' AS at) AS time;
INSERT INTO jobs (host, id, name, command) SELECT DISTINCT host, job, job, 'true' FROM runs;
INSERT INTO run_output (host, run, output, received_at) SELECT host, id, 'x', received_at FROM runs;
INSERT INTO audit (host, id, at, job, verb, actor, uid, via)
    SELECT host, id, started_at, job, 'set', 'root', 0, 'cli' FROM runs LIMIT 20000;
INSERT INTO alerts (host, id, rule, target, event, created_at, title, body, state)
    SELECT host, id, 'x', 0, 'failure', started_at, 'x', 'x', 'sent' FROM runs LIMIT 20000;
ANALYZE;
"""
_HOST, _RUN = "(SELECT id FROM hosts WHERE name = 'host2')", "md5('run7')::uuid"
_JOB = "(SELECT uid FROM jobs WHERE id = 'job7' ORDER BY uid LIMIT 1)"
_WEEK = "started_at >= now() - interval '7 days'"


@pytest.fixture(scope="module")
def filled(project: Stack) -> Iterator[Stack]:
    project.sql("CREATE DATABASE filled")
    list(Schema(project.db_url.removesuffix("/postgres") + "/filled").migrate(bundled()))
    project.sql(f"\\connect filled\n{_FILL}")
    yield project
    project.sql("DROP DATABASE filled")


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", []):
        yield from _nodes(each)


@pytest.mark.parametrize("role", ["service_role", "authenticated"])
@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("SELECT * FROM runs ORDER BY started_at DESC LIMIT 20", "runs_by_time"),
        (f"SELECT count(*), sum(duration_usec) FROM runs WHERE {_WEEK}", "runs_by_time"),
        (f"SELECT * FROM runs WHERE host = {_HOST} ORDER BY started_at DESC LIMIT 20", "runs_by_host"),
        (f"SELECT result, count(*) FROM runs WHERE host = {_HOST} AND {_WEEK} GROUP BY result", "runs_by_host"),
        ("SELECT * FROM runs WHERE job = 'job7' ORDER BY started_at DESC LIMIT 20", "runs_by_job"),
        (f"SELECT * FROM runs WHERE job = 'job7' AND {_WEEK} ORDER BY started_at DESC", "runs_by_job"),
        (f"SELECT * FROM runs WHERE result <> 'success' AND {_WEEK} ORDER BY started_at DESC", "runs_unsuccessful"),
        ("SELECT * FROM runs WHERE result IS NULL", "runs_open"),
        (f"SELECT * FROM runs WHERE id = {_RUN}", "runs_pkey"),
        (f"SELECT * FROM shell_jobs WHERE id = {_RUN}", "run_output_pkey"),
        ("SELECT * FROM shell_jobs ORDER BY started_at DESC LIMIT 20", "runs_by_time"),
        (f'SELECT * FROM "cronJobExecution" WHERE "cronJobId" = {_JOB} ORDER BY "startedAt" DESC', "jobs_uid_key"),
        ('SELECT * FROM "cronJobExecution" ORDER BY "startedAt" DESC LIMIT 20', "runs_by_time"),
        ("SELECT * FROM puppet_job_execution_logs ORDER BY start_time DESC LIMIT 20", "runs_by_time"),
        ("SELECT * FROM puppet_cron_processor_state WHERE hostname = 'host2'", "runs_by_host"),
        ("SELECT * FROM audit ORDER BY at DESC LIMIT 20", "audit_by_time"),
        ("SELECT * FROM audit WHERE job = 'job7' ORDER BY at DESC LIMIT 20", "audit_by_job"),
        ("SELECT * FROM alerts ORDER BY created_at DESC LIMIT 20", "alerts_by_time"),
        ("SELECT * FROM jobs WHERE id = 'job7'", "jobs_by_id"),
        # what retention looks for
        ("SELECT ctid FROM runs WHERE started_at < now() - interval '58 days' ORDER BY 1 LIMIT 9", "runs_by_time"),
        ("SELECT ctid FROM runs WHERE started_at IS NULL AND received_at < now()", "runs_without_start"),
        ("SELECT ctid FROM run_output WHERE received_at < now() - interval '58 days' LIMIT 9", "run_output_by_time"),
    ],
)
def test_an_index_answers(filled: Stack, role: str, query: str, index: str) -> None:
    asked = f"SELECT set_config('request.jwt.claims', '{_CLAIMS}', false) \\g /dev/null\nSET ROLE {role};"
    told = filled.sql(f"\\connect filled\n{asked}\nEXPLAIN (FORMAT JSON) {query}")
    nodes = [*_nodes(json.loads(told)[0]["Plan"])]
    assert index in {node.get("Index Name") for node in nodes}, told
    large = {"runs", "run_output", "audit", "alerts"}
    assert not [node for node in nodes if node["Node Type"] == "Seq Scan" and node["Relation Name"] in large], told


def test_a_report_with_many_rows_does_not_compare_each_with_each(filled: Stack) -> None:
    """There are 20,000 of hosts and their jobs: EXPLAIN of what the function does, with its parameters filled in."""
    body = filled.sql("\\connect filled\nSELECT prosrc FROM pg_proc WHERE proname = 'lsh_fleet_report'")
    given = {"grouped": "'both'", "of_hosts": "null::uuid[]", "of_jobs": "null::text[]"}
    given |= {"since": "null::timestamptz", "until": "null::timestamptz"}
    for name, value in given.items():
        body, count = re.subn(rf"\b{name}\b", value, body)
        assert count
    told = filled.sql(f"\\connect filled\nEXPLAIN (FORMAT JSON) {body}")
    nodes = [*_nodes(json.loads(told)[0]["Plan"])]
    assert len(nodes) > 5
    assert not [node for node in nodes if node["Node Type"] == "Nested Loop"], told


def test_output_that_nobody_asks_for_is_not_read(filled: Stack) -> None:
    told = filled.sql("\\connect filled\nEXPLAIN SELECT id, status FROM shell_jobs ORDER BY started_at DESC LIMIT 20")
    assert "run_output" not in told
