"""Keys that are for some jobs only: what they must not learn of the others, and not take over from them.

What a key may have is told by a job's tags, category or name. A job that is gone has but its name left, and under that
name its runs, lines and changes: whoever may make a job of that name would have them.
"""

import subprocess

from lsh_systemd import follow, hooks
from lsh_systemd.api.access import Forbidden
from lsh_systemd.api.parts import Desk
from lsh_systemd.api.problems import Conflict
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.job import Job
from lsh_systemd.jobs import Found
from lsh_systemd.loglines import journalctl

_SECONDS = 30
# Where the ledger has jobs' names.
_KNOWN = (("runs", "job"), ("audit", "job"), ("audit", "before"), ("alerts", "job"), ("events", "job"))


def check_new(desk: Desk, job: Job) -> None:
    """Raise Forbidden for a job that the key would not be for, or under whose name there is something that the key was
    not for: a job, what one has left, or somebody's unit. Which of these it is, is not told."""
    desk.may_make(job)
    _check_named(desk, job, None)
    if desk.caller.sees(job.id, None):
        return  # the name itself is the key's, with all that there is of it
    found = desk.parts.jobs.find(job.id)
    if found is not None and desk.caller.sees(found.id, found.job):
        return  # whoever makes it is told that it is there
    if found is not None or _is_taken(desk, job) or _has_left_something(desk, job.id):
        raise Forbidden(
            "this key cannot make a job of that name",
            hint="choose another name; a key for the name itself (--jobs 'web-*') can have it again",
        )


def check_changed(desk: Desk, job: Job, found: Found) -> None:
    """Raise Forbidden, JobNotFound or BadInput for what a change would make of a job that the key is for."""
    desk.may_make(job)
    _check_named(desk, job, found.job)
    try:
        follow.check(desk.parts.jobs, job, old=found)
    except BadInput:
        if _followed_out_of_sight(desk, found.id):
            raise Conflict(
                "with other jobs, which this key is not for, these would start each other for ever"
            ) from None
        raise


def check_removable(desk: Desk, found: Found) -> None:
    """Raise BadInput where a job that stays names this one."""
    if _followed_out_of_sight(desk, found.id):
        raise Conflict("other jobs, which this key is not for, name it, and they stay")
    follow.check_removable(desk.parts.jobs, [found])


def _check_named(desk: Desk, job: Job, before: Job | None) -> None:
    """Raise JobNotFound for another job that it newly names and the key is not for: it would be started, or told of."""
    if desk.caller.jobs:
        for name in sorted(_named(job) - (_named(before) if before else set()) - {job.id}):
            desk.job(name)


def _named(job: Job) -> set[str]:
    return {*job.after, *(other for _, other in hooks.hooked_jobs(job))}


def _followed_out_of_sight(desk: Desk, job_id: str) -> bool:
    return bool(desk.caller.jobs) and any(
        not desk.caller.sees(each.id, each.job) for each in follow.followers(desk.parts.jobs, job_id)
    )


def _is_taken(desk: Desk, job: Job) -> bool:
    """Whether systemd, an administrator or another job already has something by that name."""
    return bool(
        desk.parts.jobs.foreign(job, desk.parts.manager.unit_path)
        or desk.parts.jobs.left_drop_ins(job)
        or follow.followers(desk.parts.jobs, job.id)
    )


def _has_left_something(desk: Desk, job_id: str) -> bool:
    """Whether the ledger or the journal knows a job of that name."""
    store = desk.store()
    for table, column in _KNOWN:
        if store.query(f'SELECT 1 FROM {table} WHERE "{column}" = ? LIMIT 1', (job_id,)):
            return True
    command = [*journalctl(desk.scope, job_id), "--lines=1", "--output=cat"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LshError(f"cannot run journalctl: {error}") from None
    return bool(done.stdout)
