"""What there is to say of a job's command before it becomes a unit. Nothing is run."""

import os
import pwd
from pathlib import Path

from lsh_systemd import danger, scripts, shellcheck
from lsh_systemd.danger import Finding
from lsh_systemd.errors import BadInput
from lsh_systemd.job import Job
from lsh_systemd.scope import Scope

_VARIABLE = "LSH_ALLOW_DANGEROUS_COMMANDS"
# What the judgement depends on.
_FIELDS = ("command", "shell", "stdin", "env", "working_dir", "run_as")


class DangerousCommand(BadInput):
    """The command usually destroys, and nobody has said that it is meant."""


def allowed_by_environment() -> bool:
    """The variable by which older systems let dangerous commands pass."""
    return os.environ.get(_VARIABLE, "").strip().lower() in ("1", "true", "yes", "on")


def findings(job: Job, scope: Scope) -> list[Finding]:
    """What is dangerous or doubtful about the job."""
    # A job of the machine starts in /, a user's in the home folder.
    cwd = job.working_dir or ("/" if scope is Scope.SYSTEM else None)
    found = danger.look(job.command, env=job.env, cwd=cwd, stdin=job.stdin)
    uid = _uid(job, scope)
    if uid is not None:
        for program in dict.fromkeys(danger.programs(job.command)):
            found += [Finding(message=words, destroys=sure) for words, sure in scripts.weaknesses(program, uid=uid)]
    return found


def of_module(job: Job, scope: Scope, file: str) -> list[Finding]:
    """What is to be said of the file that a Python job runs: who else could change it."""
    uid = _uid(job, scope)
    found = [] if uid is None else scripts.weaknesses(file, uid=uid)
    return [Finding(message=words, destroys=sure) for words, sure in found]


def importing(interpreter: str, module: str, folder: Path) -> list[str]:
    """What is doubtful about importing the module from the folder, here and now. Raises DangerousCommand where somebody
    else could change what runs: a module cannot allow that for itself."""
    uid = os.getuid()
    found = [*scripts.weaknesses(interpreter, uid=uid), *scripts.import_weaknesses(folder, module, uid=uid)]
    sure = [words for words, certain in found if certain]
    if sure and not allowed_by_environment():
        raise DangerousCommand(
            f"{module} is not imported: {'; '.join(dict.fromkeys(sure))}",
            hint=f"let them belong to root or to you alone; where it is meant so: {_VARIABLE}=1",
        )
    return list(dict.fromkeys(words for words, _ in found))


def is_judged(job: Job, before: Job | None) -> bool:
    """Whether all that the judgement depends on is as it was."""
    return before is not None and all(getattr(job, name) == getattr(before, name) for name in _FIELDS)


def check(job: Job, scope: Scope, *, before: Job | None = None) -> list[str]:
    """Warnings to show. Raises DangerousCommand unless the job allows that.

    Of a job whose command is as it was ``before``, nothing is said: it has been judged.
    """
    if is_judged(job, before):
        return []
    found = findings(job, scope)
    destroys = [each.message for each in found if each.destroys]
    if destroys and not job.allow_dangerous:
        raise DangerousCommand(
            f"the command is dangerous: {'; '.join(destroys)}", hint="where it is meant so: --allow-dangerous"
        )
    remarks = shellcheck.remarks(job.command, job.shell) if isinstance(job.command, str) else []
    return [each.message for each in found] + [f"shellcheck: {each}" for each in remarks]


def allowing(job: Job, scope: Scope) -> Job:
    """The job, which allows itself to be dangerous where it is so and the environment says that this is meant."""
    from dataclasses import replace

    if job.allow_dangerous or not allowed_by_environment():
        return job
    return replace(job, allow_dangerous=True) if any(each.destroys for each in findings(job, scope)) else job


def _uid(job: Job, scope: Scope) -> int | None:
    if scope is Scope.USER:
        return os.getuid()
    if job.run_as is None:
        return 0
    try:
        return int(job.run_as) if job.run_as.isdecimal() else pwd.getpwnam(job.run_as).pw_uid
    except KeyError:
        return None
