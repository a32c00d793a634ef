"""Job ↔ unit files. Pure: a Job in, the text of its files out, and back.

The service file carries the job itself in its [X-Lsh] section, which systemd ignores, so the unit files are the
only list of jobs. ``Digest=`` there tells whether somebody has edited the files since.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsh_systemd import bounds, credentials, cron, hooks, queueing, retry, sandbox, schedule
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.job import PREFIX, RESERVED_IDS, Job
from lsh_systemd.jobfile import format_size, from_plain, to_plain
from lsh_systemd.schedule import ScheduleOver
from lsh_systemd.scope import Scope, rounds_dir, secrets_dir
from lsh_systemd.span import format_span
from lsh_systemd.spec import Spec
from lsh_systemd.timetable import Anchored, Limits
from lsh_systemd.zones import systemd_zone

if TYPE_CHECKING:
    from jinja2 import Environment

    from lsh_systemd.cron import Cron

_SECTION = "[X-Lsh]"
_DIGEST = re.compile(r"^Digest=([0-9a-f]{64})\n", re.MULTILINE)
_ON_CALENDAR = re.compile(r"^OnCalendar=(.+)$", re.MULTILINE)
_JOB_UNIT = re.compile(rf"{PREFIX}[a-z0-9][a-z0-9-]*\.service")
_RUN_UNIT = re.compile(rf"{PREFIX}[a-z0-9][a-z0-9-]{{0,240}}(@[0-9]+)?\.service")
_KEY = re.compile(r"([A-Z][A-Za-z]*)=(.*)")
# systemd's own limit for one line of a unit file (LONG_LINE_MAX).
_LONGEST_LINE = 1024 * 1024
# How much of a standard input stands on one line: a multiple of 4, so that each line is base64 by itself.
_BASE64_WIDTH = 100


class NotOurs(LshError):
    """The unit file has no [X-Lsh] section: somebody else's, never to be touched."""


class Unreadable(LshError):
    """The [X-Lsh] section is there but no longer describes a job."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a job's files need to know of the world: the times at which it keeps still, and, where there are such, its
    --calendar as systemd has normalized it; whether caps bind the job; which of its secrets are not encrypted."""

    limits: Limits = field(default_factory=Limits)
    specs: tuple[Spec, ...] = ()
    capped: bool = False
    plain_secrets: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class JobFiles:
    """A job read back from its files. ``changed``: they are no longer what lshctl wrote. ``others``: the text of those
    beside service and timer."""

    job: Job
    changed: bool
    others: Mapping[str, str]


