"""lshctl add."""

import time
from typing import Any

import click

from lsh_systemd.cli.checking import checked
from lsh_systemd.cli.common import App, dry_run_option, json_option, print_json, warn_of_limits, with_app
from lsh_systemd.cli.option_table import GroupedCommand, job_options
from lsh_systemd.cli.options import command_from, plain_from
from lsh_systemd.cli.table import local_time, relative
from lsh_systemd.job import Job
from lsh_systemd.jobfile import from_plain
from lsh_systemd.text import escape_controls


@click.command("add", cls=GroupedCommand)
@click.argument("name")
@click.argument("command", nargs=-1, required=True)
@job_options
@click.option("--transient", is_flag=True, help="Until the next reboot only.")
@click.option("--disabled", is_flag=True, help="Make the job, but let its schedule rest.")
@dry_run_option
@json_option
@with_app
def add_command(
    app: App,
    name: str,
    command: tuple[str, ...],
    transient: bool,
    disabled: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Add a job.

    COMMAND is a line for /bin/sh, best in single quotes; several words are quoted for the shell.

    \b
    lshctl add "Daily Backup" --schedule "0 2 * * *" -- 'tar -czf /backups/$(date +%F).tar.gz /data'
    lshctl add heartbeat --every 5m -- curl -fsS https://example.org/ping
    """
    no_shell = bool(options["no_shell"])
    job = from_plain({"name": name, "command": command_from(command, no_shell=no_shell), **plain_from(options)})
    job = checked(job, app.scope)
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
