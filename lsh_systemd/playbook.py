"""Jobs → a play of Ansible's that makes them on other hosts, by the module lsh.systemd.lsh_job. Pure."""

import re
from collections.abc import Iterable
from typing import Any

from lsh_systemd.job import Job
from lsh_systemd.jobexport import Unsafe, write_documents
from lsh_systemd.jobfile import to_plain
from lsh_systemd.scope import Scope

# What Jinja looks for.
_BLANK = re.compile(r"\{[{%#]")


def export(jobs: Iterable[tuple[Job, bool]], *, scope: Scope) -> str:
    """The jobs, each with whether its schedule counts, as YAML. In the machine's scope the play becomes root."""
    tasks = [
        {"name": f"The job {job.id}", "lsh.systemd.lsh_job": _arguments(job, enabled, scope)} for job, enabled in jobs
    ]
    play: dict[str, Any] = {"name": "Jobs of lsh-systemd", "hosts": "all", "gather_facts": False}
    if scope is Scope.SYSTEM:
        play["become"] = True
    return write_documents([[play | {"tasks": tasks}]])


def _arguments(job: Job, enabled: bool, scope: Scope) -> dict[str, Any]:
    fields = {name: _literal(value) for name, value in to_plain(job).items()}
    arguments = {"name": fields.pop("name"), "scope": str(scope)}
    if project := fields.pop("applied", None):
        arguments["project"] = project
    return arguments | {"job": fields | ({} if enabled else {"enabled": False})}


def _literal(value: Any) -> Any:
    """The value, with texts that Ansible would fill in marked so that it does not."""
    if isinstance(value, str):
        return Unsafe(value) if _BLANK.search(value) else value
    if isinstance(value, list):
        return [_literal(each) for each in value]
    if isinstance(value, dict):
        return {name: _literal(each) for name, each in value.items()}
    return value
