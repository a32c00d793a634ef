"""lshctl fleet enqueue, queue, cancel, limits, join and leave; and what its units call."""

import os
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from lsh_systemd.cli.common import App, complete_jobs, dry_run_option, json_option, print_json, with_app, with_app_of
from lsh_systemd.cli.table import local_time, print_table
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.text import check_line, visible

if TYPE_CHECKING:
    from lsh_systemd.remote import Remote

_STATES = ("queued", "running", "succeeded", "failed", "lost", "cancelled")
_COLUMNS = (
    "id,scope,job,params,user_name,priority,run_at,only_host,tags,key,retries,state,attempt,created_at,created_by,"
    "cancelled_at,cancelled_by,token,claimed_at,ended_at,run,result,exit_status,message,hosts(name)"
)
_TIMES = ("run_at", "created_at", "cancelled_at", "claimed_at", "ended_at")


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
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter of the job; may be repeated.")
@click.option("--host", metavar="HOST", help="Only this host, by its name or id.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Only a host with this tag; may be repeated.")
@click.option("--priority", type=click.IntRange(0, 10), default=5, help="The highest first; 5 where not said.")
@click.option("--at", metavar="TIME", help="Not before this time: '2027-01-31 02:00', 'tomorrow 9:00', +3h.")
@click.option("--for-user", "user", metavar="NAME", help="For whom, as the limit of each user counts; you.")
@click.option("--retries", type=click.IntRange(0, 100), default=0, help="Try again so often after a failure or a loss.")
@click.option("--key", metavar="TEXT", help="Add it only where there is none with this key.")
@click.option("--of-user", "owner", metavar="NAME", help="The job is this user's own, not the machine's.")
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
    from lsh_systemd.job import job_id

    request = {
        "p_nonce": str(uuid.uuid4()),
        "p_job": job_id(job),
        "p_scope": f"user:{_name('user', owner)}" if owner else "system",
        "p_params": _params(params),
        "p_user": _name("user", user or app.actor.name),
        "p_priority": priority,
        "p_run_at": _instant(at),
        "p_host": _name("host", host),
        "p_tags": [_name("tag", tag) for tag in tags],
        "p_retries": retries,
        "p_key": _name("key", key),
        "p_by": app.actor.name,
    }
    if dry_run:
        click.echo(f"Would put a run of {request['p_job']} into the fleet's queue.")
        return
    remote = _connect(app)
    added = _call(remote, "lsh_queue_add", request | {"p_tenant": _tenant(remote)})
    if as_json:
        print_json(added)
    elif added["added"]:
        click.echo(f"Run {added['id']} of {request['p_job']} is in the fleet's queue.")
    else:
        click.echo(f"Run {added['id']} has that key already; nothing was added.")


@click.command("queue")
@click.option("--state", "states", multiple=True, metavar="STATE", help=f"Of {', '.join(_STATES)}; may be repeated.")
@click.option("--all", "everything", is_flag=True, help="Those that have ended, too.")
@click.option("--job", metavar="JOB", shell_complete=complete_jobs, help="Of this job only.")
@click.option("--limit", type=click.IntRange(0), default=100, help="At most so many, the newest; 0 is all.")
@json_option
@with_app
def queue_command(
    app: App, states: tuple[str, ...], everything: bool, job: str | None, limit: int, as_json: bool
) -> None:
    """Show what waits in the fleet's queue, and what of it runs where."""
    from lsh_systemd.job import job_id

    if wrong := [state for state in states if state not in _STATES]:
        raise BadInput(f"{visible(wrong[0])} is no state", hint=f"there are {', '.join(_STATES)}")
    wanted = states or (_STATES if everything else ("queued", "running"))
    where: list[tuple[str, str, Any]] = [("state", "in", f"({','.join(wanted)})")]
    where += [("job", "eq", job_id(job))] if job else []
    rows = list(_connect(app).select("queued_runs", columns=_COLUMNS, where=where, order=["-id"], limit=limit or None))[
        ::-1
    ]
    if as_json:
        print_json([_plain(row) for row in rows])
        return
    if not rows:
        click.echo("Nothing waits, and nothing runs." if wanted == ("queued", "running") else "There are none.")
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
    state = _call(_connect(app), "lsh_queue_cancel", {"p_id": number, "p_by": app.actor.name})
    if state is None:
        raise BadInput(f"there is no run {number} in the fleet's queue", hint="lshctl fleet queue --all")
    if state not in ("cancelled", "cancelling"):
        raise LshError(f"run {number} has ended already: {state}")
    click.echo(f"Run {number} is cancelled." if state == "cancelled" else f"The host of run {number} will end it.")


