"""lshctl --url … fleet: what hosts have reported, and the fleet's queue, by way of another machine's API."""

from typing import Any

import click

from lsh_systemd.cli import fleet_queue
from lsh_systemd.cli.common import json_option, print_json
from lsh_systemd.cli.fleet import host_option, print_hosts, print_jobs, print_report
from lsh_systemd.cli.http import Http
from lsh_systemd.cli.overhttp import http_command, print_runs

_period = (
    click.option("--since", metavar="TIME", help="Only runs that began then or later."),
    click.option("--until", metavar="TIME", help="Only runs that began before."),
)


def _with_period(function: Any) -> Any:
    for option in reversed(_period):
        function = option(function)
    return function


def _listed(told: Any) -> list[dict[str, Any]]:
    if not isinstance(told, list):
        raise TypeError
    return told


@click.group("fleet")
def fleet() -> None:
    """Show all machines that report to Supabase, and share work among them."""


@fleet.command("hosts")
@host_option
@json_option
@http_command
def hosts_command(http: Http, /, hosts: tuple[str, ...], as_json: bool) -> None:
    """Show the hosts, and when each was last heard of."""
    rows = _listed(http.get("fleet", "hosts", host=hosts))
    print_json(rows) if as_json else print_hosts(rows)


@fleet.command("jobs")
@host_option
@click.option("--removed", is_flag=True, help="Also those that are gone from their hosts.")
@json_option
@http_command
def jobs_command(http: Http, /, hosts: tuple[str, ...], removed: bool, as_json: bool) -> None:
    """Show the jobs that hosts have."""
    rows = _listed(http.get("fleet", "jobs", host=hosts, removed=removed))
    print_json(rows) if as_json else print_jobs(rows)


@fleet.command("runs")
@click.argument("job", metavar="[JOB]", required=False)
@host_option
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@_with_period
@click.option("--result", metavar="RESULT", help="Only those that ended so.")
@click.option("--failed", is_flag=True, help="Only those that ended otherwise than in success, or skipped.")
@json_option
@http_command
def runs_command(http: Http, /, hosts: tuple[str, ...], as_json: bool, **wanted: Any) -> None:
    """Show the runs of all hosts, the newest first."""
    rows = _listed(http.get("fleet", "runs", host=hosts, **wanted))
    print_json(rows) if as_json else print_runs(rows, of_hosts=True)


@fleet.command("report")
@click.argument("job", metavar="[JOB]", required=False)
@host_option
@click.option("--by", type=click.Choice(["job", "host", "both", "all"]), default="job", show_default=True)
@_with_period
@json_option
@http_command
def report_command(http: Http, /, hosts: tuple[str, ...], as_json: bool, **wanted: Any) -> None:
    """Sum up the runs of all hosts."""
    rows = _listed(http.get("fleet", "report", host=hosts, **wanted))
    print_json(rows) if as_json else print_report(rows)


@fleet.command("enqueue")
@click.argument("job", metavar="JOB")
@fleet_queue.enqueue_options
@json_option
@http_command
def enqueue_command(http: Http, /, job: str, params: tuple[str, ...], as_json: bool, **wanted: Any) -> None:
    """Put a run into the fleet's queue; a host that offers the job (add --from-fleet) makes it."""
    given = {name: value for name, value in wanted.items() if value is not None}
    told = http.post("fleet", "queue", body={"job": job, "params": fleet_queue.params_given(params), **given})
    print_json(told) if as_json else fleet_queue.print_added(told, job)


@fleet.command("queue")
@fleet_queue.queue_options
@click.option("--job", metavar="JOB", help="Of this job only.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, help="At most so many, the newest.")
@json_option
@http_command
def queue_command(
    http: Http, /, states: tuple[str, ...], everything: bool, job: str | None, limit: int, as_json: bool
) -> None:
    """Show what waits in the fleet's queue, and what of it runs where."""
    rows = _listed(http.get("fleet", "queue", state=states, all=everything, job=job, limit=limit))
    print_json(rows) if as_json else fleet_queue.print_queue(rows, usual=not (states or everything))


@fleet.command("cancel")
@click.argument("number", metavar="ID", type=click.IntRange(1))
@http_command
def cancel_command(http: Http, /, number: int) -> None:
    """Take a run out of the fleet's queue, or have its host end it."""
    fleet_queue.print_cancelled(number, http.delete("fleet", "queue", str(number))["state"])


@fleet.command("limits")
@fleet_queue.limits_options
@json_option
@http_command
def limits_command(http: Http, /, total: str | None, each_user: str | None, as_json: bool) -> None:
    """Show or set how many runs of the fleet's queue may go on at once, on all hosts together."""
    given = fleet_queue.limits_given(total, each_user)
    told = http.patch("fleet", "limits", body=given) if given else http.get("fleet", "limits")
    print_json(told) if as_json else fleet_queue.print_limits(told)
