"""Reports as CSV, Markdown and HTML, for programs and for paper."""

import csv
import html
import io
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lsh_systemd import __version__
from lsh_systemd.cli.sheet import lines, local
from lsh_systemd.cli.table import duration, local_time, number, percent, size
from lsh_systemd.text import escape_controls

if TYPE_CHECKING:
    from lsh_systemd.report import Reporter

_TEMPLATES = Path(__file__).parent.parent / "templates"
# What has a meaning in Markdown, or in the HTML that it may hold.
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~#&])")
_COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "Job": lambda each: each["job"],
    "Runs": lambda each: str(each["runs"]),
    "Success": lambda each: percent(each["success_rate"]),
    "p50": lambda each: duration(each["duration_p50"]),
    "p95": lambda each: duration(each["duration_p95"]),
    "p99": lambda each: duration(each["duration_p99"]),
    "Mean": lambda each: duration(each["duration_mean"]),
    "Longest": lambda each: duration(each["duration_max"]),
    "CPU": lambda each: duration(each["cpu_seconds_mean"]),
    "Memory": lambda each: size(each["memory_peak_max"]),
    "Retries": lambda each: str(each["retries"]),
    "Failures": lambda each: ", ".join(f"{n} {result}" for result, n in each["failures_by_result"].items()) or "-",
}


def write(form: str, told: dict[str, Any], reporter: "Reporter", zone: str) -> None:
    """Print what a report has told in "csv" (the jobs; with buckets, these), "markdown" or "html"."""
    if form == "csv":
        rows = told["buckets"] if "buckets" in told else list(map(_flat, told["jobs"]))
        print_csv(rows, list(rows[0]) if rows else ["job"])
    elif form == "markdown":
        click.echo("\n".join(markdown(told)))
    else:
        click.echo(_html(told, reporter, zone))


def _flat(report: dict[str, Any]) -> dict[str, Any]:
    """The report as a row: without its lists of failures and metrics, each figure of a comparison in a column."""
    row: dict[str, Any] = {}
    for key, value in report.items():
        if key in ("trend", "before"):
            row |= {f"{key}_{name}": each for name, each in (value or {}).items()}
        elif key not in ("failures", "metrics"):
            row[key] = value
    return row


def print_csv(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """RFC 4180, with a head. What is a list or an object is written as JSON, and what a spreadsheet would take for a
    formula is preceded by an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([_cell(row[column]) for column in columns] for row in rows)
    click.echo(text.getvalue().replace("\r\n", "\n"), nl=False)


def _cell(value: Any) -> Any:
    import json

    if isinstance(value, dict | list):
        return json.dumps(value)
    if isinstance(value, str):
        shown = escape_controls(value)
        return f"'{shown}" if shown.startswith(("=", "+", "-", "@", "\t")) else shown
    return value


def markdown(told: dict[str, Any]) -> Iterator[str]:
    """The lines of what a report has told."""
    yield f"# {_title(told)}"
    for each in [told["overall"]] if "overall" in told else told["jobs"] if len(told["jobs"]) == 1 else []:
        yield ""
        for label, text in lines(each):
            yield f"- {_plain(label)}: {_plain(text)}" if label else f"  - {_plain(text)}"
    yield ""
    yield from _table(list(_COLUMNS), [[column(each) for column in _COLUMNS.values()] for each in told["jobs"]])
    if "buckets" in told:
        yield ""
        head = ["From", "Runs", "Success", "Mean"]
        yield from _table(
            head,
            [
                [each["since"], str(each["runs"]), percent(each["success_rate"]), duration(each["duration_mean"])]
                for each in told["buckets"]
            ],
        )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(map(_plain, row))} |"


def _plain(text: str) -> str:
    """The text as itself wherever Markdown is read."""
    return _MARKDOWN.sub(lambda found: html.escape(found[1]) if found[1] in "<>&" else f"\\{found[1]}", _one_line(text))


def _one_line(text: str) -> str:
    return escape_controls(text, keep="")


def _title(told: dict[str, Any]) -> str:
    several = "overall" in told or len(told["jobs"]) != 1
    return "Report on all jobs" if several else f"Report on {told['jobs'][0]['job']}"


def _html(told: dict[str, Any], reporter: "Reporter", zone: str) -> str:
    """One file that needs no other: figures, and drawings of the days as SVG."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: _one_line(value) if type(value) is str else value,
    )
    reports = [told["overall"]] if "overall" in told else told["jobs"]
    return environment.get_template("report.html.j2").render(
        title=_title(told),
        host=socket.gethostname(),
        version=__version__,
        made=local_time(time.time_ns() // 1000),
        since=local_time(reporter.since_usec) if reporter.since_usec is not None else None,
        until=local_time(reporter.until_usec) if reporter.until_usec is not None else None,
        zone=zone,
        summary=list(lines(reports[0])),
        columns=_COLUMNS,
        jobs=told["jobs"],
        strips={each["job"]: reporter.last_days(zone, each["job"]) for each in told["jobs"]},
        buckets=told["buckets"],
        failures=reports[0]["failures"],
        highest=max((each["runs"] - each["skipped"] for each in told["buckets"]), default=0),
        longest=max((each["duration_mean"] or 0 for each in told["buckets"]), default=0),
        duration=duration,
        number=number,
        local=local,
    )
