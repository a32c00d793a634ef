"""Which Supabase project this scope talks to, and with which key."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lsh_systemd import config, plainfile
from lsh_systemd.errors import BadInput
from lsh_systemd.scope import Scope, config_dir
from lsh_systemd.text import visible

if TYPE_CHECKING:
    from lsh_systemd.remote import Remote, Target

CREDENTIAL = "supabase-key"
# The names that Supabase itself and older systems have for it, the first that is set being taken.
KEY_VARIABLES = ("SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_KEY", "SUPABASE_ANON_KEY")
_HINT = "lsh.toml's [supabase] url = …, and the key in a file of mode 0600: see README, Supabase"
_KEY_BYTES = 10_000


def is_configured(scope: Scope, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether there is a project to talk to. Cheap: the agent asks at every step."""
    return url(scope, environ) is not None


def url(scope: Scope, environ: Mapping[str, str] = os.environ) -> str | None:
    """The project's URL as it is set; None where none is."""
    return (environ.get("SUPABASE_URL") or config.load(scope).supabase.url).rstrip("/") or None


def target(scope: Scope, environ: Mapping[str, str] = os.environ) -> "Target":
    """The project: SUPABASE_URL or lsh.toml's; with the credential, a key in the environment, or the key file.

    Raises BadInput where there is none, or where others could read the key.
    """
    from lsh_systemd.remote import Target

    project = url(scope, environ)
    if project is None:
        raise BadInput("no Supabase project is set", hint=_HINT)
    if not re.fullmatch(r"https?://[A-Za-z0-9.:\[\]_-]+", project):
        raise BadInput(f"{visible(project)} is not a Supabase URL", hint="such as https://abcdefgh.supabase.co")
    key = _credential(environ)
    key = key or next((environ[name] for name in KEY_VARIABLES if environ.get(name)), None)
    if key is None:
        named = config.load(scope).supabase.key_file
        key = _read(Path(named) if named else config_dir(scope) / "supabase.key")
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable():
        raise BadInput("the key for Supabase is not one", hint="a line of letters, digits and dots")
    return Target(url=project, key=key)


def connect(scope: Scope, *, timeout_seconds: float | None = None) -> "Remote":
    """The project, ready to be talked to. Nothing is sent yet."""
    from lsh_systemd.remote import TIMEOUT_SECONDS, Remote

    return Remote(target(scope), timeout_seconds=timeout_seconds or TIMEOUT_SECONDS)


def _credential(environ: Mapping[str, str]) -> str | None:
    folder = environ.get("CREDENTIALS_DIRECTORY")
    file = Path(folder, CREDENTIAL) if folder else None
    return file.read_text(errors="replace") if file and file.is_file() else None


def _read(file: Path) -> str:
    try:
        data, status = plainfile.read(file, _KEY_BYTES)
        if status.st_mode & 0o077:
            raise BadInput(f"{file} may be read by others", hint=f"chmod 600 {file}")
        return data[:_KEY_BYTES].decode(errors="replace")
    except FileNotFoundError:
        raise BadInput(f"there is no key for Supabase: {file} is not there", hint=_HINT) from None
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror}", hint="try sudo") from None
