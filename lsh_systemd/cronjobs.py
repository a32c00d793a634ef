"""Jobs ↔ the lines of crontabs, so that a job does here what it did there. Pure."""

import re
import shlex
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import PurePosixPath

from lsh_systemd import crontab
from lsh_systemd.crontab import CRON_ENV, Entry, Form
from lsh_systemd.errors import BadInput
from lsh_systemd.job import RESERVED_IDS, Job, job_id
from lsh_systemd.jobfile import to_plain
from lsh_systemd.scope import Scope

_LONGEST_NAME = 40
_NAMED = re.compile(r"job:\s*(\S.*)", re.IGNORECASE)
# What stands before the program that a line is about: guards, wrappers, interpreters.
_GUARD = re.compile(r"^[\s({]*(?:\[\s[^]]*\]|test\s[^&|;]*|command\s+-v[^&|;]*|cd\s[^&|;]*|true)\s*(?:&&|\|\||;)\s*")
_WRAPPERS = frozenset(
    "env sudo nice ionice exec chronic nohup setsid time timeout flock sh bash dash python python3 perl ruby php "
    "node su runuser command cronic chrt taskset stdbuf systemd-cat if then while do exit".split()
)
# What systemd gives a service that sets no PATH.
_SYSTEMD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "mksh", "zsh"})
# Job's fields that a crontab holds, and those that a job can do without there. With any other one, it would be another
# job: left out.
_CARRIED = frozenset("name command shell stdin schedule on_boot timezone description env working_dir run_as".split())
_LOST = frozenset(
    "category tags schedule_from jitter catch_up catch_up_spread timeout priority nice memory_max cpu_quota".split()
)


@dataclass(frozen=True, kw_only=True)
class Account:
    """A user whose crontab it is. ``has_home``: the folder is there."""

    name: str
    home: str
    has_home: bool = True


def job_from(entry: Entry, *, name: str, form: Form, scope: Scope, account: Account) -> Job:
    """The job that does what cron did for this line. Raises BadInput where none can."""
    env = dict(entry.env)
    zone = None
    if form is not Form.ANACRON:
        zone = env.pop("CRON_TZ", None) or None
        env = {**CRON_ENV, "HOME": account.home, **env, "LOGNAME": account.name}
    home = env.get("HOME") if form is not Form.ANACRON else None
    if home == account.home and not account.has_home:
        home = "/"  # cron then stays where it is; systemd would refuse to start the job
    on_boot = entry.schedule == "@reboot"
    return Job(
        name=name,
        command=entry.command,
        shell=env["SHELL"] if form is not Form.ANACRON else CRON_ENV["SHELL"],
        stdin=entry.stdin,
        schedule=() if on_boot else (entry.schedule,),
        on_boot=on_boot,
        timezone=None if on_boot else zone,
        jitter=entry.delay if entry.delay and entry.delay >= timedelta(seconds=1) else None,
        catch_up="once" if form is Form.ANACRON else "none",
        description=description(entry.comment),
        env=env,
        working_dir=home,
        run_as=account.name if scope is Scope.SYSTEM and account.name != "root" else None,
    )


def description(comment: Iterable[str]) -> str:
    """The comment in one line, less what names the job and what no line can hold."""
    text = " ".join(line for line in comment if not _NAMED.fullmatch(line))
    return "".join(character for character in text if character.isprintable())[:1000].strip()


def base_name(entry: Entry, *, label: str = "", prefix: str = "") -> str:
    """What to call the job of this line: as a comment "job: NAME" says; anacron's identifier; the file's own name
    (``label``); a short comment; or the program, the last two after ``prefix``."""
    for line in entry.comment:
        if named := _NAMED.fullmatch(line):
            return named[1].strip()
    if entry.identifier or label:
        return entry.identifier or label
    comment = description(entry.comment).rstrip(".:!")
    if comment and len(comment) <= _LONGEST_NAME and re.search("[A-Za-z]{2}", comment):
        return f"{prefix} {comment}".strip()
    return f"{prefix} {program(entry.command)}".strip()


def free_name(base: str, taken: Collection[str]) -> str:
    """The name, or the first of "NAME 2", "NAME 3" …, whose id nobody has."""
    if job_id(base) in RESERVED_IDS:
        base = f"cron {base}"
    name, number = base, 1
    while job_id(name) in taken:
        number += 1
        name = f"{base} {number}"
    return name


