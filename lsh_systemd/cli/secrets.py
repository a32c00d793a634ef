"""lshctl secrets."""

import sys
from pathlib import Path

import click

from lsh_systemd.cli.common import App, dry_run_option, json_option, print_json, with_app
from lsh_systemd.cli.table import local_time, print_table
from lsh_systemd.cli.team import diff_command, key_file_option, list_versions, pull_command, push_command
from lsh_systemd.errors import BadInput, LshError

_keep_newline = click.option("--keep-newline", is_flag=True, help="Keep the newline at the end of a single line.")


@click.group("secrets")
def secrets_command() -> None:
    """Keep passwords and keys for jobs.

    A job that names a secret (--secret NAME) finds its value in the file $CREDENTIALS_DIRECTORY/NAME, and, with
    --secret NAME:VAR, in the variable VAR. A variable can be seen by all processes of the job's user (and by root) in
    /proc/PID/environ; the file is the better place. Nothing else holds the value: no unit, no command line, no output.

    \b
    pass show db | lshctl secrets set db-password
    lshctl add report --secret db-password:PGPASSWORD -- 'psql -f report.sql'

    push, pull and diff are for environment files (.env) that a team shares through Supabase, which cannot read them:
    they are encrypted here, with a key that all of the team have. It is looked for in --key-file, the credential
    lsh-secrets-key of a run, the variable LSH_SECRETS_KEY, the file secrets.key beside lsh.toml (0600) and the secret
    lsh-secrets-key; at a terminal it is then asked for, and may be a passphrase.

    \b
    lshctl secrets set lsh-secrets-key < team-key
    lshctl secrets push --env prod
    """


for _command in (push_command, pull_command, diff_command):
    secrets_command.add_command(_command)


@secrets_command.command("set")
@click.argument("name")
@_keep_newline
@dry_run_option
@with_app
def set_command(app: App, name: str, keep_newline: bool, dry_run: bool) -> None:
    """Store a secret, or give it another value.

    The value comes from standard input, or is asked for at a terminal; there is no option for it, as command lines can
    be read by everybody. Any bytes, 1 MiB at most. Of a value that is a single line the newline at its end (which echo
    puts there) is left off; all else stays as it is.
    """
    from lsh_systemd.credentials import check_name

    check_name(name)
    _put(app, name, _value(name, keep_newline), "Stored", dry_run)


@secrets_command.command("rotate")
@click.argument("name")
@_keep_newline
@dry_run_option
@with_app
def rotate_command(app: App, name: str, keep_newline: bool, dry_run: bool) -> None:
    """Give a secret another value, as `set` does; the next runs see it."""
    _check_there(app, name)
    _put(app, name, _value(name, keep_newline), "Rotated", dry_run)


@secrets_command.command("list")
@click.option("--env", metavar="NAME", help="The team's: versions of this environment, and its variables' names.")
@key_file_option
@json_option
@with_app
def list_command(app: App, env: str | None, key_file: Path | None, as_json: bool) -> None:
    """List the secrets: their names, when they got their values, and the jobs and alert rules that use them.

    With --env, list the team's versions of an environment instead: when, by whom and from which host each was pushed;
    and, where the team's key is at hand, the names of the newest one's variables.
    """
    if env is not None:
        list_versions(app, env, key_file, as_json)
        return
    if key_file is not None:
        raise BadInput("--key-file needs --env")
    from lsh_systemd import alertfile, secrecy
    from lsh_systemd.run import rfc3339

    stored = secrecy.vault(app.scope, app.manager).all()
    jobs = {found.id: secrecy.named(found.job) for found in app.jobs.all() if found.job}
    rules = {rule.name: secrecy.named_by(rule) for rule in alertfile.load(app.scope)}

    def users(secret: str, all_named: dict[str, list[str]]) -> list[str]:
        return [user for user, named in all_named.items() if secret in named]

    if as_json:
        print_json(
            [
                {
                    "name": each.name,
                    "changed_at": rfc3339(each.changed_usec),
                    "encrypted": each.encrypted,
                    "jobs": users(each.name, jobs),
                    "rules": users(each.name, rules),
                }
                for each in stored
            ]
        )
    elif stored:
        rows = []
        for each in stored:
            using = [*users(each.name, jobs), *(f"alert rule {rule}" for rule in users(each.name, rules))]
            rows.append((each.name, local_time(each.changed_usec), ", ".join(using) or "-"))
        print_table(("SECRET", "CHANGED", "USED BY"), rows)
    else:
        click.echo(f"There are no secrets in the {app.scope} scope. lshctl secrets set NAME stores one.")


@secrets_command.command("remove")
@click.argument("name")
@dry_run_option
@with_app
def remove_command(app: App, name: str, dry_run: bool) -> None:
    """Remove a secret that no job and no alert rule uses."""
    from lsh_systemd import secrecy

    _check_there(app, name)
    secrecy.check_unused(app.jobs, name)
    if dry_run:
        click.echo(f"Would remove {name}.")
        return
    secrecy.vault(app.scope, app.manager).remove(name)
    app.control.note("secrets remove", "", {"secret": (name, None)})
    click.echo(f"Removed {name}.")


def _check_there(app: App, name: str) -> None:
    from lsh_systemd import secrecy
    from lsh_systemd.credentials import check_name

    check_name(name)
    if secrecy.vault(app.scope, app.manager).find(name) is None:
        raise BadInput(f"there is no secret {name} in the {app.scope} scope", hint="lshctl secrets list")


def _put(app: App, name: str, value: bytes, done: str, dry_run: bool) -> None:
    from lsh_systemd import secrecy

    kept = secrecy.vault(app.scope, app.manager)
    if dry_run:
        secrecy.check_fit(app.jobs, name, value)
        click.echo(f"Would store {name}.")
        return
    before = name if kept.find(name) else None
    stored = secrecy.put(kept, app.jobs, name, value)
    app.control.note("secrets rotate" if done == "Rotated" else "secrets set", "", {"secret": (before, name)})
    users = [found.id for found in secrecy.used_by(app.jobs, name)]
    click.echo(f"{done} {name}." + (f" The next runs of {', '.join(users)} see it." if users else ""))
    if not stored.encrypted:
        click.echo(
            f"It is not encrypted: systemd {app.manager.version} cannot decrypt for jobs of users (258 and later can). "
            f"It lies in {kept.path}, where you alone, and root, may read it."
        )


def _value(name: str, keep_newline: bool) -> bytes:
    """The value, from standard input or, where that is a terminal, from a prompt that shows nothing."""
    from lsh_systemd.credentials import MAX_BYTES

    if sys.stdin is None:
        raise BadInput("there is no standard input to take the value from")
    if sys.stdin.isatty():
        return _asked(name)
    try:
        value = sys.stdin.buffer.read(MAX_BYTES + 2)
    except OSError as error:
        raise LshError(f"cannot read the value from standard input: {error.strerror}") from None
    if not keep_newline and value.endswith(b"\n") and value.count(b"\n") == 1 and b"\0" not in value:
        value = value[:-1]
        if value:
            click.echo("The newline at its end is left off (--keep-newline keeps it).", err=True)
    return value


def _asked(name: str) -> bytes:
    import getpass

    try:
        value = getpass.getpass(f"Value of {name} (not shown): ")
        if getpass.getpass("Again: ") != value:
            raise BadInput("the two are not the same; nothing was changed")
    except EOFError:
        raise BadInput("no value was given; nothing was changed") from None
    except UnicodeDecodeError:
        raise BadInput("that is no text in the terminal's encoding", hint="pass it on standard input") from None
    return value.encode(errors="surrogateescape")
