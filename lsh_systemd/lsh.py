"""lsh: command lines of the system whose name it is, done by the functions of lshctl. As yet those of its secrets."""

import click

from lsh_systemd import __version__
from lsh_systemd.cli.common import OneLineErrors
from lsh_systemd.cli.team import pull_command, push_command


class _Group(OneLineErrors, click.Group):
    """Its own commands alone."""


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="lsh")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Command lines of LSH, done with systemd.

    \b
    lsh push --env prod          # lshctl secrets push --env prod
    lsh pull --env prod          # lshctl secrets pull --env prod
    """
    ctx.obj = None


main.add_command(push_command)
main.add_command(pull_command)
