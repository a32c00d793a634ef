"""lshctl agent."""

import click

from lsh_systemd.cli.common import App, json_option, print_json, with_app
from lsh_systemd.errors import LshError


@click.group("agent")
def agent_command() -> None:
    """Care for the agent that keeps the ledger up to date."""


@agent_command.command("enable")
@with_app
def enable_command(app: App) -> None:
    """Have the agent run, now and after a reboot."""
    from lsh_systemd import daemons

    state = daemons.enable(app.manager)
    if state != "active":
        raise LshError(f"the agent did not start ({state})", hint=f"journalctl --{app.scope} -u {daemons.AGENT}")
    click.echo("The agent runs.")


@agent_command.command("disable")
@with_app
def disable_command(app: App) -> None:
    """End the agent; lshctl then collects by itself when it shows runs."""
    from lsh_systemd import daemons

    daemons.disable(app.manager)
    click.echo("The agent is off.")


@agent_command.command("status")
@json_option
@with_app
def status_command(app: App, as_json: bool) -> None:
    """Say whether the agent runs."""
    from lsh_systemd import daemons
    from lsh_systemd.manager import UNIT

    state = str(app.manager.get(daemons.AGENT, UNIT, "ActiveState"))
    if as_json:
        print_json({"state": state})
    else:
        click.echo(f"The agent is {state}.")


@agent_command.command("run", hidden=True)
@with_app
def run_command(app: App) -> None:
    """Be the agent: what lsh-agent.service calls."""
    from lsh_systemd import agent

    agent.run(app.scope)


@agent_command.command("collect", hidden=True)
@with_app
def collect_command(app: App) -> None:
    """Bring the ledger up to date: what the HTTP API calls where no agent does it."""
    app.store.close()
