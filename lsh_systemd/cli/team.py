"""lshctl secrets push, pull, diff, and list --env: the team's secrets. They belong to the group in cli/secrets."""

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lsh_systemd.cli.common import App, dry_run_option, json_option, print_json, with_app
from lsh_systemd.cli.table import local_time, print_table
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.text import escape_controls, visible

if TYPE_CHECKING:
    from lsh_systemd.teamsecrets import Outcome, Team, Version

F = TypeVar("F", bound=Callable[..., Any])

env_option = click.option("--env", metavar="NAME", required=True, help="The environment, as prod.")
key_file_option = click.option(
    "--key-file", type=click.Path(path_type=Path), metavar="PATH", help="A file (0600) with the team's key."
)
_version_option = click.option(
    "--version", "number", type=click.IntRange(1, 2**31 - 1), metavar="N", help="This version, and not the newest."
)


def _file_options(function: F) -> F:
    """What push, pull and diff have in common."""
    file = click.option(
        "--file", type=click.Path(path_type=Path), default=Path(".env"), metavar="PATH", help="The file; .env is usual."
    )
    decorated: F = env_option(file(key_file_option(function)))
    return decorated


@click.command("push")
@_file_options
@click.option("--force", is_flag=True, help="Also where others have pushed since, or the newest cannot be opened.")
@dry_run_option
@json_option
@with_app
def push_command(
    app: App, env: str, file: Path, key_file: Path | None, force: bool, dry_run: bool, as_json: bool
) -> None:
    """Keep an environment file for the team: encrypted here, as the next version in Supabase.

    A file that is the newest version already makes no other one. Where somebody else has pushed since this file was
    pulled or pushed, it is refused: pull first, or --force. Nothing is merged. The newest 50 versions are kept.
    """
    import socket

    host = socket.gethostname()
    outcome = _team(app, key_file).push(env, file, app.actor, host, force=force, dry=dry_run)
    if outcome.changed and not dry_run:
        difference = {env: (outcome.version - 1 or None, outcome.version)}
        app.control.note("secrets push", "", difference)
    if outcome.changed:
        words = f"{'Would push' if dry_run else 'Pushed'} {visible(str(file))} as version {outcome.version} of {env}."
    else:
        words = f"{visible(str(file))} is version {outcome.version} of {env} already."
    _tell(outcome, words, as_json)


