"""lshctl status."""

import time
from collections import Counter

import click

from lsh_systemd.cli.common import App, json_option, print_json, with_app


@click.command("status")
@click.option("--url", metavar="URL", envvar="LSH_API_URL", help="Of another machine, by its HTTP API (LSH_API_URL).")
@json_option
@with_app
def status_command(app: App, url: str | None, as_json: bool) -> None:
    """Say in a line how the jobs are, here or at a URL.

    At a URL, where the API is, exits with 1 where they are not looked after. Needs no key.
    """
    if url:
        from lsh_systemd.cli import overhttp

        ctx = click.get_current_context()
        ctx.invoke(overhttp.command(ctx, "status", url), as_json=as_json)
        return
    from lsh_systemd import daemons
    from lsh_systemd.manager import UNIT
    from lsh_systemd.status import overview

    states = Counter(each.state for each in overview(app.jobs.all(), manager=app.manager, last_runs={}))
    agent = str(app.manager.get(daemons.AGENT, UNIT, "ActiveState"))
    if as_json:
        print_json({"agent": agent, "jobs": dict(states), "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
        return
    told = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none"
    click.echo(f"The agent is {agent}. Jobs: {told}.")
