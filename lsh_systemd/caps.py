"""The caps on how much runs at once, as `lshctl limits` keeps them: limits.toml beside lsh.toml."""

import os
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from lsh_systemd.errors import BadInput, refused
from lsh_systemd.queueing import Caps
from lsh_systemd.scope import Scope, config_dir
from lsh_systemd.text import visible


def path(scope: Scope) -> Path:
    return config_dir(scope) / "limits.toml"


def load(scope: Scope) -> Caps:
    """The caps; none where there is no such file. Raises BadInput for a file that says something else."""
    file = path(scope)
    try:
        data = tomllib.loads(file.read_text())
    except FileNotFoundError:
        return Caps()
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"cannot read {file}: {error}") from None
    groups = data.get("groups", {})
    for name in data:
        if name not in ("global", "user", "groups"):
            raise BadInput(f"{file}: {visible(name)} is no limit", hint="there are global, user and [groups]")
    values = [data.get("global"), data.get("user"), *(groups.values() if isinstance(groups, dict) else ["?"])]
    if not all(value is None or type(value) is int for value in values):
        raise BadInput(f"{file}: a limit must be a whole number")
    return Caps(total=data.get("global"), per_user=data.get("user"), groups=groups)


def save(scope: Scope, caps: Caps) -> None:
    """Write the caps, whole or not at all."""
    import tomli_w

    data: dict[str, Any] = {"global": caps.total, "user": caps.per_user, "groups": dict(caps.groups)}
    text = "# Made by lshctl limits.\n" + tomli_w.dumps({name: value for name, value in data.items() if value})
    file, temporary = path(scope), ""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".limits.", dir=file.parent)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(descriptor, 0o644)
            os.fsync(descriptor)
        Path(temporary).replace(file)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise refused(f"cannot write {file}: {error.strerror}", error) from None
