"""The file of variables that our daemons are given: /etc/lsh/environment, ~/.config/lsh/environment."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from lsh_systemd.finding import Finding
from lsh_systemd.scope import Scope, config_dir

# Who knows these may do something in our name.
SECRETS = ("LSH_API_KEY", "CRON_WEBHOOK_SECRET", "SLACK_WEBHOOK_URL")
_SET = re.compile(r"^[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*\S", re.MULTILINE)
_LARGEST = 2**20


def path(scope: Scope) -> Path:
    return config_dir(scope) / "environment"


def exposed(scope: Scope) -> list[str]:
    """The secrets in the file, by name, where others may read or change it; who may not look into it finds none."""
    try:
        descriptor = os.open(path(scope), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            told = os.fstat(descriptor)
            text = file.read(_LARGEST).decode(errors="replace") if stat.S_ISREG(told.st_mode) else ""
    except OSError:
        return []
    if not told.st_mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP) and told.st_uid in (0, os.getuid()):
        return []
    return [name for name in SECRETS if name in _SET.findall(text)]


def examine(scope: Scope) -> Iterator[Finding]:
    """What ``doctor`` says of it."""
    if names := exposed(scope):
        file = path(scope)
        yield Finding(
            check="settings", level="error",
            message=f"others may read or change {', '.join(names)} in {file}: the HTTP API takes no secret from there",
            fix=f"chmod 600 {file}; who has read it knows it, so put something new there",
        )  # fmt: skip
