"""The commands that `lshctl --url` has: the same words as here, done by another machine's API."""

import functools
import json
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import click

from lsh_systemd.cli.add import values_given
from lsh_systemd.cli.common import json_option, print_json
from lsh_systemd.cli.http import Http
from lsh_systemd.cli.option_table import GroupedCommand, job_options
from lsh_systemd.cli.options import command_from, plain_from
from lsh_systemd.cli.table import duration, local_time, print_table, relative, size
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.text import escape_controls, visible

F = TypeVar("F", bound=Callable[..., Any])


def http_command(function: F) -> F:
    """Give the command the way to the API; an answer of another shape than ours is told in words."""

    @click.pass_context
    @functools.wraps(function)
    def wrapped(ctx: click.Context, /, *args: Any, **options: Any) -> Any:
        http = ctx.find_object(Http)
        assert http
        try:
            return function(http, *args, **options)
        except (LookupError, TypeError, AttributeError, ValueError, OverflowError):
            raise LshError(f"{http.base} does not answer as lsh-systemd does", hint="is the URL right?") from None

    return wrapped  # type: ignore[return-value]


_job = click.argument("name", metavar="JOB")


@click.group("lshctl --url")
@click.pass_context
def commands(ctx: click.Context) -> None:
    """What can be done over HTTP."""


def command(ctx: click.Context, name: str, url: str) -> click.Command:
    """The command of that name; its context has the way to the API. Raises BadInput for one that HTTP has not."""
    if name == "fleet":
        from lsh_systemd.cli.overhttp_fleet import fleet

        commands.add_command(fleet)
    found = commands.get_command(ctx, name)
    if found is None:
        known = ", ".join(sorted({*commands.list_commands(ctx), "fleet"}))
        raise BadInput(
            f"{visible(name)} is not done over HTTP", hint=f"there are {known}; or lshctl -H HOST {name[:50]}, by ssh"
        )
    ctx.obj = Http(url)
    return found


@commands.command("status")
@json_option
@http_command
def status(http: Http, /, as_json: bool) -> None:
    """Say how the other machine's jobs are."""
    health = http.get("health")
    if as_json:
        print_json(health)
        return
    service, state, running = (_text(health.get(name)) for name in ("service", "status", "active_commands"))
    click.echo(f"{service} at {http.base}: {state}, {running} running.")
    for each in health.get("warnings") or []:
        click.echo(f"lshctl: {_text(each)}", err=True)


@commands.command("list")
@click.option("--tag", help="Only jobs with this tag.")
@click.option("--category", help="Only jobs of this category.")
@click.option("--status", help="Only jobs in this state.")
@json_option
@http_command
def list_jobs(http: Http, /, as_json: bool, **wanted: str | None) -> None:
    """List the jobs."""
    jobs = http.get("jobs", **wanted)
    if as_json:
        print_json(jobs)
        return
    rows = []
    for job in jobs:
        last = job["last_run"]
        result = (last["result"] or "running") if last else "-"
        rows.append(
            [
                _text(job["id"]),
                _text(job["state"]),
                _at(job["next"]),
                _at(last["started_at"]) if last else "-",
                result,
                _text(job["schedule"]),
                _text(job["command"]),
            ]
        )
    print_table(["JOB", "STATE", "NEXT", "LAST", "RESULT", "SCHEDULE", "COMMAND"], rows, state_column=1)


@commands.command("show")
@_job
@json_option
@http_command
def show(http: Http, /, name: str, as_json: bool) -> None:
    """Show all there is to know of a job."""
    job = http.get("jobs", name)
    if as_json:
        print_json(job)
        return
    told = {"job": job["id"], "state": job["state"], "next": _at(job["next"])}
    for label, value in {**told, **(job["definition"] or {})}.items():
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        click.echo(f"{click.style(f'{label:>14}', bold=True)}  {escape_controls(shown, keep='')}")


@commands.command("next")
@click.argument("name", metavar="JOB")
@click.option("-n", "--count", type=click.IntRange(1, 1000), default=5, help="How many instants.")
@json_option
@http_command
def next_of(http: Http, /, name: str, count: int, as_json: bool) -> None:
    """Show when a job runs next."""
    told = http.get("jobs", name, "next", count=count)
    if as_json:
        print_json(told)
        return
    for each in told["next"]:
        click.echo(f"{_at(each)}  {relative(_usec(each) or 0, time.time_ns() // 1000)}")


@commands.command("runs")
@click.argument("name", metavar="[JOB]", required=False)
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many, the newest."
)
@click.option("--since", metavar="TIME", help="Only runs that began then or later.")
@click.option("--until", metavar="TIME", help="Only runs that began before.")
@click.option("--result", metavar="RESULT", help="Only those that ended so.")
@click.option("--failed", is_flag=True, help="Only those that ended otherwise than in success, or skipped.")
@click.option("--id", "run_id", metavar="ID", help="One run, with its output.")
@json_option
@http_command
def runs(http: Http, /, name: str | None, run_id: str | None, as_json: bool, **wanted: Any) -> None:
    """Show the runs that have been, the newest first."""
    if run_id is not None:
        run = http.get("runs", run_id)
        print_json(run) if as_json else click.echo(escape_controls(str(run["output"])), nl=False)
        return
    told = http.get("runs", job=name, **wanted)
    if as_json:
        print_json(told)
        return
    print_runs(told)


