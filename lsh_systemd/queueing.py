"""What happens to a start that comes while the job, or too much else, runs: the policy, pure."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lsh_systemd.job import Job


def check(job: "Job") -> None:
    """Raise BadInput for what makes no sense."""
