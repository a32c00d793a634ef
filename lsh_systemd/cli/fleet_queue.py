"""lshctl fleet enqueue, queue, cancel, limits, join and leave; and what its units call."""

import os
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lsh_systemd.cli.common import App, complete_jobs, dry_run_option, json_option, print_json, with_app, with_app_of
from lsh_systemd.cli.table import local_time, print_table
from lsh_systemd.errors import BadInput
from lsh_systemd.text import escape_controls, visible

if TYPE_CHECKING:
    from lsh_systemd.remote import Remote

F = TypeVar("F", bound=Callable[..., Any])
# As fleetorders has them; it is imported only when it is needed.
_STATES = "queued, running, succeeded, failed, lost, cancelled"


def _all(*options: Callable[[F], F]) -> Callable[[F], F]:
    """These options as one: the commands of --url have the same."""

    def give(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return give


enqueue_options = _all(
    click.option(
        "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter of the job; may be repeated."
    ),
    click.option("--host", metavar="HOST", help="Only this host, by its name or id."),
    click.option("--tag", "tags", multiple=True, metavar="TAG", help="Only a host with this tag; may be repeated."),
    click.option("--priority", type=click.IntRange(0, 10), default=5, help="The highest first; 5 where not said."),
    click.option("--at", metavar="TIME", help="Not before this time: '2027-01-31 02:00', 'tomorrow 9:00', +3h."),
    click.option("--for-user", "user", metavar="NAME", help="For whom, as the limit of each user counts; you."),
    click.option(
        "--retries", type=click.IntRange(0, 100), default=0, help="Try again so often after a failure or a loss."
    ),
    click.option("--key", metavar="TEXT", help="Add it only where there is none with this key."),
    click.option("--of-user", "owner", metavar="NAME", help="The job is this user's own, not the machine's."),
)
queue_options = _all(
    click.option("--state", "states", multiple=True, metavar="STATE", help=f"Of {_STATES}; may be repeated."),
    click.option("--all", "everything", is_flag=True, help="Those that have ended, too."),
)
limits_options = _all(
    click.option("--global", "total", metavar="N", help="Of all queued runs; none lifts the limit."),
    click.option("--user", "each_user", metavar="N", help="Of the runs of each user; 2 where nobody has said."),
)


def register(group: click.Group) -> None:
    """Put these commands into lshctl fleet."""
    for command in (
        enqueue_command,
        queue_command,
        cancel_command,
        limits_command,
        join_command,
        leave_command,
        work_command,
        due_command,
    ):
        group.add_command(command)


@click.command("enqueue")
@click.argument("job", metavar="JOB", shell_complete=complete_jobs)
@enqueue_options
@dry_run_option
@json_option
@with_app
def enqueue_command(
    app: App,
    job: str,
    params: tuple[str, ...],
    host: str | None,
    tags: tuple[str, ...],
    priority: int,
    at: str | None,
    user: str | None,
    retries: int,
    key: str | None,
    owner: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Put a run into the fleet's queue; a host that offers the job (add --from-fleet) makes it.

    \b
    lshctl fleet enqueue resize --param FILE=a.jpg --retries 2
    """
    from lsh_systemd import fleetorders

    request = fleetorders.order(
        job, by=app.actor.name, user=user, params=params_given(params), priority=priority, run_at=at, only_host=host,
        tags=tags, retries=retries, key=key, owner=owner,
    )  # fmt: skip
    if dry_run:
        click.echo(f"Would put a run of {request['p_job']} into the fleet's queue.")
        return
    told = fleetorders.add(_connect(app), request)
    print_json(told) if as_json else print_added(told, request["p_job"])


def print_added(told: dict[str, Any], job: str) -> None:
    if told["added"]:
        click.echo(escape_controls(f"Run {told['id']} of {job} is in the fleet's queue.", keep=""))
    else:
        click.echo(escape_controls(f"Run {told['id']} has that key already; nothing was added.", keep=""))


@click.command("queue")
@queue_options
@click.option("--job", metavar="JOB", shell_complete=complete_jobs, help="Of this job only.")
@click.option("--limit", type=click.IntRange(0), default=100, help="At most so many, the newest; 0 is all.")
@json_option
@with_app
def queue_command(
    app: App, states: tuple[str, ...], everything: bool, job: str | None, limit: int, as_json: bool
) -> None:
    """Show what waits in the fleet's queue, and what of it runs where."""
    from lsh_systemd import fleetorders

    rows = fleetorders.rows(_connect(app), states=states, everything=everything, job=job, limit=limit)
    print_json(rows) if as_json else print_queue(rows, usual=not (states or everything))


def print_queue(rows: list[dict[str, Any]], *, usual: bool) -> None:
    """``usual``: it was asked for what waits or runs."""
    if not rows:
        click.echo("Nothing waits, and nothing runs." if usual else "There are none.")
        return
    head = ["ID", "JOB", "STATE", "USER", "PRIORITY", "NOT BEFORE", "HOST", "ATTEMPT", "RESULT", "PARAMETERS"]
    print_table(head, [_cells(row) for row in rows], state_column=2)


@click.command("cancel")
@click.argument("number", metavar="ID", type=click.IntRange(1))
@dry_run_option
@with_app
def cancel_command(app: App, number: int, dry_run: bool) -> None:
    """Take a run out of the fleet's queue, or have its host end it."""
    if dry_run:
        click.echo(f"Would cancel run {number}.")
        return
    from lsh_systemd import fleetorders

    print_cancelled(number, fleetorders.cancel(_connect(app), number, by=app.actor.name))


def print_cancelled(number: int, state: str) -> None:
    click.echo(f"Run {number} is cancelled." if state == "cancelled" else f"The host of run {number} will end it.")


@click.command("limits")
@limits_options
@dry_run_option
@json_option
@with_app_of
def limits_command(app: App, total: str | None, each_user: str | None, dry_run: bool, as_json: bool) -> None:
    """Show or set how many runs of the fleet's queue may go on at once, on all hosts together."""
    from lsh_systemd import fleetorders

    given = limits_given(total, each_user)
    remote = _connect(app)
    if given and dry_run:
        click.echo("Would set the limits of the fleet's queue.")
        return
    told = fleetorders.limits(remote, given, by=app.actor.name)
    print_json(told) if as_json else print_limits(told)


def limits_given(total: str | None, each_user: str | None) -> dict[str, int | None]:
    given = {"global": total, "user": each_user}
    return {name: _limit(name, text) for name, text in given.items() if text is not None}


def print_limits(told: dict[str, Any]) -> None:
    for name in ("global", "user"):
        click.echo(escape_controls(f"{name}: {'no limit' if told[name] is None else told[name]}", keep=""))


@click.command("join")
@click.option("--poll", metavar="SPAN", help="How long after one look into the queue comes the next; 20s.")
@dry_run_option
@with_app
def join_command(app: App, poll: str | None, dry_run: bool) -> None:
    """Have this host make runs of the fleet's queue, of the jobs that it offers."""
    from datetime import timedelta

    from lsh_systemd import connect, daemons
    from lsh_systemd.span import check_span, parse_span

    span = parse_span(poll) if poll else None
    if span is not None:
        check_span("--poll", span, least=timedelta(seconds=1))
    connect.target(app.scope)
    if dry_run:
        click.echo("Would look into the fleet's queue from now on.")
        return
    daemons.join(app.manager, span)
    app.control.note("fleet join", "", {"poll": (None, poll)} if poll else {})
    offered = [found.id for found in app.jobs.all() if found.job and found.job.from_fleet]
    click.echo(f"This host looks into the fleet's queue ({daemons.FLEET_TIMER}).")
    click.echo(f"It offers {', '.join(offered)}." if offered else "It offers no job yet: lshctl add … --from-fleet")


@click.command("leave")
@dry_run_option
@with_app
def leave_command(app: App, dry_run: bool) -> None:
    """Take no more runs of the fleet's queue; those in progress go on to their end."""
    from lsh_systemd import daemons

    if dry_run:
        click.echo("Would look into the fleet's queue no more.")
        return
    daemons.leave(app.manager)
    app.control.note("fleet leave", "", {})
    click.echo("This host looks into the fleet's queue no more.")


@click.command("work", hidden=True)
@with_app
def work_command(app: App) -> None:
    """Make runs of the fleet's queue until there are none: what lsh-fleet.service calls."""
    from lsh_systemd import connect
    from lsh_systemd.fleetqueue import TIMEOUT_SECONDS, Worker

    Worker(app.control, connect.connect(app.scope, timeout_seconds=TIMEOUT_SECONDS)).run()


@click.command("due", hidden=True)
@click.argument("name", metavar="JOB")
@with_app
def due_command(app: App, name: str) -> None:
    """Make the run of a scheduled time, unless another host does: what lsh-claim@JOB.service calls."""
    from lsh_systemd import claims, daemons, sharing

    found = app.jobs.get(name)
    verdict = claims.decide(app.scope, found, app.manager)
    environment = {key: value for key, value in os.environ.items() if key != sharing.TOKEN}
    if verdict.token is not None:
        environment[sharing.TOKEN] = str(verdict.token)
    command = ["/bin/sh", str(daemons.script("tick")), str(app.scope), found.id]
    os.execve(command[0], [*command, *([verdict.reason] if verdict.reason else [])], environment)


def _connect(app: App) -> "Remote":
    from lsh_systemd import connect

    return connect.connect(app.scope)


def params_given(given: tuple[str, ...]) -> dict[str, str]:
    params = {}
    for each in given:
        name, mark, value = each.partition("=")
        if not mark or not name:
            raise BadInput(f"{visible(each)} is not of the form NAME=VALUE", hint="--param NAME=VALUE")
        params[name] = value
    return params


def _limit(name: str, text: str) -> int | None:
    if text == "none":
        return None
    if not text.isascii() or not text.isdecimal() or not 1 <= len(text) <= 6 or not int(text):
        raise BadInput(f"{visible(text)} is no limit", hint=f"--{name} 10, or --{name} none")
    return int(text)


def _cells(row: dict[str, Any]) -> list[str]:
    not_before = round(datetime.fromisoformat(row["run_at"]).timestamp() * 1e6)
    params = " ".join(f"{name}={value}" for name, value in row["params"].items())
    state = "cancelling" if row["state"] == "running" and row["cancelled_at"] else row["state"]
    result = row["message"] if row["result"] == "refused" else row["result"]
    return [
        str(row["id"]), row["job"], state, row["user"] or "-", str(row["priority"]), local_time(not_before),
        row["host"] or row["only_host"] or "-", str(row["attempt"]), result or "-", params or "-",
    ]  # fmt: skip
