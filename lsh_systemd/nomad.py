"""Jobs → periodic batch jobs of Nomad, as its API takes them. Pure."""

import json
import math
import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from lsh_systemd import cron, sharing
from lsh_systemd.cronjobs import Exported
from lsh_systemd.errors import BadInput
from lsh_systemd.job import Job
from lsh_systemd.jobfile import to_plain
from lsh_systemd.text import escape_in_json

_CARRIED = frozenset(
    "name command shell schedule schedule_from seconds timezone description category env working_dir grace retries "
    "retry_delay memory_max run_as network sandbox overlap catch_up once_in_fleet allow_dangerous applied".split()
)
# What Nomad reads in a task's configuration: ${…} and %{…} are HCL's, $${ and %%{ spell the like.
_TEMPLATE = re.compile(r"([$%])(?=\{)")
_BEFORE_TEMPLATE = re.compile(r"\$\$\{|%%\{")
# In a variable's value it looks for these only, and nothing keeps it from that.
_FILLED = re.compile(r"\$\{[A-Za-z0-9_.-]+\}")
# Within so long, retries are counted. Nomad wants a span; that of a run's retries has to fit into it.
_COUNTED = timedelta(days=7)


def export(jobs: Iterable[tuple[Job, bool]], *, image: str, local_zone: str) -> Exported:
    """The jobs, each with whether its schedule counts, as one line of JSON each: what ``nomad job run -json`` takes.

    ``image``: what their containers run; ``local_zone``: the zone of jobs that name none."""
    lines, left_out, lost = [], [], []
    for job, enabled in jobs:
        try:
            told = _job(job, image=image, zone=job.timezone or local_zone, enabled=enabled)
        except BadInput as error:
            left_out.append((job.id, error.message))
            continue
        lines.append(escape_in_json(json.dumps({"Job": told}, ensure_ascii=False)) + "\n")
        lost += [(job.id, what) for what in _losses(job)]
    return Exported(text="".join(lines), left_out=tuple(left_out), lost=tuple(lost))


def _job(job: Job, *, image: str, zone: str, enabled: bool) -> dict[str, Any]:
    specs = _specs(job)
    notes = {"description": job.description, "category": job.category}
    group = {
        "Name": "job",
        "Count": 1,
        "RestartPolicy": {
            "Attempts": job.retries,
            "Delay": _nanoseconds(job.retry_delay),
            "Interval": _nanoseconds(_COUNTED + job.retries * job.retry_delay),
            "Mode": "fail",
        },
        "ReschedulePolicy": {"Attempts": 0, "Unlimited": False},
        "Tasks": [_task(job, image)],
    }
    return {
        "ID": job.id,
        "Name": job.name,
        "Type": "batch",
        "Datacenters": ["*"],
        "Meta": {"managed-by": "lsh-systemd"} | {key: text for key, text in notes.items() if text},
        "Periodic": {
            "Enabled": enabled,
            "SpecType": "cron",
            **({"Spec": specs[0]} if len(specs) == 1 else {"Specs": specs}),
            "TimeZone": zone,
            "ProhibitOverlap": job.overlap != "parallel",
        },
        "TaskGroups": [group],
    }


def _specs(job: Job) -> list[str]:
    """The job's cron expressions as Nomad reads them. Raises BadInput where it has none such."""
    if not job.schedule:
        raise BadInput("it has no cron schedule")
    return [_spec(expression, cron.parse(expression, seconds=job.seconds, key=job.id)) for expression in job.schedule]


def _spec(expression: str, parsed: cron.Cron) -> str:
    days, weekdays = _days(parsed.days), _weekdays(parsed.weekdays)
    if "*" in (days, weekdays):
        # Nomad wants both where one is *. So does cron where that * is written; else it wants either, which is any day.
        if not parsed.day_and:
            days = weekdays = "*"
    elif parsed.day_and:
        raise BadInput(f"of {expression}, Nomad takes the day of month and that of the week otherwise")
    fields = [
        _numbers(parsed.minutes, 0, 59),
        _numbers(parsed.hours, 0, 23),
        days,
        _numbers(parsed.months, 1, 12),
        weekdays,
    ]
    if parsed.seconds == {0} and parsed.years is None:
        return " ".join(fields)
    # Seven fields: the seconds first, the year last.
    years = "*" if parsed.years is None else _numbers(parsed.years, 1970, 2099)
    return " ".join([_numbers(parsed.seconds, 0, 59), *fields, years])


