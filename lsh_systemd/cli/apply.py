"""lshctl apply and diff."""

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from lsh_systemd.cli.common import App, dry_run_option, json_option, print_json, with_app
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.text import escape_controls, visible

if TYPE_CHECKING:
    from lsh_systemd.applying import Plan, Step
    from lsh_systemd.jobspec import Wanted
    from lsh_systemd.located import Remark

# What `diff` and `apply --dry-run` end with where something would change.
DIFFERS = 3
_DONE = {"add": "added", "change": "changed", "remove": "removed", "unchanged": "unchanged"}
_MARKS = {"add": ("+", "green"), "change": ("~", "yellow"), "remove": ("-", "red")}

_files_option = click.option(
    "-f", "--file", "files", multiple=True, metavar="FILE|DIR|-",
    help="A job file (.yaml, .toml, .json), a folder of such, or standard input; may be repeated.",
)  # fmt: skip
_python_option = click.option(
    "--python", "modules", multiple=True, metavar="MODULE",
    help="A Python module whose functions are jobs (lsh_systemd.pythonjobs); may be repeated.",
)  # fmt: skip
_interpreter_option = click.option(
    "--interpreter", metavar="PATH",
    help="What imports and runs MODULE; without it, the Python of the virtual environment, or of ./.venv.",
)  # fmt: skip
_variables_option = click.option(
    "--var", "variables", multiple=True, metavar="NAME=VALUE", help="A variable of the files; may be repeated."
)
_prune_option = click.option(
    "--prune", is_flag=True, help="Remove jobs that an earlier apply of the same project made and the files lack now."
)
_force_option = click.option("--force", is_flag=True, help="Even where unit files were edited by hand: undo that.")


