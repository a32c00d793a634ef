"""lshctl runs and logs."""

import json
import os
import sys
import time
from typing import TYPE_CHECKING

import click

from lsh_systemd.cli.common import App, complete_jobs, job_argument, json_option, print_json, with_app
from lsh_systemd.cli.table import bar, duration, local_time, print_table, size
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.job import job_id
from lsh_systemd.loglines import journalctl
from lsh_systemd.run import Run
from lsh_systemd.sayings import told
from lsh_systemd.text import escape_controls, visible

if TYPE_CHECKING:
    from datetime import datetime

# The columns of runs in a table.
RUN_HEAD = ["JOB", "STARTED", "DURATION", "RESULT", "STATUS", "TRIGGER", "CPU", "MEMORY", "ID"]

_PAGE = 20
since_option = click.option("--since", metavar="TIME", help="Only runs that began then or later: 'yesterday', '-2h'.")
until_option = click.option("--until", metavar="TIME", help="Only runs that began before.")


def known_job(app: App, name: str) -> str:
    """The id of a job that there is, or that there was and left runs."""
    found = app.jobs.find(name)
    if found:
        return found.id
    wanted = job_id(name)
    return wanted if app.store.runs(job=wanted, limit=1, output=False) else app.jobs.get(name).id


def usec_of(text: str | None) -> int | None:
    if text is None:
        return None
    from lsh_systemd import analyze

    instant: datetime = analyze.parse_timestamp(text)
    return round(instant.timestamp() * 1e6)


@click.command("runs")
@click.argument("name", metavar="[JOB]", required=False, shell_complete=complete_jobs)
@click.option(
    "--limit", type=click.IntRange(min=0, max=2**53), help=f"At most so many, the newest ({_PAGE}); 0 is all."
)
@click.option("--id", "run_id", metavar="ID", help="One run, by its id or the beginning of it, with its output.")
@since_option
@until_option
@click.option("--result", metavar="RESULT", help="Only those that ended so: 'exit-code', 'timeout', 'success' …")
@click.option("--failed", is_flag=True, help="Only those that ended otherwise than in success, or skipped.")
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table")
@json_option
@with_app
def runs_command(
    app: App,
    name: str | None,
    limit: int | None,
    run_id: str | None,
    since: str | None,
    until: str | None,
    result: str | None,
    failed: bool,
    form: str,
    as_json: bool,
) -> None:
    """Show the runs that have been, the newest first."""
    job = known_job(app, name) if name is not None else None
    as_json = as_json or form == "json"
    period = {"since_usec": usec_of(since), "until_usec": usec_of(until)}
    if run_id is not None:
        _show_run(told(app.scope, _one_run(app, run_id)), as_json)
        return
    count = _PAGE if limit is None else limit
    runs = app.store.runs(job=job, **period, result=result, unsuccessful=failed, limit=count, output=as_json)
    runs = [told(app.scope, run) for run in runs]
    if as_json:
        print_json([run.to_json() for run in runs])
    elif form == "csv":
        from lsh_systemd.cli.forms import print_csv

        rows = [{key: value for key, value in run.to_json().items() if key != "output"} for run in runs]
        print_csv(rows, [key for key in Run(id="", job="", unit="").to_json() if key != "output"])
    elif not runs:
        click.echo("There are no such runs." if job or since or until or result or failed else "There are no runs yet.")
    else:
        _print(runs)


def _print(runs: list[Run]) -> None:
    head, rows = RUN_HEAD, [run_row(run) for run in runs]
    if any(said := [_said(run) for run in runs]):
        head, rows = [*head, "SAID"], [[*row, text or "-"] for row, text in zip(rows, said, strict=True)]
    print_table(head, rows, state_column=3)


def run_row(run: Run) -> list[str]:
    """A run under ``RUN_HEAD``."""
    took = run.duration_usec
    if run.running and run.started_usec is not None:
        took = time.time_ns() // 1000 - run.started_usec
    return [
        run.job,
        local_time(run.started_usec),
        duration(None if took is None else took / 1e6),
        run.result or "running",
        run.signal or ("-" if run.exit_status is None else str(run.exit_status)),
        run.trigger or "-",
        duration(None if run.cpu_usec is None else run.cpu_usec / 1e6),
        size(run.memory_peak_bytes),
        run.id[:12],
    ]


def _said(run: Run) -> str:
    """What the run says of itself, in a line: how far it is while it goes on, its message, its numbers."""
    metrics = [f"{name}={number}" for name, number in json.loads(run.metrics).items()]
    return "  ".join(filter(None, [bar(run.progress) if run.running else "", run.message, *metrics]))


def _one_run(app: App, run_id: str) -> Run:
    if not run_id or not set(run_id) <= set("0123456789abcdef"):
        raise BadInput(f"{visible(run_id)} is not a run's id", hint="lshctl runs shows them")
    runs = app.store.run(run_id)
    if not runs:
        raise BadInput(f"there is no run {run_id}", hint="lshctl runs shows what there is")
    if len(runs) > 1:
        raise BadInput(f"several runs begin with {run_id}", hint="give more of the id")
    return runs[0]


def _show_run(run: Run, as_json: bool) -> None:
    if as_json:
        print_json(run.to_json())
        return
    metrics = "  ".join(f"{name}={number}" for name, number in json.loads(run.metrics).items())
    for key, value in (run.to_json() | {"metrics": metrics or None, "progress": bar(run.progress) or None}).items():
        if key != "output":
            shown = "-" if value is None else escape_controls(str(value), keep="")
            click.echo(f"{click.style(f'{key:>18}', bold=True)}  {shown}")
    click.echo()
    click.echo(escape_controls(run.output.decode("utf-8", "backslashreplace")), nl=False)


@click.command("logs")
@job_argument
@click.option("-f", "--follow", is_flag=True, help="Go on showing what comes.")
@click.option("-n", "--lines", type=click.IntRange(min=0), help="Only the last so many lines.")
@click.option("--since", metavar="TIME", help="Only from then on, as journalctl takes it.")
@click.option("--run", "run_id", metavar="ID", help="Only this run.")
@json_option
@with_app
def logs_command(
    app: App, name: str, follow: bool, lines: int | None, since: str | None, run_id: str | None, as_json: bool
) -> None:
    """Show what a job wrote, through journalctl; with what systemd said of it."""
    if run_id is not None:
        run_id = _one_run(app, run_id).id
    arguments = journalctl(app.scope, known_job(app, name), run_id)
    arguments += ["--output", "json" if as_json else "short-iso"]
    arguments += ["--follow"] if follow else []
    arguments += ["--lines", str(lines)] if lines is not None else []
    arguments += [f"--since={since}"] if since is not None else []
    sys.stdout.flush()
    try:
        os.execvp("journalctl", arguments)
    except OSError as error:
        raise LshError(f"cannot run journalctl: {error.strerror}", hint="it is part of the package systemd") from None
