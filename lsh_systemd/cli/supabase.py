"""lshctl supabase."""

import os

import click

from lsh_systemd.cli.common import App, dry_run_option, json_option, print_json, with_app
from lsh_systemd.text import escape_controls


@click.group("supabase")
def supabase_command() -> None:
    """Prepare and check the Supabase project that hosts report to.

    \b
    export SUPABASE_DB_URL='postgresql://postgres:…@db.abcdefgh.supabase.co:5432/postgres'
    lshctl supabase migrate
    lshctl supabase test
    """


@supabase_command.command("schema")
@json_option
def schema_command(as_json: bool) -> None:
    """Print the tables, views, functions and rights, as SQL.

    `supabase migrate` applies it. It may also be pasted into the project's SQL editor, as a whole and once: `migrate`
    will know, and apply later versions only.
    """
    from lsh_systemd import schema

    migrations = schema.bundled()
    if as_json:
        print_json([{"version": each.version, "name": each.name, "sql": each.sql} for each in migrations])
        return
    for each in migrations:
        click.echo(f"-- {each.file}\n{each.sql}")


@supabase_command.command("migrate")
@dry_run_option
@json_option
def migrate_command(dry_run: bool, as_json: bool) -> None:
    """Apply what the database lacks of the schema, over SUPABASE_DB_URL.

    It needs psql (Debian: postgresql-client) and the database's own URL with its password, which Supabase shows under
    Connect; hosts need neither. What was applied is recorded as the supabase command line records it.
    """
    from lsh_systemd import schema
    from lsh_systemd.errors import BadInput

    url = os.environ.get(schema.URL_VARIABLE)
    if not url:
        hint = f"export {schema.URL_VARIABLE}='postgresql://postgres:…@db.abcdefgh.supabase.co:5432/postgres'"
        raise BadInput(f"{schema.URL_VARIABLE} is not set", hint=hint)
    steps = []
    for step in schema.Schema(url).migrate(schema.bundled(), dry_run=dry_run):
        steps.append(step)
        if not as_json:
            click.echo(f"{f'Would have {step.done}' if dry_run else step.done.capitalize()} {step.migration.file}.")
        for remark in step.remarks:
            click.echo(f"lshctl: {escape_controls(remark, keep='')}", err=True)
    if as_json:
        print_json(
            [{"version": each.migration.version, "name": each.migration.name, "done": each.done} for each in steps]
        )
    elif not steps:
        click.echo("The schema is up to date.")


@supabase_command.command("test")
@json_option
@with_app
def test_command(app: App, as_json: bool) -> None:
    """Check the project's URL, key, schema and rights, and the clock. Exits with 1 where something does not work."""
    from lsh_systemd.cli.doctor import show_findings
    from lsh_systemd.standing import examine

    show_findings(examine(app.scope), as_json=as_json)
