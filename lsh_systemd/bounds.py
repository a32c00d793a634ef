"""What a run may use: checks, and what the limits are called in a unit file."""

from datetime import timedelta
from typing import TYPE_CHECKING

from lsh_systemd.errors import BadInput
from lsh_systemd.span import check_span

if TYPE_CHECKING:
    from lsh_systemd.job import Job

NEUTRAL_PRIORITY = 5


def check(job: "Job") -> None:
    """Raise BadInput for bounds that make no sense."""
    _check_number("priority", job.priority, 0, 10)
    _check_number("nice", job.nice, -20, 19)
    _check_number("memory limit", job.memory_max, 4096, 2**60)
    _check_number("CPU quota", job.cpu_quota, 1, 1_000_000)
    if job.timeout is not None:
        check_span("--timeout", job.timeout, least=timedelta(milliseconds=1))


def priority_directives(job: "Job") -> dict[str, int]:
    """What a priority means to the kernel: a tenth (0) to ten times (10) the usual share, nice and OOM score."""
    step = job.priority - NEUTRAL_PRIORITY
    if step == 0:
        return {}
    weight = round(100 * 10 ** (step / 5))
    directives = {"CPUWeight": weight, "IOWeight": weight, "Nice": -2 * step, "OOMScoreAdjust": -100 * step}
    if job.nice is not None:
        del directives["Nice"]
    return directives


def _check_number(what: str, value: int | None, least: int, most: int) -> None:
    if value is not None and not least <= value <= most:
        raise BadInput(f"the {what} {value} is not between {least} and {most}")
