"""Who may do what with the schema's tables, views and functions: whatever there is of them."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from lsh_systemd.remote import Remote
from lsh_systemd.schema import Schema, bundled
from tests.supabase.stack import Stack

# What users read, and hosts write.
TABLES = "hosts jobs runs run_output alerts audit settings".split()
HOSTS = {"a": uuid.UUID(int=0xA), "b": uuid.UUID(int=0xB)}  # by tenant
# Older projects grant everything to everybody by default: what is not taken away stands open.
_LEGACY = "".join(
    f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON {kind} TO anon, authenticated, service_role;\n"
    for kind in ("TABLES", "FUNCTIONS", "SEQUENCES")
)
_RELATIONS = (
    "(SELECT * FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')) c"
)
_FUNCTIONS = "(SELECT * FROM pg_proc WHERE pronamespace = 'public'::regnamespace) p"
_VERBS = "unnest(string_to_array('SELECT INSERT UPDATE DELETE TRUNCATE REFERENCES TRIGGER', ' '))"
# A value of each type, for tables that are not known here.
_VALUES = {
    "text": "'x'",
    "timestamp with time zone": "now()",
    "jsonb": "'{}'",
    "bytea": "'\\x00'",
    "boolean": "false",
    "text[]": "'{}'",
}

Ask = Callable[[str], list[str]]


@pytest.fixture(scope="module")
def stack(project: Stack) -> Stack:
    """With a row of each tenant in every table, and an older project's database beside it."""
    project.sql(f"CREATE DATABASE legacy;\n\\connect legacy\n{_LEGACY}")
    list(Schema(project.db_url.removesuffix("/postgres") + "/legacy").migrate(bundled()))
    first = ["hosts", "runs", "queued_runs"]
    for tenant, host in HOSTS.items():
        for table in [*first, *(each for each in relations(project, "rp") if each not in (*first, "lsh_schema"))]:
            project.sql(_any_row(project, table, tenant, host))
    return project


def relations(stack: Stack, kinds: str = "rpvm") -> list[str]:
    return stack.sql(f"SELECT relname FROM {_RELATIONS} WHERE position(relkind::text IN '{kinds}') > 0").splitlines()


def _any_row(stack: Stack, table: str, tenant: str, host: uuid.UUID) -> str:
    """An INSERT of this tenant's and host's, of what has to be there, so that a table that is new is tested, too."""
    columns = stack.sql(
        "SELECT attname, format_type(atttypid, NULL), attnotnull AND NOT atthasdef FROM pg_attribute "
        f"WHERE attrelid = 'public.{table}'::regclass AND attnum > 0 AND NOT attisdropped "
        "AND attgenerated = '' AND attidentity = ''"
    )
    values = {}
    for name, kind, needed in (line.split("|") for line in columns.splitlines()):
        if name == "tenant":
            values[name] = f"'{tenant}'"
        elif name == "queued_run":
            values[name] = f"(SELECT id FROM public.queued_runs WHERE tenant = '{tenant}')"
        elif name == "host" or needed == "t":
            values[name] = f"'{host}'" if kind == "uuid" else _VALUES.get(kind, "1")
    return f"INSERT INTO public.{table} ({', '.join(values)}) VALUES ({', '.join(values.values())})"


@pytest.fixture(params=["postgres", "legacy"])
def ask(request: pytest.FixtureRequest, stack: Stack) -> Ask:
    """Asks the catalogue of a new project, or of an older one."""
    return lambda question: stack.sql(f"\\connect {request.param}\n{question}").splitlines()


class User:
    """Somebody who has the project's publishable key, and perhaps a token with these claims."""

    def __init__(self, stack: Stack, claims: dict[str, Any] | None) -> None:
        headers = {"apikey": stack.publishable_key}
        if claims is not None:
            headers["Authorization"] = f"Bearer {stack.jwt('authenticated', sub=str(uuid.uuid4()), **claims)}"
        self._client = httpx.Client(base_url=f"{stack.url}/rest/v1/", headers=headers)

    def rows(self, table: str) -> list[dict[str, Any]] | None:
        """What the user sees; None where it is refused."""
        answer = self._client.get(table)
        return None if answer.status_code in (401, 403) else list(answer.raise_for_status().json())

    def may(self, method: str, path: str, **request: Any) -> bool:
        return self._client.request(method, path, **request).status_code not in (401, 403)


