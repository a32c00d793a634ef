"""lshctl sync."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from lsh_systemd.cli.common import App, dry_run_option, json_option, print_json, with_app
from lsh_systemd.cli.table import duration, local_time, print_table, relative
from lsh_systemd.errors import LshError
from lsh_systemd.text import escape_controls

if TYPE_CHECKING:
    from lsh_systemd.unsent import Unsent

_PAGE = 20


@click.group("sync")
def sync_command() -> None:
    """Report runs, jobs, alerts and changes to Supabase.

    The agent sends what is new once a project is set, in lsh.toml, with its key in a file of mode 0600 beside it:

    \b
    printf '[supabase]\\nurl = "https://abcdefgh.supabase.co"\\n' >> /etc/lsh/lsh.toml
    install -m 600 /dev/stdin /etc/lsh/supabase.key <<< "$SUPABASE_SECRET_KEY"
    lshctl sync test && lshctl agent enable
    lshctl sync status
    """


@sync_command.command("status")
@json_option
@with_app
def status_command(app: App, as_json: bool) -> None:
    """Show how far it is, what waits, and what was refused and why."""
    told = _status(app)
    if as_json:
        print_json(told)
        return
    if told["url"] is None:
        click.echo("No Supabase project is set: lshctl sync --help.")
        return
    now = _now()
    progress = _unsent(app).progress()
    waiting = ", ".join(f"{count} {kind}" for kind, count in told["waiting"].items())
    lines = [("project", told["url"]), ("waiting", waiting or "nothing")]
    sent = f"{local_time(progress.sent_usec)} ({relative(progress.sent_usec, now)})" if progress.sent_usec else "never"
    lines.append(("last sent", sent))
    if progress.tries:
        lines += [("failures", f"{progress.tries} in a row: {progress.error}")]
        lines += [("next try", relative(progress.next_usec, now) if progress.next_usec > now else "now")]
    lines += [("refused", str(len(told["refused"])))] if told["refused"] else []
    for label, value in lines:
        click.echo(f"{click.style(f'{label:>10}', bold=True)}  {escape_controls(value, keep='')}")
    if told["refused"]:
        click.echo()
        rows = [[each["kind"], each["id"], each["reason"]] for each in told["refused"][:_PAGE]]
        print_table(["REFUSED", "ID", "REASON"], rows)
    if told["agent"] != "active":
        click.echo(f"The agent, which sends, is off: lshctl --{app.scope} agent enable.", err=True)


def _status(app: App) -> dict[str, Any]:
    """What ``sync status --json`` promises."""
    from lsh_systemd import connect, daemons, host
    from lsh_systemd.manager import UNIT
    from lsh_systemd.run import rfc3339

    unsent = _unsent(app)
    progress = unsent.progress()
    return {
        "url": connect.url(app.scope),
        "host": host.machine(),
        "agent": str(app.manager.get(daemons.AGENT, UNIT, "ActiveState")),
        "waiting": unsent.waiting(),
        "refused": [
            {"kind": each.kind, "id": each.id, "reason": each.reason, "at": rfc3339(each.at_usec)}
            for each in unsent.refused()
        ],
        "sent_at": rfc3339(progress.sent_usec or None),
        "failures": progress.tries,
        "error": progress.error,
        "next_try_at": rfc3339(progress.next_usec or None),
    }


@sync_command.command("now")
@dry_run_option
@json_option
@with_app
def now_command(app: App, dry_run: bool, as_json: bool) -> None:
    """Send all that waits, now, whatever the next try's time."""
    from lsh_systemd import connect, sync

    app.collect()
    if dry_run:
        connect.target(app.scope)
        click.echo(f"Would send: {_counts(_unsent(app).waiting())}.")
        return
    with sync.session(app.scope, app.manager) as session:
        tally = session.run()
    if as_json:
        print_json({"sent": dict(tally.sent), "refused": tally.refused})
        return
    click.echo(f"Sent: {_counts(tally.sent)}.")
    if tally.refused:
        raise LshError(f"refused: {tally.refused}", hint=f"lshctl --{app.scope} sync status tells why")


def _counts(sent: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sent.items() if count) or "nothing was new"


@sync_command.command("run", hidden=True)
@with_app
def run_command(app: App) -> None:
    """Send what is due: what lsh-sync.service calls. That nobody answers is no failure of the unit's."""
    from lsh_systemd import sync
    from lsh_systemd.remote import RemoteAway

    try:
        with sync.session(app.scope, app.manager) as session:
            session.run()
    except RemoteAway as error:
        click.echo(f"<4>{escape_controls(error.message, keep='')}; it is tried again", err=True)


@sync_command.command("retry")
@dry_run_option
@with_app
def retry_command(app: App, dry_run: bool) -> None:
    """Let what was refused wait again, and what failed be tried at once."""
    from lsh_systemd import connect, daemons
    from lsh_systemd.unsent import Progress

    connect.target(app.scope)
    unsent = _unsent(app)
    if dry_run:
        click.echo(f"Would wait again: {len(unsent.refused())}.")
        return
    count = unsent.retry()
    unsent.set_progress(Progress(sent_usec=unsent.progress().sent_usec))
    daemons.provide(app.manager, [daemons.SYNC])
    app.manager.start(daemons.SYNC)
    click.echo(f"Waiting again: {count}. It is being sent; lshctl --{app.scope} sync status tells.")


@sync_command.command("test")
@json_option
@with_app
def test_command(app: App, as_json: bool) -> None:
    """Check the project's URL, key, tables and rights, as `lshctl supabase test` does."""
    from lsh_systemd.cli.doctor import show_findings
    from lsh_systemd.standing import examine

    show_findings(examine(app.scope), as_json=as_json)


@sync_command.command("history")
@click.option("--search", metavar="TEXT", help="Only where it stands in what was sent, or in the error.")
@click.option(
    "--limit", type=click.IntRange(min=0, max=2**53), default=_PAGE, show_default=True, help="The newest; 0 is all."
)
@json_option
@with_app
def history_command(app: App, search: str | None, limit: int, as_json: bool) -> None:
    """Show what was sent when, and what went wrong (the last thousand times that something was), the newest first."""
    from lsh_systemd.run import rfc3339

    rows = _unsent(app).history(search=search, limit=limit)
    if as_json:
        print_json([{"at": rfc3339(row.pop("at_usec")), **row} for row in rows])
    elif not rows:
        click.echo("There is nothing to show.")
    else:
        print_table(
            ["AT", "TOOK", "REFUSED", "SENT", "ERROR"],
            [
                [
                    local_time(row["at_usec"]),
                    duration(row["seconds"]),
                    str(row["refused"]),
                    _counts(row["sent"]),
                    row["error"] or "-",
                ]
                for row in rows
            ],
        )


def _unsent(app: App) -> "Unsent":
    from lsh_systemd import ledger
    from lsh_systemd.store import Store
    from lsh_systemd.unsent import Unsent

    return Unsent(Store(ledger.path(app.scope)))


def _now() -> int:
    import time

    return time.time_ns() // 1000
