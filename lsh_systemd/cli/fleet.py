"""lshctl fleet."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lsh_systemd.cli import fleet_queue
from lsh_systemd.cli.common import App, json_option, print_json, with_app
from lsh_systemd.cli.history import RUN_HEAD, run_row, since_option, until_option, usec_of
from lsh_systemd.cli.table import duration, local_time, percent, print_table, size
from lsh_systemd.errors import BadInput, LshError

if TYPE_CHECKING:
    from lsh_systemd.fleet import Fleet
    from lsh_systemd.remote import Remote

F = TypeVar("F", bound=Callable[..., Any])
_PAGE = 20
_LONGEST_QUESTION = 2**20


def host_option(function: F) -> F:
    text = "Only of this host, by its name or ID; may be repeated."
    return click.option("--host", "hosts", multiple=True, metavar="HOST", help=text)(function)


@click.group("fleet")
def fleet_command() -> None:
    """Show all machines that report to Supabase, and share work among them.

    What is shown is what has been reported: see lshctl sync.

    \b
    lshctl fleet hosts
    lshctl fleet runs --failed --since -1d
    lshctl fleet report --by host --since -30d
    """


@contextlib.contextmanager
def connected(app: App) -> Iterator["Remote"]:
    from lsh_systemd import connect

    remote = connect.connect(app.scope)
    try:
        yield remote
    finally:
        remote.close()


@contextlib.contextmanager
def _fleet(app: App) -> Iterator["Fleet"]:
    from lsh_systemd.fleet import Fleet

    with connected(app) as remote:
        yield Fleet(remote)


@fleet_command.command("hosts")
@host_option
@json_option
@with_app
def hosts_command(app: App, hosts: tuple[str, ...], as_json: bool) -> None:
    """Show the hosts, and when each was last heard of."""
    with _fleet(app) as fleet:
        rows = fleet.hosts(hosts)
    print_json(rows) if as_json else print_hosts(rows)


def print_hosts(rows: list[dict[str, Any]]) -> None:
    from lsh_systemd.mirrored import usec_of as told_usec

    if not rows:
        click.echo("No host has reported yet: lshctl sync --help.")
        return
    head = ["HOST", "STATE", "LAST HEARD OF", "WAITING", "LSHCTL", "SYSTEMD", "OS", "ID"]
    print_table(
        head,
        [
            [
                row["name"],
                "online" if row["online"] else "away",
                local_time(told_usec(row["last_seen_at"])),
                str(row["waiting_rows"]),
                *(row[name] or "-" for name in ("lsh_version", "systemd_version", "os")),
                row["id"],
            ]
            for row in rows
        ],
    )


@fleet_command.command("jobs")
@host_option
@click.option("--removed", is_flag=True, help="Also those that are gone from their hosts.")
@json_option
@with_app
def jobs_command(app: App, hosts: tuple[str, ...], removed: bool, as_json: bool) -> None:
    """Show the jobs that hosts have."""
    with _fleet(app) as fleet:
        rows = fleet.jobs(hosts, removed=removed)
    print_json(rows) if as_json else print_jobs(rows)


def print_jobs(rows: list[dict[str, Any]]) -> None:
    from lsh_systemd.mirrored import usec_of as told_usec

    if not rows:
        click.echo("There are no such jobs.")
        return
    print_table(
        ["JOB", "HOST", "SCOPE", "STATE", "NEXT", "SCHEDULE", "COMMAND"],
        [
            [
                row["id"],
                row["host"],
                row["scope"],
                "removed" if row["removed_at"] else row["state"] or "-",
                local_time(told_usec(row["next_at"])),
                row["schedule"] or "-",
                row["command"],
            ]
            for row in rows
        ],
        state_column=3,
    )


@fleet_command.command("runs")
@click.argument("job", metavar="[JOB]", required=False)
@host_option
@click.option("--limit", type=click.IntRange(min=0, max=2**53), default=_PAGE, show_default=True, help="0 is all.")
@since_option
@until_option
@click.option("--result", metavar="RESULT", help="Only those that ended so: 'exit-code', 'timeout', 'success' …")
@click.option("--failed", is_flag=True, help="Only those that ended otherwise than in success, or skipped.")
@json_option
@with_app
def runs_command(
    app: App,
    job: str | None,
    hosts: tuple[str, ...],
    limit: int,
    since: str | None,
    until: str | None,
    result: str | None,
    failed: bool,
    as_json: bool,
) -> None:
    """Show the runs of all hosts, the newest first."""
    from lsh_systemd.fleet import shaped

    asked: dict[str, Any] = {"since_usec": usec_of(since), "until_usec": usec_of(until), "result": result}
    with _fleet(app) as fleet:
        runs = list(fleet.runs(hosts, job=_job(job), **asked, unsuccessful=failed, limit=limit))
    if as_json:
        print_json([shaped(run, more) for run, more in runs])
    elif not runs:
        click.echo("There are no such runs.")
    else:
        print_table(["HOST", *RUN_HEAD], [[run.host, *run_row(run)] for run, _ in runs], state_column=4)


def _job(name: str | None) -> str | None:
    from lsh_systemd.job import job_id

    return None if name is None else job_id(name)


@fleet_command.command("report")
@click.argument("job", metavar="[JOB]", required=False)
@host_option
@click.option(
    "--by",
    type=click.Choice(["job", "host", "both", "all"]),
    default="job",
    show_default=True,
    help="A line for each job (on whichever host), host, job of a host, or all together.",
)
@since_option
@until_option
@json_option
@with_app
def report_command(
    app: App, job: str | None, hosts: tuple[str, ...], by: str, since: str | None, until: str | None, as_json: bool
) -> None:
    """Sum up the runs of all hosts, as `lshctl report` does for one; reckoned in the database."""
    since_usec, until_usec = usec_of(since), usec_of(until)
    if since_usec is not None and until_usec is not None and until_usec <= since_usec:
        raise BadInput("--until is not after --since")
    with _fleet(app) as fleet:
        rows = fleet.report(hosts, by=by, job=_job(job), since_usec=since_usec, until_usec=until_usec)
    print_json(rows) if as_json else print_report(rows)


def print_report(rows: list[dict[str, Any]]) -> None:
    head = ["JOB", "HOST", "RUNS", "SUCCESS", "P50", "P95", "P99", "MEAN", "LONGEST", "CPU", "MEMORY", "FAILURES"]
    print_table(
        head,
        [
            [
                each["job"] or "-",
                each["host"] or "-",
                str(each["runs"]),
                percent(each["success_rate"]),
                *(duration(each[f"duration_{key}"]) for key in ("p50", "p95", "p99", "mean", "max")),
                duration(each["cpu_seconds_mean"]),
                size(each["memory_peak_max"]),
                ", ".join(f"{count} {result}" for result, count in each["failures_by_result"].items()) or "-",
            ]
            for each in rows
        ],
    )


@fleet_command.command("answer", hidden=True)
@with_app
def answer_command(app: App) -> None:
    """Answer one question of the HTTP API, which has no network itself: what lsh-ask@.service calls, with a socket for
    input and output. Its fault is told as such: ``bad_input``."""
    import json
    import sys

    from lsh_systemd.fleet import answer
    from lsh_systemd.fleetorders import Ended

    # Read in any case: what is left unread when this ends takes the answer with it.
    asked = json.loads(sys.stdin.readline(_LONGEST_QUESTION))
    is_asked, told = False, dict[str, Any]()
    try:
        with connected(app) as remote:
            is_asked = True
            told["answer"] = answer(remote, asked.pop("what"), asked)
    except LshError as error:
        told = {"error": error.message, "hint": error.hint, "bad_input": is_asked and isinstance(error, BadInput)}
        told["ended"] = isinstance(error, Ended)
    click.echo(json.dumps(told))


fleet_queue.register(fleet_command)
