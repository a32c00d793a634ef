"""The schema in a Supabase project's database: the migrations that lshctl brings, applied through psql.

Supabase's own CLI looks into ``supabase_migrations.schema_migrations`` for what has been applied; ``lsh_schema`` tells
our migrations from the project's own, by whichever way they came.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from lsh_systemd.errors import BadInput, LshError

URL_VARIABLE = "SUPABASE_DB_URL"
_FOLDER = Path(__file__).parent / "supabase_migrations"
_FILE = re.compile(r"([0-9]{14})_([a-z0-9_]+)\.sql")
# A password with an @ or a / in it is taken as it is meant.
_URL = re.compile(r"(?P<before>postgres(?:ql)?://[^:@/?#\s]*)(?::(?P<password>.*)(?=@))?(?P<after>@?[^@\s]*)")
# What needs no TLS: libpq's own default would let anybody on the way switch it off.
_LOCAL = re.compile(r"postgres(ql)?://([^@]*@)?(localhost|127\.0\.0\.1|\[::1\])?(:[0-9]*)?([/?].*)?")
# Of the session, not of a transaction: what a project sets for its roles would end a long migration.
_SETTINGS = "SET client_min_messages = warning; SET statement_timeout = 0;"
APPLIED, RECORDED = "applied", "recorded"
# Any number that nobody else has: who migrates holds it. Of the transaction, so that a pooler's session will do.
_LOCK = "SELECT pg_advisory_xact_lock(7308332214529) \\g /dev/null"
_RECORD = """CREATE SCHEMA IF NOT EXISTS supabase_migrations;
CREATE TABLE IF NOT EXISTS supabase_migrations.schema_migrations (version text NOT NULL PRIMARY KEY);
ALTER TABLE supabase_migrations.schema_migrations
    ADD COLUMN IF NOT EXISTS statements text[], ADD COLUMN IF NOT EXISTS name text;"""
# psql's exit status where there was no connection.
_NO_CONNECTION = 2


@dataclass(frozen=True)
class Migration:
    """One file: ``version`` are the 14 digits that its name begins with."""

    version: str
    name: str
    sql: str

    @property
    def file(self) -> str:
        return f"{self.version}_{self.name}.sql"


@dataclass(frozen=True)
class Applied:
    """What a database has: the versions recorded, of anybody's migrations, and those of ours that say so themselves."""

    recorded: frozenset[str]
    ours: frozenset[str]


@dataclass(frozen=True)
class Step:
    """A migration, what was done with it (``recorded``: it was there already), and the database's remarks."""

    migration: Migration
    done: str
    remarks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, str]:
        """The shape that ``supabase migrate --json`` promises."""
        return {"version": self.migration.version, "name": self.migration.name, "done": self.done}


def bundled(folder: Path = _FOLDER) -> list[Migration]:
    """The migrations that this version brings, in their order."""
    found = [(match, path) for path in sorted(folder.iterdir()) if (match := _FILE.fullmatch(path.name))]
    return [Migration(match[1], match[2], path.read_text()) for match, path in found]


def newest(migrations: Iterable[Migration]) -> str:
    return max(each.version for each in migrations)


def without_password(url: str) -> tuple[str, str]:
    """The URL of a database without its password, and that. Raises BadInput, which does not repeat either.

    Supabase shows ``postgresql://postgres:[YOUR-PASSWORD]@…``: one that was put there as it is, with an @, will do.
    """
    match = _URL.fullmatch(url.strip())
    if not match or re.search(r"[?&](ssl)?password=", match["after"]):
        hint = "postgresql://postgres:PASSWORD@db.abcdefgh.supabase.co:5432/postgres"
        raise BadInput(f"{URL_VARIABLE} is not a database's URL", hint=hint)
    return match["before"] + match["after"], unquote(match["password"] or "")


