"""The options that describe a job, shared by add and set; and their way into a Job."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from lsh_systemd.errors import BadInput
from lsh_systemd.jobfile import Plain
from lsh_systemd.text import visible

F = TypeVar("F", bound=Callable[..., Any])

_WHEN = ("schedule", "seconds", "calendar", "every", "at", "on_boot")


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


_OPTIONS = [
    _option("When", "--schedule", multiple=True, metavar="CRON", help="Five cron fields or a macro; may be repeated."),
    _option("When", "--calendar", multiple=True, metavar="SPEC", help="OnCalendar=, systemd.time(7); may be repeated."),
    _option("When", "--every", metavar="SPAN", help="Again and again, so long from start to start: 15m, 1h30m."),
    _option("When", "--at", metavar="TIME", help="Once: '2027-01-31 02:00', 'tomorrow 9:00', +3h."),
    _option("When", "--on-boot", is_flag=True, default=None,
        help="Once at each boot (user scope: each start of your manager)."),
    _option("When", "--tz", "timezone", metavar="ZONE", help="The schedule's time zone; without it, the machine's."),
    _option("When", "--seconds", is_flag=True, default=None,
            help="The cron expression has a sixth field, seconds, and perhaps a year."),
    _option("When", "--jitter", metavar="SPAN", help="Start up to this much later, always by the same amount."),
    _option("When", "--persistent/--no-persistent", default=None,
            help="Make up once for times missed while the machine was off."),
    _option("What", "--description", metavar="TEXT", help="One line for people."),
    _option("What", "--tag", "tags", multiple=True, metavar="TAG", help="A label; may be repeated."),
    _option("What", "--category", metavar="TEXT", help="A group to sort by."),
    _option("Where", "--no-shell", is_flag=True, help="Run the words of COMMAND themselves, without /bin/sh."),
    _option("Where", "--shell", metavar="PATH", help="The shell that reads COMMAND, instead of /bin/sh."),
    _option("Where", "--stdin", metavar="TEXT", help="What COMMAND reads on its standard input."),
    _option("Where", "--env", multiple=True, metavar="K=V", help="A variable, readable for all; may be repeated."),
    _option("Where", "--env-file", multiple=True, metavar="PATH", help="A file of K=V lines; may be repeated."),
    _option("Where", "--working-dir", metavar="PATH", help="The folder to run in."),
    _option("Where", "--run-as", metavar="USER", help="The user to run as (system scope)."),
    _option("Limits", "--timeout", metavar="SPAN", help="End a run that takes longer."),
    _option("Limits", "--priority", type=int, metavar="0..10", help="CPU and I/O weight, nice; 5 is neutral."),
    _option("Limits", "--nice", type=int, metavar="-20..19", help="The nice level, instead of the priority's."),
    _option("Limits", "--memory-max", metavar="SIZE", help="Kill a run that needs more memory: 512M, 2G."),
    _option("Limits", "--cpu-quota", metavar="PERCENT", help="At most so much of one CPU: 50%, 200%."),
]  # fmt: skip


def job_options(function: F) -> F:
    """All options that describe a job."""
    return _with_options(function, ("When", "What", "Where", "Limits"))


def run_options(function: F) -> F:
    """The options that describe a single run."""
    return _with_options(function, ("Where", "Limits"))


def _with_options(function: F, groups: tuple[str, ...]) -> F:
    for group, names, attributes in reversed(_OPTIONS):
        if group in groups:
            function = click.option(*names, cls=Grouped, group=group, **attributes)(function)
    return function


def command_from(words: tuple[str, ...], *, no_shell: bool) -> str | list[str]:
    """The command: one word is a line for the shell; several are quoted for it, or kept as they are."""
    import shlex

    if no_shell:
        return list(words)
    return words[0] if len(words) == 1 else shlex.join(words)


def plain_from(options: dict[str, Any]) -> dict[str, Plain]:
    """The job's fields that the options name, as jobfile reads them."""
    plain: dict[str, Any] = {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
    plain = {name: value for name, value in plain.items() if value not in (None, [])}
    plain.pop("no_shell", None)
    if "env" in plain:
        plain["env"] = dict(map(_variable, plain["env"]))
    if "env_file" in plain:
        plain["env_file"] = [_absolute(path) for path in plain["env_file"]]
    if "working_dir" in plain:
        plain["working_dir"] = _absolute(plain["working_dir"])
    if "cpu_quota" in plain:
        plain["cpu_quota"] = _percent(plain["cpu_quota"])
    if "at" in plain:
        from lsh_systemd import analyze
        from lsh_systemd.zones import check_zone

        if "timezone" in plain:
            check_zone(plain["timezone"])
        plain["at"] = analyze.parse_timestamp(plain["at"], zone=plain.pop("timezone", None)).isoformat()
        # A time that comes only once should not be lost to a reboot.
        plain.setdefault("persistent", True)
    return plain


def merge(old: dict[str, Plain], new: dict[str, Plain]) -> dict[str, Plain]:
    """A job's fields with some set anew: a new kind of schedule replaces the old one, variables are added."""
    merged = dict(old)
    if any(name in new for name in _WHEN if name != "seconds"):
        for name in (*_WHEN, *(() if "timezone" in new or "schedule" in new or "calendar" in new else ("timezone",))):
            merged.pop(name, None)
        if not ("schedule" in new or "calendar" in new or "at" in new):
            merged.pop("persistent", None)
    if "env" in new:
        new = {**new, "env": {**old.get("env", {}), **new["env"]}}
    return merged | new


def _variable(text: str) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not mark:
        raise BadInput(f"{visible(text)} is not of the form NAME=VALUE", hint="--env NAME=VALUE")
    return name, value


def _absolute(path: str) -> str:
    return path if path.startswith("/") else os.path.abspath(path)  # noqa: PTH100  (resolve() would follow links)


def _percent(text: str) -> int:
    number = text.removesuffix("%")
    if not number.isdecimal() or not number.isascii() or len(number) > 9:
        raise BadInput(f"{visible(text)} is not a whole number of percent", hint="write it as 50%")
    return int(number)
