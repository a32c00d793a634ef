"""lshctl refresh."""

from dataclasses import replace

import click

from lsh_systemd.cli.common import App, dry_run_option, with_app
from lsh_systemd.errors import LshError
from lsh_systemd.text import escape_controls


@click.command("refresh")
@dry_run_option
@with_app
def refresh_command(app: App, dry_run: bool) -> None:
    """Render schedules anew that a new time zone, new zone rules or a new year have made stale."""
    from lsh_systemd.refresh import stale
    from lsh_systemd.trust import called_by_systemd
    from lsh_systemd.unit import describe_changes

    if called_by_systemd():
        app.actor = replace(app.actor, name="lsh-refresh")

    problems = count = 0
    for each in list(stale(app.control)):
        count += 1
        if each.problem:
            problems += 1
            click.echo(f"{each.found.id}: {escape_controls(each.problem)}", err=True)
        elif dry_run:
            click.echo(escape_controls(describe_changes(each.found.files, each.files)))
        else:
            if count == 1:
                app.collect()  # first: what the timers started is told by the schedules they had
            app.control.update(each.found, each.found.valid_job, verb="refresh")
            click.echo(f"Refreshed {each.found.id}.")
    if not count:
        click.echo("All schedules are up to date.")
    if problems:
        raise LshError(f"{problems} of {count} stale jobs could not be refreshed", hint="lshctl set or remove them")
