"""lsh-systemd: jobs as systemd units, with an exact record of every run."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lsh_systemd.jobmanager import JobManager as JobManager

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name != "JobManager":
        raise AttributeError(f"module 'lsh_systemd' has no attribute {name!r}")
    from lsh_systemd.jobmanager import JobManager  # only where asked for: lshctl starts without it

    return JobManager
