"""What a run may use: checks, and what the limits are called in a unit file."""

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from lsh_systemd.errors import BadInput
from lsh_systemd.span import check_span
from lsh_systemd.text import check_path, visible

if TYPE_CHECKING:
    from lsh_systemd.job import Job

NEUTRAL_PRIORITY = 5
# What the shell script that leaves the record needs for itself: it is bound by the job's limits, too.
LEAST_TASKS = 2
LEAST_OPEN_FILES = 16

_LARGEST = 2**60
_RATE = re.compile(r"(read|write)=(\S+)")
_IO_DIRECTIVES = {"read": "IOReadBandwidthMax", "write": "IOWriteBandwidthMax"}
_IO_HINT = "write it as PATH:read=10M,write=5M (bytes a second; one of them will do)"


def check(job: "Job") -> None:
    """Raise BadInput for bounds that make no sense."""
    _check_number("priority", job.priority, 0, 10)
    _check_number("nice", job.nice, -20, 19)
    _check_number("CPU quota", job.cpu_quota, 1, 1_000_000)
    _check_number("CPU weight", job.cpu_weight, 1, 10_000)
    _check_number("I/O weight", job.io_weight, 1, 10_000)
    _check_number("memory limit", job.memory_max, 4096, _LARGEST)
    _check_number("memory threshold", job.memory_high, 4096, _LARGEST)
    _check_number("swap limit", job.swap_max, 0, _LARGEST)
    _check_number("task limit", job.tasks_max, LEAST_TASKS, 2**22)
    _check_number("file size limit", job.file_size_max, 1, _LARGEST)
    _check_number("limit of open files", job.open_files_max, LEAST_OPEN_FILES, 2**30)
    if job.memory_high and job.memory_max and job.memory_high > job.memory_max:
        raise BadInput(
            "--memory-high is above --memory-max: a run would be killed before it is slowed down",
            hint="give the smaller one to --memory-high",
        )
    io_limits(job)
    if job.timeout is not None:
        check_span("--timeout", job.timeout, least=timedelta(milliseconds=1))


def priority_directives(job: "Job") -> dict[str, int]:
    """What a priority means to the kernel: a tenth (0) to ten times (10) the usual share, nice and OOM score.

    What is set by an option of its own is left to that.
    """
    step = job.priority - NEUTRAL_PRIORITY
    if step == 0:
        return {}
    weight = round(100 * 10 ** (step / 5))
    directives = {"CPUWeight": weight, "IOWeight": weight, "Nice": -2 * step, "OOMScoreAdjust": -100 * step}
    own = {"CPUWeight": job.cpu_weight, "IOWeight": job.io_weight, "Nice": job.nice}
    return {name: value for name, value in directives.items() if own.get(name) is None}


def io_limits(job: "Job") -> list[tuple[str, str, int]]:
    """--io-max as (directive, path, bytes a second). Raises BadInput."""
    from lsh_systemd.jobfile import parse_size

    limits: list[tuple[str, str, int]] = []
    for text in job.io_max:
        path, _, rates = text.rpartition(":")
        if not path:
            raise BadInput(f"{visible(text)} is no I/O limit", hint=_IO_HINT)
        check_path("path of --io-max", path)
        for rate in rates.split(","):
            match = _RATE.fullmatch(rate.strip())
            if not match:
                raise BadInput(f"{visible(rate)} is no I/O limit", hint=_IO_HINT)
            directive, size = _IO_DIRECTIVES[match[1]], parse_size(match[2])
            _check_number("I/O limit", size, 1, _LARGEST)
            if any(each[:2] == (directive, path) for each in limits):
                raise BadInput(f"--io-max limits {match[1]} on {visible(path)} twice")
            limits.append((directive, path, size))
    return limits


def _check_number(what: str, value: int | None, least: int, most: int) -> None:
    if value is not None and not least <= value <= most:
        raise BadInput(f"the {what} {value} is not between {least} and {most}")