def render(
    job: Job,
    *,
    scope: Scope,
    recorder: str,
    now: datetime,
    local_zone: str,
    known: Known = Known(),
    once: bool = False,
    namespaces: bool = True,
) -> dict[str, str]:
    """The job's unit files, {file name: text}; no timer when nothing schedules the job.

    ``recorder`` is the path of the script that leaves the run's record; ``now`` and ``local_zone`` say from when on
    and by which clock the changes to and from summer time are written into the timer; ``known`` is what had to be
    looked up for its limits. ``namespaces``: whether isolation that needs them can be had (see ``sandbox``).
    """
    if scope is Scope.USER and job.run_as is not None:
        raise BadInput("a user's jobs run as that user", hint="--run-as needs --system")
    if scope is Scope.USER and job.dynamic_user:
        raise BadInput("a user manager cannot make users", hint="--dynamic-user needs --system")
    outside = record_outside(job, scope)
    templates = _templates()
    timer = ""
    if job.has_timer:
        elapses = timer_directives(job, scope=scope, now=now, local_zone=local_zone, known=known)
        timer = templates.get_template("timer.j2").render(
            job=job, elapses=elapses, tick=queueing.needs_tick(job, capped=known.capped)
        )
    service = templates.get_template("service.j2").render(
        job=job,
        scope=scope,
        system=scope is Scope.SYSTEM,
        user_flag="--user " if scope is Scope.USER else "",
        recorder=recorder,
        record_outside=outside,
        runtime_hidden=scope is Scope.USER and namespaces and "/run/user" in sandbox.hidden(job),
        once=once,
        weights=bounds.priority_directives(job),
        tells_start=hooks.tells_start(job),
        tells_success=hooks.tells_success(job),
        tells_failure=hooks.tells_failure(job),
        x_retry=retry.section(job) if job.retries else "",
        x_queue=queueing.section(job, capped=known.capped) if known.capped or job.overlap != "queue" else "",
        credentials=credentials.directives(job, secrets_dir(scope), known.plain_secrets),
        io_limits=bounds.io_limits(job),
        protections=sandbox.protections(job, scope, namespaces=namespaces),
        openings=sandbox.openings(job, scope, namespaces=namespaces, recorder=recorder, recorder_inside=not outside),
        x_lsh=_x_lsh(job),
    )
    if max(map(len, service.encode().split(b"\n"))) >= _LONGEST_LINE:
        raise BadInput("the job does not fit into a unit file", hint="put the command into a script and run that")
    others = {
        name: templates.get_template(template).render(
            job=job,
            scope=scope,
            system=scope is Scope.SYSTEM,
            rounds=rounds_dir(scope) / job.id,
            libexec=Path(recorder).parent,
            kind="success" if ".success@" in name else "failure",
            hooks=job.on_success if ".success@" in name else job.on_failure,
        )
        for name, template in hooks.files(job).items()
    }
    if job.has_instances:
        others[instances(job.id)] = _instance(service)
    service += f"Digest={_digest(service, timer, others)}\n"
    return {job.unit: service} | ({job.timer: timer} if timer else {}) | others


def other_files(job: Job) -> tuple[str, ...]:
    """The names of the job's unit files beside its service and timer."""
    return (*hooks.files(job), *((instances(job.id),) if job.has_instances else ()))


def instances(job_id: str, number: int | str = "") -> str:
    """The unit of a run beside the job's own (--overlap parallel, --from-fleet), or the template of all."""
    return f"{PREFIX}{job_id}@{number}.service"


def _instance(service: str) -> str:
    """The template of the runs beside: the same service, which systemd forgets when it has ended."""
    text = service.partition(f"\n{_SECTION}\n")[0]
    text = re.sub(r"^SyslogIdentifier=(.*)$", r"SyslogIdentifier=\1@%i", text, count=1, flags=re.MULTILINE)
    text = text.replace("\n[Unit]\n", "\n[Unit]\nCollectMode=inactive-or-failed\n", 1)
    return text.rstrip() + "\n"


def read(service: str, timer: str = "", text: Callable[[str], str | None] = lambda name: None) -> JobFiles:
    """The job that the files carry; ``text`` tells what stands in another file, if it needs one. Raises NotOurs or
    Unreadable."""
    _, mark, section = service.rpartition(f"\n{_SECTION}\n")
    if not mark:
        raise NotOurs(f"the unit file has no {_SECTION} section")
    plain: dict[str, Any] = {}
    digest = None
    for line in section.splitlines():
        if not line or line.startswith(("#", ";")):
            continue
        if line.startswith("["):
            break
        match = _KEY.fullmatch(line)
        if not match:
            raise Unreadable(f"the {_SECTION} section contains a line without a key")
        key, value = match.groups()
        if key == "Digest":
            digest = value
            continue
        try:
            plain[_field_name(key)] = json.loads(value)
        except (ValueError, RecursionError):  # no JSON; a number of thousands of digits; brackets without end
            raise Unreadable(f"{key}= in the {_SECTION} section is not valid JSON") from None
    try:
        job = from_plain(plain)
    except BadInput as error:
        raise Unreadable(f"the {_SECTION} section describes no job: {error.message}") from None
    others = {name: text(name) or "" for name in other_files(job)}
    return JobFiles(job=job, changed=digest != _digest(_DIGEST.sub("", service), timer, others), others=others)


