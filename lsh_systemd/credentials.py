"""Secrets of a job: their names, and the directives that give a run their values. Never the values themselves."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lsh_systemd.errors import BadInput
from lsh_systemd.text import check_env, visible

if TYPE_CHECKING:
    from lsh_systemd.job import Job

# systemd's limit for all credentials of a unit together, each with its name.
MAX_BYTES = 1024 * 1024
# The kernel's limit for NAME=VALUE (MAX_ARG_STRLEN, with the NUL at its end).
MAX_VARIABLE_BYTES = 128 * 1024 - 1
# The longest name of a variable for a secret.
MAX_NAME_BYTES = 200
# Neither a path nor a specifier, and a blank or a colon would end it in the unit; "-" first would be an option.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
# A shell's own: they cannot be set, or mean something else to it.
SHELLS_OWN = frozenset(
    "_ IFS PPID UID EUID OPTIND OPTARG PWD OLDPWD PATH ENV BASH_ENV SHELLOPTS BASHOPTS PS4 LD_PRELOAD LD_LIBRARY_PATH "
    "LD_AUDIT".split()
)


def check_name(name: str) -> None:
    """Refuse what is no name of a secret."""
    if not _NAME.fullmatch(name) or name.endswith("."):
        raise BadInput(
            f"{visible(name)} is not the name of a secret",
            hint="use letters, digits, _ . and -, the first a letter, a digit or _; 100 at most",
        )


def split(reference: str) -> tuple[str, str | None]:
    """``db-password:PGPASSWORD`` → the secret's name and the variable, None where none is asked for."""
    name, mark, variable = reference.partition(":")
    return name, variable if mark else None


def names(job: "Job") -> list[str]:
    """The secrets that the job uses, each once."""
    return list(dict.fromkeys(split(each)[0] for each in job.secrets))


def variables(job: "Job") -> dict[str, str]:
    """Variable → secret, for those that are asked for as variables."""
    return {variable: name for name, variable in map(split, job.secrets) if variable is not None}


def check(job: "Job") -> None:
    """Raise BadInput for what makes no sense."""
    taken = set(job.env)
    for reference in job.secrets:
        name, variable = split(reference)
        check_name(name)
        if variable is None:
            continue
        check_env(variable, "")
        if variable in SHELLS_OWN or len(variable) > MAX_NAME_BYTES:
            raise BadInput(f"the variable {variable} cannot hold a secret", hint="choose another name")
        if variable in taken:
            raise BadInput(f"the variable {variable} is set twice", hint="--secret NAME:VARIABLE, each with its own")
        taken.add(variable)
    if len(set(job.secrets)) < len(job.secrets):
        raise BadInput("a secret is named twice")


def directives(job: "Job", folder: Path, plain: Collection[str] = ()) -> Mapping[str, str]:
    """Secret → directive with the file that it is in; ``plain`` names those that lie there unencrypted."""
    return {
        name: f"LoadCredential={name}:{folder / name}.plain"
        if name in plain
        else f"LoadCredentialEncrypted={name}:{folder / name}.cred"
        for name in names(job)
    }


def command_with_variables(job: "Job") -> str | None:
    """A line for /bin/sh that sets the variables and becomes the command (its arguments); None where there are none.

    The values come from the files in $CREDENTIALS_DIRECTORY, so that they are in neither a unit nor a command line.
    """
    wanted = variables(job)
    if not wanted:
        return None
    values = [
        f'{variable}="$(/bin/cat "$CREDENTIALS_DIRECTORY/{name}")" && export {variable}'
        for variable, name in wanted.items()
    ]
    return " && ".join([*values, 'exec "$@"'])
