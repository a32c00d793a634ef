"""lshctl reset-stuck."""

from datetime import timedelta

import click

from lsh_systemd.cli.common import App, dry_run_option, with_app
from lsh_systemd.cli.table import duration
from lsh_systemd.span import parse_span


@click.command("reset-stuck")
@click.option("--older-than", metavar="SPAN", help="Any job's run that takes longer than this, whatever the job says.")
@dry_run_option
@with_app
def reset_stuck_command(app: App, older_than: str | None, dry_run: bool) -> None:
    """End runs that are stuck.

    That is, which take longer than their job's --stuck-after, or than --older-than.
    """
    from lsh_systemd.stuck import going

    limit = parse_span(older_than) if older_than is not None else None
    ended = 0
    for each in list(going(app.manager, app.jobs.all())):
        if not (each.stuck if limit is None else timedelta(seconds=each.seconds) >= limit):
            continue
        ended += 1
        if dry_run:
            click.echo(f"Would end {each.found.id}, which has run for {duration(each.seconds)}.")
        else:
            app.control.stop(each.found)
            click.echo(f"{each.found.id}: ended after {duration(each.seconds)}.")
    if not ended:
        click.echo("No run is stuck.")
