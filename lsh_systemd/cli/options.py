"""The options that describe a job, shared by add and set; and their way into a Job."""

import os
import re
from datetime import datetime
from typing import Any

from lsh_systemd.errors import BadInput
from lsh_systemd.jobfields import from_environment
from lsh_systemd.jobfile import Plain
from lsh_systemd.text import visible

_WHEN = ("schedule", "schedule_from", "seconds", "calendar", "every", "anchor", "at", "on_boot")
_LIMITS = ("not_before", "not_after", "except_calendar")
_WALL_TIME = re.compile(r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d?:\d\d(?::\d\d)?))?")


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
    if "retry_on" in plain:
        plain["retry_on"] = [each for text in plain["retry_on"] for each in text.split(",")]
    if "no_retry_exit" in plain:
        plain["no_retry_exit"] = [_status(each) for text in plain["no_retry_exit"] for each in text.split(",")]
    if "env" in plain:
        plain["env"] = dict(map(_variable, plain["env"]))
    for name in plain.keys() & {"env_file", "write_path"}:
        plain[name] = [_absolute(path) for path in plain[name]]
    if "working_dir" in plain:
        plain["working_dir"] = _absolute(plain["working_dir"])
    if "cpu_quota" in plain:
        plain["cpu_quota"] = _percent(plain["cpu_quota"])
    if "when_path" in plain:
        plain["when_path"] = [_absolute(path) for path in plain["when_path"]]
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
    if (
        "schedule" in plain
        and (resolved := [from_environment(text, os.environ) for text in plain["schedule"]]) != plain["schedule"]
    ):
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
    if new.get("sandbox") == "none" and not merged.get("dynamic_user"):
        merged.pop("write_path", None)
    if "env" in new:
        new = {**new, "env": {**old.get("env", {}), **new["env"]}}
    return merged | new


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


def _status(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or len(text) > 3:
        raise BadInput(f"{visible(text)} is no exit status", hint="--no-retry-exit 64,78")
    return int(text)


def _absolute(path: str) -> str:
    return path if path.startswith("/") else os.path.abspath(path)  # noqa: PTH100  (resolve() would follow links)


def _percent(text: str) -> int:
    number = text.removesuffix("%")
    if not number.isdecimal() or not number.isascii() or len(number) > 9:
        raise BadInput(f"{visible(text)} is not a whole number of percent", hint="write it as 50%")
    return int(number)
