"""A project's own Python, asked which jobs its modules define."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.pythonspec import RUNNER
from lsh_systemd.text import escape_controls, visible

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
# How long a module may take to be imported.
_SECONDS = 120


def choose(given: str | None, folder: Path) -> str:
    """The absolute path of the interpreter: as given, else that of the virtual environment one is in, else that of the
    folder's .venv, else our own. Links stay as they are: they are what makes an environment."""
    environment = os.environ.get("VIRTUAL_ENV")
    usual = ([Path(environment)] if environment else []) + [folder / ".venv"]
    path = next((each / "bin/python" for each in usual if (each / "bin/python").exists()), Path(sys.executable))
    if given is not None:
        path = folder / given
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise BadInput(f"{visible(str(path))} is no program", hint="--interpreter PATH, such as .venv/bin/python")
    return os.path.normpath(path)


def check_name(module: str) -> None:
    """Raise BadInput for what is no module's name."""
    if not _MODULE.fullmatch(module):
        raise BadInput(f"{visible(module)} is no module", hint="--python package.module")


def definitions(interpreter: str, module: str, folder: Path) -> list[Mapping[str, Any]]:
    """The jobs that the module defines, as ``pythonjobs.Definition.to_json`` has them. It is imported: its code runs.
    Raises BadInput, with the traceback on standard error, where it cannot be."""
    try:
        done = subprocess.run(
            [interpreter, *RUNNER, "list", str(folder), module],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise BadInput(f"{module} was not imported within {_SECONDS} s") from None
    except OSError as error:
        raise LshError(f"cannot run {interpreter}: {error.strerror}") from None
    if done.returncode == 0:
        try:
            found: list[Mapping[str, Any]] = json.loads(done.stdout.splitlines()[-1])
        except (LookupError, ValueError):
            raise BadInput(f"{interpreter} is no Python, or {module} ends it") from None
        return found
    lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it ended without a word"]
    if "lsh_systemd" in lines[-1] and "No module named" in lines[-1]:
        hint = f"{interpreter} -m pip install --no-deps lsh-systemd"
        raise BadInput(f"{interpreter} does not find lsh_systemd, which its jobs import", hint=hint)
    print(escape_controls("\n".join(lines[:-1])), file=sys.stderr)
    raise BadInput(f"cannot import {module}: {visible(lines[-1])}", hint=f"in {folder}, with {interpreter}")
