"""A cron expression explained: in words, as OnCalendar=, its next instants, and what may surprise."""

from datetime import UTC, datetime
from itertools import islice
from typing import Any

from lsh_systemd import analyze, cron, crowd, describe, instants, schedule, surprises
from lsh_systemd.job import job_id
from lsh_systemd.run import rfc3339
from lsh_systemd.scope import Scope
from lsh_systemd.zones import check_zone


def explain(
    scope: Scope,
    expression: str,
    *,
    zone: str | None = None,
    start: str | None = None,
    count: int = 5,
    seconds: bool = False,
    name: str | None = None,
) -> tuple[dict[str, Any], cron.Cron, datetime]:
    """The shape that ``explain --json`` promises; the expression as it was read, and after when its instants are.

    ``zone`` None: the machine's; ``start`` None: now; ``name``: the job that it is for. Raises BadInput.
    """
    if zone is not None:
        check_zone(zone)
    key = "" if name is None else job_id(name)
    parsed = cron.parse(expression, seconds=seconds, key=key)
    local_zone = analyze.local_zone()
    after = analyze.parse_timestamp(start, zone=zone) if start else datetime.now(UTC)
    lines = schedule.calendar_lines(parsed, zone=zone, now=after, local_zone=local_zone)
    shown = zone or local_zone
    coming = list(islice(instants.upcoming(parsed, shown, after), count))
    others = crowd.warnings(expression, coming, zone=shown, scope=scope, local_zone=local_zone, job_id=key)
    told = {
        "expression": expression,
        "timezone": shown,
        "calendar": list(lines),
        # By the rule itself; that the lines elapse at just these, tests/unit/test_cron_instants.py holds.
        "next": [rfc3339(round(each.timestamp() * 1e6)) for each in coming],
        "description": describe.describe(parsed),
        "warnings": [
            *surprises.warnings(parsed, shown, after),
            *(surprises.hashed(parsed) if name is None else ()),
            *others,
        ],
    }
    return told, parsed, after
