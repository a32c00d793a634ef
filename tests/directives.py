"""Which directives a job's unit files may hold; a value that brought in another one would be a way into root."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from lsh_systemd import unit
from lsh_systemd.job import Job
from lsh_systemd.scope import Scope

# The directives that a job's files may hold, by section; nothing else may ever appear there.
SERVICE = {
    "Unit": {"Description", "CollectMode", "StartLimitIntervalSec", "OnSuccess", "OnFailure", "Wants"},
    "Service": set(
        "Type ExecStart User WorkingDirectory Environment EnvironmentFile TimeoutStartSec CPUWeight IOWeight Nice "
        "OOMScoreAdjust MemoryMax CPUQuota SyslogIdentifier SyslogLevelPrefix LogRateLimitIntervalSec "
        "LogRateLimitBurst IOAccounting TimeoutStopSec ExecStopPost StandardInput StandardInputData "
        "LoadCredential LoadCredentialEncrypted MemoryHigh MemorySwapMax ExecCondition "
        "IOReadBandwidthMax IOWriteBandwidthMax TasksMax LimitFSIZE LimitNOFILE DynamicUser NoNewPrivileges "
        "RestrictSUIDSGID LockPersonality PrivateTmp ProtectSystem ProtectHome ProtectControlGroups "
        "ProtectKernelTunables ProtectKernelModules ProtectKernelLogs ProtectHostname RestrictNamespaces "
        "RestrictRealtime RestrictAddressFamilies MemoryDenyWriteExecute SystemCallArchitectures SystemCallFilter "
        "KeyringMode RemoveIPC PrivateDevices ProtectClock ProtectProc CapabilityBoundingSet PrivateNetwork "
        "PrivateUsers ReadWritePaths BindPaths BindReadOnlyPaths InaccessiblePaths "
        "RuntimeDirectory RuntimeDirectoryMode".split()
    ),
    "X-Retry": {"Delays", "On", "Not"},
    "X-Queue": {"Overlap", "Capped", "Rank"},
}
WATCHER = {"Unit": {"Description"}, "Install": {"WantedBy"}}
OTHERS = {
    ".path": {"Path": {"PathChanged"}, **WATCHER},
    ".after.path": {"Path": {"DirectoryNotEmpty", "MakeDirectory", "DirectoryMode", "Unit"}, **WATCHER},
    ".socket": {"Socket": {"ListenStream", "Accept", "SocketMode", "SocketUser"}, **WATCHER},
}
HOOK = {
    "Unit": {"Description", "StartLimitIntervalSec", "CollectMode", "After"},
    "Service": set(
        "Type User Environment EnvironmentFile ExecStart ExecStopPost SyslogIdentifier SyslogLevelPrefix".split()
    ),
}
TIMER = {
    "Unit": {"Description", "StartLimitIntervalSec"},
    "Timer": set(
        "OnActiveSec OnUnitActiveSec OnBootSec OnStartupSec OnCalendar AccuracySec RandomizedDelaySec FixedRandomDelay "
        "Persistent Unit".split()
    ),
    "Install": {"WantedBy"},
}
OPTIONAL = {"X-Retry", "X-Queue"}
REPEATABLE = set(
    "Environment EnvironmentFile ExecStopPost OnCalendar StandardInputData LoadCredential LoadCredentialEncrypted "
    "SystemCallFilter IOReadBandwidthMax IOWriteBandwidthMax ReadWritePaths BindPaths BindReadOnlyPaths "
    "InaccessiblePaths PathChanged ListenStream After".split()
)


def render(job: Job) -> dict[str, str]:
    now = datetime(2026, 11, 22, tzinfo=UTC)
    return unit.render(job, scope=Scope.SYSTEM, recorder="/usr/lib/lsh-systemd/record", now=now, local_zone="UTC")


def directives(text: str) -> dict[str, list[str]]:
    """Section → keys, as systemd splits a file: by newlines alone, and a backslash at a line's end joins the next."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in re.sub(r"\\\n", " ", text).split("\n"):
        if not line.strip() or line.lstrip().startswith(("#", ";")):
            continue
        if line.startswith("["):
            section = line.strip("[]")
            assert section not in found, f"{section} twice"
            found[section] = []
        else:
            found[section].append(line.partition("=")[0])
    return found


def check(job: Job, files: Mapping[str, str]) -> None:
    """What was rendered of the job has the directives that its options ask for, each in its section, and no other."""
    for name, text in files.items():
        found = directives(text)
        ending = name.removeprefix(f"lsh-{job.id}")
        allowed = {".service": SERVICE, "@.service": SERVICE, ".timer": TIMER, **OTHERS}.get(ending, HOOK)
        assert set(allowed) - OPTIONAL <= set(found) <= set(allowed) | {"X-Lsh"}
        for section, keys in allowed.items():
            if section not in found:
                continue
            repeatable = REPEATABLE | ({"ExecStart"} if allowed is HOOK else set())
            once = [key for key in found[section] if key not in repeatable]
            assert set(found[section]) <= keys
            assert len(once) == len(set(once))
        environment = found.get("Service", []).count("Environment")
        assert environment == (len(job.env) + 1 if allowed is SERVICE else 2 if allowed is HOOK else 0)
        starts = found.get("Service", []).count("ExecStart")
        hooks = {".success@.service": job.on_success, ".failure@.service": job.on_failure}.get(ending)
        assert starts == (1 if allowed is SERVICE else len(hooks) if hooks else 0)
        writable = sum(found.get("Service", []).count(each) for each in ("ReadWritePaths", "BindPaths"))
        assert writable == (len(job.write_path) if allowed is SERVICE else 0)
