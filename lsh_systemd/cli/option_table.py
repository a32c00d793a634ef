"""The options that describe a job: one table, and the decorators that put them on a command."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from lsh_systemd.cli.common import complete_jobs

F = TypeVar("F", bound=Callable[..., Any])


class Grouped(click.Option):
    """An option that --help lists under a heading."""

    def __init__(self, *args: Any, group: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose --help lists its options by heading."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record:
                groups.setdefault(getattr(parameter, "group", "Other"), []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def _option(group: str, *names: str, **attributes: Any) -> tuple[str, tuple[str, ...], dict[str, Any]]:
    return group, names, attributes


# What is not about a single run alone.
_POLICY = ("Limits", "Retries", "Overlap", "Isolation", "Secrets", "Hooks", "Fleet")
_OPTIONS = [
    _option("When", "--schedule", multiple=True, metavar="CRON",
            help="Five cron fields or a macro, or '${NAME}' to take them from a variable now; may be repeated."),
    _option("When", "--calendar", multiple=True, metavar="SPEC", help="OnCalendar=, systemd.time(7); may be repeated."),
    _option("When", "--every", metavar="SPAN", help="Again and again, so long from start to start: 15m, 1h30m."),
    _option("When", "--from", "anchor", metavar="TIME",
            help="With --every: by the calendar from this day on; --every takes days, weeks, '3 months', '1 year'."),
    _option("When", "--at", metavar="TIME", help="Once: '2027-01-31 02:00', 'tomorrow 9:00', +3h."),
    _option("When", "--on-boot", is_flag=True, default=None,
        help="Once at each boot (user scope: each start of your manager)."),
    _option("When", "--tz", "timezone", metavar="ZONE", help="The schedule's time zone; without it, the machine's."),
    _option("When", "--seconds", is_flag=True, default=None,
            help="The cron expression has a sixth field, seconds, and perhaps a year."),
    _option("When", "--not-before", metavar="TIME", help="Keep still before this time."),
    _option("When", "--not-after", metavar="TIME", help="Keep still after this time; a day counts to its end."),
    _option("When", "--except-calendar", multiple=True, metavar="SPEC|FILE",
            help="Keep still on days ('Sat,Sun', '*-12-24..31'), for a part of them ('Mon..Fri 09:00-17:00'), "
            "or during the events of a .ics file; may be repeated."),
    _option("When", "--jitter", metavar="SPAN",
            help="Start up to this much later, always by the same amount for this job on this machine."),
    _option("When", "--catch-up", metavar="none|once|all",
            help="After a time off: nothing; one run for all that was missed; or one for each time missed."),
    _option("When", "--catch-up-spread", metavar="SPAN",
            help="Begin to catch up so long after boot at the latest, each job at a moment of its own."),
    _option("When", "--persistent/--no-persistent", default=None, help="The same as --catch-up once, or none."),
    _option("What", "--description", metavar="TEXT", help="One line for people."),
    _option("What", "--tag", "tags", multiple=True, metavar="TAG", help="A label; may be repeated."),
    _option("What", "--category", metavar="TEXT", help="A group to sort by."),
    _option("Where", "--no-shell", is_flag=True, help="Run the words of COMMAND themselves, without /bin/sh."),
    _option("Where", "--shell", metavar="PATH", help="The shell that reads COMMAND, instead of /bin/sh."),
    _option("Where", "--stdin", metavar="TEXT", help="What COMMAND reads on its standard input."),
    _option("Where", "--env", multiple=True, metavar="K=V", help="A variable, readable for all; may be repeated."),
    _option("Where", "--env-file", multiple=True, metavar="PATH", help="A file of K=V lines; may be repeated."),
    _option("Where", "--working-dir", metavar="PATH", help="The folder to run in."),
    _option("Where", "--allow-dangerous/--no-allow-dangerous", default=None,
            help="Take a COMMAND that usually destroys (rm -rf $DIR/, curl | sh); the job remembers that it may."),
    _option("Secrets", "--secret", "secrets", multiple=True, metavar="NAME[:VAR]",
            help="A secret of `lshctl secrets`: the file $CREDENTIALS_DIRECTORY/NAME, readable for COMMAND alone; with "
            ":VAR a variable, too, which all processes of COMMAND's user can see. May be repeated."),
    _option("Limits", "--timeout", metavar="SPAN", help="End a run that takes longer."),
    _option("Limits", "--grace", metavar="SPAN", help="How long a run has from SIGTERM to SIGKILL; systemd's is 90s."),
    _option("Limits", "--stuck-after", metavar="SPAN", help="Call a run stuck that takes longer; reset-stuck ends it."),
    _option("Retries", "--retries", type=int, metavar="N", help="Try again so often when a run fails."),
    _option("Retries", "--retry-delay", metavar="SPAN",
            help="Wait so long before the first retry, twice as long before each next one; 1s where not said."),
    _option("Retries", "--retry-max-delay", metavar="SPAN", help="But never longer than this; 30s where not said."),
    _option("Retries", "--retry-on", multiple=True, metavar="RESULT",
            help="Only after such failures: exit-code, timeout, oom-kill, signal, signal:TERM …; may be repeated."),
    _option("Retries", "--no-retry-exit", multiple=True, metavar="STATUS", help="Not after these: 64,78."),
    _option("Overlap", "--overlap", metavar="queue|skip|parallel|replace",
            help="Due while it runs: once more at its end; let it pass; run beside it; or end it and start anew."),
    _option("Overlap", "--group", "groups", multiple=True, metavar="NAME",
            help="A group that lshctl limits may cap; may be repeated."),
    _option("Limits", "--priority", type=int, metavar="0..10", help="CPU and I/O weight, nice; 5 is neutral."),
    _option("Limits", "--nice", type=int, metavar="-20..19", help="The nice level, instead of the priority's."),
    _option("Limits", "--memory-high", metavar="SIZE", help="Slow a run down that needs more memory than this."),
    _option("Limits", "--memory-max", metavar="SIZE", help="Kill a run that needs more memory: 512M, 2G."),
    _option("Limits", "--swap-max", metavar="SIZE", help="At most so much swap; 0 is none."),
    _option("Limits", "--cpu-quota", metavar="PERCENT", help="At most so much of one CPU: 50%, 200%."),
    _option("Limits", "--cpu-weight", type=int, metavar="1..10000",
            help="Its share where CPU is short, instead of the priority's; 100 is usual."),
    _option("Limits", "--io-weight", type=int, metavar="1..10000",
            help="Its share where I/O is short, instead of the priority's; 100 is usual."),
    _option("Limits", "--io-max", multiple=True, metavar="PATH:RATES",
            help="Bytes a second on the disk that PATH is on: /var:read=10M,write=5M; may be repeated."),
    _option("Limits", "--tasks-max", type=int, metavar="N", help="At most so many processes and threads."),
    _option("Limits", "--file-size-max", metavar="SIZE", help="End a run that makes a file larger than this."),
    _option("Limits", "--open-files-max", type=int, metavar="N", help="At most so many open files in a process."),
    _option("Isolation", "--sandbox", metavar="none|standard|strict",
            help="standard: read-only but for --write-path, own /tmp, no new privileges; "
            "strict: also no homes, devices or capabilities, usual system calls only."),
    _option("Isolation", "--write-path", multiple=True, metavar="PATH",
            help="What a job in a sandbox may write; may be repeated."),
    _option("Isolation", "--network", metavar="host|none", help="none: a network of its own, without a way out."),
    _option("Isolation", "--run-as", metavar="USER", help="The user to run as (system scope)."),
    _option("Isolation", "--dynamic-user/--no-dynamic-user", default=None,
            help="A user that is there only while the job runs (system scope)."),
    _option("Hooks", "--after", multiple=True, metavar="JOB", shell_complete=complete_jobs,
            help="Run when that job has succeeded; of several: when all have, since this job's own last start."),
    _option("Hooks", "--when-path", multiple=True, metavar="PATH",
            help="Run when the file, or what is in the folder, has changed; may be repeated."),
    _option("Hooks", "--when-socket", multiple=True, metavar="ADDRESS",
            help="Run when somebody connects to 127.0.0.1:8080, 8080 (any address), /run/x.sock or @x; the job accepts "
            "the connection on file descriptor 3; may be repeated."),
    _option("Hooks", "--condition", metavar="COMMAND",
            help="Run this first: exit status 1 to 254 skips the run; 255 or a signal fails it."),
    _option("Hooks", "--on-success", multiple=True, metavar="JOB|COMMAND",
            help="What follows a success: a job, or a line for /bin/sh (it has a blank or a slash, or is written "
            "command:…), with LSH_JOB, LSH_RUN_ID, LSH_RESULT, LSH_EXIT_STATUS, LSH_SIGNAL; may be repeated."),
    _option("Hooks", "--on-failure", multiple=True, metavar="JOB|COMMAND",
            help="The same for a failure, once no retry is to come."),
    _option("Hooks", "--ping", metavar="URL",
            help="Tell a monitor outside, as Healthchecks takes it: URL/start, URL, URL/fail or URL/STATUS, with the "
            "run's id as rid. The URL stands in the unit file; '{secret:NAME}' keeps it from there."),
    _option("Fleet", "--once-in-fleet/--no-once-in-fleet", default=None,
            help="At each scheduled time only one of the hosts that have the job runs it, the first to ask Supabase; "
            "the others skip theirs. The run finds a number that only grows in LSH_FENCING_TOKEN."),
    _option("Fleet", "--fleet-unreachable", metavar="skip|run",
            help="Where Supabase does not answer: no run (the default), or one on each host that cannot ask."),
    _option("Fleet", "--from-fleet/--no-from-fleet", default=None,
            help="Let `lshctl fleet enqueue` ask for runs, on this host or on any other that offers the job."),
    _option("Fleet", "--param", "params", multiple=True, metavar="NAME[=PATTERN]",
            help="A variable that it sets, and without an --env of that name has to: one line, all of which matches "
            "the regular expression; may be repeated."),
]  # fmt: skip


def descriptions() -> dict[str, str]:
    """Field of a job → what --help says of its option."""
    return {
        next((name for name in names if not name.startswith("-")), names[0].partition("/")[0][2:].replace("-", "_")):
            attributes["help"]
        for _, names, attributes in _OPTIONS
    }  # fmt: skip


def job_options(function: F) -> F:
    """All options that describe a job."""
    return _with_options(function, ("When", "What", "Where", *_POLICY))


def run_options(function: F) -> F:
    """The options that describe a single run."""
    return _with_options(function, ("Where", "Limits", "Isolation", "Secrets"))


def _with_options(function: F, groups: tuple[str, ...]) -> F:
    for group, names, attributes in reversed(_OPTIONS):
        if group in groups:
            function = click.option(*names, cls=Grouped, group=group, **attributes)(function)
    return function
