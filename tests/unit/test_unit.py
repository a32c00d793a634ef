"""The law of the unit files: what is written is read back the same, and no value can add or change a directive."""

import os
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings

from lsh_systemd import unit
from lsh_systemd.errors import BadInput
from lsh_systemd.job import Job
from lsh_systemd.jobfile import from_plain, to_plain
from lsh_systemd.scope import Scope
from tests.hostile import plain_jobs

settings.register_profile("law", max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
settings.register_profile("long", settings.get_profile("law"), max_examples=20_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "law"))

# The directives that a job's files may hold, by section; nothing else may ever appear there.
SERVICE = {
    "Unit": {"Description", "CollectMode", "StartLimitIntervalSec", "OnSuccess", "OnFailure"},
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


def job_from(plain: dict[str, Any]) -> Job:
    """The job, or an example that is none: refused, as it has to be."""
    try:
        return from_plain(plain)
    except BadInput:
        assume(False)
        raise


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


@given(plain_jobs)
@example({"name": "x", "command": "true", "swap_max": 2**53 + 1})
def test_a_job_is_read_back_as_it_was(plain: dict[str, Any]) -> None:
    job = job_from(plain)
    files = render(job)
    read = unit.read(files[job.unit], files.get(job.timer, ""), files.get)
    assert (read.job, read.changed) == (job, False)
    assert from_plain(to_plain(job)) == job


@given(plain_jobs)
@example({"name": "x", "command": "true", "description": "a\\"})
@example({"name": "x", "command": "a\\\n[Service]\nUser=root"})
@example({"name": "x\\", "command": ["echo", ";", "\\"], "every": "1s"})
def test_no_value_adds_or_changes_a_directive(plain: dict[str, Any]) -> None:
    job = job_from(plain)
    for name, text in render(job).items():
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


@given(plain_jobs)
def test_the_machine_read_part_is_ascii(plain: dict[str, Any]) -> None:
    """No line separator of Unicode and no invisible mark can hide there."""
    job = job_from(plain)
    _, _, section = render(job)[job.unit].partition("\n[X-Lsh]\n")
    assert section.replace("\n", "").isascii()
    assert section.replace("\n", "").isprintable()


@pytest.mark.parametrize("edit", ["service", "timer"])
def test_a_hand_edit_is_noticed(edit: str) -> None:
    job = from_plain({"name": "x", "command": "true", "every": "1h"})
    files = render(job)
    files[f"lsh-x.{edit}"] = files[f"lsh-x.{edit}"].replace("Description=", "Description=My ")
    read = unit.read(files["lsh-x.service"], files["lsh-x.timer"])
    assert (read.job, read.changed) == (job, True)


def test_somebody_elses_unit_is_not_ours() -> None:
    with pytest.raises(unit.NotOurs):
        unit.read("[Service]\nExecStart=/bin/true\n")
    with pytest.raises(unit.Unreadable):
        unit.read('[Service]\nExecStart=/bin/true\n\n[X-Lsh]\nName="x"\nCommand=not JSON\n')


def test_a_users_job_runs_as_that_user() -> None:
    job = from_plain({"name": "x", "command": "true", "run_as": "root"})
    with pytest.raises(BadInput, match="run as that user"):
        unit.render(job, scope=Scope.USER, recorder="/r", now=datetime.now(UTC), local_zone="UTC")
