"""Which host this is, and what there is to know of it. Read from the kernel and /etc."""

import os
import platform
import pwd
import uuid
from pathlib import Path
from typing import Any

from lsh_systemd.errors import LshError
from lsh_systemd.run import rfc3339
from lsh_systemd.scope import Scope

# Ours among the applications that systemd derives IDs of the machine for: it is not to be changed.
_APPLICATION = uuid.UUID("5c1d7b0e-6a0b-4c53-9d0b-7d3fb2a6c9e1")


def machine() -> str:
    """The machine's ID as we tell it: the same after each boot, and /etc/machine-id cannot be told from it."""
    from systemd import id128

    try:
        return str(id128.get_machine_app_specific(_APPLICATION))
    except OSError as error:
        raise LshError(f"this machine has no ID: {error.strerror}", hint="systemd-machine-id-setup makes one") from None


def owner(scope: Scope) -> str:
    """Whose jobs the scope's are: "system", or "user:NAME"."""
    if scope is Scope.SYSTEM:
        return "system"
    try:
        return f"user:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"user:{os.getuid()}"


def facts() -> dict[str, Any]:
    """What Supabase's table of hosts has of this one, as far as it needs nobody else to be asked."""
    from systemd import id128

    told = platform.uname()
    try:
        os_name = platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        os_name = None
    return {
        "id": machine(),
        "name": told.node,
        "os": os_name,
        "kernel": told.release,
        "architecture": told.machine,
        "cpus": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "boot_id": str(id128.get_boot()),
        "booted_at": rfc3339(_booted_usec()),
    }


def _booted_usec() -> int | None:
    """When the kernel began, by the clock as it is now (µs since 1970, to the second)."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return int(line.split()[1]) * 1_000_000
    return None