class Schema:
    """The schema of one database, given as SUPABASE_DB_URL has it.

    The password goes to psql by its environment: a command line can be read by everybody.
    """

    def __init__(self, url: str) -> None:
        self._url, self._password = without_password(url)

    def applied(self) -> Applied:
        """What there is. Raises LshError where the database cannot be asked."""
        tables = {"recorded": "supabase_migrations.schema_migrations", "ours": "public.lsh_schema"}
        lines = self._psql("\n".join(_reading(*each) for each in tables.items()))[0].splitlines()
        told = [line.partition(" ") for line in lines]
        return Applied(**{name: frozenset(version for each, _, version in told if each == name) for name in tables})

    def migrate(self, migrations: list[Migration], *, dry_run: bool = False) -> Iterator[Step]:
        """Apply what is missing: each migration in a transaction of its own, which also records it; one caller at a
        time. Yields what was done, or with ``dry_run`` would be.

        Raises LshError for a database with a newer schema than ours, and where one fails: that one leaves nothing.
        """
        known, applied = newest(migrations), self.applied()
        if any(version > known for version in applied.ours):
            message = f"the database's schema ({max(applied.ours)}) is newer than this lshctl's ({known})"
            raise LshError(message, hint="update lsh-systemd")
        for each in migrations:
            if each.version in applied.recorded:
                continue
            if dry_run:
                yield Step(each, RECORDED if each.version in applied.ours else APPLIED)
                continue
            out, remarks = self._psql(_script(each), what=each.file)
            if out.strip():  # else somebody else was quicker
                yield Step(each, out.strip(), remarks)

    def _psql(self, script: str, *, what: str = "") -> tuple[str, tuple[str, ...]]:
        """What it prints, and the notices."""
        program = shutil.which("psql")
        if program is None:
            raise LshError("psql is not installed", hint="apt install postgresql-client")
        command = [program, "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--no-password"]
        command += ["--set=ON_ERROR_STOP=1", f"--dbname={self._url}", "--file=-"]
        environ = self._environment(os.environ)
        done = subprocess.run(command, input=script.encode(), env=environ, capture_output=True, check=False)
        lines = [_tidy(line) for line in done.stderr.decode(errors="replace").splitlines()]
        if done.returncode == 0:
            remarks = (line.removeprefix("NOTICE:").strip() for line in lines if line.startswith("NOTICE:"))
            return done.stdout.decode(errors="replace"), tuple(remarks)
        errors = [line for line in lines if "ERROR:" in line or "FATAL:" in line]
        reason = re.sub(r"^(psql: error|.*?(ERROR|FATAL)): +", "", (errors or lines or ["psql failed"])[0])[:300]
        if done.returncode == _NO_CONNECTION:
            raise LshError(
                f"cannot reach the database: {reason}", hint=f"is {URL_VARIABLE} right, and the password in it?"
            )
        raise LshError(f"{what or 'the schema'}: {reason}", hint="nothing of it was applied")

    def _environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        secret = {"PGPASSWORD": self._password} if self._password else {}
        kept = {name: value for name, value in environ.items() if name != URL_VARIABLE}
        if not _LOCAL.fullmatch(self._url):
            kept = {"PGSSLMODE": "require", **kept}
        return {"PGCONNECT_TIMEOUT": "10", **kept, **secret, "PGAPPNAME": "lshctl", "LC_ALL": "C.UTF-8"}


def _reading(name: str, table: str) -> str:
    return f"""SELECT to_regclass('{table}') IS NOT NULL AS there \\gset
\\if :there
SELECT '{name} ' || version FROM {table};
\\endif"""


def _script(migration: Migration) -> str:
    """psql's commands that apply it, or only record it, and print which; or nothing where that was done meanwhile."""
    version = _literal(migration.version)
    return f"""{_SETTINGS}
BEGIN;
{_LOCK}
{_RECORD}
SELECT to_regclass('public.lsh_schema') IS NOT NULL AS ours,
    EXISTS (SELECT FROM supabase_migrations.schema_migrations WHERE version = {version}) AS recorded \\gset
\\set there false
\\if :ours
SELECT EXISTS (SELECT FROM public.lsh_schema WHERE version = {version}) AS there \\gset
\\endif
\\if :recorded
\\else
\\if :there
\\echo {RECORDED}
\\else
SET LOCAL client_min_messages = notice;
\\o /dev/null
{migration.sql}
\\o
\\echo {APPLIED}
\\endif
INSERT INTO supabase_migrations.schema_migrations (version, statements, name)
    VALUES ({version}, ARRAY[{_literal(migration.sql)}], {_literal(migration.name)});
NOTIFY pgrst, 'reload schema';
\\endif
COMMIT;
"""


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _tidy(line: str) -> str:
    """ "psql:<stdin>:17: ERROR:  no" → "ERROR:  no"."""
    return re.sub(r"^psql:\S+: (?=[A-Z]+:)", "", line)
