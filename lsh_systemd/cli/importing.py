"""lshctl import crontab."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lsh_systemd.cli.common import App, bar_unless, dry_run_option, json_option, print_json, say
from lsh_systemd.cli.table import print_table
from lsh_systemd.errors import BadInput
from lsh_systemd.scope import Scope

if TYPE_CHECKING:
    from lsh_systemd.crontabs import Source
    from lsh_systemd.importer import Plan, Remark, Step

_DONE = {"add": "added", "unchanged": "unchanged", "differs": "replaced"}
_TO_DO = {"add": "add", "unchanged": "unchanged", "differs": "replace"}
_form_option = click.option(
    "--form",
    type=click.Choice(["user", "system", "anacron"]),
    help="system: with a user column, as /etc/cron.d. Without it, a file's place tells.",
)


@click.group("import")
def import_command() -> None:
    """Import jobs from elsewhere."""


@import_command.command("crontab")
@click.argument("file", required=False, metavar="[FILE|-]")
@click.option("--user", "--from-user", "user", metavar="NAME", help="Whose crontab (or whose FILE, as crontab -u).")
@click.option(
    "--system", "--from-system", "system", is_flag=True, help="/etc/crontab, /etc/cron.d/* and /etc/anacrontab."
)
@_form_option
@click.option("--take-over", is_flag=True, help="Then comment the lines out; a backup of the crontab is kept.")
@click.option("--replace", is_flag=True, help="Replace jobs of the same name that differ.")
@click.option("--skip-bad", is_flag=True, help="Leave out the lines that cannot be taken, instead of stopping.")
@dry_run_option
@json_option
@click.pass_context
def crontab_command(
    ctx: click.Context,
    file: str | None,
    user: str | None,
    system: bool,
    form: str | None,
    take_over: bool,
    replace: bool,
    skip_bad: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Import the jobs of a crontab: all, or none.

    Without FILE it is your own. Jobs get the shell, the variables and the folder that cron gives them; a comment
    "# job: NAME" above a line names its job. A second import changes nothing.

    Here, --user and --system choose the crontab. The scope of the jobs is chosen before the command, where the
    default is not meant: lshctl --user import crontab FILE

    \b
    lshctl import crontab --dry-run
    sudo lshctl import crontab --system --take-over
    """
    from lsh_systemd import crontabs
    from lsh_systemd.importer import Importer

    ctx.with_resource(bar_unless(as_json=as_json))
    app = App(Scope(ctx.find_root().obj or ("system" if os.getuid() == 0 else "user")))
    sources, skipped = _sources(app.scope, file, user, system, form)
    if take_over:
        for source in sources:
            crontabs.check_rewritable(source)
    importer = Importer(control=app.batch)
    plan = importer.plan(sources, check_form=form is None and file is not None)
    try:
        _check(plan, replace=replace, skip_bad=skip_bad)
    except BadInput:
        _show(plan, sources, skipped, as_json=as_json, applied=False)
        raise
    backups: list[Path] = []
    if not dry_run:
        if plan.steps_to("differs"):
            _ = app.store  # collect first: what the timer started is told by the schedule it had
        backups = importer.apply(plan, take_over=take_over)
    _show(plan, sources, skipped, as_json=as_json, applied=not dry_run, backups=backups, take_over=take_over)


def _sources(
    scope: Scope, file: str | None, user: str | None, system: bool, form: str | None
) -> "tuple[list[Source], list[str]]":
    """The crontabs that the command line names, and in words what of them cron does not read either."""
    from lsh_systemd import crontabs
    from lsh_systemd.crontab import Form

    own = crontabs.caller()
    if system:
        if file or user or form:
            raise BadInput("--system goes without FILE, --user and --form", hint="it means all crontabs of the machine")
        if scope is Scope.USER:
            raise BadInput("the machine's crontabs become jobs of the machine", hint="sudo lshctl import crontab …")
        return crontabs.of_system()
    if user and crontabs.account(user) is None:
        hint = "--user NAME says whose crontab; the scope goes first: lshctl --user import crontab FILE"
        raise BadInput(f"there is no user {user}", hint=hint)
    if user and user != own and scope is Scope.USER:
        raise BadInput(f"{user}'s crontab is not yours", hint=f"sudo lshctl import crontab --user {user}")
    owner, kind = user or own, Form(form) if form else None
    if file == "-":
        return [crontabs.of_stdin(form=kind, owner=owner)], []
    if file:
        return [crontabs.of_file(Path(file), form=kind, owner=owner)], []
    if kind not in (None, Form.USER):
        raise BadInput("--form is for a FILE", hint="crontab -l gives a user's crontab")
    return [crontabs.of_user(owner)], []


def _check(plan: "Plan", *, replace: bool, skip_bad: bool) -> None:
    """Raise BadInput where the plan may not be carried out."""
    if plan.refused and not skip_bad:
        count = len(plan.refused)
        raise BadInput(
            f"{count} line{'s' if count > 1 else ''} cannot be taken; nothing was made",
            hint="mend what is named above, or leave it out with --skip-bad",
        )
    different = [step.job.id for step in plan.steps_to("differs")]
    if different and not replace:
        raise BadInput(
            f"there is another job of that name: {', '.join(different)}; nothing was made",
            hint='--replace replaces it; a comment "# job: NAME" above the line gives another name',
        )


def _show(
    plan: "Plan",
    sources: "list[Source]",
    skipped: list[str],
    *,
    as_json: bool,
    applied: bool,
    backups: list[Path] | None = None,
    take_over: bool = False,
) -> None:
    words = _DONE if applied else _TO_DO
    if as_json:
        print_json(
            {
                "applied": applied,
                "sources": [source.label for source in sources],
                "jobs": [_step_json(step, words) for step in plan.steps],
                "refused": [_remark_json(remark) for remark in plan.refused],
                "notes": [_remark_json(remark) for remark in plan.notes],
                "skipped": skipped,
                "backups": [str(path) for path in backups or []],
            }
        )
        return
    if plan.steps:
        print_table(("JOB", "IMPORT", "FROM", "SCHEDULE", "COMMAND"), [_row(step, words) for step in plan.steps])
    elif not plan.refused:
        click.echo("There is no job to import.")
    for remark in plan.refused:
        say("Not taken", f"{remark}: {remark.text.strip()}", "red")
    for note in [*plan.notes, *skipped]:
        say("Note", str(note), "yellow")
    for path in backups or []:
        click.echo(f"Backup: {path}")
    if applied and not take_over and plan.steps and any(source.is_live for source in sources):
        say("Note", "cron still runs these lines, too: --take-over comments them out", "yellow")


def _row(step: "Step", words: dict[str, str]) -> tuple[str, ...]:
    place = f"{step.source.label}:{step.entry.line}"
    return step.job.id, words[step.action], place, step.entry.schedule, step.job.command_line


def _step_json(step: "Step", words: dict[str, str]) -> dict[str, Any]:
    from lsh_systemd.jobfile import to_plain

    place = {"source": step.source.label, "line": step.entry.line}
    return {"id": step.job.id, "import": words[step.action], **place, "definition": to_plain(step.job)}


def _remark_json(remark: "Remark") -> dict[str, Any]:
    place = {"source": remark.source, "line": remark.line}
    return {**place, "message": remark.message, "hint": remark.hint, "text": remark.text}
