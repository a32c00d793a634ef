"""When a run that failed is tried again: the policy, pure."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lsh_systemd.job import Job


def check(job: "Job") -> None:
    """Raise BadInput for what makes no sense."""
