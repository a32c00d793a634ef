"""Who may say what: the users that jobs run as, and whose records of their runs are believed."""

import contextlib
import os
import pwd
from pathlib import Path

from lsh_systemd import unit
from lsh_systemd.audit import Actor
from lsh_systemd.errors import BadInput
from lsh_systemd.jobs import Found
from lsh_systemd.scope import Scope
from lsh_systemd.text import visible

# What the kernel has for no login.
_NO_LOGIN = 2**32 - 1
# What DynamicUser= gives out (systemd's own constants).
_DYNAMIC_UIDS = range(61184, 65520)


def person() -> Actor:
    """The person on whose behalf this process runs: who logged in (as the kernel's audit has it), else whom sudo names,
    else its user."""
    uid = os.getuid()
    told = [os.environ.get("SUDO_UID", "")] if uid == 0 else []
    with contextlib.suppress(OSError):
        told.insert(0, Path("/proc/self/loginuid").read_text().strip())
    uids = [int(each) for each in told if each.isascii() and each.isdecimal() and len(each) <= 10]
    uid = next((each for each in uids if each != _NO_LOGIN), uid)
    try:
        return Actor(name=pwd.getpwuid(uid).pw_name, uid=uid)
    except (KeyError, OverflowError):
        return Actor(name=str(uid), uid=uid)


def called_by_systemd() -> bool:
    """Whether this process is what a unit starts, and nobody's command."""
    return os.environ.get("SYSTEMD_EXEC_PID") == str(os.getpid())


def is_believed(scope: Scope, found: Found | None, uid: int) -> bool:
    """Whether a record of the job's run may come from a process of this uid."""
    if scope is Scope.USER:
        return uid == os.getuid()
    if uid == 0:
        return True
    if found is None or found.job is None or unit.record_as_root(found.job):
        return False
    if found.job.run_as is None:
        return uid in _DYNAMIC_UIDS
    return uid == _uid(found.job.run_as)


def check_user_exists(user: str) -> None:
    """Raise BadInput for a user that this machine does not know."""
    if _uid(user) is None:
        raise BadInput(f"there is no user {visible(user)}", hint="--run-as takes a user of this machine")


def _uid(user: str) -> int | None:
    if user.isdecimal():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None
