"""Which limit or protection has stopped a run, told from how it ended and the last of what it wrote. Pure."""

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass

from lsh_systemd import sandbox
from lsh_systemd.job import Job
from lsh_systemd.run import Run
from lsh_systemd.text import escape_controls

_TAIL = 8192
_PATH = re.compile(r"/[^\s'\":;,()‘’“”]+")
_QUOTED_PATH = re.compile(r"[‘'](/[^'’]*)['’]")
# A shell tells of a process that died of a signal by 128 + its number.
_SIGSYS, _SIGXFSZ = 128 + 31, 128 + 25
# systemd's own exit statuses (systemd.exec(5)): the step before the command that failed.
_STEPS = {
    226: "systemd could not set up its view of the files (226/NAMESPACE): is one of its folders missing?",
    225: "systemd could not set up its network (225/NETWORK)",
    218: "systemd could not take its capabilities (218/CAPABILITIES)",
    217: "systemd could not set up its users (217/USER): user namespaces may be forbidden here",
    228: "systemd could not restrict its system calls (228/SECCOMP)",
}


@dataclass(frozen=True, kw_only=True)
class Hint:
    """``reason``: what stopped the run; ``options``: what for `lshctl set JOB` would lift that."""

    reason: str
    options: str


def hints(job: Job, run: Run) -> list[Hint]:
    """What of the job's limits and isolation may have made the run fail; nothing where it did not."""
    if not run.failed:
        return []
    tail = escape_controls(run.output[-_TAIL:].decode("utf-8", "replace"))
    found = {hint.options: hint for hint in [*_limits(job, run, tail), *_steps(job, run), *_isolation(job, run, tail)]}
    return list(found.values())


def _limits(job: Job, run: Run, tail: str) -> Iterator[Hint]:
    if run.result == "oom-kill" and job.memory_max:
        yield Hint(reason="it needed more memory than its --memory-max", options="--memory-max SIZE")
    too_large = run.signal == "XFSZ" or run.exit_status == _SIGXFSZ
    if job.file_size_max and (too_large or _says(tail, "File too large", "File size limit exceeded")):
        yield Hint(reason="it made a file larger than its --file-size-max", options="--file-size-max SIZE")
    if job.open_files_max and _says(tail, "Too many open files"):
        yield Hint(reason="it opened more files than its --open-files-max", options="--open-files-max N")
    if job.tasks_max and _says(tail, "Resource temporarily unavailable", "Cannot fork", "can't start new thread"):
        yield Hint(reason="it started more processes or threads than its --tasks-max", options="--tasks-max N")


def _steps(job: Job, run: Run) -> Iterator[Hint]:
    """What failed before the command itself."""
    isolated = sandbox.needs_namespaces(job) or job.sandbox != "none"
    if not isolated or run.exit_status not in (*_STEPS, 200, 203):
        return
    if run.exit_status == 217 and (job.run_as or job.dynamic_user):
        return
    if run.exit_status == 203:
        if job.sandbox == "strict":
            yield Hint(reason="the program cannot be executed (203/EXEC): strict hides the homes", options=_LESS)
    elif run.exit_status == 200:
        yield Hint(reason="the sandbox has no such working directory (200/CHDIR)", options="--working-dir PATH")
    elif run.exit_status == 226 and job.write_path:
        yield Hint(reason=f"{_STEPS[226]} ({', '.join(job.write_path)})", options="--write-path PATH")
    else:
        options = "--network host" if run.exit_status == 225 else "--sandbox none --network host"
        yield Hint(reason=_STEPS[run.exit_status], options=options)


_LESS = "--sandbox standard"


def _isolation(job: Job, run: Run, tail: str) -> Iterator[Hint]:
    strict = job.sandbox == "strict"
    if strict and (run.signal == "SYS" or run.exit_status == _SIGSYS or _says(tail, "Bad system call")):
        yield Hint(reason="it made a system call that strict does not allow (SIGSYS)", options=_LESS)
    if strict and _says(tail, "Address family not supported"):
        yield Hint(reason="it opened a socket of a kind that strict does not allow", options=_LESS)
    if job.network == "none" and _says(
        tail,
        "Network is unreachable", "Could not resolve", "Name or service not known", "Address family not supported",
        "Temporary failure in name resolution", "Connection refused", "Couldn't connect to server",
    ):  # fmt: skip
        yield Hint(reason="it wanted the network, and has none (--network none)", options="--network host")
    if not sandbox.has_own_view(job):
        return
    for line in tail.splitlines():
        path = _path_in(line)
        if "Read-only file system" in line:
            where = posixpath.dirname(path) if path else "PATH"
            yield Hint(reason=f"{path or 'the file system'} is read-only for it", options=f"--write-path {where}")
        if strict and "No such file or directory" in line and path and _is_hidden(job, path):
            yield Hint(reason=f"{path} is hidden from it by strict", options=_LESS)
        if "no new privileges" in line:
            yield Hint(reason="sudo and other set-user-ID programs do not work in a sandbox", options="--sandbox none")
        elif "Operation not permitted" in line or "Permission denied" in line:
            yield Hint(
                reason="it may have needed a privilege that the sandbox takes away",
                options=_LESS if strict else "--sandbox none",
            )


def _is_hidden(job: Job, path: str) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in sandbox.hidden(job))


def _says(tail: str, *phrases: str) -> bool:
    return any(phrase in tail for phrase in phrases)


def _path_in(line: str) -> str | None:
    """The last path that a line names: "sh: 1: cannot create /etc/x: Read-only file system" → /etc/x."""
    found = _QUOTED_PATH.findall(line) or _PATH.findall(line)
    return found[-1].rstrip(".") if found else None