# --- what the catalogue says


def test_every_table_has_row_level_security_and_every_view_its_caller_s(ask: Ask) -> None:
    assert {*TABLES} <= {*ask(f"SELECT relname FROM {_RELATIONS} WHERE relkind = 'r' AND relrowsecurity")}
    assert ask(f"SELECT relname FROM {_RELATIONS} WHERE relkind IN ('r', 'p') AND NOT relrowsecurity") == []
    invoking = "coalesce(reloptions, '{}') @> '{security_invoker=true}'"
    assert ask(f"SELECT relname FROM {_RELATIONS} WHERE relkind IN ('v', 'm') AND NOT {invoking}") == []


def test_everything_has_a_comment(ask: Ask) -> None:
    assert ask(f"SELECT relname FROM {_RELATIONS} WHERE obj_description(oid, 'pg_class') IS NULL") == []
    columns = f"SELECT relname, attname FROM {_RELATIONS} JOIN pg_attribute ON attrelid = c.oid AND attnum > 0"
    assert ask(f"{columns} AND NOT attisdropped AND col_description(attrelid, attnum) IS NULL") == []
    assert ask(f"SELECT proname FROM {_FUNCTIONS} WHERE obj_description(oid, 'pg_proc') IS NULL") == []


def test_rights_are_those_that_are_needed(ask: Ask) -> None:
    def rights(role: str) -> set[str]:
        query = (
            f"SELECT relname, verb FROM {_RELATIONS}, {_VERBS} AS verb WHERE has_table_privilege('{role}', c.oid, verb)"
        )
        return set(ask(query))

    assert rights("anon") == set()
    assert {each.partition("|")[2] for each in rights("authenticated")} == {"SELECT"}
    writing = rights("service_role")
    assert {f"{table}|{verb}" for table in TABLES for verb in "SELECT INSERT UPDATE DELETE".split()} <= writing
    assert not {each.partition("|")[2] for each in writing} & {"TRUNCATE", "REFERENCES", "TRIGGER"}
    assert {each.partition("|")[0] for each in writing} >= {*ask(f"SELECT relname FROM {_RELATIONS}")}


def test_functions_are_called_by_whom_they_are_for(ask: Ask) -> None:
    def callable_by(role: str) -> set[str]:
        return set(ask(f"SELECT proname FROM {_FUNCTIONS} WHERE has_function_privilege('{role}', oid, 'EXECUTE')"))

    assert callable_by("anon") == callable_by("public") == set()
    assert {"lsh_check", "lsh_schema_version", "lsh_tenant"} <= callable_by("authenticated")
    assert not {"lsh_prune", "lsh_schedule_prune"} & callable_by("authenticated")
    assert "lsh_schedule_prune" not in callable_by("service_role")
    settled = """coalesce(proconfig, '{}') && '{"search_path=\\"\\""}'"""
    assert ask(f"SELECT proname FROM {_FUNCTIONS} WHERE NOT {settled}") == []


# --- rows, through the gateway with real keys


def test_anon_gets_nothing(stack: Stack) -> None:
    anon = User(stack, None)
    for relation in relations(stack):
        assert anon.rows(relation) is None, relation
    for table in relations(stack, "rp"):
        assert not anon.may("POST", table, json={}), table
    for function in ("lsh_check", "lsh_prune", "lsh_schema_version", "lsh_tenant"):
        assert not anon.may("POST", f"rpc/{function}", json={}), function


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"user_metadata": {"lsh_tenant": "a"}},  # which users write themselves
        {"lsh_tenant": "a"},
        {"app_metadata": {"lsh_tenant": None}},
        {"app_metadata": "a"},
        {"app_metadata": {"lsh_tenant": "A"}},
    ],
)
def test_who_belongs_to_no_tenant_sees_nothing(stack: Stack, claims: dict[str, Any]) -> None:
    user = User(stack, claims)
    for relation in set(relations(stack)) - {"lsh_schema"}:
        assert not user.rows(relation), relation


