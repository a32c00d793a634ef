"""`lshctl supabase schema`, `migrate` and `test`, on real databases: empty, older, newer, shared and broken."""

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from lsh_systemd.errors import LshError
from lsh_systemd.schema import Migration, Schema, Step, bundled
from tests.supabase.stack import Stack

ALL = bundled()
PASSWORD = "p@ss/w%20rd: x"

NewDatabase = Callable[[], str]


@pytest.fixture
def new_database(project: Stack) -> NewDatabase:
    """Makes an empty one, and gives its URL: that of an owner who, as on hosted projects, is no superuser."""

    def make() -> str:
        name = f"test_{uuid.uuid4().hex}"
        if project.sql("SELECT 1 FROM pg_roles WHERE rolname = 'an_owner'") == "":
            project.sql("CREATE ROLE an_owner LOGIN CREATEROLE BYPASSRLS")
        project.sql(f"CREATE DATABASE {name} OWNER an_owner")
        return f"postgresql://an_owner:{PASSWORD}@127.0.0.1:{project.port}/{name}"

    return make


def _ask(project: Stack, url: str, question: str) -> str:
    return project.sql(f"\\connect {url.rpartition('/')[2]}\n{question}")


def _dump(project: Stack, url: str) -> str:
    """All that stands in public, in words."""
    target = f"{project.db_url.rpartition('/')[0]}/{url.rpartition('/')[2]}"
    command = ["pg_dump", "--schema-only", "--schema=public", target]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith("\\"))  # but its \restrict KEY


