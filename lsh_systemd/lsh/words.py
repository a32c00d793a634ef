"""Commands of lshctl under other words: a copy of each, whose arguments may be options, and which knows older ids."""

import copy
import importlib
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from lsh_systemd import cli
from lsh_systemd.cli.option_table import Grouped
from lsh_systemd.scope import Scope

if TYPE_CHECKING:
    from lsh_systemd.lsh import Words

# What ids began with.
_OLDER = "job_"


def command(words: str, line: "Words") -> click.Command:
    """The command that does these words."""
    name = words.split()[-1]
    if line.own:
        own = getattr(importlib.import_module("lsh_systemd.lsh.own"), f"{name}_command")
        assert isinstance(own, click.Command)
        return own
    found = _of_lshctl(line.done_by.split())
    replaced = [_OPTIONS[each] for each in line.options]
    taken = copy.copy(found)
    taken.name = name
    taken.params = [*replaced, *(each for each in found.params if each.name not in {new.name for new in replaced})]
    makes = found.name == "add"
    taken.callback = _translated(found.callback, makes=makes)
    taken.help = f"{_MAKES}\n\n\b\nlsh {words} {_EXAMPLES[name]}" if makes else found.help
    taken.context_settings = {**found.context_settings, "default_map": dict(line.defaults)}
    return taken


def _making(name: str, **attributes: Any) -> click.Option:
    return Grouped([f"--{name}"], group="What", **attributes)


_NAME = {"metavar": "TEXT", "help": "The job's name; its id is the slug of it."}
_COMMAND = {"metavar": "LINE", "help": "A line for /bin/sh."}
_MAKES = "Add a job, as `lshctl add` does; all its options hold here, too."
_EXAMPLES = {
    "create-from-template": 'database-backup --name "Production Backup" --set db=prod',
    "create": """--name "Daily Backup" --schedule "0 2 * * *" --command 'tar -czf /backups/data.tar.gz /data'""",
    "add": """--name "Daily Backup" --schedule "0 2 * * *" --command 'tar -czf /backups/data.tar.gz /data'""",
}
_OPTIONS: dict[str, click.Parameter] = {
    "--name": _making("name", required=True, **_NAME),
    "--command": _making("command", required=True, **_COMMAND),
    "[--name]": _making("name", **_NAME),
    "[--command]": _making("command", **_COMMAND),
    "--job-id": click.Option(["--job-id", "name"], metavar="JOB", help="Only this job's."),
    "TEMPLATE": click.Argument(["template"], metavar="TEMPLATE"),
}


def _of_lshctl(words: Sequence[str]) -> click.Command:
    """lshctl's command of these words; options that follow are left out."""
    found: click.Command | None = cli.main
    for word in words:
        if isinstance(found, click.Group):
            found = found.get_command(click.Context(found), word)
    assert found
    return found


def _translated(callback: Callable[..., Any] | None, *, makes: bool) -> Callable[..., Any]:
    """The callback, given what lshctl's own parameters would have given it. ``makes``: its name is a new one."""

    def translated(**options: Any) -> Any:
        assert callback
        if makes:
            options["command"] = (options["command"],) if options["command"] is not None else ()
        elif options.get("name") is not None:
            options["name"] = id_of(options["name"], options["own_scope"])
        elif "names" in options:
            options["names"] = tuple(id_of(each, options["own_scope"]) for each in options["names"])
        return callback(**options)

    return translated


def id_of(name: str, own_scope: str | None) -> str:
    """The name, or, where there is no such job, what follows "job_" in it and is one."""
    from lsh_systemd.jobs import Jobs

    jobs = Jobs(
        Scope(own_scope or click.get_current_context().find_root().obj or ("system" if os.getuid() == 0 else "user"))
    )
    rest = name.removeprefix(_OLDER)
    return rest if rest != name and jobs.find(name) is None and jobs.find(rest) else name
