"""What of a job's limits and isolation does not hold on this machine, or lets no run begin, in plain words."""

from collections.abc import Iterator
from pathlib import Path

from lsh_systemd import probe, sandbox
from lsh_systemd.bounds import io_limits
from lsh_systemd.control import Control
from lsh_systemd.job import Job
from lsh_systemd.scope import Scope

# Which of the kernel's controllers each field needs.
_CONTROLLERS = {
    "cpu": ("cpu_quota", "cpu_weight"),
    "memory": ("memory_high", "memory_max", "swap_max"),
    "io": ("io_weight", "io_max"),
    "pids": ("tasks_max",),
}
_DELEGATE = "sudo systemctl edit user@.service: [Service], Delegate=cpu cpuset io memory pids; then log in anew"


def not_held(control: Control, job: Job) -> Iterator[str]:
    """A line for each part of the job's definition that systemd will not, or cannot, see to here."""
    wanted = {name: [f for f in fields if getattr(job, f) not in (None, ())] for name, fields in _CONTROLLERS.items()}
    if any(wanted.values()):
        there = probe.controllers(control.manager.control_group)
        missing = {name: fields for name, fields in wanted.items() if fields and name not in there}
        if missing:
            options = " ".join(f"--{field.replace('_', '-')}" for fields in missing.values() for field in fields)
            names = ", ".join(missing)
            if control.scope is Scope.USER:
                yield f"{options} will not hold: your user manager has no control of {names} ({_DELEGATE})"
            else:
                yield f"{options} will not hold: systemd has no control of {names} here (cgroup v2 without it)"
    for path in dict.fromkeys(path for _, path, _ in io_limits(job)):
        if not Path(path).exists():
            yield f"--io-max {path} will not hold: there is no {path}"
    for path in job.write_path:
        if not Path(path).exists():
            yield f"--write-path {path}: there is no {path}, and without it no run can begin"
    if sandbox.has_own_view(job) and not control.namespaces(job):
        yield (
            f"--sandbox {job.sandbox} protects no files: your user manager may not make user namespaces "
            "(sysctl user.max_user_namespaces, AppArmor or a container forbids it)"
        )
