"""Settings of this scope, from lsh.toml. Everything has a default: there need be no such file."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from lsh_systemd.errors import BadInput
from lsh_systemd.scope import Scope, config_dir
from lsh_systemd.text import visible


@dataclass(frozen=True, kw_only=True)
class Config:
    """``output_bytes``: how much of each run's output the ledger keeps, half from its head, half from its tail.

    What ``lshctl prune`` leaves, 0 being no limit: ``keep_days`` of runs, at most ``keep_runs`` of each job (a run a
    minute makes 525,600 in a year), and ``keep_output_days`` of what they wrote.
    """

    output_bytes: int = 64 * 1024
    keep_days: int = 365
    keep_runs: int = 600_000
    keep_output_days: int = 90


_RANGES = {
    "output_bytes": (1024, 2**30),
    "keep_days": (0, 36_500),
    "keep_runs": (0, 2**53),
    "keep_output_days": (0, 36_500),
}


def path(scope: Scope) -> Path:
    return config_dir(scope) / "lsh.toml"


def load(scope: Scope) -> Config:
    """The settings of the scope. Raises BadInput for a file that is no TOML or has an unknown or wrong setting."""
    file = path(scope)
    try:
        data = tomllib.loads(file.read_text())
    except FileNotFoundError:
        return Config()
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"cannot read {file}: {error}") from None
    known = {field.name: field.type for field in fields(Config)}
    for name, value in data.items():
        if name not in known:
            raise BadInput(f"{file}: {visible(name)} is not a setting", hint="the settings are " + ", ".join(known))
        least, most = _RANGES[name]
        if type(value) is not known[name] or not least <= value <= most:
            raise BadInput(f"{file}: {name} must be a whole number from {least} to {most}")
    return Config(**data)
