"""What a job waits for, and what follows it: checks, and which unit files that takes. Pure.

A hook is kept as ``job:ID`` (that job is started) or ``command:TEXT`` (a line for /bin/sh).
"""

import re
from typing import TYPE_CHECKING

from lsh_systemd.errors import BadInput
from lsh_systemd.text import check_argument, check_path, visible

if TYPE_CHECKING:
    from lsh_systemd.job import Job

JOB, COMMAND = "job:", "command:"
# Unit file's ending → its template. An id has no dot, so none of them is another job's.
_TEMPLATES = {
    ".path": "path.j2",
    ".after.path": "after.j2",
    ".socket": "socket.j2",
    ".success@.service": "hook.j2",
    ".failure@.service": "hook.j2",
}
ENDINGS = (*_TEMPLATES, "@.service")
# A drop-in of ours for a job that others run after.
FOLLOWED = "lsh-followed.conf"

_WORD = re.compile(r"[A-Za-z0-9._-]+")
_PORT = re.compile(r"(?:(?P<host>\d{1,3}(?:\.\d{1,3}){3}|\[[0-9A-Fa-f:.]+\]):)?(?P<port>\d{1,5})")
# No blank, quote or backslash (libexec/ping puts it between quotes), no fragment, and at most one secret.
_URL = r"[!$-\[\]-z|~]"
_PING = re.compile(rf"(?=https?://|\{{secret:){_URL}*(\{{secret:[A-Za-z0-9_.-]{{1,100}}\}}{_URL}*)?")
# libexec/ping refuses a URL that is anything else with its secret in it.
_PINGED = re.compile(r"https?://[!$-\[\]-~]+")
# The unit that tells has the name, the run's id and how it ended in its own.
_LONGEST_PINGED = 197
_ABSTRACT = re.compile(r"@[A-Za-z0-9_./:-]{1,100}")
# sun_path less its NUL.
_LONGEST_SOCKET_PATH = 107


def check(job: "Job") -> None:
    """Raise BadInput for what makes no sense; jobs are named by their ids from here on."""
    from lsh_systemd.job import job_id

    after = tuple(dict.fromkeys(map(job_id, job.after)))
    if job.id in after:
        raise BadInput(f"{job.id} cannot run after itself", hint="--every SPAN runs a job again and again")
    object.__setattr__(job, "after", after)
    for name in ("on_success", "on_failure"):
        object.__setattr__(job, name, tuple(map(_hook, getattr(job, name))))
    if job.condition is not None:
        check_argument("condition", job.condition)
        if not job.condition.strip():
            raise BadInput("the condition is empty", hint="--condition 'test -e /data/ready'")
    for path in job.when_path:
        check_path("path of --when-path", path)
    for address in job.when_socket:
        _check_address(address)
    if job.ping is not None and len(job.id) > _LONGEST_PINGED:
        raise BadInput("the name is too long for --ping", hint=f"{_LONGEST_PINGED} characters are the most")
    if job.ping is not None and not _PING.fullmatch(job.ping):
        raise BadInput(
            f"{visible(job.ping)} is no URL to ping", hint="--ping https://hc-ping.com/UUID, or '{secret:NAME}'"
        )


def check_pinged(url: str) -> None:
    """Raise BadInput for what is no URL to ping once its secret is in it; the error does not repeat it."""
    if not _PINGED.fullmatch(url):
        raise BadInput(
            "with its secret, the URL to ping is none", hint="http:// or https://, without blanks, quotes, \\ and #"
        )


def _hook(text: str) -> str:
    """job:ID or command:TEXT. One bare word can only be a job: what a blank or a slash is in, is a command."""
    from lsh_systemd.job import job_id

    if text.startswith(JOB):
        return JOB + job_id(text.removeprefix(JOB))
    command = text.removeprefix(COMMAND)
    if not command.strip():
        raise BadInput("a hook is empty", hint="--on-failure JOB, or --on-failure 'COMMAND …'")
    if command == text and _WORD.fullmatch(text):
        return JOB + job_id(text)
    check_argument("command of a hook", command)
    return COMMAND + command


def _check_address(address: str) -> None:
    if address.startswith("/"):
        check_path("socket", address)
        if len(address.encode()) > _LONGEST_SOCKET_PATH:
            raise BadInput(f"the socket's path is longer than {_LONGEST_SOCKET_PATH} bytes")
        return
    match = _PORT.fullmatch(address)
    if (match and 0 < int(match["port"]) < 65536) or _ABSTRACT.fullmatch(address):
        return
    raise BadInput(
        f"{visible(address)} is no socket that can be listened on",
        hint="--when-socket 127.0.0.1:8080, '[::1]:8080', 8080 (on all addresses), /run/name.sock or @name",
    )


def files(job: "Job") -> dict[str, str]:
    """The job's unit files beside its service and timer, and the template of each."""
    wanted = {
        ".path": job.when_path,
        ".after.path": job.after,
        ".socket": job.when_socket,
        ".success@.service": job.on_success,
        ".failure@.service": job.on_failure,
    }
    return {f"lsh-{job.id}{ending}": _TEMPLATES[ending] for ending, given in wanted.items() if given}


def activators(job: "Job") -> tuple[str, ...]:
    """The units beside the timer that start the job when something happens."""
    return tuple(name for name in files(job) if name.endswith((".path", ".socket")))


def helpers(job: "Job") -> tuple[str, ...]:
    """Our own units that these need."""
    return (
        *(("lsh-failed@.service",) if tells_failure(job) else ()),
        *(("lsh-succeeded@.service",) if tells_success(job) else ()),
        *(("lsh-after@.service",) if job.after else ()),
        *(("lsh-tell-end@.service", "lsh-tell-start@.service") if job.ping else ()),
    )


def tells_failure(job: "Job") -> bool:
    """Whether something of ours is to happen when the job has failed."""
    return bool(job.on_failure or job.retries or job.after or job.ping)


def tells_success(job: "Job") -> bool:
    """The same for a success."""
    return bool(job.on_success or job.after or job.ping)


def tells_start(job: "Job") -> bool:
    """Whether the monitor outside is told that a run has begun: not where the start may yet come to nothing, or where
    runs go on side by side."""
    return bool(job.ping) and job.condition is None and not job.has_instances


def waits_for(job: "Job") -> list[str]:
    """What starts the job beside the clock, in words."""
    return [
        *([f"after {', '.join(job.after)}"] if job.after else []),
        *(f"path {path}" for path in job.when_path),
        *(f"socket {address}" for address in job.when_socket),
    ]


def hooked_jobs(job: "Job") -> list[tuple[str, str]]:
    """The jobs that this one's hooks start, as (kind, id)."""
    return [
        (kind, hook.removeprefix(JOB))
        for kind, hooks in (("on-success", job.on_success), ("on-failure", job.on_failure))
        for hook in hooks
        if hook.startswith(JOB)
    ]


def renamed(job: "Job", old: str, new: str) -> "Job":
    """The job with what it says of the job ``old`` said of ``new``."""
    from dataclasses import replace

    def hooks(given: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(JOB + new if hook == JOB + old else hook for hook in given)

    after = tuple(new if each == old else each for each in job.after)
    return replace(job, after=after, on_success=hooks(job.on_success), on_failure=hooks(job.on_failure))