def program(command: str) -> str:
    """The name of the program that a command line is about: "cd / && run-parts --report /etc/cron.daily" is
    about cron.daily."""
    rest = command
    while (shorter := _GUARD.sub("", rest, count=1)) != rest:
        rest = shorter
    words = [word for word in re.split(r"[\s;|&<>(){}]+", rest) if word]
    words = [word.strip("\"'`") for word in words]
    if words and words[0] == "run-parts":
        words = [word for word in words[1:] if not word.startswith("-")] or words
    for word in words:
        name = PurePosixPath(word).name
        if (
            name in _WRAPPERS
            or word.startswith(("-", "$"))
            or re.match(r"[A-Za-z_]\w*=|[0-9.]+[smhd]?$|.*\.lock$", word)
        ):
            continue
        if re.search("[A-Za-z0-9]", name):
            return name[:100]
    return "cron job"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A crontab, and what is not in it: whole jobs (id, reason), and traits of jobs (id, fields)."""

    text: str
    left_out: tuple[tuple[str, str], ...]
    lost: tuple[tuple[str, str], ...]


def export(
    jobs: Iterable[tuple[Job, bool]], *, form: Form, scope: Scope, owner: str, account: Callable[[str], Account | None]
) -> Exported:
    """The jobs, each with whether its schedule counts, as a crontab. In a user's crontab (``form``) all jobs are
    ``owner``'s; else ``owner`` is the user of the jobs that name none."""
    lines, left_out, lost = [], [], []
    # In a crontab variables add up: those who need least come first.
    ordered = sorted(jobs, key=lambda each: (each[0].timezone or "", len(each[0].env), each[0].id))
    so_far: dict[str, str] = dict(CRON_ENV)
    for job, enabled in ordered:
        user = job.run_as or owner
        try:
            known = account(user)
            if known is None:
                raise BadInput(f"there is no user {user}")
            if form is Form.USER and user != owner:
                raise BadInput(f"it runs as {user}, and a user's crontab has no column for that")
            head, so_far, body = _lines(job, known, form, scope, so_far)
        except BadInput as error:
            left_out.append((job.id, error.message))
            continue
        lines += ["", *head, *(body if enabled else [f"#{line}" for line in body])]
        lost += [(job.id, what) for what in _losses(job, enabled)]
    return Exported(text="\n".join(lines[1:]) + "\n" if lines else "", left_out=tuple(left_out), lost=tuple(lost))


def _losses(job: Job, enabled: bool) -> Iterable[str]:
    if names := [name for name in to_plain(job) if name in _LOST]:
        yield "a crontab cannot hold " + ", ".join(names)
    if job.timezone:
        yield f"CRON_TZ={job.timezone} counts for cronie and others; Debian's cron ignores it"
    if len(job.schedule) > 1:
        yield f"it becomes {len(job.schedule)} lines, which may run at the same time"
    if not enabled:
        yield "its schedule rests: written as a comment"


def _lines(
    job: Job, account: Account, form: Form, scope: Scope, so_far: dict[str, str]
) -> tuple[list[str], dict[str, str], list[str]]:
    """The lines above a job (variables, comments), the variables that then hold, and its own lines."""
    times = _times(job)
    wanted = {"PATH": _SYSTEMD_PATH, "HOME": account.home, **job.env}
    prefix: list[str] = []
    if job.timezone:
        wanted["CRON_TZ"] = job.timezone
    if wanted.pop("LOGNAME", account.name) != account.name:  # cron's own value cannot be changed in the file
        prefix.append(f"export LOGNAME={shlex.quote(job.env['LOGNAME'])}")
    if wanted.get("SHELL", job.shell) != job.shell:
        prefix.append(f"export SHELL={shlex.quote(wanted['SHELL'])}")
    wanted["SHELL"] = job.shell
    for name, value in list(wanted.items()):
        try:
            crontab.variable_line(name, value)
        except BadInput:
            if "\n" in value:
                raise
            prefix.append(f"export {name}={shlex.quote(wanted.pop(name))}")
    # HOME is each user's own where no line says otherwise.
    now = {"HOME": account.home, **so_far}
    if superfluous := sorted(now.keys() - wanted.keys() - {"SHELL"}):
        prefix.insert(0, f"unset {' '.join(superfluous)}")
    folder = job.working_dir or ("/" if scope is Scope.SYSTEM else account.home)
    if folder != wanted.get("HOME") and not (folder == "/" and not account.has_home):
        prefix.append(f"cd {shlex.quote(folder)} || exit")
    if prefix and PurePosixPath(job.shell).name not in _SHELLS:
        raise BadInput(f"{job.shell} is no shell that could set its folder and variables in a crontab")
    command = crontab.join_percent("; ".join([*prefix, job.command_line]), job.stdin)
    user = f"{account.name}\t" if form is Form.SYSTEM else ""
    changed = {name: value for name, value in wanted.items() if now.get(name) != value}
    head = [crontab.variable_line(name, value) for name, value in changed.items()]
    head += [f"# job: {job.name}", *([f"# {job.description}"] if job.description else [])]
    return head, so_far | changed, [f"{time}\t{user}{command}" for time in times]


def _times(job: Job) -> list[str]:
    """The job's times as cron writes them. Raises BadInput where a crontab cannot hold the job."""
    if others := to_plain(job).keys() - _CARRIED - _LOST:
        raise BadInput("a crontab cannot hold " + ", ".join(sorted(others)))
    if job.on_boot:
        return ["@reboot"]
    if not job.schedule:
        raise BadInput("it has no schedule")
    times = [(expression, crontab.plain(expression, key=job.id)) for expression in job.schedule]
    if odd := [expression for expression, time in times if time is None]:
        raise BadInput(f"cron cannot write {odd[0]}")
    return [time for _, time in times if time]
