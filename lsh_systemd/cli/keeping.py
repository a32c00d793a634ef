"""lshctl prune, backup and restore."""

from datetime import timedelta
from pathlib import Path

import click

from lsh_systemd.cli.common import App, complete_jobs, dry_run_option, json_option, print_json, with_app
from lsh_systemd.cli.history import known_job
from lsh_systemd.cli.table import size
from lsh_systemd.errors import LshError
from lsh_systemd.span import check_span, parse_span
from lsh_systemd.text import escape_controls

_SHORTEST = timedelta(seconds=1)


@click.command("prune")
@click.option("--older-than", metavar="SPAN", help="Runs that began longer ago, in place of keep_days (365).")
@click.option(
    "--keep",
    metavar="N",
    type=click.IntRange(min=1, max=2**53),
    help="All but the N newest of each job (keep_runs, 600000).",
)
@click.option("--job", "name", metavar="JOB", shell_complete=complete_jobs, help="Only this job's, which may be gone.")
@click.option("--check", is_flag=True, help="First look through the whole file; a damaged one is made anew.")
@dry_run_option
@json_option
@with_app
def prune_command(
    app: App, older_than: str | None, keep: int | None, name: str | None, check: bool, dry_run: bool, as_json: bool
) -> None:
    """Remove old runs from the ledger.

    What is old is said by keep_days, keep_runs and keep_output_days in lsh.toml. The newest run of a job that there is
    always stays, and so does one that still goes on. What `lshctl audit` tells goes by keep_days alone.
    lsh-prune.timer does this daily where the agent is enabled.
    """
    from lsh_systemd import config, ledger, retention

    span = None
    if older_than is not None:
        span = parse_span(older_than)
        check_span("--older-than", span, least=_SHORTEST)
    limits = retention.limits(config.load(app.scope), older_than=span, keep=keep)
    job = known_job(app, name) if name is not None else None
    store = app.store
    if store.path is None:
        raise LshError(f"you may not write to {ledger.path(app.scope)}", hint="sudo lshctl …, or lshctl --user …")
    if check:
        store = ledger.checked(app.scope, app.jobs, store)
    pruned = retention.prune(store, app.jobs, limits, job=job, dry_run=dry_run)
    if as_json:
        print_json(pruned.to_json())
        return
    verb = "Would remove" if dry_run else "Removed"
    runs = "1 run" if pruned.runs == 1 else f"{pruned.runs} runs"
    click.echo(f"{verb} {runs}, and the output of {pruned.outputs} more: {size(pruned.output_bytes)} of output.")
    if pruned.changes:
        click.echo(f"{verb} {pruned.changes} of the audit's entries.")


@click.command("backup")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace the file.")
@json_option
@with_app
def backup_command(app: App, file: Path, force: bool, as_json: bool) -> None:
    """Copy the ledger into a file.

    It may be in use meanwhile. The file (SQLite, for its owner alone) is there whole, or not at all.
    """
    from lsh_systemd import backups

    app.collect()
    count = backups.backup(app.scope, file, replace=force)
    if as_json:
        print_json({"file": str(file.absolute()), "runs": count, "bytes": file.stat().st_size})
        return
    click.echo(f"Backed up {count} runs to {escape_controls(str(file), keep='')}.")


@click.command("restore")
@click.argument("file", type=click.Path(path_type=Path))
@dry_run_option
@json_option
@with_app
def restore_command(app: App, file: Path, dry_run: bool, as_json: bool) -> None:
    """Make a backup the ledger.

    Nothing has to be stopped. The ledger that was is kept beside it; what the journal has had since the backup is
    collected.
    """
    from lsh_systemd import backups

    if dry_run:
        backups.check(app.scope, file)
        click.echo(f"Would make {escape_controls(str(file), keep='')} the ledger.")
        return
    count, aside = backups.restore(app.scope, app.jobs, file)
    app.control.note("restore", "", {"ledger": (aside and str(aside), str(file.absolute()))})
    if as_json:
        print_json({"runs": count, "kept": str(aside) if aside else None})
        return
    click.echo(f"The ledger has {count} runs." + (f" The one before is {aside}." if aside else ""))