def timer_directives(
    job: Job, *, scope: Scope, now: datetime, local_zone: str, known: Known = Known()
) -> list[tuple[str, str]]:
    """What makes the timer elapse, as (directive, value)."""
    if job.interval:
        # From start to start; the first run comes one span after the timer has started.
        return [("OnActiveSec", format_span(job.interval)), ("OnUnitActiveSec", format_span(job.interval))]
    if job.on_boot:
        # OnBootSec= of a user manager counts from the machine's boot, long before the user's manager is there.
        return [("OnBootSec" if scope is Scope.SYSTEM else "OnStartupSec", "0")]
    return [("OnCalendar", line) for line in calendar_lines(job, now=now, local_zone=local_zone, known=known)]


def calendar_lines(job: Job, *, now: datetime, local_zone: str, known: Known = Known()) -> list[str]:
    """The OnCalendar= values of the job, in order, none twice."""
    if job.at:
        return [f"{job.at:%Y-%m-%d %H:%M:%S} UTC"]
    timetables: list[tuple[Cron | Spec | Anchored, str | None]] = []
    timetables += [(cron.parse(each, seconds=job.seconds, key=job.id), job.timezone) for each in job.schedule]
    if job.anchor and job.every:
        timetables.append((Anchored(job.anchor, job.every), job.timezone))
    if known.limits:
        timetables += [(spec, spec.zone) for spec in known.specs]
        lines = []
    else:
        lines = calendar_specs(job)
    over: ScheduleOver | None = None
    for timetable, zone in timetables:
        try:
            lines += schedule.calendar_lines(timetable, zone=zone, now=now, local_zone=local_zone, limits=known.limits)
        except ScheduleOver as error:
            over = error
    if over and not lines:
        raise over
    return list(dict.fromkeys(lines))


def calendar_specs(job: Job) -> list[str]:
    """What the job says in systemd's own calendar language: --calendar, in the job's zone."""
    zone = f" {systemd_zone(job.timezone)}" if job.timezone else ""
    return [f"{expression}{zone}" for expression in job.calendar]


def on_calendar(timer: str) -> list[str]:
    """The OnCalendar= values of a timer file."""
    return _ON_CALENDAR.findall(timer)


def helpers(job: Job, *, capped: bool) -> tuple[str, ...]:
    """Our own units that the job's files, or its promises, need to be there."""
    wanted = {
        "lsh-catch-up.service": job.caught_up_by_us or job.retries > 0,
        "lsh-claim@.service": job.once_in_fleet,
        "lsh-tick@.service": queueing.needs_tick(job, capped=capped),
        "lsh-queue.service": capped,
        "lsh-queue.path": capped,
    }
    return (*(name for name, needed in wanted.items() if needed), *hooks.helpers(job))


def record_as_root(job: Job) -> bool:
    """Whether a system job's recorder may run as root.

    systemd gives it the job's variables, too. Where the job is another user's, that user may own what they name (a file
    of --env-file, a folder in LD_LIBRARY_PATH), and with it would be root: there the recorder runs as the job's user,
    and systemd's own messages judge the run (see ``fold``).
    """
    return job.run_as is None and not job.dynamic_user


def record_outside(job: Job, scope: Scope) -> bool:
    """Whether the recorder runs with the prefix "+": as root, or, of a user's job, as the user; in no sandbox."""
    if scope is Scope.USER:
        return sandbox.needs_namespaces(job) and not sandbox.record_inside(job)
    return record_as_root(job) and not sandbox.record_inside(job)


def exec_word(word: str) -> str:
    """One word of an ExecStart= line, quoted so that systemd passes on exactly this."""
    return quoted(word).replace("$", "$$")


def quoted(word: str) -> str:
    """A word in double quotes as systemd unquotes it; % is doubled, as it begins a specifier."""
    return '"' + "".join(map(_escape, word)) + '"'


def plain(value: str) -> str:
    """A value that systemd does not unquote. A backslash at its end would join the next line: a blank stops that."""
    value = value.replace("%", "%%")
    return f"{value} " if value.endswith("\\") else value