def _days(days: cron.DaysOfMonth) -> str:
    if len(days.numbers) == 31:
        return "*"
    words = [f"{day}W" for day in sorted(days.nearest)]
    words += [word for word, is_meant in (("L", days.last), ("LW", days.last_weekday)) if is_meant]
    return ",".join([*([_numbers(days.numbers, 1, 31)] if days.numbers else []), *words])


def _weekdays(weekdays: cron.DaysOfWeek) -> str:
    """Nomad's weekdays begin with Sunday, 0."""
    if len(weekdays.numbers) == 7:
        return "*"
    words = [f"{(day + 1) % 7}{'L' if number == cron.LAST else f'#{number}'}" for day, number in sorted(weekdays.nth)]
    numbers = frozenset((day + 1) % 7 for day in weekdays.numbers)
    return ",".join([*([_numbers(numbers, 0, 6)] if numbers else []), *words])


def _numbers(numbers: frozenset[int], low: int, high: int) -> str:
    """ "0,5-9", or * for all of them."""
    if len(numbers) == high - low + 1:
        return "*"
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and spans[-1][-1] == number - 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    return ",".join(f"{span[0]}-{span[-1]}" if len(span) > 2 else ",".join(map(str, span)) for span in spans)


def _task(job: Job, image: str) -> dict[str, Any]:
    words = [job.shell, "-c", job.command] if isinstance(job.command, str) else list(job.command)
    config: dict[str, Any] = {"image": _literal(image), "entrypoint": [_literal(words[0])]}
    if len(words) > 1:
        config["args"] = [*map(_literal, words[1:])]
    if job.working_dir:
        config["work_dir"] = _literal(job.working_dir)
    if job.network == "none":
        config["network_mode"] = "none"
    if job.sandbox != "none":
        config |= {"readonly_rootfs": True, "security_opt": ["no-new-privileges"]}
    if job.sandbox == "strict":
        config["cap_drop"] = ["all"]
    task: dict[str, Any] = {"Name": "job", "Driver": "docker", "Config": config}
    if job.env:
        task["Env"] = dict(job.env)
    if job.run_as:
        task["User"] = job.run_as
    if job.grace:
        task["KillTimeout"] = _nanoseconds(job.grace)
    if job.memory_max:
        task["Resources"] = {"MemoryMB": max(10, math.ceil(job.memory_max / 2**20))}
    return task


def _losses(job: Job) -> Iterable[str]:
    if names := [name for name in to_plain(job) if name not in _CARRIED]:
        yield "a job of Nomad's does not have " + ", ".join(names)
    if job.once_in_fleet:
        yield f"it runs once in its cluster, without {sharing.TOKEN}"
    if job.run_as and not job.run_as.isdecimal():
        yield f"the user {job.run_as} has to be there in the image"
    if job.memory_max is None:
        yield "Nomad gives it 300 MB of memory, where nothing says how much (--memory-max)"
    if job.overlap == "queue":
        yield "a time that comes while it runs is let pass (ProhibitOverlap)"
    if job.overlap == "replace":
        yield "a run that goes on is not ended; the time that comes meanwhile is let pass (ProhibitOverlap)"
    if job.catch_up == "all":
        yield "of the times missed, one is made up for"
    if job.retries:
        yield "all its retries come after the same delay"
    for name, value in job.env.items():
        if found := _FILLED.search(value):
            yield f"where Nomad knows {found[0]}, it fills that in, in the value of {name}"


def _literal(text: str) -> str:
    """As text in a task's configuration, of which Nomad fills in nothing. Raises BadInput where none can be that."""
    if _BEFORE_TEMPLATE.search(text):
        raise BadInput("Nomad does not take $${ or %%{ as they stand")
    return _TEMPLATE.sub(r"\1\1", text)


def _nanoseconds(span: timedelta) -> int:
    return span // timedelta(microseconds=1) * 1000
