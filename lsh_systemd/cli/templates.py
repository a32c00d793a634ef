"""lshctl templates."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lsh_systemd.cli.common import App, json_option, print_json, with_app
from lsh_systemd.cli.table import print_table
from lsh_systemd.text import escape_controls

if TYPE_CHECKING:
    from lsh_systemd.jobtemplate import Parameter


@click.group("templates")
def templates_command() -> None:
    """Show the templates that jobs can be made from.

    \b
    lshctl templates list
    lshctl templates show database-backup
    lshctl add --template database-backup --set db=prod --dry-run
    """


@templates_command.command("list")
@json_option
@with_app
def list_command(app: App, as_json: bool) -> None:
    """List the templates."""
    from lsh_systemd import specfiles

    found = sorted(specfiles.templates(app.scope).values(), key=lambda each: each.id)
    if as_json:
        print_json([each.to_json() for each in found])
        return
    rows = [(each.id, each.category, each.when or "-", each.description) for each in found]
    print_table(("TEMPLATE", "CATEGORY", "SCHEDULE", "DESCRIPTION"), rows)


@templates_command.command("show")
@click.argument("template_id", metavar="ID", shell_complete=lambda c, p, i: _ids(i))
@json_option
@with_app
def show_command(app: App, template_id: str, as_json: bool) -> None:
    """Show what a template asks for, and the job that it gives."""
    from lsh_systemd import specfiles

    found = specfiles.template(app.scope, template_id)
    if as_json:
        print_json(found.to_json())
        return
    lines = [f"{found.id}: {found.description}", f"From: {found.source or 'lshctl'}"]
    lines += [f"Needs: {', '.join(found.needs)}"] if found.needs else []
    click.echo(escape_controls("\n".join(lines)))
    if found.parameters:
        print_table(
            ("PARAMETER", "TYPE", "DEFAULT", "DESCRIPTION"),
            [(each.name, _type(each), _default(each), each.description) for each in found.parameters],
        )
    for name, value in found.job.items():
        click.echo(escape_controls(f"{name}: {_word(value)}"))


@templates_command.command("add")
@click.argument("file", metavar="FILE")
@click.option("--replace", is_flag=True, help="Even where there is a file of that name.")
@with_app
def add_command(app: App, file: str, replace: bool) -> None:
    """Keep a file of templates of your own.

    It goes into /etc/lsh/templates.d, or ~/.config/lsh/templates.d, and is YAML, TOML or JSON: a table `templates`,
    id → description, parameters and job, as in job files. One with the id of another wins.
    """
    from lsh_systemd import specfiles

    target, ids = specfiles.install(app.scope, Path(file), replace=replace)
    click.echo(escape_controls(f"{target}: {', '.join(ids)}", keep=""))


def _ids(incomplete: str) -> list[str]:
    from lsh_systemd import specfiles
    from lsh_systemd.scope import Scope

    return [each for each in specfiles.templates(Scope.USER) if each.startswith(incomplete)]


def _type(parameter: "Parameter") -> str:
    kind = "|".join(parameter.choices) if parameter.choices else parameter.type
    return f"{kind} …" if parameter.many else kind


def _default(parameter: "Parameter") -> str:
    return "(required)" if parameter.default is None else _word(parameter.default)


def _word(value: Any) -> str:
    import json

    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
