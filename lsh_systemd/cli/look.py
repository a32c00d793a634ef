"""lshctl list, show and next."""

import json
import time
from datetime import UTC, datetime
from typing import Any

import click

from lsh_systemd.cli.common import App, complete_jobs, job_argument, json_option, print_json, with_app
from lsh_systemd.cli.table import bar, duration, local_time, paint, print_table, relative
from lsh_systemd.errors import BadInput
from lsh_systemd.jobs import Found
from lsh_systemd.run import Run
from lsh_systemd.said import fraction
from lsh_systemd.sayings import told
from lsh_systemd.status import Status, overview, schedule_text
from lsh_systemd.text import escape_controls


def statuses(app: App, found: list[Found]) -> list[Status]:
    """The status of each job, with its last run where the caller may know it."""
    store = app.collect()
    last_runs = {job: told(app.scope, run) for job, run in store.last_runs().items()} if store else {}
    return overview(found, manager=app.manager, last_runs=last_runs)


@click.command("list")
@click.option("--tag", help="Only jobs with this tag.")
@click.option("--category", help="Only jobs of this category.")
@json_option
@with_app
def list_command(app: App, tag: str | None, category: str | None, as_json: bool) -> None:
    """List the jobs."""
    found = [
        each
        for each in app.jobs.all()
        if (tag is None or (each.job and tag in each.job.tags))
        and (category is None or (each.job and each.job.category == category))
    ]
    rows = statuses(app, found)
    if as_json:
        print_json([status.to_json() for status in rows])
        return
    if not rows:
        click.echo(f"There are no jobs in the {app.scope} scope. lshctl add NAME --schedule CRON -- COMMAND makes one.")
        return
    print_table(
        ["JOB", "STATE", "NEXT", "LAST", "RESULT", "SCHEDULE", "COMMAND"],
        [_list_row(status) for status in rows],
        state_column=1,
    )


def _list_row(status: Status) -> list[str]:
    job, last = status.found.job, status.last_run
    mark = ("*" if status.found.changed else "") + ("~" if status.found.transient else "")
    return [
        status.found.id + mark,
        status.state,
        "at boot" if job and job.on_boot and status.state == "waiting" else local_time(status.next_usec),
        local_time(last.started_usec) if last else "-",
        (last.result or _running(last)) if last else "-",
        (schedule_text(job) or "-") if job else "-",
        job.command_line if job else "-",
    ]


def _running(run: Run) -> str:
    return f"running ({int(fraction(run.progress) * 100)}%)" if run.progress else "running"


@click.command("show")
@job_argument
@json_option
@with_app
def show_command(app: App, name: str, as_json: bool) -> None:
    """Show all there is to know of a job."""
    status = statuses(app, [app.jobs.get(name)])[0]
    detail = status.to_detailed_json() | {"hints": _hints(app, status)}
    if as_json:
        print_json(detail)
        return
    for label, value in _show_lines(status, detail):
        click.echo(f"{click.style(f'{label:>14}', bold=True)}  {value}")


def _hints(app: App, status: Status) -> list[dict[str, str]]:
    """Which of the job's limits and protections may have stopped its last run, and what would lift each."""
    job, last = status.found.job, status.last_run
    if job is None or last is None or not last.failed:
        return []
    from lsh_systemd.hints import hints

    whole = app.store.run(last.id)  # with its output
    change = f"lshctl --{app.scope} set {status.found.id}"
    return [{"reason": hint.reason, "fix": f"{change} {hint.options}"} for hint in hints(job, whole[0])]


def _show_lines(status: Status, detail: dict[str, Any]) -> list[tuple[str, str]]:
    found, last, now = status.found, status.last_run, time.time_ns() // 1000
    lines = [("job", found.id), ("state", paint(status.state))]
    if found.transient:
        lines.append(("transient", "yes: the next reboot ends it"))
    if found.problem:
        lines.append(("problem", escape_controls(found.problem)))
    elif found.changed:
        lines.append(("edited", "yes, by hand: the files are no longer what lshctl wrote"))
    if status.next_usec:
        lines.append(("next", f"{local_time(status.next_usec)} ({relative(status.next_usec, now)})"))
    if last:
        took = f", took {duration(last.duration_usec / 1e6)}" if last.duration_usec is not None else ""
        lines.append(("last run", f"{local_time(last.started_usec)}, {paint(last.result or 'running')}{took}"))
        lines += [("progress", bar(last.progress))] if last.running and last.progress else []
        lines += [("message", escape_controls(last.message, keep=""))] if last.message else []
        numbers = "  ".join(f"{name}={number}" for name, number in json.loads(last.metrics).items())
        lines += [("metrics", numbers)] if numbers else []
    for hint in detail["hints"]:
        lines.append(("stopped by", escape_controls(f"{hint['reason']}: {hint['fix']}", keep="")))
    for key, value in (detail["definition"] or {}).items():
        lines.append((key.replace("_", " "), escape_controls(_shown(value), keep="")))
    lines += [("unit file", path) for path in detail["unit_files"]]
    lines += [("drop-in", escape_controls(path, keep="")) for path in detail["drop_ins"]]
    return lines


def _shown(value: Any) -> str:
    """A field of the definition in a line: lists and variables one after the other."""
    if isinstance(value, dict):
        return "  ".join(f"{name}={each}" for name, each in value.items())
    if isinstance(value, list):
        return "  ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)


@click.command("next")
@click.argument("name", metavar="[JOB]", required=False, shell_complete=complete_jobs)
@click.option("-n", "--count", type=click.IntRange(1, 1000), default=5, help="How many instants of a single JOB.")
@json_option
@with_app
def next_command(app: App, name: str | None, count: int, as_json: bool) -> None:
    """Show when jobs run next: all of them in their order, or the coming instants of one."""
    if name is not None:
        _next_of(app, app.jobs.get(name), count, as_json)
        return
    valid = [found for found in app.jobs.all() if found.job]
    rows = [status for status in overview(valid, manager=app.manager, last_runs={}) if status.next_usec]
    rows.sort(key=lambda status: status.next_usec or 0)
    if as_json:
        print_json([{"id": status.found.id, "next": status.to_json()["next"]} for status in rows])
        return
    now = time.time_ns() // 1000
    print_table(
        ["NEXT", "LEFT", "JOB", "SCHEDULE"],
        [
            [
                local_time(s.next_usec),
                relative(s.next_usec or 0, now),
                s.found.id,
                schedule_text(s.found.valid_job) or "-",
            ]
            for s in rows
        ],
    )


def _next_of(app: App, found: Found, count: int, as_json: bool) -> None:
    from lsh_systemd import analyze, unit

    job, now = found.valid_job, datetime.now(UTC)
    if lines := unit.on_calendar(found.pair.timer):
        instants = [round(each.timestamp() * 1e6) for each in analyze.instants(lines, after=now, count=count)]
    elif job.interval and (first := app.control.next_elapse(found.timer)):
        instants = [first + step * round(job.interval.total_seconds() * 1e6) for step in range(count)]
    else:
        raise BadInput(f"{found.id} has no instants to tell: {schedule_text(job) or 'it has no schedule'}")
    if as_json:
        from lsh_systemd.run import rfc3339

        print_json({"id": found.id, "next": [rfc3339(each) for each in instants]})
        return
    for each in instants:
        click.echo(f"{local_time(each)}  {relative(each, time.time_ns() // 1000)}")
