"""lshctl explain."""

import sys
from datetime import UTC, datetime
from typing import Any

import click

from lsh_systemd.cli.common import App, OneLineErrors, json_option, print_json, with_app
from lsh_systemd.text import escape_controls


@click.command("explain", cls=OneLineErrors)
@click.argument("expression", metavar="CRON")
@click.option("--tz", "zone", metavar="ZONE", help="The time zone; without it, the machine's.")
@click.option("--from", "start", metavar="TIME", help="Instants after this time instead of now.")
@click.option("--next", "count", type=click.IntRange(1, 1000), default=5, help="How many instants.")
@click.option("--seconds", is_flag=True, help="The expression has a sixth field, seconds, and perhaps a year.")
@click.option("--name", metavar="NAME", help="The job that it is for: H is hashed from its name.")
@json_option
@with_app
def explain_command(
    app: App,
    expression: str,
    zone: str | None,
    start: str | None,
    count: int,
    seconds: bool,
    name: str | None,
    as_json: bool,
) -> None:
    """Explain a cron expression: in words, as OnCalendar, and its next instants.

    A drawing shows the next seven days with runs, or the next twelve months of a job that rarely runs. A note tells
    what may surprise, and where five or more jobs that there are start at the same minute.

    \b
    lshctl explain "*/15 9-17 * * 1-5" --tz Europe/Berlin
    lshctl explain "H 2 * * *" --name "Daily Backup"
    """
    told, drawing = _explain(app, expression, zone, start, count, seconds, name, draw=not as_json)
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
    if drawing:
        click.echo()
    for line in drawing:
        click.echo(f"  {line}".rstrip())
    for warning in told["warnings"]:
        click.echo(click.style(f"\nNote: {warning}", fg="yellow"))


def _explain(
    app: App,
    expression: str,
    zone: str | None,
    start: str | None,
    count: int,
    seconds: bool,
    name: str | None,
    *,
    draw: bool,
) -> tuple[dict[str, Any], list[str]]:
    """The shape that ``explain --json`` promises; and the drawing."""
    from itertools import islice

    from lsh_systemd import analyze, cron, crowd, describe, instants, schedule, surprises
    from lsh_systemd.job import job_id
    from lsh_systemd.run import rfc3339
    from lsh_systemd.zones import check_zone

    if zone is not None:
        check_zone(zone)
    key = "" if name is None else job_id(name)
    parsed = cron.parse(expression, seconds=seconds, key=key)
    local_zone = analyze.local_zone()
    after = analyze.parse_timestamp(start, zone=zone) if start else datetime.now(UTC)
    lines = schedule.calendar_lines(parsed, zone=zone, now=after, local_zone=local_zone)
    shown = zone or local_zone
    coming = list(islice(instants.upcoming(parsed, shown, after), count))
    others = crowd.warnings(expression, coming, zone=shown, scope=app.scope, local_zone=local_zone, job_id=key)
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
    return told, _drawing(parsed, shown, after) if draw else []


def _drawing(parsed: Any, zone: str, after: datetime) -> list[str]:
    from lsh_systemd import drawing
    from lsh_systemd.instants import upcoming
    from lsh_systemd.zones import transitions

    def following(at: datetime) -> datetime | None:
        return next(upcoming(parsed, zone, at), None)

    first = following(after)
    changes = transitions(zone, first.year, first.year + 1) if first else ()
    return drawing.draw(following, zone, after, changes, drawing.marks(sys.stdout.encoding))


def _in_zone(instant: str, zone: str) -> str:
    from zoneinfo import ZoneInfo

    return f"{datetime.fromisoformat(instant).astimezone(ZoneInfo(zone)):%a %Y-%m-%d %H:%M:%S %Z}"
