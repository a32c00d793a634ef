"""lshctl run: a command once, now."""

import secrets
import sys
from typing import TYPE_CHECKING, Any

import click

from lsh_systemd.cli.checking import checked
from lsh_systemd.cli.common import App, dry_run_option, json_option, print_json, warn_of_limits, with_app
from lsh_systemd.cli.option_table import GroupedCommand, run_options
from lsh_systemd.cli.options import command_from, plain_from
from lsh_systemd.jobfile import from_plain

if TYPE_CHECKING:
    from lsh_systemd.once import RunOnce


# Exit statuses by which systemd tells what it could not do before the command (systemd.exec(5)).
_NOT_STARTED = {
    200: "the working directory cannot be entered (200/CHDIR)",
    203: "the program cannot be executed (203/EXEC)",
    216: "the group is unknown or forbidden (216/GROUP)",
    217: "the user is unknown or forbidden (217/USER)",
    218: "its capabilities cannot be taken (218/CAPABILITIES)",
    226: "the sandbox cannot be set up; is a folder of it missing? (226/NAMESPACE)",
    228: "system calls cannot be restricted (228/SECCOMP)",
    233: "the folder for what it says of itself cannot be made; is /run full? (233/RUNTIME_DIRECTORY)",
    243: "a secret cannot be read (243/CREDENTIALS)",
}


@click.command("run", cls=GroupedCommand, context_settings={"ignore_unknown_options": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--name", help="What to call the run's unit; without it, run-XXXXXXXX.")
@run_options
@click.option("--detach", is_flag=True, help="Return at once; lshctl runs and logs tell the rest.")
@dry_run_option
@json_option
@with_app
def run_command(
    app: App,
    command: tuple[str, ...],
    name: str | None,
    detach: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Run a command once, now, as a unit of its own.

    Waits, passes the output on, and exits with the command's status (128 + N for signal N, 124 for a timeout).
    Ctrl-C ends the command, and so does the end of who reads its output.

    \b
    lshctl run --memory-max 2G --timeout 1h -- 'pg_dump shop | gzip > /backups/shop.gz'
    """
    from lsh_systemd.cli.add import print_files
    from lsh_systemd.once import RunOnce

    words = command_from(command, no_shell=bool(options["no_shell"]))
    job = from_plain({"name": name or f"run-{secrets.token_hex(4)}", "command": words, **plain_from(options)})
    job = checked(job, app.scope)
    if dry_run:
        app.control.check_new(job, transient=True)
        print_files(app, app.control.render(job, once=True), transient=True)
        return
    warn_of_limits(app, job)
    once = RunOnce(control=app.control, job=job)
    run_id = once.start()
    if detach:
        if as_json:
            print_json({"id": run_id, "job": job.id})
        else:
            click.echo(f"Started {job.id}, run {run_id}.")
        return
    try:
        _pass_on(once, as_json)
    finally:
        once.close()
    run = once.finished()
    if as_json:
        stored = app.store.run(run_id)
        print_json((stored[0] if stored else run).to_json())
    elif run.exit_status in _NOT_STARTED:
        click.echo(f"lshctl: systemd could not start it: {_NOT_STARTED[run.exit_status]}", err=True)
    elif run.result not in ("success", "exit-code"):
        click.echo(f"lshctl: {job.id} ended: {run.result}", err=True)
    sys.exit(once.exit_status())


def _pass_on(once: "RunOnce", as_json: bool) -> None:
    """Pass the command's output on as it comes: to standard error where standard output is for JSON."""
    try:
        for chunk in once.output():
            (sys.stderr if as_json else sys.stdout).buffer.write(chunk)
            (sys.stderr if as_json else sys.stdout).buffer.flush()
    except (KeyboardInterrupt, BrokenPipeError):  # not SIGPIPE: GLib has it ignored, as soon as D-Bus is in use
        once.stop()
        raise
