"""lshctl start, stop, restart, enable and disable."""

import time

import click

from lsh_systemd.cli.add import say_next
from lsh_systemd.cli.common import App, dry_run_option, job_argument, json_option, print_json, with_app
from lsh_systemd.cli.table import paint
from lsh_systemd.errors import LshError
from lsh_systemd.jobs import Found
from lsh_systemd.journal import PATIENCE_SECONDS
from lsh_systemd.manager import UNIT
from lsh_systemd.run import Run

# How often a waiting start is looked at.
_PAUSE_SECONDS = 0.1

wait_option = click.option("--wait", is_flag=True, help="Wait for the run's end; exit with 1 if it failed.")


@click.command("start")
@job_argument
@wait_option
@click.option("--now", is_flag=True, help="Even where caps would let it wait in the queue.")
@dry_run_option
@json_option
@with_app
def start_command(app: App, name: str, wait: bool, now: bool, dry_run: bool, as_json: bool) -> None:
    """Start a job now, whatever its schedule says. One that runs already is not started again."""
    found = app.jobs.get(name)
    if dry_run:
        click.echo(f"Would start {found.service}.")
        return
    was_running = app.control.is_running(found)
    if not now and not was_running and found.job and app.control.is_capped(found.job):
        _submit(app, found, wait=wait, as_json=as_json)
        return
    run_id = app.control.start(found)
    _started(app, found, run_id, "runs already" if was_running else "started", wait=wait, as_json=as_json)


def _submit(app: App, found: Found, *, wait: bool, as_json: bool) -> None:
    run_id = queued(app, found, wait=wait)
    if run_id:
        _started(app, found, run_id, "started", wait=True, as_json=as_json)
    elif as_json:
        print_json({"id": None, "job": found.id})
    else:
        click.echo(f"{found.id}: in the queue; lshctl queue shows what it waits for.")


def queued(app: App, found: Found, *, wait: bool) -> str | None:
    """Let the job wait for its turn; with ``wait``, until it runs: the run's id."""
    from lsh_systemd.queue import Queue

    before = app.control.invocation_id(found.service)
    app.manager.pin(found.service)
    queue = Queue(app.scope)
    queue.add(found.id, rank=found.valid_job.queue_rank, trigger="manual", fields={"by": app.actor.name})
    while wait and app.control.invocation_id(found.service) == before:
        if queue.of(found.id) is None:
            time.sleep(_PAUSE_SECONDS)
            if app.control.invocation_id(found.service) == before:
                raise LshError(f"{found.id} was taken out of the queue")
        time.sleep(_PAUSE_SECONDS)
    return app.control.invocation_id(found.service) if wait else None


@click.command("restart")
@job_argument
@wait_option
@dry_run_option
@json_option
@with_app
def restart_command(app: App, name: str, wait: bool, dry_run: bool, as_json: bool) -> None:
    """End a job's run in progress and start it again."""
    found = app.jobs.get(name)
    if dry_run:
        click.echo(f"Would stop, where it runs, and start {found.service}.")
        return
    if found.job and app.control.is_capped(found.job) and not app.control.is_running(found):
        _submit(app, found, wait=wait, as_json=as_json)
        return
    _started(app, found, app.control.restart(found), "restarted", wait=wait, as_json=as_json)


def _started(app: App, found: Found, run_id: str, word: str, *, wait: bool, as_json: bool) -> None:
    run = ended(app, found, run_id) if wait else None
    if as_json:
        print_json(run.to_json() if run else {"id": run_id, "job": found.id})
    elif run:
        click.echo(f"{found.id}: {paint(run.result or 'running')} (run {run_id}).")
    else:
        click.echo(f"{found.id}: {word}, run {run_id}.")
    if run and run.result != "success":
        click.get_current_context().exit(1)


def ended(app: App, found: Found, run_id: str) -> Run:
    """The run, once it has ended."""
    from lsh_systemd import ledger

    gone = None  # when the run was found to be over
    while True:
        app.manager.wait(found.service, {"inactive", "failed"}, seconds=3600)
        store = ledger.current(app.scope, app.jobs)
        runs = store.run(run_id)
        store.close()
        if runs and not runs[0].running:
            return runs[0]
        if app.manager.get(found.service, UNIT, "ActiveState") in ("inactive", "failed"):
            gone = gone or time.monotonic()
            if time.monotonic() > gone + PATIENCE_SECONDS:
                raise LshError(f"{found.id} has ended, but the journal does not tell how", hint="lshctl doctor")
        time.sleep(_PAUSE_SECONDS)


@click.command("stop")
@job_argument
@dry_run_option
@with_app
def stop_command(app: App, name: str, dry_run: bool) -> None:
    """End a job's run in progress. Its schedule goes on: see disable."""
    found = app.jobs.get(name)
    if dry_run:
        click.echo(f"Would stop {found.service}.")
        return
    click.echo(f"{found.id}: stopped." if app.control.stop(found) else f"{found.id} is not running.")


@click.command("enable")
@job_argument
@dry_run_option
@with_app
def enable_command(app: App, name: str, dry_run: bool) -> None:
    """Let a job's schedule count, now and after a reboot."""
    found = app.jobs.get(name)
    if dry_run:
        click.echo(f"Would enable and start {', '.join(found.activators) or 'nothing'}.")
        return
    next_usec = app.control.enable(found)
    click.echo(f"{found.id}: enabled.")
    say_next(found.valid_job, next_usec, disabled=False)


@click.command("disable")
@job_argument
@dry_run_option
@with_app
def disable_command(app: App, name: str, dry_run: bool) -> None:
    """Let a job's schedule rest. A run in progress goes on; start still works."""
    found = app.jobs.get(name)
    if dry_run:
        click.echo(f"Would stop and disable {', '.join(found.activators) or 'nothing'}.")
        return
    app.control.disable(found)
    click.echo(f"{found.id}: disabled.")
