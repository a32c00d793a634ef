"""What a run may touch: checks, and the directives of each level of isolation."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lsh_systemd.job import Job


def check(job: "Job") -> None:
    """Raise BadInput for what makes no sense."""
