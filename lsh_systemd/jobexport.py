"""Jobs → the text of a job file, which ``jobspec`` reads back as the same jobs. Pure; here yaml writes."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from lsh_systemd.filling import escaped
from lsh_systemd.job import Job
from lsh_systemd.jobfile import to_plain
from lsh_systemd.text import escape_controls, escape_in_json

FORMS = ("yaml", "toml", "json")


class Unsafe(str):
    """Text that YAML marks as ``!unsafe``: Ansible then fills nothing in."""


def document(jobs: Iterable[tuple[Job, bool]]) -> dict[str, Any]:
    """The file's data: of each job its fields, and whether its schedule counts where it does not."""
    jobs = list(jobs)
    projects = {job.applied for job, _ in jobs}
    project = projects.pop() if len(projects) == 1 else None
    told = []
    for job, enabled in jobs:
        plain = {name: _escaped(value) for name, value in to_plain(job).items() if name != "applied"}
        told.append(plain | ({} if enabled else {"enabled": False}))
    return ({"project": project} if project else {}) | {"jobs": told}


def write(data: dict[str, Any], form: str) -> str:
    """The text, in "yaml", "toml" or "json"; nothing in it can move a cursor or turn a line around on a terminal."""
    if form == "json":
        return escape_in_json(json.dumps(data, indent=2, ensure_ascii=False)) + "\n"
    if form == "toml":
        import tomli_w

        return escape_in_json(tomli_w.dumps(data))
    return write_documents([data], separate=False)


def write_documents(documents: Sequence[Any], *, separate: bool = True) -> str:
    """Any data as YAML documents; as safe for a terminal."""
    text = _yaml(documents, separate=separate, allow_unicode=True)
    return text if escape_controls(text) == text else _yaml(documents, separate=separate, allow_unicode=False)


def _yaml(documents: Sequence[Any], *, separate: bool, allow_unicode: bool) -> str:
    import yaml

    class Dumper(yaml.SafeDumper):  # type: ignore[misc]
        """Without anchors, and with the lines of a command as lines."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    def represent_text(dumper: Any, text: str) -> Any:
        tag = "!unsafe" if isinstance(text, Unsafe) else "tag:yaml.org,2002:str"
        return dumper.represent_scalar(tag, str(text), style="|" if "\n" in text else None)

    Dumper.add_representer(str, represent_text)
    Dumper.add_representer(Unsafe, represent_text)
    dumped = yaml.dump_all(
        documents, Dumper=Dumper, explicit_start=separate, allow_unicode=allow_unicode, sort_keys=False, width=4096
    )
    assert isinstance(dumped, str)
    return dumped


def _escaped(value: Any) -> Any:
    """Texts as they are to be taken: no {{ name }} of theirs is a variable's."""
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, list):
        return [_escaped(each) for each in value]
    if isinstance(value, dict):
        return {name: _escaped(each) for name, each in value.items()}
    return value
