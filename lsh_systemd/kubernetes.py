"""Jobs → CronJobs of Kubernetes, for those who outgrow hosts with systemd. Pure."""

import math
import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from lsh_systemd import cron, crontab, sharing
from lsh_systemd.cronjobs import Exported
from lsh_systemd.errors import BadInput
from lsh_systemd.job import Job
from lsh_systemd.jobexport import write_documents
from lsh_systemd.jobfile import to_plain

# Kubernetes adds up to 11 characters to make the names of its Jobs.
_LONGEST_NAME = 52
# $(NAME) is a variable of Kubernetes' own in commands and values, and $$ is how it spells $.
_DOLLAR = re.compile(r"\$(?=[$(])")
# A run that could not be started for so long is not made up for.
_STARTING_SECONDS = 60
_CARRIED = frozenset(
    "name command shell schedule schedule_from timezone description category env working_dir timeout grace retries "
    "memory_max cpu_quota allow_dangerous applied".split()
)
_POLICIES = {"queue": "Forbid", "skip": "Forbid", "parallel": "Allow", "replace": "Replace"}


def export(jobs: Iterable[tuple[Job, bool]], *, image: str, local_zone: str) -> Exported:
    """The jobs, each with whether its schedule counts, as YAML documents. ``image``: what their containers run;
    ``local_zone``: the zone of jobs that name none."""
    documents: list[dict[str, Any]] = []
    left_out, lost = [], []
    for job, enabled in jobs:
        try:
            schedules = _schedules(job)
        except BadInput as error:
            left_out.append((job.id, error.message))
            continue
        for number, schedule in enumerate(schedules, 1):
            name = job.id if len(schedules) == 1 else f"{job.id}-{number}"
            documents.append(
                _cronjob(job, name, schedule, image=image, zone=job.timezone or local_zone, enabled=enabled)
            )
        lost += [(job.id, what) for what in _losses(job)]
    return Exported(text=write_documents(documents), left_out=tuple(left_out), lost=tuple(lost))


def _schedules(job: Job) -> list[str]:
    """The job's cron expressions as Kubernetes reads them. Raises BadInput where it has none such."""
    if not job.schedule or job.seconds:
        raise BadInput("it has no cron schedule of five fields")
    if len(job.id) + (len(job.schedule) > 1) * 3 > _LONGEST_NAME:
        raise BadInput(f"its id is longer than {_LONGEST_NAME} characters")
    schedules = [crontab.plain(expression, key=job.id) for expression in job.schedule]
    if None in schedules:
        raise BadInput(f"a CronJob cannot have the schedule {', '.join(job.schedule)}")
    written = [_without_day_7(each) for each in schedules if each]
    for expression, each in zip(job.schedule, written, strict=True):
        if not _has_same_days(cron.parse(expression, key=job.id), each):
            raise BadInput(f"of {expression}, a CronJob takes the day of month and that of the week otherwise")
    return written


def _has_same_days(parsed: cron.Cron, written: str) -> bool:
    """Whether Kubernetes, too, wants both the day of month and that of the week, or either. It wants both where one of
    them has a * that stands alone; cron does where one begins with *."""
    if written.startswith("@") or (len(parsed.days.numbers) == 31 and len(parsed.weekdays.numbers) == 7):
        return True
    _, _, days, _, weekdays = written.split()
    both = any(item in ("*", "*/1") for field in (days, weekdays) for item in field.split(","))
    return both == parsed.day_and


def _without_day_7(schedule: str) -> str:
    """Kubernetes' Sunday is 0 alone."""
    head, _, weekdays = schedule.rpartition(" ")
    if schedule.startswith("@") or "7" not in weekdays:
        return schedule
    numbers = sorted((day + 1) % 7 for day in cron.parse(schedule).weekdays.numbers)
    return f"{head} {','.join(map(str, numbers))}"


def _cronjob(job: Job, name: str, schedule: str, *, image: str, zone: str, enabled: bool) -> dict[str, Any]:
    notes = {"description": job.description, "lsh-systemd/category": job.category}
    annotations = {key: text for key, text in notes.items() if text}
    pod: dict[str, Any] = {"restartPolicy": "Never", "containers": [_container(job, image)]}
    if job.timeout:
        pod["activeDeadlineSeconds"] = _seconds(job.timeout)
    if job.grace:
        pod["terminationGracePeriodSeconds"] = _seconds(job.grace)
    spec: dict[str, Any] = {
        "schedule": schedule,
        "timeZone": zone,
        "concurrencyPolicy": _POLICIES[job.overlap],
        "suspend": not enabled,
        "jobTemplate": {"spec": {"backoffLimit": job.retries, "template": {"spec": pod}}},
    }
    if job.catch_up == "none":
        spec["startingDeadlineSeconds"] = _STARTING_SECONDS
    metadata: dict[str, Any] = {"name": name, "labels": {"app.kubernetes.io/managed-by": "lsh-systemd"}}
    if annotations:
        metadata["annotations"] = annotations
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata, "spec": spec}


def _container(job: Job, image: str) -> dict[str, Any]:
    words = [job.shell, "-c", job.command] if isinstance(job.command, str) else list(job.command)
    container: dict[str, Any] = {"name": "job", "image": image, "command": [*map(_literal, words)]}
    if job.env:
        container["env"] = [{"name": name, "value": _literal(value)} for name, value in job.env.items()]
    if job.working_dir:
        container["workingDir"] = job.working_dir
    limits = {"memory": str(job.memory_max)} if job.memory_max else {}
    limits |= {"cpu": f"{job.cpu_quota * 10}m"} if job.cpu_quota else {}
    if limits:
        container["resources"] = {"limits": limits}
    security: dict[str, Any] = {}
    if job.run_as and job.run_as.isdecimal():
        security["runAsUser"] = int(job.run_as)
    if job.sandbox != "none":
        security |= {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False}
    if job.sandbox == "strict":
        security |= {"capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}
    if security:
        container["securityContext"] = security
    return container


def _losses(job: Job) -> Iterable[str]:
    carried = {*_CARRIED, *(["run_as"] if job.run_as and job.run_as.isdecimal() else [])}
    carried |= {"sandbox", "overlap", "catch_up", "once_in_fleet"}
    if names := [name for name in to_plain(job) if name not in carried]:
        yield "a CronJob does not have " + ", ".join(names)
    if job.once_in_fleet:
        yield f"it runs once in its cluster, without {sharing.TOKEN}"
    if job.overlap == "queue":
        yield "a time that comes while it runs is let pass (concurrencyPolicy: Forbid)"
    if job.catch_up == "all":
        yield "of the times missed, one is made up for"
    if len(job.schedule) > 1:
        yield f"it becomes {len(job.schedule)} CronJobs, which may run at the same time"


def _literal(text: str) -> str:
    return _DOLLAR.sub("$$", text)


def _seconds(span: timedelta) -> int:
    return max(1, math.ceil(span.total_seconds()))