@click.command("apply")
@_files_option
@_python_option
@_interpreter_option
@_variables_option
@_prune_option
@_force_option
@dry_run_option
@json_option
@with_app
def apply_command(
    app: App,
    files: tuple[str, ...],
    modules: tuple[str, ...],
    interpreter: str | None,
    variables: tuple[str, ...],
    prune: bool,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make the machine's jobs those that files describe: all, or none.

    Jobs are added, changed or left as they are; a second apply changes nothing. --dry-run ends with exit status 3 where
    there is something to do. `lshctl schema` describes the files to editors.

    \b
    lshctl apply -f jobs.yaml --dry-run
    lshctl apply -f /srv/jobs.d --prune
    cd /srv/shop && lshctl apply --python shop.jobs --prune
    """
    hands = _Hands(files, modules, interpreter, variables)
    plan = _plan(app, hands, prune=prune, force=force, as_json=as_json)
    if not dry_run and plan.changes:
        from lsh_systemd.applying import Applier

        if any(step.found for step in plan.changes):
            app.collect()  # first: what a timer started is told by the schedule it had
        Applier(app.batch).carry_out(plan, force=force)
    _show(plan, as_json=as_json, applied=not dry_run, in_full=dry_run)
    if dry_run and plan.changes:
        sys.exit(DIFFERS)


@click.command("diff")
@_files_option
@_python_option
@_interpreter_option
@_variables_option
@_prune_option
@json_option
@with_app
def diff_command(
    app: App,
    files: tuple[str, ...],
    modules: tuple[str, ...],
    interpreter: str | None,
    variables: tuple[str, ...],
    prune: bool,
    as_json: bool,
) -> None:
    """Show how the machine's jobs differ from what files describe; exit status 3 where they do.

    \b
    lshctl diff -f jobs.yaml --prune
    """
    hands = _Hands(files, modules, interpreter, variables)
    plan = _plan(app, hands, prune=prune, force=True, as_json=as_json)
    _show(plan, as_json=as_json, applied=False, in_full=True)
    if plan.changes:
        sys.exit(DIFFERS)


class _Hands(NamedTuple):
    """From where the jobs come that are wanted."""

    files: tuple[str, ...]
    modules: tuple[str, ...]
    interpreter: str | None
    variables: tuple[str, ...]


def _plan(app: App, hands: _Hands, *, prune: bool, force: bool, as_json: bool) -> "Plan":
    """What is to be done. Raises BadInput, with all errors of all files on standard error, for what cannot be."""
    from lsh_systemd import jobspec, pythonspec, specfiles
    from lsh_systemd.applying import Applier

    if not (hands.files or hands.modules):
        raise BadInput("there is nothing to apply", hint="-f FILE, or --python MODULE")
    if hands.interpreter and not hands.modules:
        raise BadInput("--interpreter goes with --python")
    reader = specfiles.Reader()
    sources = reader.sources(hands.files) if hands.files else []
    gathered = jobspec.gather(
        sources,
        templates=specfiles.templates(app.scope),
        variables=dict(map(_variable, hands.variables)),
        environ=os.environ,
    )
    of_modules, refused = _of_modules(app, hands)
    wanted, twice = pythonspec.merged([*gathered.wanted, *of_modules])
    refused += [*reader.refused, *gathered.refused, *twice]
    projects = gathered.projects | set(map(pythonspec.project, hands.modules))
    try:
        plan = Applier(app.batch).plan(wanted, prune=frozenset(projects) if prune else frozenset(), force=force)
    except LshError:
        if not refused:
            raise
    else:
        refused += plan.refused
    if not refused:
        return plan
    refused.sort(key=lambda each: each.place)
    if as_json:
        print_json({"applied": False, "jobs": [], "refused": [*map(_remark_json, refused)], "notes": []})
    for remark in refused:
        click.echo(escape_controls(str(remark), keep=""), err=True)
    count = len(refused)
    raise BadInput(f"{count} error{'s' if count > 1 else ''} in job files; nothing was changed")


def _of_modules(app: App, hands: _Hands) -> "tuple[list[Wanted], list[Remark]]":
    """The jobs that Python modules define; they are imported from the current folder."""
    if not hands.modules:
        return [], []
    from lsh_systemd import interpreter, pythonspec

    folder = Path.cwd()
    python = interpreter.choose(hands.interpreter, folder)
    found, refused = [], []
    for module in hands.modules:
        jobs, against = pythonspec.wanted(
            interpreter.definitions(python, module, folder),
            module=module, interpreter=python, folder=str(folder), environ=os.environ,
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


def _variable(text: str) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not mark:
        raise BadInput(f"{visible(text)} is not of the form NAME=VALUE", hint="--var NAME=VALUE")
    return name, value


def _show(plan: "Plan", *, as_json: bool, applied: bool, in_full: bool) -> None:
    if as_json:
        told = {"applied": applied, "jobs": [_step_json(step) for step in plan.steps], "refused": []}
        print_json(told | {"notes": [_remark_json(note) for note in plan.notes]})
        return
    for note in plan.notes:
        click.echo(f"{click.style('Note:', fg='yellow')} {escape_controls(str(note), keep='')}", err=True)
    for step in plan.changes:
        mark, colour = _MARKS[step.action]
        click.echo(click.style(f"{mark} {step.id}", fg=colour))
        for line in _lines(step) if in_full else ():
            click.echo(f"    {escape_controls(line, keep='')}")
    click.echo(_summary(plan, applied=applied))


def _lines(step: "Step") -> Iterable[str]:
    if step.action == "remove":
        return
    for name, (old, new) in step.difference.items():
        yield f"{name}: {_word(new)}" if step.action == "add" else f"{name}: {_word(old)} → {_word(new)}"
    if step.found and step.found.changed:
        yield "unit files: edited by hand → as lshctl writes them"


def _word(value: Any) -> str:
    import json

    return "-" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _summary(plan: "Plan", *, applied: bool) -> str:
    counts = {action: sum(step.action == action for step in plan.steps) for action in _DONE}
    if not plan.changes:
        count = counts["unchanged"]
        return f"Nothing to change: {count} job{'' if count == 1 else 's'} as described."
    words = ", ".join(f"{count} {_DONE[action] if applied else f'to {action}'}" for action, count in counts.items()
                      if count and action != "unchanged")  # fmt: skip
    return f"{words}, {counts['unchanged']} unchanged."


def _step_json(step: "Step") -> dict[str, Any]:
    place = step.wanted.place if step.wanted else None
    return {
        "id": step.id,
        "action": step.action,
        "file": place.file if place else None,
        "line": place.line if place else None,
        "difference": {name: list(pair) for name, pair in step.difference.items()},
    }


def _remark_json(remark: "Remark") -> dict[str, Any]:
    place = remark.place
    return {
        "file": place.file,
        "line": place.line,
        "column": place.column,
        "message": remark.message,
        "hint": remark.hint,
    }
