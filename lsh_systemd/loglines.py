"""Where a job's lines are in the journal: what journalctl is to be called with. Pure."""

import os

from lsh_systemd.job import PREFIX
from lsh_systemd.scope import Scope


def journalctl(scope: Scope, job: str, run_id: str | None = None) -> list[str]:
    """The command for a job's lines (of one run): its own, systemd's on its unit, and those that lost their unit's
    name."""
    unit, identifier = f"{PREFIX}{job}.service", f"SYSLOG_IDENTIFIER={PREFIX}{job}"
    if scope is Scope.SYSTEM:
        matches = [[f"_SYSTEMD_UNIT={unit}"], ["_PID=1", f"UNIT={unit}"], ["_UID=0", f"LSH_UNIT={unit}"]]
        ours, managers, own = "_UID=0", "_PID=1", "INVOCATION_ID"
    else:
        uid = f"_UID={os.getuid()}"
        matches = [[uid, identifier], [uid, f"USER_UNIT={unit}"]]
        ours, managers, own = uid, uid, "USER_INVOCATION_ID"
    if run_id is not None:
        matches = [
            [f"_SYSTEMD_INVOCATION_ID={run_id}"],
            [managers, f"{own}={run_id}"],
            [ours, f"LSH_INVOCATION_ID={run_id}"],
        ]
    flat = [word for match in matches for word in (*match, "+")][:-1]
    return ["journalctl", "--quiet", *flat]