def print_runs(told: list[dict[str, Any]], *, of_hosts: bool = False) -> None:
    rows = [
        [
            *([_text(run["host"])] if of_hosts else []),
            _text(run["job"]),
            _at(run["started_at"]),
            duration(run["duration_seconds"]),
            _text(run["result"] or "running"),
            _text(run["signal"] if run["signal"] else run["exit_status"]),
            _text(run["trigger"]),
            size(run["memory_peak_bytes"]),
            _text(run["id"])[:12],
        ]
        for run in told
    ]
    head = ["JOB", "STARTED", "DURATION", "RESULT", "STATUS", "TRIGGER", "MEMORY", "ID"]
    print_table([*(["HOST"] if of_hosts else []), *head], rows, state_column=4 if of_hosts else 3)


@commands.command("logs")
@_job
@click.option("-n", "--lines", type=click.IntRange(1, 10_000), default=200, help="The last so many lines (200).")
@click.option("--since", metavar="TIME", help="Only from then on.")
@click.option("--run", metavar="ID", help="Only this run, by its whole id.")
@json_option
@http_command
def logs(http: Http, /, name: str, as_json: bool, **wanted: Any) -> None:
    """Show what a job wrote."""
    told = http.get("jobs", name, "logs", **wanted)
    if as_json:
        print_json(told)
        return
    for line in told:
        click.echo(f"{_at(line['at'])} {_text(line['identifier'])}: {_text(line['message'])}")


@commands.command("add", cls=GroupedCommand)
@click.argument("name")
@click.argument("words", metavar="COMMAND...", nargs=-1)
@job_options
@click.option(
    "--template", metavar="ID", help="Make it from a template of the other machine's: lshctl --url … templates."
)
@click.option(
    "--set", "values", multiple=True, metavar="NAME=VALUE", help="A parameter of the template; may be repeated."
)
@click.option("--disabled", is_flag=True, help="Make the job, but let its schedule rest.")
@json_option
@http_command
def add(
    http: Http,
    /,
    name: str,
    words: tuple[str, ...],
    template: str | None,
    values: tuple[str, ...],
    disabled: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Add a job, as far as the other machine's policy goes."""
    if values and template is None:
        raise BadInput("--set goes with --template")
    if not words and template is None:
        raise BadInput(
            "missing argument 'COMMAND...'", hint='lshctl --url … add NAME --schedule "0 2 * * *" -- COMMAND'
        )
    body = {"name": name, **plain_from(options)} | ({"enabled": False} if disabled else {})
    body |= {"command": command_from(words, no_shell=bool(options["no_shell"]))} if words else {}
    body |= {"values": values_given(values)} if template is not None else {}
    path = ("jobs",) if template is None else ("templates", template, "jobs")
    told = http.post(*path, body=json.loads(json.dumps(body, default=str)))
    if as_json:
        print_json(told)
        return
    click.echo(f"Added {_text(told['id'])}." + (f" Next: {_at(told['next'])}." if told.get("next") else ""))
    for each in told.get("warnings") or []:
        click.echo(f"lshctl: warning: {_text(each)}", err=True)


@commands.command("templates")
@json_option
@http_command
def templates(http: Http, /, as_json: bool) -> None:
    """List the templates that `add --template` takes there, with their parameters; --json tells all of them."""
    told = http.get("templates")
    if as_json:
        print_json(told)
        return
    rows = [
        [
            _text(each["id"]),
            " ".join(_text(one["name"]) + ("" if one["required"] else "=" + _text(one["default"])) for one in asked),
            _text(each["description"]),
        ]
        for each in told
        for asked in [each["parameters"]]
    ]
    print_table(["TEMPLATE", "PARAMETERS", "DESCRIPTION"], rows)


def _verb(name: str, summary: str) -> None:
    """A command that does one thing to a job: POST /jobs/ID/NAME."""

    @commands.command(name, help=summary)
    @_job
    @json_option
    @http_command
    def do(http: Http, /, name: str, as_json: bool) -> None:
        told = http.post("jobs", name, click.get_current_context().info_name or "")
        if as_json:
            print_json(told)
            return
        run = ", in the queue" if told.get("queued") else f", run {told['run_id']}" if told.get("run_id") else ""
        click.echo(escape_controls(f"{told['id']}: {told['status']}{run}.", keep=""))


for _name, _summary in {
    "start": "Start a job now, whatever its schedule says.",
    "stop": "End a job's run in progress.",
    "restart": "End a job's run in progress and start it again.",
    "enable": "Let a job's schedule count.",
    "disable": "Let a job's schedule rest.",
}.items():
    _verb(_name, _summary)


@commands.command("remove")
@click.argument("names", metavar="JOB...", nargs=-1, required=True)
@http_command
def remove(http: Http, /, names: tuple[str, ...]) -> None:
    """Remove jobs. Their runs stay on record."""
    for name in names:
        http.delete("jobs", name)
        click.echo(f"Removed {_text(name)}.")


@commands.command("queue")
@json_option
@http_command
def queue(http: Http, /, as_json: bool) -> None:
    """Show what runs and what waits for a cap."""
    told = http.get("queue")
    if as_json:
        print_json(told)
        return
    rows = [[_text(row["job"]), _text(row["state"]), _at(row["since"]), _text(row["waits_for"] or "-")] for row in told]
    print_table(["JOB", "STATE", "SINCE", "WAITS FOR"], rows, state_column=1)


def _usec(told: str | None) -> int | None:
    return round(datetime.fromisoformat(told).timestamp() * 1e6) if told else None


def _at(told: str | None) -> str:
    return local_time(_usec(told))


def _text(value: object) -> str:
    """What the other side says, safe to print."""
    return "-" if value is None else escape_controls(str(value), keep="")
