"""lshctl api."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from lsh_systemd.cli.common import App, dry_run_option, json_option, print_json, with_app
from lsh_systemd.errors import LshError
from lsh_systemd.text import escape_controls

if TYPE_CHECKING:
    from lsh_systemd.api.keys import Keys


_INSTALL = "apt install lsh-systemd-api, or pip install 'lsh-systemd[api]' where lshctl is"


@click.group("api")
def api_command() -> None:
    """Serve jobs and runs over HTTP.

    Off until it is enabled; then systemd listens on port 3030 of 127.0.0.1 and on a Unix socket, and starts the server
    when somebody calls. Nobody gets in without a key, but to /health. lsh.toml's table [api] says what may be made.
    http://127.0.0.1:3030/ui is a dashboard, which takes a key, too.

    \b
    lshctl api enable
    lshctl api key create laptop --role operator
    curl -H "X-API-Key: $KEY" http://127.0.0.1:3030/jobs
    """


@api_command.command("enable")
@click.option(
    "--listen",
    multiple=True,
    metavar="ADDRESS",
    help="HOST:PORT in place of 127.0.0.1:3030; may be repeated. Beyond this machine, put TLS before it.",
)
@dry_run_option
@with_app
def enable_command(app: App, listen: tuple[str, ...], dry_run: bool) -> None:
    """Have systemd listen, now and after a reboot.

    Called again, it listens where it is told then.
    """
    from lsh_systemd import daemons
    from lsh_systemd.api.access import is_loopback

    with _extra():
        from lsh_systemd.api.server import for_socket, parsed, socket_path
    listen = tuple(map(for_socket, listen))
    for each in listen:
        host, _ = parsed(each)
        if not is_loopback(host):
            click.echo(
                f"lshctl: {each} can be called from elsewhere: put TLS before it, or keys go in the clear", err=True
            )
    if dry_run:
        click.echo(f"Would listen on {', '.join(listen or ('127.0.0.1:3030',))} and {socket_path(app.scope)}.")
        return
    state = daemons.enable_api(app.manager, listen)
    if state != "active":
        daemons.disable_api(app.manager)
        raise LshError(
            f"systemd does not listen ({state}); is the port taken?",
            hint=f"journalctl --{app.scope} -u {daemons.API_SOCKET}; --listen HOST:PORT takes another",
        )
    click.echo(f"Listening on {', '.join(listen or ('127.0.0.1:3030',))} and {socket_path(app.scope)}.")
    _warn_of_environment(app)
    if not _keys(app).all():
        click.echo("There are no keys yet: lshctl api key create NAME --role viewer")


@api_command.command("disable")
@dry_run_option
@with_app
def disable_command(app: App, dry_run: bool) -> None:
    """Listen no more. Keys stay."""
    from lsh_systemd import daemons, ledger
    from lsh_systemd.store import Store

    with _extra():
        from lsh_systemd.api.feed import turn_off

    if dry_run:
        click.echo(f"Would stop {daemons.API_SOCKET} and {daemons.API}.")
        return
    daemons.disable_api(app.manager)
    store = Store(ledger.path(app.scope))
    turn_off(store)
    store.close()
    click.echo("The API is off.")


@api_command.command("status")
@json_option
@with_app
def status_command(app: App, as_json: bool) -> None:
    """Say whether systemd listens, and whether the server runs."""
    from lsh_systemd import daemons
    from lsh_systemd.manager import UNIT

    told = {
        "socket": str(app.manager.get(daemons.API_SOCKET, UNIT, "ActiveState")),
        "server": str(app.manager.get(daemons.API, UNIT, "ActiveState")),
        "keys": len(_keys(app).all()),
    }
    if as_json:
        print_json(told)
    else:
        click.echo(f"The socket is {told['socket']}, the server {told['server']}; there are {told['keys']} keys.")
    _warn_of_environment(app)


@api_command.command("serve")
@click.option("--listen", multiple=True, metavar="ADDRESS", help="HOST:PORT or /path; may be repeated.")
@click.option("--idle", type=click.IntRange(min=0), metavar="SECONDS", help="End after so long without a request.")
@with_app
def serve_command(app: App, listen: tuple[str, ...], idle: int | None) -> None:
    """Serve in the foreground: what lsh-api.service calls.

    By hand it listens on 127.0.0.1 and the port that PORT names, or 3030. Of the environment it also reads LSH_API_KEY
    (a key with the role admin), CRON_WEBHOOK_SECRET, LSH_LOG_LEVEL and LSH_JOB_TIMEOUT.
    """
    with _extra():
        from lsh_systemd.api import server
    server.serve(app.scope, listen, idle)


@api_command.group("key")
def key_group() -> None:
    """Make, list and revoke the keys that open the API."""


@key_group.command("create")
@click.argument("name")
@click.option("--role", type=click.Choice(["viewer", "operator", "admin"]), default="viewer", show_default=True)
@click.option(
    "--jobs", multiple=True, metavar="SELECTOR", help="Only these: tag:NAME, category:NAME, or JOB, perhaps with *."
)
@click.option("--expires", metavar="TIME", help="Until when: a date, or a span from now as +90d.")
@json_option
@with_app
def create_command(app: App, name: str, role: str, jobs: tuple[str, ...], expires: str | None, as_json: bool) -> None:
    """Make a key. It is shown once, and kept nowhere.

    A viewer sees jobs, runs and logs; an operator also starts, stops, enables and disables; an admin also makes,
    changes and removes jobs, within the policy of lsh.toml.
    """
    from lsh_systemd import analyze
    from lsh_systemd.api.access import make

    until = analyze.parse_timestamp(expires) if expires else None
    key, text = make(name, role, jobs=jobs, expires_at=until, now=datetime.now(UTC))
    _keys(app).add(key)
    app.control.note("api key create", "", {"key": (None, key.id), "name": (None, name), "role": (None, role)})
    if as_json:
        print_json(key.to_json() | {"key": text})
        return
    click.echo(text)
    click.echo("This is the only time that it is shown.", err=True)


@key_group.command("list")
@json_option
@with_app
def list_command(app: App, as_json: bool) -> None:
    """Show the keys: what they are for, not what they are."""
    from lsh_systemd.cli.table import print_table

    rows = [key.to_json() for key in _keys(app).all()]
    if as_json:
        print_json(rows)
    elif not rows:
        click.echo("There are no keys.")
    else:
        told = [
            [
                row["id"],
                escape_controls(row["name"], keep=""),
                row["role"],
                ", ".join(row["jobs"]) or "all",
                "expired" if row["expired"] else row["expires_at"] or "never",
            ]
            for row in rows
        ]
        print_table(["ID", "NAME", "ROLE", "JOBS", "EXPIRES"], told)


@key_group.command("revoke")
@click.argument("key")
@with_app
def revoke_command(app: App, key: str) -> None:
    """Make a key, by its id or name, worth nothing, from the next request on."""
    gone = _keys(app).revoke(key)
    app.control.note("api key revoke", "", {"key": (gone.id, None), "name": (gone.name, None)})
    click.echo(f"Revoked {gone.id} ({escape_controls(gone.name, keep='')}).")


@contextlib.contextmanager
def _extra() -> Iterator[None]:
    """Around imports of what only the API needs."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("lsh_systemd"):
            raise
        raise LshError(f"the HTTP API needs {error.name}", hint=_INSTALL) from None
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "fastapi":
            raise
        # Debian 12's does not know the Annotated arguments of our routes.
        raise LshError("the FastAPI that is installed is too old for the HTTP API", hint=_INSTALL) from None


def _warn_of_environment(app: App) -> None:
    from lsh_systemd import environment

    for each in environment.examine(app.scope):
        click.echo(f"lshctl: {each.message} ({each.fix})", err=True)


def _keys(app: App) -> "Keys":
    from lsh_systemd.api.keys import Keys

    return Keys(app.scope)
