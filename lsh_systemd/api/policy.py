"""What may be made, or made of a job, over HTTP: the administrator's policy ([api] in lsh.toml).

A job that anybody with a key can define is a command that runs here. So, unless lsh.toml says otherwise, such a job
runs as a user of its own that exists for the run only, in the sandbox, and uses nothing that systemd would fetch for it
as root. What the caller leaves out is filled in; what he asks for and may not have is refused.
"""

from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import Any

from lsh_systemd import config, sandbox
from lsh_systemd.api.access import Forbidden
from lsh_systemd.config import Api
from lsh_systemd.errors import BadInput
from lsh_systemd.job import Job
from lsh_systemd.jobfile import to_plain
from lsh_systemd.sandbox import LEVELS
from lsh_systemd.scope import Scope
from lsh_systemd.text import visible

# By these a job could reach what its user and its sandbox keep from it: files that systemd reads as root, secrets,
# paths, the network as root's process, commands and other jobs that are started in its name; or other machines: it
# could claim the times of their jobs, and be started by whoever may ask the fleet for work.
GUARDED = (
    "allow_dangerous",
    "condition",
    "env_file",
    "from_fleet",
    "io_max",
    "on_failure",
    "on_success",
    "once_in_fleet",
    "ping",
    "secrets",
    "when_path",
    "when_socket",
    "write_path",
)
# What may be changed of any job: when it runs and how it is called, not what it does and as whom.
_HARMLESS = frozenset(
    "name description category tags schedule schedule_from seconds calendar every anchor at on_boot timezone jitter "
    "not_before not_after except_calendar catch_up catch_up_spread timeout grace stuck_after retries retry_delay "
    "retry_max_delay retry_on no_retry_exit overlap priority nice".split()
)


def settings(scope: Scope) -> Api:
    """The policy of lsh.toml. Raises BadInput where it allows what is not guarded."""
    rules = config.load(scope).api
    if unknown := set(rules.allow) - set(GUARDED):
        told = ", ".join(map(visible, sorted(unknown)))
        raise BadInput(f"{config.path(scope)}: api.allow has {told}", hint="it may have " + ", ".join(GUARDED))
    return rules


def filled_in(plain: dict[str, Any], rules: Api, scope: Scope) -> dict[str, Any]:
    """The data of a new job, with what the policy wants and the caller did not speak of."""
    plain = dict(plain)
    plain.setdefault("sandbox", rules.sandbox)
    if scope is Scope.SYSTEM and "run_as" not in plain and "dynamic_user" not in plain:
        plain["dynamic_user"] = True
    return plain


def check_template(rules: Api, template_id: str, own: Collection[str]) -> None:
    """Raise Forbidden where that template may not be used, or not with these fields in the place of its own."""
    if not any(fnmatchcase(template_id, pattern) for pattern in rules.templates):
        raise _forbidden(f"the template {template_id} may not be used over HTTP", "templates")
    if more := [] if rules.commands else sorted(set(own) - _HARMLESS - {"run_as", "dynamic_user", "sandbox"}):
        raise _forbidden(f"only the template says its {', '.join(map(visible, more))}", "commands")


def check(
    job: Job,
    rules: Api,
    scope: Scope,
    *,
    before: Job | None = None,
    drop_ins: bool = False,
    from_template: bool = False,
) -> None:
    """Raise Forbidden where the policy does not allow the job, or to make it of the one that was ``before``;
    ``drop_ins``: whether systemd adds an administrator's to its units; ``from_template``: that has been checked."""
    if job.applied is not None and (before is None or job.applied != before.applied):
        # The next `apply --prune` of that project would remove it.
        raise Forbidden("a job made over HTTP is of no project", hint="lshctl apply makes those")
    # systemd's side of us, root's, reads it, and tells what in it is no calendar.
    files = {each for each in job.except_calendar if each.startswith("/")}
    if files - {*(before.except_calendar if before else ())}:
        raise Forbidden("a calendar's file is named on the machine only", hint="lshctl set JOB --except-calendar FILE")
    if before is not None:
        old, new = to_plain(before), to_plain(job)
        if all(name in _HARMLESS for name in {**old, **new} if old.get(name) != new.get(name)):
            return
    if not (rules.commands or from_template):
        raise _forbidden("what a job does is said by a template only", "commands")
    if drop_ins:
        # What they give was meant for another command.
        raise Forbidden(f"an administrator has added to the units of {job.id}", hint=f"systemctl cat {job.unit}")
    if LEVELS.index(job.sandbox) < LEVELS.index(rules.sandbox):
        raise _forbidden(f"a job made over HTTP needs at least the sandbox {rules.sandbox}", "sandbox")
    if scope is Scope.SYSTEM and not job.dynamic_user and (job.run_as or "root") not in rules.run_as:
        raise _forbidden(f"a job made over HTTP may not run as {job.run_as or 'root'}", "run_as")
    if "write_path" not in rules.allow and any(kind == "BindReadOnlyPaths" for kind, _ in sandbox.bound(job)):
        raise _forbidden("a job made over HTTP may not run in a folder that its sandbox hides", "allow")
    used = [name for name in GUARDED if name in to_plain(job) and name not in rules.allow]
    if used:
        raise _forbidden(f"a job made over HTTP may not use {', '.join(used)}", "allow")


def _forbidden(text: str, setting: str) -> Forbidden:
    return Forbidden(text, hint=f"lsh.toml's [api] {setting} says what may be")
