"""Secrets of a job: their names, never their values."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lsh_systemd.job import Job


def check(job: "Job") -> None:
    """Raise BadInput for what makes no sense."""
