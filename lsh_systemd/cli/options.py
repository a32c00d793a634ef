"""The options that describe a job, shared by add and set; and their way into a Job."""

import os
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import click

from lsh_systemd.errors import BadInput
from lsh_systemd.jobfile import Plain
from lsh_systemd.text import visible

F = TypeVar("F", bound=Callable[..., Any])

_WHEN = ("schedule", "schedule_from", "seconds", "calendar", "every", "anchor", "at", "on_boot")
_LIMITS = ("not_before", "not_after", "except_calendar")
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|([A-Za-z_][A-Za-z0-9_]*))")
_WALL_TIME = re.compile(r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d?:\d\d(?::\d\d)?))?")


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


def plain_from(options: dict[str, Any], *, zone: str | None = None) -> dict[str, Plain]:
    """The job's fields that the options name, as jobfile reads them. ``zone``: the job's, where no option names one."""
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
        if "catch_up" not in plain:
            plain.setdefault("persistent", True)
    if "persistent" in plain and "catch_up" in plain:
        raise BadInput("--catch-up and --persistent exclude each other")
    if "schedule" in plain and (resolved := [*map(_from_environment, plain["schedule"])]) != plain["schedule"]:
        plain |= {"schedule": resolved, "schedule_from": plain["schedule"]}
    for name in ("anchor", "not_before", "not_after"):
        if name in plain:
            plain[name] = _wall_time(plain[name], plain.get("timezone", zone), end_of_day=name == "not_after")
    if "except_calendar" in plain:
        plain["except_calendar"] = [*map(_exception, plain["except_calendar"])]
    return plain


def merge(old: dict[str, Plain], new: dict[str, Plain]) -> dict[str, Plain]:
    """A job's fields with some set anew: a new kind of schedule replaces the old one, variables are added."""
    merged = dict(old)
    if any(name in new for name in _WHEN if name != "seconds"):
        zoned = "timezone" in new or "schedule" in new or "calendar" in new or "anchor" in new
        for name in (*_WHEN, *(() if zoned else ("timezone",))):
            merged.pop(name, None)
        if not ("schedule" in new or "calendar" in new or "at" in new or "anchor" in new):
            merged.pop("catch_up", None)
            merged.pop("catch_up_spread", None)
        if not ("schedule" in new or "calendar" in new or "anchor" in new):
            for name in _LIMITS:
                merged.pop(name, None)
    if new.keys() & {"persistent", "catch_up"}:
        merged.pop("catch_up", None)
        if new.get("catch_up") == "none" or new.get("persistent") is False:
            merged.pop("catch_up_spread", None)
    if "env" in new:
        new = {**new, "env": {**old.get("env", {}), **new["env"]}}
    return merged | new


def _from_environment(text: str) -> str:
    """A schedule that is given as ${NAME}, or ${NAME:-one if it is not set}: taken from the environment, now."""
    match = _VARIABLE.fullmatch(text.strip())
    if not match:
        return text
    name = match[1] or match[3]
    value = os.environ.get(name) or match[2]
    if not value:
        raise BadInput(
            f"--schedule {visible(text)}: {name} is not set",
            hint=f"{name}='0 2 * * *' lshctl …, or ${{{name}:-0 2 * * *}}",
        )
    return value


def _wall_time(text: str, zone: str | None, *, end_of_day: bool) -> str:
    """A time by the clock of the zone (None: of the machine), as 2027-01-31T02:00:00."""
    plain = _WALL_TIME.fullmatch(text.strip())
    if plain:
        clock = plain[2] or ("23:59:59" if end_of_day else "00:00:00")
        wall = f"{plain[1]}T{clock.zfill(8 if clock.count(':') == 2 else 5)}"
        try:
            return datetime.fromisoformat(wall).isoformat()
        except ValueError:
            raise BadInput(f"{visible(text)} is not a point in time") from None
    from zoneinfo import ZoneInfo

    from lsh_systemd import analyze
    from lsh_systemd.zones import check_zone

    if zone:
        check_zone(zone)
    moment = analyze.parse_timestamp(text, zone=zone).astimezone(ZoneInfo(zone or analyze.local_zone()))
    return moment.replace(tzinfo=None, microsecond=0).isoformat()


def _exception(text: str) -> str:
    """Days stay as they are; what looks like a file becomes an absolute path."""
    return _absolute(text) if text.endswith(".ics") or text.startswith(("/", "./", "../")) else text


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
