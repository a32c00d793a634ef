"""lshctl add."""

import time
from typing import Any

import click

from lsh_systemd.cli.checking import checked
from lsh_systemd.cli.common import App, dry_run_option, json_option, print_json, warn_of_limits, with_app
from lsh_systemd.cli.option_table import Grouped, GroupedCommand, job_options
from lsh_systemd.cli.options import command_from, plain_from
from lsh_systemd.cli.table import local_time, relative
from lsh_systemd.errors import BadInput
from lsh_systemd.job import Job
from lsh_systemd.jobfile import from_plain
from lsh_systemd.text import escape_controls, visible


@click.command("add", cls=GroupedCommand)
@click.argument("name", required=False)
@click.argument("command", nargs=-1)
@job_options
@click.option(
    "--template", cls=Grouped, group="Template", metavar="ID", help="Begin with a template of `lshctl templates list`."
)
@click.option(
    "--set",
    "values",
    cls=Grouped,
    group="Template",
    multiple=True,
    metavar="NAME=VALUE",
    help="A value that the template asks for; may be repeated.",
)
@click.option("--transient", is_flag=True, help="Until the next reboot only.")
@click.option("--disabled", is_flag=True, help="Make the job, but let its schedule rest.")
@dry_run_option
@json_option
@with_app
def add_command(
    app: App,
    name: str | None,
    command: tuple[str, ...],
    template: str | None,
    values: tuple[str, ...],
    transient: bool,
    disabled: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Add a job.

    COMMAND is a line for /bin/sh, best in single quotes; several words are quoted for the shell. A template gives name,
    command and schedule; what is said here wins over it.

    \b
    lshctl add "Daily Backup" --schedule "0 2 * * *" -- 'tar -czf /backups/$(date +%F).tar.gz /data'
    lshctl add heartbeat --every 5m -- curl -fsS https://example.org/ping
    lshctl add --template database-backup --set db=prod --dry-run
    """
    plain = plain_from(options)
    if name is not None:
        plain["name"] = name
    if command:
        plain["command"] = command_from(command, no_shell=bool(options["no_shell"]))
    if template is not None:
        plain, enabled = _from_template(app, template, values, plain)
        disabled = disabled or not enabled
    elif values:
        raise BadInput("--set goes with --template", hint="lshctl templates list")
    elif "command" not in plain:
        raise BadInput("missing argument 'COMMAND...'", hint='lshctl add NAME --schedule "0 2 * * *" -- COMMAND')
    job = checked(from_plain(plain), app.scope)
    if dry_run:
        app.control.check_new(job, transient=transient)
        print_files(app, app.control.render(job), transient=transient)
        warn_of_limits(app, job)
        return
    next_usec = app.control.add(job, enabled=not disabled, transient=transient)
    warn_of_limits(app, job)
    if as_json:
        from lsh_systemd.status import overview

        print_json(overview([app.jobs.get(job.id)], manager=app.manager, last_runs={})[0].to_detailed_json())
        return
    click.echo(f"Added {job.id} ({(*job.activators, job.unit)[0]}).")
    if transient:
        click.echo("It is transient: the next reboot ends it.")
    say_next(job, next_usec, disabled=disabled)


def _from_template(
    app: App, template_id: str, values: tuple[str, ...], own: dict[str, Any]
) -> tuple[dict[str, Any], bool]:
    """The fields of the job that the template gives, and whether its schedule counts."""
    from lsh_systemd import jobfields, specfiles

    template = specfiles.template(app.scope, template_id)
    return jobfields.instantiate(template, values_given(values), own=own)


def values_given(values: tuple[str, ...]) -> dict[str, Any]:
    """("a=1", "b=2", "b=3") → {"a": "1", "b": ["2", "3"]}."""
    given: dict[str, Any] = {}
    for text in values:
        name, mark, value = text.partition("=")
        if not mark:
            raise BadInput(f"{visible(text)} is not of the form NAME=VALUE", hint="--set NAME=VALUE")
        given[name] = (
            [*given[name], value]
            if isinstance(given.get(name), list)
            else ([given[name], value] if name in given else value)
        )
    return given


def say_next(job: Job, next_usec: int | None, *, disabled: bool) -> None:
    """Say when the job runs next, or why it does not."""
    if not job.activators:
        click.echo(f"It has no schedule: lshctl start {job.id} starts it.")
    elif disabled:
        click.echo(f"Its schedule rests: lshctl enable {job.id} wakes it.")
    elif not job.has_timer:
        from lsh_systemd.hooks import waits_for

        click.echo(f"It waits: {'; '.join(waits_for(job))}.")
    elif job.on_boot:
        click.echo("Next: at the next boot.")
    elif next_usec is None:
        click.echo("Next: not before the run in progress has ended; lshctl next tells.")
    else:
        click.echo(f"Next: {local_time(next_usec)} ({relative(next_usec, time.time_ns() // 1000)}).")


def print_files(app: App, files: dict[str, str], *, transient: bool) -> None:
    """Print unit files as `systemctl cat` does."""
    folder = app.jobs.transient if transient else app.jobs.lasting
    shown = "\n".join(f"# {folder.path / name}\n{text}" for name, text in files.items())
    click.echo(escape_controls(shown), nl=False)
