"""lshctl export."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from lsh_systemd.cli.common import App, say, with_app
from lsh_systemd.errors import BadInput
from lsh_systemd.scope import Scope
from lsh_systemd.text import escape_controls

if TYPE_CHECKING:
    from lsh_systemd.cronjobs import Exported
    from lsh_systemd.job import Job
    from lsh_systemd.jobs import Found

_IN_CONTAINERS = ("kubernetes", "nomad")


@click.command("export")
@click.argument("names", metavar="[JOB...]", nargs=-1)
@click.option(
    "--format",
    "target",
    type=click.Choice(["yaml", "toml", "json", "csv", "crontab", "systemd", "ansible", "kubernetes", "nomad"]),
    default="crontab",
    help="yaml, toml and json are job files, which `lshctl apply` takes back; systemd: the unit files; ansible: a play "
    "with lsh.systemd.lsh_job; kubernetes: CronJobs; nomad: a line of JSON a job, as `nomad job run -json -` takes it.",
)
@click.option(
    "--form",
    type=click.Choice(["user", "system"]),
    help="Of a crontab. system: with a user column, as /etc/cron.d (the default for jobs of the machine).",
)
@click.option("--image", metavar="IMAGE", help="What the containers run (kubernetes, nomad).")
@with_app
def export_command(app: App, names: tuple[str, ...], target: str, form: str | None, image: str | None) -> None:
    """Write jobs in another form.

    Standard error says, a line each, which jobs the form cannot hold, and what of the others is lost there. Secrets are
    named, and not written.

    \b
    lshctl export --format yaml >jobs.yaml
    lshctl export --format crontab daily-backup
    lshctl export --format nomad --image debian:13 daily-backup | nomad job run -json -
    """
    if form and target != "crontab":
        raise BadInput("--form is for --format crontab")
    if (image is not None) != (target in _IN_CONTAINERS):
        raise BadInput(
            f"--image goes with --format {' and '.join(_IN_CONTAINERS)}", hint="--format kubernetes --image debian:13"
        )
    founds = list(map(app.jobs.get, names)) if names else app.jobs.all()
    for found in founds:
        if found.job is None:
            say("Left out", f"{found.id}: {found.problem}", "red")
    readable = [(found, found.job) for found in founds if found.job]
    if target == "crontab":
        _print_crontab(app, readable, form)
    elif target == "systemd":
        _print_units([found for found, _ in readable])
    elif target in _IN_CONTAINERS:
        _print_in_containers(readable, target, str(image))
    elif target == "csv":
        _print_csv(readable)
    else:
        _print_described(app.scope, readable, target)


def _print_crontab(app: App, readable: "Sequence[tuple[Found, Job]]", form: str | None) -> None:
    from lsh_systemd import cronjobs, crontabs
    from lsh_systemd.crontab import Form

    kind = Form(form) if form else Form.SYSTEM if app.scope is Scope.SYSTEM else Form.USER
    owner = "root" if app.scope is Scope.SYSTEM else crontabs.caller()
    jobs = [(job, found.pair.enabled or not job.has_timer) for found, job in readable]
    exported = cronjobs.export(jobs, form=kind, scope=app.scope, owner=owner, account=crontabs.account)
    _print_exported(exported)


def _print_in_containers(readable: "Sequence[tuple[Found, Job]]", target: str, image: str) -> None:
    from lsh_systemd import analyze, kubernetes, nomad

    export = kubernetes.export if target == "kubernetes" else nomad.export
    jobs = [(job, found.pair.enabled) for found, job in readable]
    _print_exported(export(jobs, image=image, local_zone=analyze.local_zone()))


def _print_exported(exported: "Exported") -> None:
    click.echo(exported.text, nl=False)
    for name, reason in exported.left_out:
        say("Left out", f"{name}: {reason}", "red")
    for name, what in exported.lost:
        say("Note", f"{name}: {what}", "yellow")


def _print_units(founds: "Sequence[Found]") -> None:
    texts = [f"# {found.dir.path / name}\n{text}" for found in founds for name, text in found.files.items()]
    click.echo(escape_controls("\n".join(texts)), nl=False)


def _print_described(scope: Scope, readable: "Sequence[tuple[Found, Job]]", form: str) -> None:
    """Print what makes the same jobs once more: a job file or a play."""
    from lsh_systemd import jobexport, playbook

    lasting = []
    for found, job in readable:
        if found.transient:
            say("Left out", f"{found.id}: it is transient", "red")
        else:
            lasting.append((job, found.pair.enabled or not job.activators))
    projects = sorted({job.applied for job, _ in lasting if job.applied})
    if form != "ansible" and len({job.applied for job, _ in lasting}) > 1:
        told = ", ".join(projects)
        say("Note", f"jobs of several projects, or of none, in one file: it names none ({told})", "yellow")
    if form == "ansible":
        click.echo(playbook.export(lasting, scope=scope), nl=False)
    else:
        click.echo(jobexport.write(jobexport.document(lasting), form), nl=False)


def _print_csv(readable: "Sequence[tuple[Found, Job]]") -> None:
    from lsh_systemd.cli.forms import print_csv
    from lsh_systemd.jobfile import to_plain
    from lsh_systemd.status import schedule_text

    columns = "id name schedule timezone enabled command run_as description category tags definition".split()
    rows = [
        {
            "id": found.id,
            "name": job.name,
            "schedule": schedule_text(job),
            "timezone": job.timezone,
            "enabled": found.pair.enabled or not job.activators,
            "command": job.command_line,
            "run_as": job.run_as,
            "description": job.description,
            "category": job.category,
            "tags": list(job.tags),
            "definition": to_plain(job),
        }
        for found, job in readable
    ]
    print_csv(rows, columns)