@click.command("limits")
@click.option("--global", "total", metavar="N", help="Of all queued runs; none lifts the limit.")
@click.option("--user", "each_user", metavar="N", help="Of the runs of each user; 2 where nobody has said.")
@dry_run_option
@json_option
@with_app_of
def limits_command(app: App, total: str | None, each_user: str | None, dry_run: bool, as_json: bool) -> None:
    """Show or set how many runs of the fleet's queue may go on at once, on all hosts together."""
    given = {"global": total, "user": each_user}
    limits = {name: _limit(name, text) for name, text in given.items() if text is not None}
    remote = _connect(app)
    if limits and dry_run:
        click.echo("Would set the limits of the fleet's queue.")
        return
    if limits:
        wanted = {"p_limits": limits, "p_by": app.actor.name, "p_tenant": _tenant(remote)}
        _call(remote, "lsh_queue_set_limits", wanted)
    (now,) = _call(remote, "lsh_queue_limits", {"p_tenant": _tenant(remote)})
    told = {"global": now["total"], "user": now["per_user"]}
    if as_json:
        print_json(told)
        return
    for name, limit in told.items():
        click.echo(f"{name}: {'no limit' if limit is None else limit}")


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


def _tenant(remote: "Remote") -> str:
    """The fleet that this host belongs to; a host that has never been heard of belongs to the default one."""
    from lsh_systemd import host

    rows = remote.select("hosts", columns="tenant", where=[("id", "eq", host.machine())])
    return next((str(row["tenant"]) for row in rows), "default")


def _call(remote: "Remote", name: str, request: dict[str, Any]) -> Any:
    """Call it, once more where there was no answer: all of these may be said twice."""
    from lsh_systemd.remote import RemoteAway

    try:
        return remote.rpc(name, request)
    except RemoteAway:
        return remote.rpc(name, request)


def _params(given: tuple[str, ...]) -> dict[str, str]:
    from lsh_systemd.sharing import check_value

    params = {}
    for each in given:
        name, mark, value = each.partition("=")
        if not mark or not name:
            raise BadInput(f"{visible(each)} is not of the form NAME=VALUE", hint="--param NAME=VALUE")
        params[name] = check_value(name, value)
    return params


def _name(what: str, value: Any) -> Any:
    if value is not None:
        check_line(what, value, longest=200)
        if not value.strip():
            raise BadInput(f"the {what} is empty")
    return value


def _instant(text: str | None) -> str | None:
    from lsh_systemd import analyze

    return analyze.parse_timestamp(text).isoformat() if text else None


def _limit(name: str, text: str) -> int | None:
    if text == "none":
        return None
    if not text.isascii() or not text.isdecimal() or not 1 <= len(text) <= 6 or not int(text):
        raise BadInput(f"{visible(text)} is no limit", hint=f"--{name} 10, or --{name} none")
    return int(text)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """The row as --json promises it: times as RFC 3339 in UTC."""
    plain = {name: value for name, value in row.items() if name not in ("hosts", "user_name")}
    for name in _TIMES:
        if plain[name]:
            at = datetime.fromisoformat(plain[name]).astimezone(UTC)
            plain[name] = f"{at:%Y-%m-%dT%H:%M:%S.%f}Z"
    return plain | {"user": row["user_name"], "host": _host(row)}


def _cells(row: dict[str, Any]) -> list[str]:
    not_before = round(datetime.fromisoformat(row["run_at"]).timestamp() * 1e6)
    params = " ".join(f"{name}={value}" for name, value in row["params"].items())
    state = "cancelling" if row["state"] == "running" and row["cancelled_at"] else row["state"]
    result = row["message"] if row["result"] == "refused" else row["result"]
    return [
        str(row["id"]), row["job"], state, row["user_name"] or "-", str(row["priority"]), local_time(not_before),
        _host(row) or row["only_host"] or "-", str(row["attempt"]), result or "-", params or "-",
    ]  # fmt: skip


def _host(row: dict[str, Any]) -> str | None:
    return row["hosts"]["name"] if row["hosts"] else None
