"""The look at a command that add, set, edit and run take before they change anything."""

import click

from lsh_systemd.job import Job
from lsh_systemd.scope import Scope
from lsh_systemd.text import escape_controls


def checked(job: Job, scope: Scope, *, before: Job | None = None) -> Job:
    """The job, with what there is to warn of on standard error. Raises DangerousCommand."""
    from lsh_systemd import checks

    job = checks.allowing(job, scope)
    for warning in checks.check(job, scope, before=before):
        click.echo(f"lshctl: {click.style('warning:', fg='yellow')} {escape_controls(warning, keep='')}", err=True)
    return job