@click.command("pull")
@_file_options
@_version_option
@click.option("--force", is_flag=True, help="Give up what was changed in the file, or go on with an older state.")
@dry_run_option
@json_option
@with_app
def pull_command(
    app: App,
    env: str,
    file: Path,
    key_file: Path | None,
    number: int | None,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Get an environment file of the team: the newest version, or --version N.

    It is written whole or not at all, for its owner alone (0600). A file with changes that are in no version is left as
    it is, unless --force is given.
    """
    outcome = _team(app, key_file).pull(env, file, number=number, force=force, dry=dry_run)
    which = f"version {outcome.version} of {env}"
    if outcome.changed:
        words = f"{'Would write' if dry_run else 'Wrote'} {which} to {visible(str(file))}."
    else:
        words = f"{visible(str(file))} is {which} already."
    _tell(outcome, words, as_json)


@click.command("diff")
@_file_options
@_version_option
@click.option("--show", is_flag=True, help="Show the values, too.")
@json_option
@with_app
def diff_command(
    app: App, env: str, file: Path, key_file: Path | None, number: int | None, show: bool, as_json: bool
) -> None:
    """Show which variables of an environment file differ from the team's newest version, or --version N."""
    version, changes = _team(app, key_file).differences(env, file, number)
    if as_json:
        told = [
            {"name": each.name, "change": each.kind, **({"team": each.old, "file": each.new} if show else {})}
            for each in changes
        ]
        print_json({**_plain(version), "changes": told})
    elif not changes:
        click.echo(f"{visible(str(file))} has the variables of {version}.")
    else:
        head = ("VARIABLE", "IN THE FILE", *(("TEAM'S VALUE", "FILE'S VALUE") if show else ()))
        shown = [(each.name, each.kind, *((each.old or "", each.new or "") if show else ())) for each in changes]
        print_table(head, shown)
        click.echo(f"The team's is {version}, pushed {_by(version)}.", err=True)


def list_versions(app: App, env: str, key_file: Path | None, as_json: bool) -> None:
    """What `secrets list --env` shows: the versions, and, with the key at hand, the newest one's variables."""
    from lsh_systemd.envtext import variables

    team = _team(app, key_file, ask=False)
    versions = team.versions(env)
    try:
        team.check_back(env, versions[0].number if versions else 0)
    except LshError as error:
        click.echo(f"{click.style('lshctl:', fg='yellow')} {error.message}", err=True)
    names: list[str] | None = None
    with contextlib.suppress(_NoKey):
        names = list(variables(team.open(env, trusting=True)[1], f"the newest version of {env}")) if versions else []
    if as_json:
        print_json({"env": env, "variables": names, "versions": [_plain(each) for each in versions]})
        return
    rows = [(str(each.number), local_time(each.pushed_usec), each.pushed_by, each.host) for each in versions]
    print_table(("VERSION", "PUSHED", "BY", "HOST"), rows)
    if names is None:
        click.echo("Its variables' names are sealed, too: they want the team's key.", err=True)
    elif versions:
        click.echo(f"Variables of version {versions[0].number}: " + escape_controls(", ".join(names), keep=""))


class _NoKey(BadInput):
    """The team's key is nowhere."""


def _team(app: App, key_file: Path | None, *, ask: bool = True) -> "Team":
    """The team's store, as this scope's settings name it. Nothing is sent, and no key looked for, yet."""
    from lsh_systemd import connect, teamfiles
    from lsh_systemd.teamsecrets import Team

    notes = teamfiles.Notes(app.scope, connect.target(app.scope).url)
    return Team(connect.connect(app.scope), notes, lambda new: _key(app, key_file, ask=ask, new=new))


def _key(app: App, file: Path | None, *, ask: bool, new: bool) -> bytes:
    """The team's key: of a file, the run's credential, a variable, the scope's own file or secret, or asked for."""
    from lsh_systemd import teamfiles
    from lsh_systemd.vault import Vault

    if (key := teamfiles.key(app.scope, file)) is not None:
        return key
    kept = Vault(app.scope, encrypts=True, takes_large=True)
    if kept.find(teamfiles.CREDENTIAL):
        return teamfiles.as_key(kept.value(teamfiles.CREDENTIAL), f"the secret {teamfiles.CREDENTIAL}")
    if not ask or sys.stdin is None or not sys.stdin.isatty():
        raise _NoKey(
            "the team's key is nowhere to be found",
            hint="lshctl secrets set lsh-secrets-key (and --secret lsh-secrets-key for a job), or --key-file",
        )
    return _asked(new)


def _asked(new: bool) -> bytes:
    import getpass

    try:
        key = getpass.getpass("The team's key or passphrase (not shown): ")
        if new and getpass.getpass("It is the first of its environment. Again: ") != key:
            raise BadInput("the two are not the same; nothing was changed")
    except EOFError:
        raise BadInput("no key was given; nothing was changed") from None
    except UnicodeDecodeError:
        raise BadInput("that is no text in the terminal's encoding", hint="put it into a file: --key-file") from None
    from lsh_systemd.teamfiles import as_key

    return as_key(key.encode(errors="surrogateescape"), "what was typed")


def _tell(outcome: "Outcome", words: str, as_json: bool) -> None:
    if outcome.unnoted:
        click.echo(f"lshctl: which version the file is could not be noted: {outcome.unnoted}", err=True)
    if as_json:
        print_json({"env": outcome.env, "version": outcome.version, "changed": outcome.changed})
    else:
        click.echo(words)


def _plain(version: "Version") -> dict[str, Any]:
    from lsh_systemd.run import rfc3339

    return {
        "env": version.env,
        "version": version.number,
        "pushed_at": rfc3339(version.pushed_usec),
        "pushed_by": version.pushed_by,
        "host": version.host,
    }


def _by(version: "Version") -> str:
    who = escape_controls(f"{version.pushed_by} on {version.host}", keep="")
    return f"{local_time(version.pushed_usec)} by {who}"
