"""What happens to a start that comes while the job, or too much else, runs: the policy, pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lsh_systemd.errors import BadInput
from lsh_systemd.text import check_line, visible

if TYPE_CHECKING:
    from lsh_systemd.job import Job

OVERLAPS = ("queue", "skip", "parallel", "replace")
_MOST = 100_000


def check(job: "Job") -> None:
    """Raise BadInput for what makes no sense."""
    if job.overlap not in OVERLAPS:
        raise BadInput(f"{visible(job.overlap)} is no way to overlap", hint=f"there are {', '.join(OVERLAPS)}")
    if job.overlap != "queue" and not job.has_timer:
        raise BadInput("--overlap needs a schedule: it says what a scheduled time does while the job still runs")
    if job.overlap == "parallel" and job.retries:
        raise BadInput("--overlap parallel and --retries exclude each other: which of the runs would it be?")
    for group in job.groups:
        check_group(group)


def check_group(name: str) -> None:
    check_line("group", name, longest=100)
    if not name or name != name.strip() or "=" in name:
        raise BadInput(f"{visible(name)} is no name of a group")


@dataclass(frozen=True, kw_only=True)
class Caps:
    """How many jobs may run at once: in all, of each user that jobs run as, of each group. None: any number."""

    total: int | None = None
    per_user: int | None = None
    groups: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, cap in self.named():
            if cap is not None and not 1 <= cap <= _MOST:
                raise BadInput(f"the cap {name} {cap} is not between 1 and {_MOST}")
        for group in self.groups:
            check_group(group)

    def named(self) -> Iterable[tuple[str, int | None]]:
        yield "global", self.total
        yield "user", self.per_user
        yield from ((f"group {name}", cap) for name, cap in self.groups.items())

    def of(self, job: "Job", owner: str) -> dict[str, int]:
        """The caps that bind the job, by name; ``owner`` is the user of jobs that name none."""
        found: dict[str, int] = {}
        if self.total is not None:
            found["global"] = self.total
        if self.per_user is not None:
            found[f"user {job.run_as or owner}"] = self.per_user
        for group in job.groups:
            if group in self.groups:
                found[f"group {group}"] = self.groups[group]
        return found


def needs_tick(job: "Job", *, capped: bool) -> bool:
    """Whether the timer has to ask before it starts the job."""
    return job.has_timer and (job.overlap != "queue" or capped)


def section(job: "Job", *, capped: bool) -> str:
    """The policy as libexec/tick and libexec/common read it. ``Rank``: the smaller, the earlier in the queue."""
    return f"[X-Queue]\nOverlap={job.overlap}\nCapped={'yes' if capped else 'no'}\nRank={job.queue_rank:02}"