@pytest.mark.parametrize("tenant", HOSTS)
def test_a_tenant_reads_its_own_and_writes_nothing(stack: Stack, tenant: str) -> None:
    user = User(stack, {"app_metadata": {"lsh_tenant": tenant}})
    others = [str(host) for other, host in HOSTS.items() if other != tenant]
    for relation in set(relations(stack)) - {"lsh_schema"}:
        rows = user.rows(relation)
        assert rows or relation not in TABLES, relation
        for row in rows or []:
            assert not any(other in json.dumps(row) for other in others), (relation, row)
            assert row.get("tenant", tenant) == tenant
    for table in relations(stack, "rp"):
        column = stack.sql(
            f"SELECT attname FROM pg_attribute WHERE attrelid = 'public.{table}'::regclass AND attnum = 1"
        )
        some = {column: "not.is.null"}
        assert not user.may("POST", table, json={column: None}), table
        assert not user.may("PATCH", table, params=some, json={column: None}), table
        assert not user.may("DELETE", table, params=some), table
    assert not user.may("POST", "rpc/lsh_prune", json={})


def test_the_hosts_key_reads_and_writes(stack: Stack, hosts_key: Remote) -> None:
    assert {*HOSTS} <= {row["tenant"] for row in hosts_key.select("hosts")}
    host, run = uuid.uuid4().hex, uuid.uuid4().hex
    hosts_key.upsert("hosts", [{"id": host, "name": "new", "last_seen_at": "now"}], on_conflict="id")
    told = {"host": host, "id": run, "job": "x", "unit": "lsh-x.service", "metrics": {"rows": 1.5}}
    for result in (None, "success", "success"):
        hosts_key.upsert("runs", [{**told, "result": result}], on_conflict="host,id")
    hosts_key.upsert("run_output", [{"host": host, "run": run, "output": "né"}], on_conflict="host,run")
    [job] = hosts_key.select("shell_jobs", where=[("id", "eq", run)])
    assert (job["status"], job["output"]) == ("completed", "né")
    stack.sql(f"DELETE FROM hosts WHERE id = '{host}'", role="service_role")
    assert list(hosts_key.select("run_output", where=[("host", "eq", host)])) == []


# --- retention


def test_retention(project: Stack, hosts_key: Remote) -> None:
    host = uuid.uuid4()
    project.sql(
        f"""CREATE TEMPORARY TABLE times (at) AS
            SELECT now() - days * interval '1 day' FROM unnest(ARRAY[100, 100, 100, 40, 0]) AS days;
        INSERT INTO hosts (id, name) VALUES ('{host}', 'old');
        INSERT INTO runs (host, id, job, unit, started_at, received_at)
            SELECT '{host}', gen_random_uuid(), 'x', 'x', at, at FROM times;
        INSERT INTO runs (host, id, job, unit, received_at)
            VALUES ('{host}', gen_random_uuid(), 'x', 'x', now() - interval '100 days');
        INSERT INTO run_output (host, run, output, received_at)
            SELECT host, id, 'x', received_at FROM runs WHERE host = '{host}';
        INSERT INTO audit (host, id, at, verb, actor, uid, via)
            SELECT '{host}', gen_random_uuid(), at, 'set', 'root', 0, 'cli' FROM times;"""
    )

    def left() -> list[int]:
        tables = ("runs", "run_output", "audit")
        return [int(project.sql(f"SELECT count(*) FROM {table} WHERE host = '{host}'")) for table in tables]

    told = [hosts_key.rpc("lsh_prune", {"most": 2}) for _ in range(4)]
    assert (told[0]["more"], told[0]["runs"], told[0]["outputs"]) == (True, 3, 2)
    assert (sum(each["runs"] for each in told), told[-1]["more"]) == (4, False)
    assert left() == [2, 1, 5]
    assert hosts_key.rpc("lsh_prune", {"runs_days": 30, "audit_days": 90})["more"] is False
    assert left() == [1, 1, 2]
    assert project.sql("SELECT lsh_schedule_prune()") == "f"  # no pg_cron here
    with pytest.raises(RuntimeError, match="1 or more"):
        project.sql("SELECT lsh_prune(runs_days => 0)")
