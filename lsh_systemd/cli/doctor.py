"""lshctl doctor, and how findings are shown."""

from collections.abc import Iterable

import click

from lsh_systemd.cli.common import App, json_option, print_json, with_app
from lsh_systemd.finding import Finding
from lsh_systemd.text import escape_controls

_MARKS = {"ok": ("ok", "green"), "warning": ("!", "yellow"), "error": ("✗", "red")}


@click.command("doctor")
@json_option
@with_app
def doctor_command(app: App, as_json: bool) -> None:
    """Look for what usually goes wrong, and how to mend it. Exits with 1 where something does not work."""
    from lsh_systemd.doctor import Doctor

    show_findings(Doctor(app.control).examine(), as_json=as_json)


def show_findings(examined: Iterable[Finding], *, as_json: bool) -> None:
    """Print them as they come; exit with 1 where one is an error."""
    findings = []
    for finding in examined:
        findings.append(finding)
        if as_json:
            continue
        mark, colour = _MARKS[finding.level]
        click.echo(
            f"{click.style(f'{mark:>2}', fg=colour)}  {escape_controls(finding.check, keep='')}"
            + (f": {escape_controls(finding.message, keep='')}" if finding.message else "")
        )
        if finding.fix:
            click.echo(f"      {escape_controls(finding.fix, keep='')}")
    if as_json:
        print_json([finding.to_json() for finding in findings])
    if any(finding.level == "error" for finding in findings):
        click.get_current_context().exit(1)
