"""lshctl report, stats and insights."""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from lsh_systemd.cli.common import App, complete_jobs, json_option, print_json, with_app
from lsh_systemd.cli.history import known_job, since_option, until_option, usec_of
from lsh_systemd.cli.table import duration, percent, print_table, size
from lsh_systemd.errors import BadInput
from lsh_systemd.text import escape_controls

if TYPE_CHECKING:
    from lsh_systemd.job import Job
    from lsh_systemd.report import Reporter

_FORMS = ["table", "json", "csv", "html", "markdown"]
_TOP = 5


@contextlib.contextmanager
def _reporter(
    app: App, since: str | None, until: str | None, *, job: str | None = None, days: int | None = None
) -> Iterator["Reporter"]:
    """Reports on one moment's ledger; without ``since``, on the last ``days``, if any are given."""
    from lsh_systemd.figures import Figures
    from lsh_systemd.report import Reporter

    since_usec, until_usec = usec_of(since), usec_of(until)
    if since_usec is None and days is not None:
        since_usec = (time.time_ns() // 1000 if until_usec is None else until_usec) - days * 86_400_000_000
    if since_usec is not None and until_usec is not None and until_usec <= since_usec:
        raise BadInput("--until is not after --since")
    app.store.settle()
    with app.store.snapshot():
        yield Reporter(Figures(app.store.query), since_usec=since_usec, until_usec=until_usec, job=job)


def _zone() -> str:
    from lsh_systemd import analyze

    return analyze.local_zone()


@click.command("report")
@click.argument("name", metavar="[JOB]", required=False, shell_complete=complete_jobs)
@click.option("--all", "whole", is_flag=True, help="All there is to tell: of all jobs together, and of each.")
@since_option
@until_option
@click.option("--by", type=click.Choice(["hour", "day"]), help="Also what each hour or day (the newest 10,000) held.")
@click.option("--format", "form", type=click.Choice(_FORMS), default="table")
@json_option
@with_app
def report_command(
    app: App,
    name: str | None,
    whole: bool,
    since: str | None,
    until: str | None,
    by: str | None,
    form: str,
    as_json: bool,
) -> None:
    """Sum up the runs of a job, of each, or of all.

    Rate of success, durations, CPU and memory, retries, failures and what they said, and how that changes: the newer
    half of the runs against the older one, and, with --since, the time against the time before.

    \b
    lshctl report backup --since -30d
    lshctl report --all --format html > report.html
    """
    if name is not None and whole:
        raise BadInput("JOB and --all exclude each other")
    job = known_job(app, name) if name is not None else None
    names = [job] if job else [each.id for each in app.jobs.all()]
    form = "json" if as_json else form
    by = by or ("day" if form == "html" else None)
    with _reporter(app, since, until, job=job) as reporter:
        told: dict[str, Any] = {"overall": reporter.overall()} if whole or (form == "html" and not job) else {}
        told["jobs"] = reporter.jobs(names)
        told |= {"buckets": reporter.buckets(by, _zone())} if by else {}
        if form == "json":
            print_json(_as_json(told, whole=whole, job=job))
        elif form != "table":
            from lsh_systemd.cli import forms

            forms.write(form, told, reporter, _zone())
        elif not told["jobs"]:
            click.echo("There are no jobs and no runs yet.")
        else:
            _print(told, reporter, whole=whole, job=job)


def _as_json(told: dict[str, Any], *, whole: bool, job: str | None) -> Any:
    """One report for a JOB, a list of them for all; with --all or --by, an object with all there is."""
    if job:
        (report,) = told.pop("jobs")
        return report | told
    return told if whole or "buckets" in told else told["jobs"]


def _print(told: dict[str, Any], reporter: "Reporter", *, whole: bool, job: str | None) -> None:
    if job:
        _print_sheet(told["jobs"][0], reporter.last_days(_zone(), job))
    elif whole:
        _print_sheet(told["overall"], reporter.last_days(_zone()))
        click.echo()
    if not job:
        _print_jobs(told["jobs"], reporter, strips=whole)
    if "buckets" in told:
        click.echo()
        _print_buckets(told["buckets"])


def _print_jobs(reports: Sequence[dict[str, Any]], reporter: "Reporter", *, strips: bool) -> None:
    head = ["JOB", "RUNS", "SUCCESS", "P50", "P95", "P99", "MEAN", "LONGEST", "CPU", "MEMORY", "FAILURES"]
    rows = [
        [
            each["job"],
            str(each["runs"]),
            percent(each["success_rate"]),
            *(duration(each[f"duration_{key}"]) for key in ("p50", "p95", "p99", "mean", "max")),
            duration(each["cpu_seconds_mean"]),
            size(each["memory_peak_max"]),
            ", ".join(f"{count} {result}" for result, count in each["failures_by_result"].items()) or "-",
        ]
        for each in reports
    ]
    if strips:
        from lsh_systemd import plots

        using, zone = plots.marks(sys.stdout.encoding), _zone()
        head.insert(-1, "LAST 30 DAYS")
        for row in rows:
            row.insert(-1, plots.outcomes(reporter.last_days(zone, row[0]), using))
    print_table(head, rows)


def _print_sheet(report: dict[str, Any], days: Sequence[dict[str, Any]]) -> None:
    """One report, a line for each figure."""
    from lsh_systemd import plots
    from lsh_systemd.cli.sheet import lines

    using = plots.marks(sys.stdout.encoding)
    for label, value in lines(report):
        _print_line(label, value)
    key = f"all succeeded {using.success}, some {using.mixed}, none {using.failure}"
    highest = max((each["duration_mean"] or 0 for each in days), default=0)
    for label, drawn, said in (
        ("last 30 days", plots.outcomes(days, using), key),
        ("mean duration", plots.durations(days, using), f"at most {duration(highest)}" if highest else ""),
    ):
        _print_line(label, f"{drawn:30}  {said}".rstrip())


def _print_line(label: str, text: str) -> None:
    click.echo(f"{click.style(f'{label:>16}', bold=True)}  {escape_controls(text, keep='')}")


def _print_buckets(buckets: Sequence[dict[str, Any]]) -> None:
    from lsh_systemd.cli.sheet import local

    print_table(
        ["FROM", "RUNS", "SUCCESS", "SKIPPED", "MEAN"],
        [
            [
                local(each["since"]),
                str(each["runs"]),
                percent(each["success_rate"]),
                str(each["skipped"]),
                duration(each["duration_mean"]),
            ]
            for each in buckets
        ],
    )


@click.command("stats")
@since_option
@until_option
@json_option
@with_app
def stats_command(app: App, since: str | None, until: str | None, as_json: bool) -> None:
    """Show how all jobs together have done.

    Over the last 30 days, unless --since says otherwise.
    """
    with _reporter(app, since, until, days=30) as reporter:
        overall, jobs, days = reporter.overall(), reporter.jobs(), reporter.last_days(_zone())
    tops = {
        "most_runs": _top(jobs, "runs"),
        "most_failures": _top(jobs, "failed"),
        "longest": _top(jobs, "duration_p95"),
        "most_cpu": _top(jobs, "cpu_seconds_sum"),
    }
    if as_json:
        print_json(overall | {"jobs": len(jobs)} | tops)
        return
    _print_line("jobs", str(len(jobs)))
    _print_sheet(overall, days)
    for key, top in tops.items():
        shown = duration if key in ("longest", "most_cpu") else str
        if top:
            _print_line(key.replace("_", " "), ", ".join(f"{each['job']} ({shown(each['value'])})" for each in top))


def _top(jobs: Sequence[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """The jobs with the most of it, as {job, value}; those that have none are left out."""
    values: dict[str, float] = {
        each["job"]: (sum(each["failures_by_result"].values()) if key == "failed" else each[key]) or 0 for each in jobs
    }
    first = sorted(values.items(), key=lambda item: (-item[1], item[0]))[:_TOP]
    return [{"job": job, "value": value} for job, value in first if value]


@click.command("insights")
@since_option
@json_option
@with_app
def insights_command(app: App, since: str | None, as_json: bool) -> None:
    """Show what deserves attention, the worst first.

    Looks at the last 7 days, or the time --since, beside as much time before. Each line ends in the command that looks
    closer.
    """
    from dataclasses import asdict

    from lsh_systemd.insights import insights

    found = app.jobs.all()
    active = frozenset(each.id for each in found if each.pair.enabled and each.job and _is_regular(each.job))
    known = {each.id for each in found}
    with _reporter(app, since, None, days=7) as reporter:
        reports = [each for each in reporter.jobs() if each["job"] in known]
        told = insights(reports, reporter.streaks([each["job"] for each in reports]), active)
    if as_json:
        print_json([asdict(each) for each in told])
    elif not told:
        click.echo("Nothing stands out.")
    else:
        rows = [[each.job, each.message, f"lshctl {each.command}"] for each in told]
        print_table(["JOB", "WHAT", "LOOK CLOSER"], rows)


def _is_regular(job: "Job") -> bool:
    return bool(job.schedule or job.calendar or job.every)