def word(path: str) -> str:
    """One of several values on a line; in quotes where it needs them."""
    return path if re.fullmatch(r"[A-Za-z0-9_./+-]+", path) else quoted(path)


def exec_start(job: Job) -> str:
    """The value of ExecStart=: the shell with the command as one argument, or the bare words; where secrets become
    variables, a shell before it that sets them."""
    words = (job.shell, "-c", job.command) if isinstance(job.command, str) else job.command
    # A first word that needs no quotes reads better without; the pattern lets no modifier (@ - : + !) through.
    head = words[0] if re.fullmatch(r"[A-Za-z0-9_/][A-Za-z0-9_./+-]*", words[0]) else exec_word(words[0])
    tail = (word if re.fullmatch(r"[A-Za-z0-9_./:=,+@-]+", word) else exec_word(word) for word in words[1:])
    setter = credentials.command_with_variables(job)
    before = [f"/bin/sh -c {exec_word(setter)} lsh-secrets"] if setter else []
    return " ".join([*before, head, *tail])


def stdin_lines(text: str) -> list[str]:
    """A text as values of StandardInputData=, which systemd joins: base64, since StandardInputText= would cut blanks
    off the ends of lines, expand specifiers and always end in a newline."""
    data = base64.b64encode(text.encode()).decode()
    return [data[at : at + _BASE64_WIDTH] for at in range(0, len(data), _BASE64_WIDTH)]


def is_once(service: str) -> bool:
    """Whether a service file is that of a single run (lshctl run)."""
    return bool(re.search(r"^ExecStopPost=.* %n once$", service, re.MULTILINE))


def is_job_unit(name: str) -> bool:
    """Whether a unit's name has the form of a job's service."""
    return _JOB_UNIT.fullmatch(name) is not None


def is_run_unit(name: str) -> bool:
    """Whether a unit's name has the form of a job's service, or of a run beside it."""
    return _RUN_UNIT.fullmatch(name) is not None and id_of_unit(name) not in RESERVED_IDS


def id_of_unit(name: str) -> str:
    """lsh-daily-backup.service → daily-backup; so, too, lsh-daily-backup@7.service."""
    return name.removeprefix(PREFIX).rsplit(".", 1)[0].partition("@")[0]


def _escape(character: str) -> str:
    named = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "%": "%%"}
    if character in named:
        return named[character]
    return f"\\x{ord(character):02x}" if ord(character) < 0x20 or character == "\x7f" else character


def _x_lsh(job: Job) -> str:
    # ASCII only: no line separator of Unicode and no invisible mark can hide in the file's machine-read part.
    return "\n".join(f"{_key(name)}={json.dumps(value)}" for name, value in to_plain(job).items())


def _key(field: str) -> str:
    """working_dir → WorkingDir."""
    return "".join(part.capitalize() for part in field.split("_"))


def _field_name(key: str) -> str:
    """WorkingDir → working_dir."""
    return re.sub(r"(?<!^)([A-Z])", r"_\1", key).lower()


def _digest(service: str, timer: str, others: Mapping[str, str]) -> str:
    texts = (service, timer, *(others[name] for name in sorted(others)))
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogateescape")).hexdigest()


@cache
def _templates() -> "Environment":
    import jinja2  # costs 60 ms: only those who write units pay

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,  # a look at the template's file for each use
        autoescape=False,  # unit files are no HTML; every value goes through one of the filters below
    )
    environment.filters.update(
        exec_start=exec_start,
        exec_word=exec_word,
        quoted=quoted,
        plain=plain,
        span=format_span,
        size=format_size,
        word=word,
        stdin_lines=stdin_lines,
    )
    return environment


def describe_changes(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """A unified difference of two sets of files, for --dry-run and edit."""
    import difflib

    lines: list[str] = []
    for name in sorted({*before, *after}):
        old, new = before.get(name, ""), after.get(name, "")
        lines += difflib.unified_diff(
            old.splitlines(),
            new.splitlines(),
            name if name in before else "/dev/null",
            name if name in after else "/dev/null",
            lineterm="",
        )
    return "\n".join(lines)
