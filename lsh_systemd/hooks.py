"""What a job waits for, and what follows it: checks, and the directives."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lsh_systemd.job import Job


def check(job: "Job") -> None:
    """Raise BadInput for what makes no sense."""
