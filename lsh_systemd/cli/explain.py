"""lshctl explain."""

from datetime import UTC, datetime
from typing import Any

import click

from lsh_systemd.cli.common import OneLineErrors, json_option, print_json
from lsh_systemd.text import escape_controls


@click.command("explain", cls=OneLineErrors)
@click.argument("expression", metavar="CRON")
@click.option("--tz", "zone", metavar="ZONE", help="The time zone; without it, the machine's.")
@click.option("--from", "start", metavar="TIME", help="Instants after this time instead of now.")
@click.option("--next", "count", type=click.IntRange(1, 1000), default=5, help="How many instants.")
@click.option("--seconds", is_flag=True, help="The expression has a sixth field, seconds, and perhaps a year.")
@json_option
def explain_command(
    expression: str, zone: str | None, start: str | None, count: int, seconds: bool, as_json: bool
) -> None:
    """Explain a cron expression: in words, as OnCalendar, and its next instants.

    \b
    lshctl explain "*/15 9-17 * * 1-5" --tz Europe/Berlin
    """
    told = _explain(expression, zone, start, count, seconds)
    if as_json:
        print_json(told)
        return
    click.echo(escape_controls(f"{told['expression']}: {told['description']} ({told['timezone']})"))
    click.echo()
    for line in told["calendar"]:
        click.echo(f"  OnCalendar={line}")
    click.echo()
    for instant in told["next"]:
        click.echo(f"  {_in_zone(instant, told['timezone'])}")
    for warning in told["warnings"]:
        click.echo(click.style(f"\nNote: {warning}", fg="yellow"))


def _explain(expression: str, zone: str | None, start: str | None, count: int, seconds: bool) -> dict[str, Any]:
    """The shape that ``explain --json`` promises."""
    from itertools import islice

    from lsh_systemd import analyze, cron, describe, instants, schedule, surprises
    from lsh_systemd.run import rfc3339
    from lsh_systemd.zones import check_zone

    if zone is not None:
        check_zone(zone)
    parsed = cron.parse(expression, seconds=seconds)
    local_zone = analyze.local_zone()
    after = analyze.parse_timestamp(start, zone=zone) if start else datetime.now(UTC)
    lines = schedule.calendar_lines(parsed, zone=zone, now=after, local_zone=local_zone)
    coming = instants.upcoming(parsed, zone or local_zone, after)
    return {
        "expression": expression,
        "timezone": zone or local_zone,
        "calendar": list(lines),
        # By the rule itself; that the lines elapse at just these, tests/unit/test_cron_instants.py holds.
        "next": [rfc3339(round(each.timestamp() * 1e6)) for each in islice(coming, count)],
        "description": describe.describe(parsed),
        "warnings": surprises.warnings(parsed, zone or local_zone, after),
    }


def _in_zone(instant: str, zone: str) -> str:
    from zoneinfo import ZoneInfo

    return f"{datetime.fromisoformat(instant).astimezone(ZoneInfo(zone)):%a %Y-%m-%d %H:%M:%S %Z}"
