"""Jobs that a Python module defines → the jobs that apply is to make. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from lsh_systemd.errors import BadInput
from lsh_systemd.jobfields import from_environment
from lsh_systemd.jobfile import from_plain
from lsh_systemd.jobspec import Wanted
from lsh_systemd.located import Place, Remark

# -P: the folder where a job works may be anybody's; nothing is imported from there.
RUNNER = ("-P", "-m", "lsh_systemd.pythonrun")


def project(module: str) -> str:
    """What `apply --prune` goes by."""
    return f"python-{module}"


def wanted(
    definitions: Iterable[Mapping[str, Any]],
    *,
    module: str,
    interpreter: str,
    folder: str,
    environ: Mapping[str, str],
) -> tuple[list[Wanted], list[Remark]]:
    """The jobs, and what stands against others. ``definitions``: as ``pythonjobs.Definition.to_json`` has them;
    ``folder``: where the module is imported from; ``environ``: where ``${NAME}`` of schedules is looked up."""
    found, refused = [], []
    for each in definitions:
        place = Place(file=str(each["file"]), line=int(each["line"]))
        command = [interpreter, "-u", *RUNNER, "run", folder, module, each["id"]]
        plain = {"working_dir": folder, **each["fields"], "command": command, "applied": project(module)}
        try:
            if not isinstance(each["enabled"], bool):
                raise BadInput("enabled must be true or false")
            given = plain.get("schedule", [])
            if isinstance(given, list) and all(isinstance(text, str) for text in given):
                schedule = [from_environment(text, environ) for text in given]
                plain |= {"schedule": schedule, "schedule_from": given} if schedule != given else {}
            job = from_plain(plain)
        except BadInput as error:
            refused.append(Remark(place=place, message=f"{each['id']}: {error.message}", hint=error.hint))
            continue
        found.append(Wanted(job=job, enabled=each["enabled"], place=place))
    return found, refused


def merged(hands: Iterable[Wanted]) -> tuple[list[Wanted], list[Remark]]:
    """Jobs from files and modules together: of two that have the same id, the second is refused."""
    by_id: dict[str, Wanted] = {}
    refused = []
    for each in hands:
        first = by_id.setdefault(each.job.id, each)
        if first is not each:
            message = f"there is a job {each.job.id} already, at {first.place}"
            refused.append(Remark(place=each.place, message=message, hint="choose another id"))
    return list(by_id.values()), refused
