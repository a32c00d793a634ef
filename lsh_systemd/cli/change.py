"""lshctl set, edit, rename and remove."""

import tomllib
from typing import Any

import click

from lsh_systemd import follow
from lsh_systemd.cli.add import say_next
from lsh_systemd.cli.checking import checked
from lsh_systemd.cli.common import App, complete_jobs, dry_run_option, job_argument, warn_of_limits, with_app
from lsh_systemd.cli.option_table import GroupedCommand, job_options
from lsh_systemd.cli.options import command_from, merge, plain_from
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.job import Job
from lsh_systemd.jobfile import from_plain, to_plain
from lsh_systemd.jobs import Found
from lsh_systemd.text import escape_controls, visible
from lsh_systemd.unit import describe_changes

# Options → the fields that --unset knows.
_NAMES = {
    "tz": "timezone",
    "tag": "tags",
    "from": "anchor",
    "persistent": "catch_up",
    "secret": "secrets",
    "group": "groups",
    "param": "params",
}

force_option = click.option("--force", is_flag=True, help="Even where the unit files were edited by hand: undo that.")


@click.command("set", cls=GroupedCommand)
@job_argument
@click.argument("command", nargs=-1)
@job_options
@click.option("--unset", multiple=True, metavar="FIELD", help="Back to the default: timeout, env.NAME, tags …")
@force_option
@dry_run_option
@with_app
def set_command(
    app: App,
    name: str,
    command: tuple[str, ...],
    unset: tuple[str, ...],
    force: bool,
    dry_run: bool,
    **options: Any,
) -> None:
    """Change some of a job's settings; the rest stays. A COMMAND after -- replaces the command.

    \b
    lshctl set daily-backup --schedule "30 3 * * *" --timeout 2h
    lshctl set daily-backup --unset timeout --unset env.DEBUG
    """
    found = app.jobs.get(name)
    plain = _without(to_plain(found.valid_job), unset)
    new = plain_from(options, zone=plain.get("timezone"))
    if command:
        new["command"] = command_from(command, no_shell=bool(options["no_shell"]))
    if not new and not unset:
        raise BadInput("there is nothing to set", hint=f"lshctl set {found.id} --help")
    _apply(app, found, from_plain(merge(plain, new)), force=force, dry_run=dry_run, verb="set")


@click.command("edit")
@job_argument
@force_option
@dry_run_option
@with_app
def edit_command(app: App, name: str, force: bool, dry_run: bool) -> None:
    """Change a job's definition, as TOML, in $VISUAL or $EDITOR."""
    import tomli_w

    found = app.jobs.get(name)
    text = f"# The job {found.id}. Save to apply; leave as it is to change nothing.\n"
    text += tomli_w.dumps(to_plain(found.valid_job), multiline_strings=True)
    while True:
        edited = _in_editor(text)
        if edited is None or edited == text:
            click.echo("Nothing changed.")
            return
        text = edited
        try:
            job = from_plain(tomllib.loads(text))
            if job.id != found.id:
                raise BadInput("edit keeps the name", hint=f"lshctl rename {found.id} {job.id}")
            _apply(app, found, job, force=force, dry_run=dry_run, verb="edit")
            return
        except (ValueError, RecursionError, BadInput) as error:  # tomllib's errors are ValueErrors
            problem = error.message if isinstance(error, LshError) else str(error)
            click.echo(f"lshctl: {escape_controls(problem)}", err=True)
            if not click.confirm("Edit again?", default=True, err=True):
                raise BadInput("nothing was changed") from None


def _in_editor(text: str) -> str | None:
    try:
        edited: str | None = click.edit(text, extension=".toml", require_save=True)
    except (click.ClickException, UnicodeDecodeError) as error:
        raise LshError(f"the editor failed: {error}", hint="set EDITOR") from None
    return edited


def _apply(app: App, found: Found, job: Job, *, force: bool, dry_run: bool, verb: str) -> None:
    if job.at and job.at != found.valid_job.at:
        app.control.check_time(job)
    job = checked(job, app.scope, before=found.job)
    follow.check(app.jobs, job, old=found)
    if dry_run:
        app.control.check_secrets(job, found.job)
    changes = describe_changes(found.files, app.control.render(job))
    if dry_run:
        click.echo(escape_controls(changes) or "Nothing would change.")
        warn_of_limits(app, job)
        return
    if not changes:
        click.echo("Nothing changed.")
        return
    app.collect()  # first: what the timer started is told by the schedule it had
    next_usec = app.control.update(found, job, force=force, verb=verb)
    click.echo(f"Changed {found.id}.")
    warn_of_limits(app, job)
    enabled = app.jobs.get(found.id).pair.enabled
    say_next(job, next_usec, disabled=not enabled)


def _without(plain: dict[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    """The job's data without some of its fields; env.NAME is one variable."""
    plain = {**plain, "env": dict(plain.get("env", {}))}
    for field in fields:
        head, _, variable = field.replace("-", "_", field.count("-") if "." not in field else 0).partition(".")
        head = _NAMES.get(head, head)
        if head in ("name", "command"):
            raise BadInput(f"a job cannot be without its {head}")
        if variable and head == "env":
            if plain["env"].pop(variable, None) is None:
                raise BadInput(f"the job has no variable {visible(variable)}")
        elif plain.pop(head, None) is None:
            raise BadInput(
                f"{visible(field)} is not set", hint="set are " + ", ".join(k for k, v in plain.items() if v)
            )
    return {key: value for key, value in plain.items() if value != {}}


@click.command("rename")
@job_argument
@click.argument("new_name")
@dry_run_option
@with_app
def rename_command(app: App, name: str, new_name: str, dry_run: bool) -> None:
    """Give a job a new name; its history follows."""
    from dataclasses import replace

    from lsh_systemd.midway import carry_over

    found = app.jobs.get(name)
    job = replace(found.valid_job, name=new_name)
    if dry_run:
        app.control.check_renamed(found, job) if job.id != found.id else None
        click.echo(escape_controls(describe_changes(found.files, app.control.render(job))))
        return
    store = app.store  # collect first: what the journal holds is still under the old name
    said: list[str] = []
    renamed = app.control.rename(
        found, new_name, carry_over=lambda old, new: said.extend(carry_over(app.control, store, old, new))
    )
    click.echo(f"{found.id} is now {renamed.id}.")
    for line in said:
        click.echo(escape_controls(line, keep=""), err=True)


@click.command("remove")
@click.argument("names", metavar="JOB...", nargs=-1, required=True, shell_complete=complete_jobs)
@click.option("--force", is_flag=True, help="Even where other jobs follow them, or start them.")
@dry_run_option
@with_app
def remove_command(app: App, names: tuple[str, ...], force: bool, dry_run: bool) -> None:
    """Remove jobs: their schedules and unit files. Their runs stay on record, and one in progress goes on."""
    all_found = {found.id: found for found in map(app.jobs.get, names)}.values()
    if not force:
        follow.check_removable(app.jobs, list(all_found))
    if not dry_run:
        app.collect()  # first: a run without a record is known by its unit file alone
    for found in all_found:
        if dry_run:
            click.echo("\n".join(f"Would remove {found.dir.path / file}" for file in found.files))
            continue
        running = app.control.is_running(found)
        app.control.remove(found)
        click.echo(f"Removed {found.id}." + (" Its run in progress goes on." if running else ""))
        for path in found.drop_ins():
            click.echo(f"Left alone: {escape_controls(str(path), keep='')}")
