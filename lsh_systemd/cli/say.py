"""lshctl metric, message and progress: what a run says of itself."""

import os
from pathlib import Path

import click

from lsh_systemd import said
from lsh_systemd.errors import BadInput
from lsh_systemd.said import Said


@click.command("metric", context_settings={"ignore_unknown_options": True})
@click.argument("pairs", metavar="NAME=NUMBER...", nargs=-1, required=True)
def metric_command(pairs: tuple[str, ...]) -> None:
    """Keep numbers with the run that this is called in.

    The last number of each name counts. A job that has many to tell writes lines into the file $LSH_METRICS instead:
    NAME=NUMBER, message=TEXT or progress=40/100.

    \b
    lshctl metric items_processed=100 errors=0
    """
    _say(said.metrics_of(pairs))


@click.command("message", context_settings={"ignore_unknown_options": True})
@click.argument("words", metavar="TEXT", nargs=-1, required=True)
def message_command(words: tuple[str, ...]) -> None:
    """Keep a message with the run that this is called in; the last one counts."""
    _say(said.message_of(" ".join(words)))


@click.command("progress", context_settings={"ignore_unknown_options": True})
@click.argument("progress", metavar="DONE/TOTAL")
@click.argument("words", metavar="[TEXT]", nargs=-1)
def progress_command(progress: str, words: tuple[str, ...]) -> None:
    """Tell how far the run has come that this is called in: lshctl list, show and runs show it.

    \b
    lshctl progress 40/100 'copying the archive'
    lshctl progress 40%
    """
    message = said.message_of(" ".join(words)).message if words else None
    _say(Said(progress=said.progress_of(progress).progress, message=message))


def _say(what: Said) -> None:
    from lsh_systemd import sayings

    path = os.environ.get("LSH_METRICS", "")
    if not path.startswith("/"):
        raise BadInput("this is no run of a job", hint="what a job runs may call it; there, LSH_METRICS names a file")
    sayings.say(Path(path), what)
