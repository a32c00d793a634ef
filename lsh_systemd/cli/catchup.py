"""lshctl catch-up."""

import click

from lsh_systemd.cli.common import App, with_app
from lsh_systemd.cli.table import local_time


@click.command("catch-up")
@click.option("--dry-run", is_flag=True, help="Show what was missed; start nothing.")
@with_app
def catch_up_command(app: App, dry_run: bool) -> None:
    """Make up for times missed while the machine was off.

    lsh-catch-up.service calls it at boot. It is for jobs with --catch-up all, or with --catch-up-spread; those with
    --catch-up once alone are systemd's.
    """
    from lsh_systemd import catchup
    from lsh_systemd.trust import called_by_systemd

    waiting = list(catchup.backlogs(app.control, app.store))
    missed = [each for each in waiting if each.due]
    for each in missed:
        times = local_time(each.due[0]) + (f" to {local_time(each.due[-1])}" if len(each.due) > 1 else "")
        delay = f", from {round(each.delay.total_seconds())} s after now" if each.delay else ""
        click.echo(f"{each.found.id}: {len(each.due)} missed ({times}){delay}")
    if not missed:
        click.echo("Nothing was missed.")
    if not dry_run:
        catchup.resume_retries(app.control)
        catchup.run(app.control, waiting, by=None if called_by_systemd() else app.actor.name)
