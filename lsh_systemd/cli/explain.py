"""lshctl explain."""

import sys
from datetime import datetime
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
    from lsh_systemd.explaining import explain

    told, parsed, after = explain(
        app.scope, expression, zone=zone, start=start, count=count, seconds=seconds, name=name
    )
    if as_json:
        print_json(told)
        return
    drawing = _drawing(parsed, told["timezone"], after)
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
