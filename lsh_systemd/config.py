"""Settings of this scope, from lsh.toml. Everything has a default: there need be no such file."""

import ipaddress
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path

from lsh_systemd.errors import BadInput
from lsh_systemd.scope import Scope, config_dir
from lsh_systemd.text import visible


@dataclass(frozen=True, kw_only=True)
class Supabase:
    """The table [supabase]: a project's ``url``, and ``key_file``, where its key is not in the usual file."""

    url: str = ""
    key_file: str = ""


@dataclass(frozen=True, kw_only=True)
class Api:
    """The table [api]. ``idle_seconds``: after so long without a request the server ends, for systemd to start it at
    the next one; 0 is never. ``cors_origins``: the web pages that may call it. ``trust_proxy``: the
    proxies that are believed what X-Forwarded-For says of who calls: addresses, networks, or unix for the Unix socket.

    What a job that is made over HTTP may be: ``sandbox`` at least, as a user of ``run_as`` (else only --dynamic-user),
    with those of the guarded settings that ``allow`` names, from a template whose id one of the patterns in
    ``templates`` fits; and, unless ``commands`` is false, with any command.
    """

    idle_seconds: int = 300
    cors_origins: tuple[str, ...] = ()
    trust_proxy: tuple[str, ...] = ()
    sandbox: str = "standard"
    run_as: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    templates: tuple[str, ...] = ("*",)
    commands: bool = True


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """The table [fleet]: how many runs of the fleet's queue may go on here at once, and which tags this host has."""

    slots: int = 4
    tags: tuple[str, ...] = ()


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
    supabase: Supabase = field(default_factory=Supabase)
    api: Api = field(default_factory=Api)
    fleet: Fleet = field(default_factory=Fleet)


_MOST_SLOTS = 1000
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
    for name, value in data.items():
        _check_known(file, name, Config)
        if name == "supabase":
            data[name] = _supabase(file, value)
            continue
        if name == "api":
            data[name] = _api(file, value)
            continue
        if name == "fleet":
            data[name] = _fleet(file, value)
            continue
        least, most = _RANGES[name]
        if type(value) is not int or not least <= value <= most:
            raise BadInput(f"{file}: {name} must be a whole number from {least} to {most}")
    return Config(**data)


def _supabase(file: Path, table: object) -> Supabase:
    if not isinstance(table, dict):
        raise BadInput(f"{file}: supabase must be a table", hint="[supabase] on a line of its own")
    for name, value in table.items():
        _check_known(file, name, Supabase)
        if not isinstance(value, str):
            raise BadInput(f"{file}: supabase.{name} must be text")
    return Supabase(**table)


def _api(file: Path, table: object) -> Api:
    if not isinstance(table, dict):
        raise BadInput(f"{file}: api must be a table", hint="[api] on a line of its own")
    for name, value in table.items():
        _check_known(file, name, Api)
        default = getattr(Api(), name)
        if isinstance(default, tuple):
            if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
                raise BadInput(f"{file}: api.{name} must be a list of texts")
            table[name] = tuple(value)
        elif type(value) is not type(default):
            what = {bool: "true or false", int: "a whole number", str: "text"}[type(default)]
            raise BadInput(f"{file}: api.{name} must be {what}")
    told = Api(**table)
    if told.sandbox not in ("none", "standard", "strict"):
        raise BadInput(f"{file}: api.sandbox must be none, standard or strict")
    for each in told.trust_proxy:
        try:
            _ = each == "unix" or ipaddress.ip_network(each)
        except ValueError:
            hint = 'as trust_proxy = ["127.0.0.1", "10.0.0.0/8", "unix"]'
            raise BadInput(f"{file}: api.trust_proxy: {visible(each)} is no address", hint=hint) from None
    if not 0 <= told.idle_seconds <= 10**6:
        raise BadInput(f"{file}: api.idle_seconds must be from 0 to 1000000")
    return told


def _fleet(file: Path, table: object) -> Fleet:
    if not isinstance(table, dict):
        raise BadInput(f"{file}: fleet must be a table", hint="[fleet] on a line of its own")
    for name in table:
        _check_known(file, name, Fleet)
    slots, tags = table.get("slots", Fleet.slots), table.get("tags", [])
    if type(slots) is not int or not 0 <= slots <= _MOST_SLOTS:
        raise BadInput(f"{file}: fleet.slots must be a whole number from 0 to {_MOST_SLOTS}")
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise BadInput(f"{file}: fleet.tags must be a list of texts")
    return Fleet(slots=slots, tags=tuple(tags))


def _check_known(file: Path, name: str, kind: type[Config] | type[Supabase] | type[Api] | type[Fleet]) -> None:
    known = [each.name for each in fields(kind)]
    if name not in known:
        raise BadInput(f"{file}: {visible(name)} is not a setting", hint="the settings are " + ", ".join(known))
