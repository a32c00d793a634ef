"""lshctl completion."""

import os

import click


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), required=False)
def completion_command(shell: str | None) -> None:
    """Print what makes a shell complete lshctl's commands, options and jobs.

    SHELL is the one in $SHELL where none is named. Packages have it installed; without one:

    \b
    eval "$(lshctl completion bash)"                                           # in ~/.bashrc
    eval "$(lshctl completion zsh)"                                            # in ~/.zshrc, after compinit
    lshctl completion fish > ~/.config/fish/completions/lshctl.fish
    """
    from click.shell_completion import get_completion_class

    from lsh_systemd.cli import main
    from lsh_systemd.errors import BadInput

    name = shell or os.path.basename(os.environ.get("SHELL", ""))  # noqa: PTH119
    kind = get_completion_class(name) if name else None
    if kind is None:
        raise BadInput("which shell?", hint="lshctl completion bash, zsh or fish")
    click.echo(kind(main, {}, "lshctl", "_LSHCTL_COMPLETE").source())
