"""lshctl queue and limits."""

import time
from datetime import datetime
from typing import Any

import click

from lsh_systemd.cli.common import App, complete_jobs, dry_run_option, json_option, print_json, with_app, with_app_of
from lsh_systemd.cli.table import duration, local_time, print_table
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.queue import Entry, Queue
from lsh_systemd.run import rfc3339
from lsh_systemd.text import visible


@click.group("queue", invoke_without_command=True)
@json_option
@with_app
def queue_command(app: App, as_json: bool) -> None:
    """Show what runs and what waits for a cap."""
    if click.get_current_context().invoked_subcommand:
        return
    rows = _rows(app)
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo("Nothing runs, and nothing waits.")
        return
    shown = [
        [row["job"], row["state"], _local(row["since"]), duration(row["seconds"]), row["waits_for"] or "-"]
        for row in rows
    ]
    print_table(["JOB", "STATE", "SINCE", "FOR", "WAITS FOR"], shown, state_column=1)


def _local(since: str | None) -> str:
    return local_time(round(datetime.fromisoformat(since).timestamp() * 1e6) if since else None)


def _rows(app: App) -> list[dict[str, Any]]:
    from lsh_systemd.dispatch import overview

    now = time.time_ns() // 1000
    return [
        {
            "job": each.job,
            "state": each.state,
            "position": each.position,
            "since": rfc3339(each.since_usec),
            "seconds": max(0, now - each.since_usec) / 1e6 if each.since_usec else 0,
            "trigger": each.trigger,
            "waits_for": each.waits_for,
        }
        for each in overview(app.control)
    ]


@queue_command.command("remove")
@click.argument("names", metavar="JOB...", nargs=-1, required=True, shell_complete=complete_jobs)
@dry_run_option
@with_app
def remove_command(app: App, names: tuple[str, ...], dry_run: bool) -> None:
    """Take waiting runs out of the queue: they are not made."""
    queue = Queue(app.scope)
    for entry in _waiting(app, queue, names):
        if dry_run:
            click.echo(f"Would take {entry.job} out of the queue.")
        elif queue.remove(entry):
            click.echo(f"{entry.job} waits no more.")
        else:
            click.echo(f"{entry.job} has just been started.")


@queue_command.command("promote")
@click.argument("names", metavar="JOB...", nargs=-1, required=True, shell_complete=complete_jobs)
@dry_run_option
@with_app
def promote_command(app: App, names: tuple[str, ...], dry_run: bool) -> None:
    """Put waiting runs before all others."""
    queue = Queue(app.scope)
    for entry in _waiting(app, queue, names):
        if dry_run:
            click.echo(f"Would put {entry.job} before all others.")
        elif queue.promote(entry):
            click.echo(f"{entry.job} is next.")
        else:
            click.echo(f"{entry.job} has just been started.")


def _waiting(app: App, queue: Queue, names: tuple[str, ...]) -> list[Entry]:
    """The entries of these jobs, all of them or an error."""
    by_job = {entry.job: entry for entry in queue.entries()}
    found = []
    for name in names:
        job_id = name if name in by_job else app.jobs.get(name).id
        if job_id not in by_job:
            raise BadInput(f"{visible(job_id)} does not wait", hint="lshctl queue shows what does")
        found.append(by_job[job_id])
    return found


@queue_command.command("run", hidden=True)
@with_app
def run_command(app: App) -> None:
    """Start what waits: what lsh-queue.service calls."""
    from lsh_systemd.dispatch import Dispatcher

    Dispatcher(app.control).run()


@click.group("limits", invoke_without_command=True)
@json_option
@with_app
def limits_command(app: App, as_json: bool) -> None:
    """Show or set how many jobs may run at once."""
    if click.get_current_context().invoked_subcommand:
        return
    from lsh_systemd import caps

    told = caps.load(app.scope)
    if as_json:
        print_json({"global": told.total, "user": told.per_user, "groups": dict(told.groups)})
        return
    for name, cap in told.named():
        click.echo(f"{name}: {cap if cap is not None else 'no limit'}")


@limits_command.command("set")
@click.option("--global", "total", metavar="N", help="Of all jobs; none lifts the limit.")
@click.option("--user", "per_user", metavar="N", help="Of the jobs of each user that jobs run as.")
@click.option("--group", "groups", multiple=True, metavar="NAME=N", help="Of the jobs in a group; may be repeated.")
@dry_run_option
@with_app_of
def set_command(app: App, total: str | None, per_user: str | None, groups: tuple[str, ...], dry_run: bool) -> None:
    """Set how many jobs may run at once; a start beyond that waits. N is a number, or none for no limit.

    Here --user is a limit; the scope goes first: lshctl --user limits set …

    \b
    lshctl limits set --global 10 --user 2 --group db=1
    """
    from lsh_systemd import caps
    from lsh_systemd.queueing import Caps
    from lsh_systemd.refresh import change_caps

    old = caps.load(app.scope)
    new_groups: dict[str, int | None] = dict(old.groups)
    for each in groups:
        name, mark, number = each.rpartition("=")
        if not mark:
            raise BadInput(f"{visible(each)} is not of the form NAME=N", hint="--group db=1")
        new_groups[name] = _number(number)
    if total is None and per_user is None and not groups:
        raise BadInput("there is nothing to set", hint="lshctl limits set --help")
    new = Caps(
        total=old.total if total is None else _number(total),
        per_user=old.per_user if per_user is None else _number(per_user),
        groups={name: cap for name, cap in new_groups.items() if cap is not None},
    )
    if dry_run:
        for name, cap in new.named():
            click.echo(f"{name}: {cap if cap is not None else 'no limit'}")
        return
    problems = change_caps(app.control, new, app.collect)
    click.echo("Set.")
    if problems:
        raise LshError("the limits count, but not for " + "; ".join(problems))


def _number(text: str) -> int | None:
    if text == "none":
        return None
    if not text.isdecimal() or not text.isascii() or len(text) > 9:
        raise BadInput(f"{visible(text)} is neither a number nor none")
    return int(text)
