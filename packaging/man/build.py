#!/usr/bin/python3
"""build.py FOLDER: write the man pages there, from the .rst files beside this one and from lshctl's own help texts.

    .. lsh-commands:: lshctl    every command of lshctl, with its options
    .. lsh-options:: lshctl     those that stand before a command
    .. lsh-fields::             what a job may say in a job file

The date is that of $SOURCE_DATE_EPOCH, or today's, so that a package's pages are the same at each build.
"""

import inspect
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))  # the tree that this stands in, whatever is installed

import click  # noqa: E402
from docutils.core import publish_string  # noqa: E402

from lsh_systemd import __version__, jobfile  # noqa: E402
from lsh_systemd.cli import main as lshctl  # noqa: E402
from lsh_systemd.cli.option_table import Grouped, descriptions  # noqa: E402
from lsh_systemd.lsh import main as lsh  # noqa: E402

PROGRAMS: dict[str, click.Command] = {"lshctl": lshctl, "lsh": lsh}
# What a field holds, in jobfile's word → in ours.
KINDS = {
    "text": "text",
    "command": "text, or a list of texts: words that run without a shell",
    "texts": "text, or a list of texts",
    "table": "a table of texts",
    "flag": "true or false",
    "number": "a whole number",
    "numbers": "a whole number, or a list of them",
    "size": "a size: 512M, 2G, or bytes",
    "span": "a span of time: 15m, 1h30m",
    "wall_time": "a date and time by the job's clock: 2027-01-31T02:00:00",
    "instant": "a point in time: 2027-01-31T02:00:00Z",
}
# Fields that no option of `lshctl add` has as their help.
OWN = {
    "name": 'What the job is called; its id is made from it ("Daily Backup" is daily-backup).',
    "command": "What is run: a line for the shell, or a list of words.",
    "schedule_from": "What schedule was read from: ${BACKUP_SCHEDULE}.",
    "applied": "Which project of `lshctl apply` it belongs to; lshctl's own to write.",
}


def pages() -> dict[str, str]:
    """All pages: "lshctl.1" → its text, as troff reads it."""
    when = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH") or time.time()))
    values = {"version": __version__, "date": time.strftime("%Y-%m-%d", when)}
    return {path.stem: _page(path.read_text(), values) for path in sorted(HERE.glob("*.rst"))}


def _page(source: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        source = source.replace(f"@{name}@", value)
    source = re.sub(r"^\.\. lsh-(\w+)::(?: (\w+))?$", lambda found: _generated(found[1], found[2]), source, flags=re.M)
    # A fault in the source must end the build, and stand in no page.
    text: str | bytes = publish_string(
        source, writer_name="manpage", settings_overrides={"halt_level": 2, "report_level": 2}
    )
    text = text.decode() if isinstance(text, bytes) else str(text)
    # What mandoc, and so lintian, would warn of: a gap where a heading has made one, and a font that only groff knows.
    text = re.sub(r"^(\.S[HS] .*\n)\.sp\n", r"\1", text, flags=re.M)
    return re.sub(r"^\.ft C$", ".ft CR", text, flags=re.M)


def _generated(what: str, program: str | None) -> str:
    if what == "fields":
        return "\n".join(_fields())
    context = click.Context(PROGRAMS[program or ""], info_name=program)
    return "\n".join(_options(context) if what == "options" else _commands(context))


def _commands(context: click.Context) -> Iterator[str]:
    """A heading, the help text and the options of each command, of its commands in turn."""
    group = context.command
    assert isinstance(group, click.Group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        own = click.Context(command, info_name=name, parent=context)
        usage = " ".join([own.command_path, *command.collect_usage_pieces(own)])
        heading = _plain(usage.partition(" ")[2])
        yield from (heading, "-" * len(heading), "", *_help(command), *_options(own))
        if isinstance(command, click.Group):
            yield from _commands(own)


def _help(command: click.Command) -> Iterator[str]:
    """A command's docstring: its paragraphs, and as they stand those that \\b keeps from being filled."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(command.help or "")):
        lines = paragraph.strip("\n").splitlines()
        if lines[0].strip() == "\b":
            yield from ("::", "", *(f"    {line}" for line in lines[1:]), "")
        else:
            yield from (*map(_text, lines), "")


def _options(context: click.Context) -> Iterator[str]:
    """The options as a list, under their headings where they have any. --help is told once, of all commands."""
    heading = None
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if not isinstance(parameter, click.Option) or record is None or "--help" in parameter.opts:
            continue
        if isinstance(parameter, Grouped) and parameter.group != heading:
            heading = parameter.group
            yield from (f"*{heading}*", "")
        yield from (_plain(record[0]), f"    {_text(record[1])}", "")


def _fields() -> Iterator[str]:
    told = descriptions() | OWN
    for name, kind in jobfile.FIELDS.items():
        yield from (f"**{name}**", f"    {_text(told[name])} ({_text(KINDS[kind])})", "")


def _text(text: str) -> str:
    """A line of help as reStructuredText: `words` in backquotes are literal, all else is just text."""
    pieces = re.split(r"`([^`]*)`", text)
    return "".join(f"``{piece}``" if i % 2 else _plain(piece) for i, piece in enumerate(pieces))


def _plain(text: str) -> str:
    return re.sub(r"([\\*`|_<>:-])", r"\\\1", text)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (target / name).write_text(text)
