"""lshctl: one module a group of commands, each imported only when it is called."""

import importlib
import os

import click
from click.shell_completion import CompletionItem

from lsh_systemd import __version__
from lsh_systemd.cli.common import OneLineErrors
from lsh_systemd.errors import BadInput

# Command → module; the order is that of `lshctl --help`.
_COMMANDS = {
    "add": "add",
    "run": "once",
    "list": "look",
    "show": "look",
    "next": "look",
    "status": "status",
    "runs": "history",
    "report": "report",
    "stats": "report",
    "insights": "report",
    "logs": "history",
    "start": "operate",
    "stop": "operate",
    "restart": "operate",
    "enable": "operate",
    "disable": "operate",
    "set": "change",
    "edit": "change",
    "rename": "change",
    "remove": "change",
    "apply": "apply",
    "diff": "apply",
    "templates": "templates",
    "schema": "schema",
    "secrets": "secrets",
    "alerts": "alerts",
    "import": "importing",
    "export": "exporting",
    "refresh": "refresh",
    "catch-up": "catchup",
    "reset-stuck": "stuck",
    "queue": "queue",
    "limits": "queue",
    "metric": "say",
    "message": "say",
    "progress": "say",
    "explain": "explain",
    "graph": "graph",
    "prune": "keeping",
    "backup": "keeping",
    "restore": "keeping",
    "audit": "audit",
    "sync": "sync",
    "fleet": "fleet",
    "supabase": "supabase",
    "api": "api",
    "doctor": "doctor",
    "agent": "agent",
    "completion": "completion",
}
# What --help says of each, so that it need not import them all; a test holds it against the docstrings.
_SUMMARIES = {
    "add": "Add a job.",
    "run": "Run a command once, now, as a unit of its own.",
    "list": "List the jobs.",
    "show": "Show all there is to know of a job.",
    "next": "Show when jobs run next.",
    "status": "Say in a line how the jobs are, here or at a URL.",
    "runs": "Show the runs that have been.",
    "report": "Sum up the runs of a job, of each, or of all.",
    "stats": "Show how all jobs together have done.",
    "insights": "Show what deserves attention, the worst first.",
    "logs": "Show what a job wrote, through journalctl.",
    "start": "Start a job now, whatever its schedule says.",
    "stop": "End a job's run in progress.",
    "restart": "End a job's run in progress and start it again.",
    "enable": "Let a job's schedule count.",
    "disable": "Let a job's schedule rest.",
    "set": "Change some of a job's settings.",
    "edit": "Change a job's definition, as TOML, in $VISUAL or $EDITOR.",
    "rename": "Give a job a new name; its history follows.",
    "remove": "Remove jobs: their schedules and unit files.",
    "apply": "Make the machine's jobs those that files describe: all, or none.",
    "diff": "Show how the machine's jobs differ from what files describe; exit status 3 where they do.",
    "templates": "Show the templates that jobs can be made from.",
    "schema": "Print the JSON Schema of job files, for editors.",
    "secrets": "Keep passwords and keys for jobs.",
    "alerts": "Have failures, missed runs and the like told: by mail, Slack, webhooks and others.",
    "import": "Import jobs from elsewhere.",
    "export": "Write jobs in another form.",
    "refresh": "Render schedules anew that a new time zone, new zone rules or a new year have made stale.",
    "catch-up": "Make up for times missed while the machine was off.",
    "reset-stuck": "End runs that are stuck.",
    "queue": "Show what runs and what waits for a cap.",
    "limits": "Show or set how many jobs may run at once.",
    "metric": "Keep numbers with the run that this is called in.",
    "message": "Keep a message with the run that this is called in; the last one counts.",
    "progress": "Tell how far the run has come that this is called in.",
    "explain": "Explain a cron expression: in words, as OnCalendar, and its next instants.",
    "graph": "Show which jobs follow which.",
    "prune": "Remove old runs from the ledger.",
    "backup": "Copy the ledger into a file.",
    "restore": "Make a backup the ledger.",
    "audit": "Show who changed which job when and how, the newest first.",
    "sync": "Report runs, jobs, alerts and changes to Supabase.",
    "fleet": "Show all machines that report to Supabase, and share work among them.",
    "supabase": "Prepare and check the Supabase project that hosts report to.",
    "api": "Serve jobs and runs over HTTP.",
    "doctor": "Look for what usually goes wrong, and how to mend it.",
    "agent": "Care for the agent that keeps the ledger up to date.",
    "completion": "Print what makes a shell complete lshctl's commands, options and jobs.",
}


class _Lazy(OneLineErrors, click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if (url := ctx.params.get("url")) is not None and not ctx.resilient_parsing:
            from lsh_systemd.cli import overhttp

            return overhttp.command(ctx, name, url)
        if name not in _COMMANDS:
            return None
        module = importlib.import_module(f"lsh_systemd.cli.{_COMMANDS[name]}")
        command = getattr(module, f"{name.replace('-', '_')}_command")
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if ctx.params["url"] is not None and (ctx.params["hosts"] or ctx.params["scope"]):
            raise BadInput("--url goes with none of --host, --system and --user", hint="the API there has one scope")
        # Not even looked up here: the other machine's lshctl may know more.
        if ctx.params["hosts"] and not ctx.resilient_parsing:
            from lsh_systemd import ssh

            scope = ctx.params["scope"]
            ssh.call(ctx.params["hosts"], [*([f"--{scope}"] if scope else []), *args])
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # click's own would import every command for its first line.
        found = [CompletionItem(name, help=help) for name, help in _SUMMARIES.items() if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_SUMMARIES.items()))


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="lshctl")
@click.option("--system", "scope", flag_value="system", help="Jobs of the machine (root's default).")
@click.option("--user", "scope", flag_value="user", help="Jobs of your own (everybody else's default).")
@click.option(
    "-H",
    "--host",
    "hosts",
    multiple=True,
    metavar="[USER@]HOST[:PORT]",
    help="Run the command on another machine, by ssh. All that it names (jobs, files, variables) is that machine's.",
)
@click.option("--url", metavar="URL", help="Have another machine's HTTP API do it, with the key that LSH_API_KEY has.")
@click.pass_context
def main(ctx: click.Context, scope: str | None, hosts: tuple[str, ...], url: str | None) -> None:
    """Jobs as systemd units: scheduled, isolated and limited by systemd, every run on record.

    \b
    lshctl add "Daily Backup" --schedule "0 2 * * *" -- 'tar -czf /backups/data.tar.gz /data'
    lshctl list
    lshctl runs daily-backup
    lshctl -H root@web1 list
    """
    ctx.obj = ctx.obj if url is not None else scope
    os.umask(os.umask(0) | 0o022)  # whatever the caller's: nobody else may write to what is made here
    from lsh_systemd.cli import pager

    if ctx.invoked_subcommand in pager.PAGED:
        pager.begin(ctx)
