"""What this machine lets systemd do: asked by trying it, or of the kernel's own lists."""

import subprocess
from collections.abc import Collection
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_TRIED = ("PrivateUsers=yes", "PrivateTmp=yes", "ProtectSystem=strict", "PrivateNetwork=yes")
_SECONDS = 20


def user_namespaces() -> bool:
    """Whether the caller's user manager can give a unit namespaces of its own. Runs /bin/true as such a unit: neither
    a sysctl nor what this process itself may do tells what the manager may (seccomp, AppArmor, a container)."""
    properties = [f"--property={each}" for each in _TRIED]
    command = ["systemd-run", "--user", "--quiet", "--wait", "--collect", *properties, "--", "/bin/true"]
    try:
        return subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def controllers(control_group: str) -> Collection[str]:
    """The kernel's controllers (cpu, io, memory, pids …) that a manager has at its disposal in its control group."""
    group = Path(f"{_CGROUPS}/{control_group.strip('/')}")
    try:
        return (group / "cgroup.controllers").read_text().split()
    except OSError:
        return ()
