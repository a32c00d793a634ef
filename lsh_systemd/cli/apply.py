"""lshctl apply and diff."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lsh_systemd.cli.common import App, dry_run_option, json_option, print_json, with_app
from lsh_systemd.cli.python_modules import Modules, python_options, wanted_of
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.text import escape_controls, visible

if TYPE_CHECKING:
    from lsh_systemd.applying import Plan, Step
    from lsh_systemd.located import Remark

# What `diff` and `apply --dry-run` end with where something would change.
DIFFERS = 3
_DONE = {"add": "added", "change": "changed", "remove": "removed", "unchanged": "unchanged"}
_MARKS = {"add": ("+", "green"), "change": ("~", "yellow"), "remove": ("-", "red")}

_files_option = click.option(
    "-f", "--file", "files", multiple=True, metavar="FILE|DIR|-",
    help="A job file (.yaml, .toml, .json), a folder of such, or standard input; may be repeated. With --git: in the "
    "repository; all job files at its top where none is said.",
)  # fmt: skip
_variables_option = click.option(
    "--var", "variables", multiple=True, metavar="NAME=VALUE", help="A variable of the files; may be repeated."
)
_prune_option = click.option(
    "--prune", is_flag=True, help="Remove jobs that an earlier apply of the same project made and the files lack now."
)
_PATH = click.Path(path_type=Path)


def _git_options(function: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option(
            "--back", is_flag=True, help="With --git: even where the commit does not come after the one applied last."
        ),
        click.option("--unsigned", is_flag=True, help="With --git: whoever can write there may have any job here."),
        click.option(
            "--signed-by", "signers", type=_PATH, metavar="FILE",
            help="With --git: who must have signed the commit or tag (ssh-keygen's ALLOWED SIGNERS).",
        ),
        click.option("--ref", metavar="NAME", help="With --git: the branch or tag; the repository's HEAD else."),
        click.option("--git", "url", metavar="URL", help="The files of a git repository, as they are there now."),
    ):  # fmt: skip
        function = option(function)
    return function


_force_option = click.option(
    "--force", is_flag=True,
    help="Even where unit files were edited by hand (that is undone), or a job is another project's.",
)  # fmt: skip


@click.command("apply")
@_files_option
@_git_options
@python_options
@_variables_option
@_prune_option
@_force_option
@dry_run_option
@json_option
@with_app
def apply_command(
    app: App,
    files: tuple[str, ...],
    python: Modules,
    variables: tuple[str, ...],
    prune: bool,
    force: bool,
    dry_run: bool,
    as_json: bool,
    **git: Any,
) -> None:
    """Make the machine's jobs those that files describe: all, or none.

    Jobs are added, changed or left as they are; a second apply changes nothing. --dry-run ends with exit status 3 where
    there is something to do. `lshctl schema` describes the files to editors. With --git, the commit must be signed
    (--signed-by), and none but a later one is taken after it.

    \b
    lshctl apply -f jobs.yaml --dry-run
    lshctl apply -f /srv/jobs.d --prune
    cd /srv/shop && lshctl apply --python shop.tasks --prune
    lshctl add gitops --every 5m -- lshctl apply --git https://git.example/jobs.git \\
        --signed-by /etc/lsh/allowed_signers --prune
    """
    with _sources(app, files, python, **git) as (names, note_applied):
        plan = _plan(app, names, python, variables, prune=prune, force=force, as_json=as_json)
        if not dry_run and plan.changes:
            from lsh_systemd.applying import Applier

            if any(step.found for step in plan.changes):
                app.collect()  # first: what a timer started is told by the schedule it had
            Applier(app.batch).carry_out(plan, force=force)
        if not dry_run:
            note_applied()
    _show(plan, as_json=as_json, applied=not dry_run, in_full=dry_run)
    if dry_run and plan.changes:
        sys.exit(DIFFERS)


@click.command("diff")
@_files_option
@_git_options
@python_options
@_variables_option
@_prune_option
@json_option
@with_app
def diff_command(
    app: App,
    files: tuple[str, ...],
    python: Modules,
    variables: tuple[str, ...],
    prune: bool,
    as_json: bool,
    **git: Any,
) -> None:
    """Show how the machine's jobs differ from what files describe; exit status 3 where they do.

    \b
    lshctl diff -f jobs.yaml --prune
    """
    with _sources(app, files, python, **git) as (names, _):
        plan = _plan(app, names, python, variables, prune=prune, force=True, as_json=as_json)
    _show(plan, as_json=as_json, applied=False, in_full=True)
    if plan.changes:
        sys.exit(DIFFERS)


@contextlib.contextmanager
def _sources(
    app: App,
    files: tuple[str, ...],
    python: Modules,
    *,
    url: str | None,
    ref: str | None,
    signers: Path | None,
    unsigned: bool,
    back: bool,
) -> Iterator[tuple[tuple[str, ...], Callable[[], None]]]:
    """The names of the job files, and what to call once they are applied. With --git, in its folder meanwhile."""
    if url is None:
        if not files and not python.names:
            raise BadInput("what is to be applied?", hint="-f jobs.yaml, --git URL, or --python MODULE")
        if ref or signers or unsigned or back:
            raise BadInput("--ref, --signed-by, --unsigned and --back go with --git URL")
        yield files, lambda: None
        return
    if python.names:
        raise BadInput("--git and --python exclude each other", hint="modules run where they are applied")
    if (signers is None) != unsigned:
        raise BadInput(
            "who must have signed the commit?", hint="--signed-by FILE, or --unsigned where whoever can write there may"
        )
    for name in files:
        if name == "-" or Path(name).is_absolute() or ".." in Path(name).parts:
            raise BadInput(f"{visible(name)} is not in the repository", hint="with --git, -f is a path in it")
    from lsh_systemd.checkout import Checkouts, Origin

    checkouts = Checkouts(app.scope)
    origin = Origin(url=url, ref=ref or "HEAD", signers=signers, back=back)
    with checkouts.fetched(origin) as commit, contextlib.chdir(commit.folder):
        click.echo(f"commit {commit.id[:12]}" + (f", signed by {commit.signer}" if commit.signer else ""), err=True)
        yield files or (".",), lambda: checkouts.note_applied(origin, commit)


def _plan(
    app: App,
    files: tuple[str, ...],
    python: Modules,
    variables: tuple[str, ...],
    *,
    prune: bool,
    force: bool,
    as_json: bool,
) -> "Plan":
    """What is to be done. Raises BadInput, with all errors of all files on standard error, for what cannot be."""
    from lsh_systemd import jobspec, pythonspec, specfiles
    from lsh_systemd.applying import Applier

    reader = specfiles.Reader()
    sources = reader.sources(files) if files else []
    gathered = jobspec.gather(
        sources,
        templates=specfiles.templates(app.scope),
        variables=dict(map(_variable, variables)),
        environ=os.environ,
    )
    of_modules, refused = wanted_of(app, python)
    wanted, twice = pythonspec.merged([*gathered.wanted, *of_modules])
    refused += [*reader.refused, *gathered.refused, *twice]
    projects = gathered.projects | set(map(pythonspec.project, python.names))
    try:
        plan = Applier(app.batch).plan(wanted, prune=projects if prune else frozenset(), force=force)
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
