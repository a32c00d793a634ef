"""--python of lshctl apply and diff: modules whose functions are jobs."""

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from lsh_systemd.cli.common import App
from lsh_systemd.errors import BadInput
from lsh_systemd.text import escape_controls

if TYPE_CHECKING:
    from lsh_systemd.jobspec import Wanted
    from lsh_systemd.located import Remark


class Modules(NamedTuple):
    """The modules that are asked for, and what is to import and run them."""

    names: tuple[str, ...] = ()
    interpreter: str | None = None


def python_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give the command --python and --interpreter, as one argument ``python``."""

    @click.option(
        "--python", "modules", multiple=True, metavar="MODULE",
        help="A Python module whose functions are jobs (lsh_systemd.pythonjobs); may be repeated.",
    )  # fmt: skip
    @click.option(
        "--interpreter", metavar="PATH",
        help="What imports and runs MODULE; without it, the Python of the virtual environment, or of ./.venv.",
    )  # fmt: skip
    @functools.wraps(function)
    def wrapped(*args: Any, modules: tuple[str, ...], interpreter: str | None, **options: Any) -> Any:
        if interpreter and not modules:
            raise BadInput("--interpreter goes with --python")
        return function(*args, python=Modules(modules, interpreter), **options)

    return wrapped


def wanted_of(app: App, python: Modules) -> "tuple[list[Wanted], list[Remark]]":
    """The jobs that the modules define, and what stands against others. They are imported from the current folder, by
    whoever calls lshctl: refused before that where somebody else could change them."""
    if not python.names:
        return [], []
    from lsh_systemd import checks, interpreter, pythonspec

    folder = Path.cwd()
    program = interpreter.choose(python.interpreter, folder)
    found, refused = [], []
    for module in python.names:
        interpreter.check_name(module)
        for doubt in checks.importing(program, module, folder):
            click.echo(f"lshctl: {escape_controls(doubt, keep='')}", err=True)
        jobs, against = pythonspec.wanted(
            interpreter.definitions(program, module, folder),
            module=module, interpreter=program, folder=str(folder), environ=os.environ,
        )  # fmt: skip
        found += jobs
        refused += against
    return found, [*refused, *_changeable(app, found)]


def _changeable(app: App, wanted: "list[Wanted]") -> "Iterator[Remark]":
    """Jobs of root's, or of another user's, whose module somebody else could change; what is only doubtful is said."""
    from lsh_systemd import checks
    from lsh_systemd.located import Remark

    for each in wanted:
        for finding in checks.of_module(each.job, app.scope, each.place.file):
            if finding.destroys and not (each.job.allow_dangerous or checks.allowed_by_environment()):
                hint = "where it is meant so: @job(allow_dangerous=True, …)"
                yield Remark(place=each.place, message=f"{each.job.id}: {finding.message}", hint=hint)
            else:
                click.echo(f"lshctl: {escape_controls(finding.message, keep='')}", err=True)
