"""lshctl audit."""

import json

import click

from lsh_systemd.audit import Change
from lsh_systemd.cli.common import App, complete_jobs, json_option, print_json, with_app
from lsh_systemd.cli.history import usec_of
from lsh_systemd.cli.table import local_time, print_table
from lsh_systemd.job import job_id


@click.command("audit")
@click.argument("name", metavar="[JOB]", required=False, shell_complete=complete_jobs)
@click.option("--since", metavar="TIME", help="Only changes made then or later: 'yesterday', '-2h'.")
@click.option(
    "--limit", type=click.IntRange(min=0, max=2**53), default=20, show_default=True, help="The newest; 0 is all."
)
@json_option
@with_app
def audit_command(app: App, name: str | None, since: str | None, limit: int, as_json: bool) -> None:
    """Show who changed which job when and how, the newest first."""
    since_usec = usec_of(since)
    wanted = None if name is None else job_id(name)
    changes = app.store.changes(job=wanted, since_usec=since_usec, limit=limit)
    if name is not None and not changes and not app.store.changes(job=wanted, limit=1):
        app.jobs.get(name)
    if as_json:
        print_json([change.to_json() for change in changes])
    elif changes:
        print_table(["AT", "WHO", "DID", "JOB", "WHAT"], [_row(change) for change in changes])
    else:
        click.echo("No changes are known.")


def _row(change: Change) -> list[str]:
    told = [f"{name}: {_shown(old)} → {_shown(new)}" for name, (old, new) in json.loads(change.difference).items()]
    who = change.actor if change.via == "cli" else f"{change.actor} ({change.via})"
    return [local_time(change.at_usec), who, change.verb, change.job or "-", "; ".join(told) or "-"]


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
