"""What a run may touch: checks, and the directives of each level of isolation. All of them exist since systemd 247."""

import posixpath
from typing import TYPE_CHECKING

from lsh_systemd.errors import BadInput
from lsh_systemd.scope import Scope
from lsh_systemd.text import check_path, visible

if TYPE_CHECKING:
    from lsh_systemd.job import Job

LEVELS = ("none", "standard", "strict")
NETWORKS = ("host", "none")

_TMP = ("/tmp", "/var/tmp")
_HOMES = ("/home", "/root", "/run/user")
# Characters that BindPaths= takes for its own, differently in each version of systemd.
_NOT_BOUND = frozenset(":\"'\\")

# What the kernel lets anybody do to himself, and what needs a namespace: in user scope, user namespaces.
_STANDARD_SELF = {"NoNewPrivileges": "yes", "RestrictSUIDSGID": "yes", "LockPersonality": "yes"}
_STANDARD_SPACES = {
    "PrivateTmp": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "read-only",
    "ProtectControlGroups": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectHostname": "yes",
}
_STRICT_SELF = {
    **_STANDARD_SELF,
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
    "MemoryDenyWriteExecute": "yes",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": "@system-service",
    "KeyringMode": "private",
    "RemoveIPC": "yes",
}
_STRICT_SPACES = {
    **_STANDARD_SPACES,
    "ProtectHome": "tmpfs",
    "PrivateDevices": "yes",
    "ProtectClock": "yes",
    "ProtectProc": "invisible",
    "CapabilityBoundingSet": "",
}
# By these a shell that is called as sh runs what they say.
_OF_BASH = frozenset({"SHELLOPTS", "BASHOPTS", "PS4", "BASH_ENV", "ENV"})
# To ask systemd for a process outside would be a way out for root.
_MANAGERS = ("/run/dbus", "/run/systemd/private", "/run/systemd/io.systemd.Manager")
# What a user manager cannot do, even with user namespaces (seen on 252 and 262), and what a user's job has not anyway.
_NOT_IN_USER_SCOPE = ("ProtectKernelLogs", "ProtectClock", "RemoveIPC")


def check(job: "Job") -> None:
    """Raise BadInput for what makes no sense."""
    if job.sandbox not in LEVELS:
        raise BadInput(f"sandbox {visible(job.sandbox)} is not one of {', '.join(LEVELS)}")
    if job.network not in NETWORKS:
        raise BadInput(f"network {visible(job.network)} is not one of {', '.join(NETWORKS)}")
    if job.dynamic_user and job.run_as is not None:
        raise BadInput("--dynamic-user and --run-as exclude each other", hint="lshctl set JOB --unset run-as")
    for path in job.write_path:
        check_path("path of --write-path", path)
    paths = tuple(posixpath.normpath(path).replace("//", "/") for path in job.write_path)
    object.__setattr__(job, "write_path", tuple(dict.fromkeys(paths)))
    if paths and not has_own_view(job):
        raise BadInput("--write-path needs --sandbox: without it, a job may write wherever its user may")
    for path in paths:
        if path == "/":
            raise BadInput("--write-path / leaves nothing to protect", hint="--sandbox none")
        if path in hidden(job):
            hint = "name a folder in it" if path not in _TMP else f"it may write to {path} as it is"
            raise BadInput(f"a job in the sandbox has its own {path}, not the machine's", hint=hint)
    bound(job)


def has_own_view(job: "Job") -> bool:
    """Whether the job sees the file system otherwise than its user does (DynamicUser= brings a sandbox of its own)."""
    return job.sandbox != "none" or job.dynamic_user


def needs_namespaces(job: "Job") -> bool:
    """Whether anything of it needs the kernel's namespaces, which in user scope may be forbidden."""
    return has_own_view(job) or job.network == "none"


def hidden(job: "Job") -> tuple[str, ...]:
    """The folders in place of which the job sees empty ones."""
    if not has_own_view(job):
        return ()
    return _TMP + _HOMES if job.sandbox == "strict" else _TMP


def bound(job: "Job") -> list[tuple[str, str]]:
    """What of the hidden folders is let in: what the job may write, and the folder that it runs in."""
    found = [("BindPaths", path) for path in job.write_path if _is_hidden(job, path)]
    folder = job.working_dir
    if folder and _is_hidden(job, folder) and not any(_is_below(folder, path) for _, path in found):
        found.insert(0, ("BindReadOnlyPaths", folder))
    for _, path in found:
        if not _NOT_BOUND.isdisjoint(path):
            raise BadInput(f"the sandbox cannot let {visible(path)} in: no colon, quote or backslash, please")
    return found


def protections(job: "Job", scope: Scope, *, namespaces: bool) -> dict[str, str]:
    """The directives that protect, without paths. ``namespaces``: whether those that need them can be had."""
    own = {"none": {}, "standard": _STANDARD_SELF, "strict": _STRICT_SELF}[job.sandbox]
    spaces = {"none": {}, "standard": _STANDARD_SPACES, "strict": _STRICT_SPACES}[job.sandbox]
    chosen = {**own, **(spaces if namespaces else {})}
    if job.network == "none":
        # Both: a manager that may not make the namespace (seen on 262 in a container) goes on without it, silently.
        chosen |= {"PrivateNetwork": "yes"} if namespaces else {}
        chosen["RestrictAddressFamilies"] = "AF_UNIX"
    if scope is Scope.USER:
        chosen = {name: value for name, value in chosen.items() if name not in _NOT_IN_USER_SCOPE}
        if namespaces and needs_namespaces(job):
            # What lets a user manager do all of this. 262 implies it; 252 would leave the rest out, silently (seen).
            chosen["PrivateUsers"] = "yes"
        if not namespaces and chosen:
            chosen["NoNewPrivileges"] = "yes"
    return chosen


def openings(
    job: "Job", scope: Scope, *, namespaces: bool, recorder: str, recorder_inside: bool
) -> list[tuple[str, str]]:
    """The directives that name paths: what may be written, what of the hidden is seen, and what is closed off."""
    if not namespaces:
        return []
    paths = [("ReadWritePaths", path) for path in job.write_path if not _is_hidden(job, path)] + bound(job)
    if recorder_inside and _is_hidden(job, recorder):
        paths.append(("BindReadOnlyPaths", recorder))
    if job.sandbox == "strict" and scope is Scope.SYSTEM:
        paths += [("InaccessiblePaths", f"-{path}") for path in _MANAGERS]
    return paths


def record_inside(job: "Job") -> bool:
    """Whether the recorder has to run in the sandbox: where what the job may write could tell the recorder's dynamic
    linker what to load, the recorder would be a way out."""
    return has_own_view(job) and bool(
        job.env_file or any(name.startswith("LD_") or name in _OF_BASH for name in job.env)
    )


def _is_hidden(job: "Job", path: str) -> bool:
    return any(_is_below(path, folder) for folder in hidden(job))


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
