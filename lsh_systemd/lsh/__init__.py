"""lsh: the command lines of the system whose name it is, done by the commands of lshctl. A table, and what reads it."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import click

from lsh_systemd import __version__
from lsh_systemd.cli.common import OneLineErrors


@dataclass(frozen=True, kw_only=True)
class Words:
    """What becomes of a command line. ``done_by``: the command line of lshctl that does it. ``options``: what is an
    option here and an argument there, or the other way. ``defaults``: parameters of it that have another default here.
    ``own``: it is more than a command under another name, and stands in ``own``."""

    done_by: str
    options: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    own: bool = False


_MAKING = ("--name", "--command")
# What lsh is called with → what is done. The order is that of `lsh --help`.
TABLE = {
    "daemon start": Words(done_by="agent enable"),
    "daemon stop": Words(done_by="agent disable", own=True),
    "daemon restart": Words(done_by="agent disable; lshctl agent enable", own=True),
    "daemon status": Words(done_by="agent status"),
    "daemon job create": Words(done_by="add", options=_MAKING),
    "daemon job list": Words(done_by="list"),
    "daemon job start": Words(done_by="start"),
    "daemon job stop": Words(done_by="stop"),
    "daemon job remove": Words(done_by="remove"),
    "daemon job info": Words(done_by="show"),
    "daemon db history": Words(done_by="runs", options=("--job-id",)),
    "daemon db stats": Words(done_by="stats; lshctl report JOB", own=True),
    "cron templates": Words(done_by="templates list"),
    "cron create-from-template": Words(
        done_by="add --template TEMPLATE", options=("TEMPLATE", "[--name]", "[--command]")
    ),
    "cron add": Words(done_by="add", options=_MAKING),
    "cron list": Words(done_by="list"),
    "cron start": Words(done_by="start"),
    "cron stop": Words(done_by="stop"),
    "cron remove": Words(done_by="remove"),
    "cron info": Words(done_by="show"),
    "cron report": Words(done_by="report"),
    "cron reports": Words(done_by="report"),
    "cron comprehensive-report": Words(done_by="report --all", defaults={"whole": True}),
    "cron export": Words(done_by="export --format json", defaults={"target": "json"}),
    "supabase test": Words(done_by="supabase test"),
    "supabase sync": Words(done_by="sync now"),
    "supabase history": Words(done_by="sync history"),
    "push": Words(done_by="secrets push"),
    "pull": Words(done_by="secrets pull"),
}


class _Group(OneLineErrors, click.Group):
    """The words that begin with those that have led here. What does them is imported only when called."""

    def __init__(self, *args: object, before: str = "", **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._before = before

    def list_commands(self, ctx: click.Context) -> list[str]:
        here = (words.removeprefix(self._before) for words in TABLE if words.startswith(self._before))
        return list(dict.fromkeys(rest.split()[0] for rest in here))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        words = self._before + name
        if words in TABLE:
            command = importlib.import_module("lsh_systemd.lsh.words").command(words, TABLE[words])
            assert isinstance(command, click.Command)
            return command
        if any(known.startswith(f"{words} ") for known in TABLE):
            return _Group(name, before=f"{words} ", help=f"Command lines that begin with {words}.")
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        here = {words: each for words, each in TABLE.items() if words.startswith(self._before)}
        with formatter.section("Commands, and what does them"):
            formatter.write_dl([(words, f"lshctl {each.done_by}") for words, each in here.items()])


@click.command(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="lsh")
@click.option("--system", "scope", flag_value="system", help="Jobs of the machine (root's default).")
@click.option("--user", "scope", flag_value="user", help="Jobs of your own (everybody else's default).")
@click.pass_context
def main(ctx: click.Context, scope: str | None) -> None:
    """Command lines of LSH, done by lshctl: the same jobs, the same options.

    There is no daemon that jobs need: systemd starts them. A job's id is the slug of its name; job_daily_backup finds
    daily-backup, too.

    \b
    lsh cron add --name "rotate-secrets" --schedule "0 2 * * 0" --command "lsh push --env prod"
    lsh cron create-from-template database-backup --name "Production Backup"
    lsh cron report rotate-secrets
    """
    ctx.obj = scope
