"""Those of lsh's commands that are more than one of lshctl's under another name."""

import click

from lsh_systemd.cli import agent, report
from lsh_systemd.cli.common import App, json_option, with_app
from lsh_systemd.cli.history import since_option, until_option
from lsh_systemd.lsh.words import id_of


@click.command("stop")
@with_app
def stop_command(app: App) -> None:
    """End the agent, which is all there is of a daemon. Jobs go on: systemd starts them."""
    click.get_current_context().invoke(agent.disable_command, own_scope=str(app.scope))
    click.echo("Jobs go on: systemd starts them. lshctl disable JOB lets one rest.", err=True)


@click.command("restart")
@with_app
def restart_command(app: App) -> None:
    """Restart the agent. Jobs and their runs are not touched."""
    context = click.get_current_context()
    context.invoke(agent.disable_command, own_scope=str(app.scope))
    context.invoke(agent.enable_command, own_scope=str(app.scope))


@click.command("stats")
@click.option("--job-id", metavar="JOB", help="Of this job only, and over all its runs.")
@since_option
@until_option
@json_option
@with_app
def stats_command(app: App, job_id: str | None, since: str | None, until: str | None, as_json: bool) -> None:
    """Show how all jobs together have done, or how one has."""
    context = click.get_current_context()
    asked = {"since": since, "until": until, "as_json": as_json, "own_scope": str(app.scope)}
    if job_id is None:
        context.invoke(report.stats_command, **asked)
    else:
        context.invoke(report.report_command, name=id_of(job_id, str(app.scope)), **asked)