def _lshctl(*words: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SUPABASE_")}
    command = [sys.executable, "-m", "lsh_systemd.cli", "supabase", *words]
    return subprocess.run(command, env={**kept, **environ}, capture_output=True, text=True, check=False)


def _done(steps: list[Step]) -> list[tuple[str, str]]:
    return [(step.migration.version, step.done) for step in steps]


def test_an_empty_database_and_again(project: Stack, new_database: NewDatabase) -> None:
    url = new_database()
    planned = _lshctl("migrate", "--dry-run", SUPABASE_DB_URL=url)
    assert planned.stdout.splitlines() == [f"Would have applied {each.file}." for each in ALL]
    assert _ask(project, url, "SELECT to_regclass('runs') IS NULL") == "t"
    first = _lshctl("migrate", "--json", SUPABASE_DB_URL=url)
    assert [(each["version"], each["done"]) for each in json.loads(first.stdout)] == [
        (each.version, "applied") for each in ALL
    ], first.stderr
    assert _lshctl("migrate", SUPABASE_DB_URL=url).stdout == "The schema is up to date.\n"
    assert _ask(project, url, "SELECT lsh_schema_version()") == ALL[-1].version


def test_the_record_is_as_supabase_s_own_command_line_keeps_it(project: Stack, new_database: NewDatabase) -> None:
    url = new_database()
    list(Schema(url).migrate(ALL))
    shape = """SELECT string_agg(attname || ' ' || format_type(atttypid, NULL), ', ' ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = 'supabase_migrations.schema_migrations'::regclass AND attnum > 0"""
    assert _ask(project, url, shape) == "version text, statements text[], name text"
    rows = _ask(project, url, "SELECT version, name FROM supabase_migrations.schema_migrations ORDER BY version")
    assert rows.splitlines() == [f"{each.version}|{each.name}" for each in ALL]
    told = "SELECT array_to_string(statements, ';') FROM supabase_migrations.schema_migrations ORDER BY version LIMIT 1"
    assert _ask(project, url, told) == ALL[0].sql.rstrip("\n")


def test_a_record_that_is_there_already_is_gone_on_with(project: Stack, new_database: NewDatabase) -> None:
    url = new_database()
    before = """CREATE SCHEMA supabase_migrations AUTHORIZATION an_owner;
        CREATE TABLE supabase_migrations.schema_migrations (version text PRIMARY KEY);
        ALTER TABLE supabase_migrations.schema_migrations OWNER TO an_owner;
        INSERT INTO supabase_migrations.schema_migrations VALUES ('20250130000011');"""
    _ask(project, url, before)  # of an old command line, with a migration of the project's own
    assert len(list(Schema(url).migrate(ALL))) == len(ALL)
    assert _ask(project, url, "SELECT count(*) FROM supabase_migrations.schema_migrations") == str(len(ALL) + 1)


@pytest.mark.parametrize("count", range(1, len(ALL)))
def test_from_each_earlier_version(project: Stack, new_database: NewDatabase, count: int) -> None:
    url, fresh = new_database(), new_database()
    assert len(list(Schema(url).migrate(ALL[:count]))) == count
    assert _done(list(Schema(url).migrate(ALL))) == [(each.version, "applied") for each in ALL[count:]]
    list(Schema(fresh).migrate(ALL))
    assert _dump(project, url) == _dump(project, fresh)


def test_what_was_pasted_is_only_recorded(project: Stack, new_database: NewDatabase) -> None:
    url = new_database()
    printed = _lshctl("schema").stdout
    told = json.loads(_lshctl("schema", "--json").stdout)
    assert [(each["version"], each["sql"] in printed) for each in told] == [(each.version, True) for each in ALL]
    _ask(project, url, f"BEGIN;\n{printed}\nCOMMIT;\nALTER TABLE lsh_schema OWNER TO an_owner;")
    assert _done(list(Schema(url).migrate(ALL, dry_run=True))) == [(each.version, "recorded") for each in ALL]
    assert _done(list(Schema(url).migrate(ALL))) == [(each.version, "recorded") for each in ALL]
    assert list(Schema(url).migrate(ALL)) == []


def test_several_at_once_do_it_once(new_database: NewDatabase) -> None:
    url = new_database()
    done: list[tuple[str, str]] = []
    threads = [threading.Thread(target=lambda: done.extend(_done(list(Schema(url).migrate(ALL))))) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(done) == [(each.version, "applied") for each in ALL]


def test_one_that_fails_leaves_nothing(project: Stack, new_database: NewDatabase) -> None:
    url = new_database()
    broken = Migration("20991231000000", "broken", "CREATE TABLE half (id int);\nINSERT INTO nowhere VALUES (1);\n")
    with pytest.raises(LshError, match='relation "nowhere" does not exist') as caught:
        list(Schema(url).migrate([*ALL, broken]))
    assert caught.value.hint == "nothing of it was applied"
    assert _ask(project, url, "SELECT to_regclass('half') IS NULL, lsh_schema_version()") == f"t|{ALL[-1].version}"
    assert list(Schema(url).migrate(ALL)) == []


def test_a_newer_schema_is_left_alone(project: Stack, new_database: NewDatabase) -> None:
    url = new_database()
    list(Schema(url).migrate(ALL[:1]))
    _ask(project, url, "INSERT INTO lsh_schema VALUES ('20991231000000')")
    refused = _lshctl("migrate", SUPABASE_DB_URL=url)
    assert (refused.returncode, "newer than this lshctl" in refused.stderr) == (1, True)
    assert _ask(project, url, "SELECT to_regclass('shell_jobs') IS NULL") == "t"


def test_tables_that_dashboards_have_stay(project: Stack, new_database: NewDatabase) -> None:
    url = new_database()
    _ask(project, url, 'CREATE TABLE "cronJob" (id int); CREATE TABLE shell_jobs (id int)')
    done = _lshctl("migrate", SUPABASE_DB_URL=url)
    assert done.returncode == 0, done.stderr
    assert "public.shell_jobs is there already and is left as it is" in done.stderr
    assert _ask(project, url, "SELECT relkind FROM pg_class WHERE relname = 'cronJob'") == "r"
    assert _ask(project, url, "SELECT relkind FROM pg_class WHERE relname = 'cronJobConfig'") == "v"


def test_the_password_is_in_no_command_line_and_no_error(project: Stack, new_database: NewDatabase) -> None:
    url = new_database()
    blocking = subprocess.Popen(
        ["psql", "-qAtX", "-d", f"{project.db_url.rpartition('/')[0]}/{url.rpartition('/')[2]}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert blocking.stdin and blocking.stdout
    blocking.stdin.write("SELECT pg_advisory_lock(7308332214529);\nSELECT 'locked';\n")
    blocking.stdin.flush()
    assert blocking.stdout.readline() == "\n" and blocking.stdout.readline() == "locked\n"
    migrating = threading.Thread(target=lambda: list(Schema(url).migrate(ALL)))
    migrating.start()
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND application_name = 'lshctl'"
    while project.sql(waiting) == "0":
        time.sleep(0.05)
    seen = {path.parent: path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()}
    ours = [process for process, words in seen.items() if url.rpartition("/")[2].encode() in words]
    assert any(
        f"PGPASSWORD={PASSWORD.replace('%20', ' ')}".encode() in (each / "environ").read_bytes() for each in ours
    )
    assert not any(b"p@ss" in words or b"p%40ss" in words for words in seen.values())
    blocking.stdin.close()
    blocking.wait()
    migrating.join()
    away = _lshctl("migrate", SUPABASE_DB_URL=f"postgresql://x:{PASSWORD}@127.0.0.1:1/y")
    assert (away.returncode, "p@ss" in away.stderr) == (1, False)
    assert "Connection refused" in away.stderr


@pytest.mark.parametrize(
    "url", ["", "nonsense", "postgresql://u@h/d?password=secret", "host=h password=secret", "https://h"]
)
def test_what_is_no_database(url: str) -> None:
    refused = _lshctl("migrate", SUPABASE_DB_URL=url)
    assert (refused.returncode, "secret" in refused.stderr, len(refused.stderr.splitlines())) == (2, False, 2)


def test_over_a_network_there_is_tls_or_nothing(project: Stack, new_database: NewDatabase) -> None:
    url = new_database().replace("@127.0.0.1:", "@127.1:")  # the same, by a name that does not say so
    refused = _lshctl("migrate", SUPABASE_DB_URL=url)
    assert (refused.returncode, "does not support SSL, but SSL was required" in refused.stderr) == (1, True)
    assert _lshctl("migrate", SUPABASE_DB_URL=f"{url}?sslmode=disable").returncode == 0


# --- supabase test


def _test(**environ: str) -> tuple[int, dict[str, str]]:
    done = _lshctl("test", "--json", **environ)
    findings = json.loads(done.stdout)
    assert all(each["fix"] for each in findings if each["level"] != "ok")
    return done.returncode, {each["check"]: each["level"] for each in findings}


def test_all_is_well(project: Stack) -> None:
    status, found = _test(SUPABASE_URL=project.url, SUPABASE_SECRET_KEY=project.secret_key)
    assert (status, found) == (0, dict.fromkeys(("project", "answer", "schema", "rights", "clock"), "ok"))
    told = _lshctl("test", SUPABASE_URL=project.url, SUPABASE_SERVICE_ROLE_KEY=project.service_role_key)
    assert "may read and write" in told.stdout
    assert project.service_role_key not in told.stdout + told.stderr


def test_what_is_wrong_is_named(project: Stack, supabase: Stack) -> None:
    wrong = {
        "project": {"SUPABASE_URL": "ftp://x", "SUPABASE_SECRET_KEY": "x"},
        "answer": {"SUPABASE_URL": "http://127.0.0.1:1", "SUPABASE_SECRET_KEY": "x"},
        "key": {"SUPABASE_URL": project.url, "SUPABASE_SECRET_KEY": "sb_secret_nobody"},
        "rights": {"SUPABASE_URL": project.url, "SUPABASE_ANON_KEY": project.anon_key},
        "schema": {"SUPABASE_URL": supabase.url, "SUPABASE_SECRET_KEY": supabase.secret_key},
    }
    for check, environ in wrong.items():
        status, found = _test(**environ)
        assert (status, [each for each, level in found.items() if level == "error"]) == (1, [check]), check


def test_a_schema_behind_or_ahead_and_a_right_that_is_missing(project: Stack) -> None:
    environ = {"SUPABASE_URL": project.url, "SUPABASE_SECRET_KEY": project.secret_key}
    newest = ALL[-1].version
    try:
        project.sql(f"DELETE FROM lsh_schema WHERE version = '{newest}'; REVOKE DELETE ON runs FROM service_role")
        status, found = _test(**environ)
        assert (status, found["schema"], found["rights"]) == (1, "error", "error")
    finally:
        project.sql(f"INSERT INTO lsh_schema VALUES ('{newest}'); GRANT DELETE ON runs TO service_role")
    try:
        project.sql("INSERT INTO lsh_schema VALUES ('20991231000000')")
        status, found = _test(**environ)
        assert (status, found["schema"], found["rights"]) == (0, "warning", "ok")
    finally:
        project.sql("DELETE FROM lsh_schema WHERE version = '20991231000000'")
