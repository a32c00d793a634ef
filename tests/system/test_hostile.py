"""The law of the unit files on a booted systemd: what it loads is exactly what was asked, and nothing beyond.

That no value adds a line is tested on the text itself, in tests/unit/test_unit.py. Here systemd reads it: some hundred
generated jobs at a time, in one reload, their properties in one script.
"""

import io
import itertools
import json
import os
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings

from lsh_systemd import unit
from lsh_systemd.errors import BadInput
from lsh_systemd.job import Job
from lsh_systemd.jobfile import from_plain, parse_size
from lsh_systemd.scope import Scope
from tests.hostile import plain_jobs
from tests.system.lsh import SERVICE, TIMER, UNIT
from tests.system.machine import Machine
from tests.system.roots import PROJECT_INSIDE

EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES", "600"))  # about a third of them is valid
RECORDER = f"{PROJECT_INSIDE}/lsh_systemd/libexec/record"
FOLDER = "/etc/systemd/system"
NONE = 2**64 - 1

# What a job may decide. Whatever else systemd knows of a unit must be as it is for a job that asks for nothing.
DECIDED = {
    SERVICE: (
        "ExecStart ExecStopPost ExecCondition Environment EnvironmentFiles WorkingDirectory User SyslogIdentifier "
        "TimeoutStartUSec TimeoutStopUSec RuntimeDirectory "
        "MemoryMax CPUQuotaPerSecUSec Nice CPUWeight IOWeight OOMScoreAdjust MemoryHigh MemorySwapMax "
        "TasksMax LimitFSIZE LimitNOFILE IOReadBandwidthMax IOWriteBandwidthMax DynamicUser PrivateNetwork "
        "ProtectSystem ProtectHome NoNewPrivileges ReadWritePaths BindPaths BindReadOnlyPaths LoadCredentialEncrypted"
    ).split(),
    UNIT: "LoadState Description OnSuccess OnFailure".split(),
    TIMER: "Unit RandomizedDelayUSec FixedRandomDelay TimersMonotonic TimersCalendar Persistent AccuracyUSec".split(),
}
# Besides what follows from those: names, places and moments.
DIFFERENT = {
    *DECIDED[SERVICE], *DECIDED[UNIT], "ExecStartEx", "ExecStopPostEx", "ExecConditionEx", "EffectiveMemoryMax",
    "MemoryAvailable", "RuntimeDirectorySymlink",
    "Id", "Names", "FragmentPath", "InvocationID", "TriggeredBy", "RequiresMountsFor", "WantsMountsFor",
    "TimeoutAbortUSec", "LimitFSIZESoft", "LimitNOFILESoft", "EffectiveMemoryHigh", "EffectiveTasksMax",
    "SetLoginEnvironment", "StateChangeTimestamp", "StateChangeTimestampMonotonic",
}  # fmt: skip
# What isolation changes, where it is asked for.
ISOLATION = set(
    "PrivateTmp PrivateTmpEx PrivateDevices DeviceAllow DevicePolicy ProtectClock ProtectControlGroups "
    "ProtectControlGroupsEx ProtectHostname ProtectHostnameEx ProtectKernelLogs ProtectKernelModules "
    "ProtectKernelTunables ProtectProc RestrictAddressFamilies RestrictNamespaces RestrictRealtime RestrictSUIDSGID "
    "LockPersonality MemoryDenyWriteExecute RemoveIPC KeyringMode SystemCallArchitectures SystemCallFilter "
    "CanLiveMount CapabilityBoundingSet InaccessiblePaths PrivateMounts After Requires Wants Group".split()
)
READ = """
import json, sys
from lsh_systemd.manager import SERVICE, UNIT, Manager, unit_object
from lsh_systemd.scope import Scope
from gi.repository import GLib
wanted = [tuple(each) for each in json.load(sys.stdin)]
manager = Manager(Scope.SYSTEM)
units = sorted({name for name, _, _ in wanted})
for name in units:
    manager.pin(name)  # or systemd forgets it between two questions

def get_all(name, interface):
    arguments = GLib.Variant("(s)", (interface,))
    return manager._invoke(unit_object(name), "org.freedesktop.DBus.Properties", "GetAll", arguments, 60_000)[0]

everything = {name: get_all(name, UNIT) | get_all(name, SERVICE) for name in units if name.endswith(".service")}
print(json.dumps([manager.get_many(wanted), everything]))
"""


def generated(count: int) -> Iterator[tuple[Job, dict[str, str]]]:
    """So many of Hypothesis's examples, those that are valid jobs, with their files; each under an id of its own."""
    found: dict[str, dict[str, Any]] = {}

    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(plain_jobs)
    def collect(plain: dict[str, Any]) -> None:
        found[f"{len(found)}"] = plain

    collect()
    for number, plain in found.items():
        try:
            job = from_plain({**plain, "name": f"hostile {number} {plain['name']}"})
            yield job, rendered(job)
        except BadInput:
            continue  # refused: that is right as well


def rendered(job: Job) -> dict[str, str]:
    return unit.render(job, scope=Scope.SYSTEM, recorder=RECORDER, now=datetime.now(UTC), local_zone="UTC")


def install(machine: Machine, files: dict[str, str]) -> None:
    """Put all the files in place, and have systemd read them."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, text in files.items():
            data = text.encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    machine.run("tar", "-x", "-C", FOLDER, input=archive.getvalue())
    machine.run("systemctl", "daemon-reload")


def loaded(machine: Machine, jobs: list[Job]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What systemd has made of each job, property → value: what the job decides, and everything of its service."""
    wanted = []
    for job in jobs:
        for interface, names in DECIDED.items():
            if interface != TIMER or job.interval:
                name = job.timer if interface == TIMER else job.unit
                wanted += [(name, interface, each) for each in names]
    values, everything = machine.run("python3", "-c", READ, input=json.dumps(wanted)).json()
    decided: dict[str, dict[str, Any]] = {job.id: {} for job in jobs}
    for (name, _, each), value in zip(wanted, values, strict=True):
        decided[unit.id_of_unit(name)][each] = value
    return [decided[job.id] for job in jobs], [everything[job.unit] for job in jobs]


def simple(path: str) -> str:
    """A path as systemd keeps it: without what makes no difference (// and /./)."""
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


def asked(job: Job) -> dict[str, Any]:
    """What systemd has to make of it, written down without a look at how the files are written."""
    argv = [job.shell, "-c", job.command] if isinstance(job.command, str) else list(job.command)
    if setters := [each.split(":") for each in job.secrets if ":" in each]:
        values = [f'{variable}="$(/bin/cat "$CREDENTIALS_DIRECTORY/{name}")"' for name, variable in setters]
        exports = [f"export {variable}" for _, variable in setters]
        chain = " && ".join([*itertools.chain(*zip(values, exports, strict=True)), 'exec "$@"'])
        argv = ["/bin/sh", "-c", chain, "lsh-secrets", *argv]
    kept = [argv[0], *(word.replace("$", "$$") for word in argv[1:])]  # $$ is how systemd keeps a $
    condition = [] if job.condition is None else [[job.shell, "-c", job.condition.replace("$", "$$")]]
    socket = ["socket"] if job.when_socket else []
    succeeded, failed = job.on_success or job.after, job.on_failure or job.after or job.retries
    due = [[f"/run/lsh/due/{job.id}", True]] if job.catch_up == "all" else []
    forget = [["/bin/rm", "-f", f"/run/lsh/due/{job.id}"]] if due and unit.record_outside(job, Scope.SYSTEM) else []
    if job.from_fleet:
        due.append([f"/run/lsh/fleet/{job.unit}", True])
        if unit.record_outside(job, Scope.SYSTEM):
            forget.append(["/bin/rm", "-f", f"/run/lsh/fleet/{job.unit}"])
    said = f"LSH_METRICS=/run/lsh/said/{job.unit}/metrics"
    weight = round(100 * 10 ** ((job.priority - 5) / 5)) if job.priority != 5 else NONE
    expected: dict[str, Any] = {
        "LoadState": "loaded",
        "Description": job.description or job.name,
        "ExecStart": [kept],
        "ExecStopPost": [["/bin/sh", RECORDER, "system", job.unit, *socket], *forget],
        "ExecCondition": condition,
        "OnSuccess": [f"lsh-succeeded@{job.id}.service"] if succeeded else [],
        "OnFailure": [f"lsh-failed@{job.id}.service"] if failed else [],
        "Environment": [*(f"{name}={value}" for name, value in job.env.items()), said],
        "RuntimeDirectory": [f"lsh/said/{job.unit}"],
        "EnvironmentFiles": [*([simple(path), False] for path in job.env_file), *due],
        "WorkingDirectory": job.working_dir or "",
        "User": job.run_as or "",
        "SyslogIdentifier": f"lsh-{job.id}",
        "TimeoutStartUSec": round(job.timeout.total_seconds() * 1e6) if job.timeout else NONE,
        "TimeoutStopUSec": round(job.grace.total_seconds() * 1e6) if job.grace else 90_000_000,
        "MemoryMax": job.memory_max or NONE,
        "CPUQuotaPerSecUSec": job.cpu_quota * 10_000 if job.cpu_quota else NONE,
        "Nice": job.nice if job.nice is not None else -2 * (job.priority - 5),
        "CPUWeight": weight,
        "IOWeight": weight,
        "OOMScoreAdjust": -100 * (job.priority - 5) if job.priority != 5 else None,
        "LoadCredentialEncrypted": [
            [name, f"/var/lib/lsh/secrets/{name}.cred"] for name in sorted({each.split(":")[0] for each in job.secrets})
        ],
        "MemoryHigh": job.memory_high or NONE,
        "MemorySwapMax": NONE if job.swap_max is None else job.swap_max,
        "TasksMax": job.tasks_max,
        "LimitFSIZE": job.file_size_max or NONE,
        "LimitNOFILE": job.open_files_max,
        **asked_isolation(job),
    }
    if job.cpu_weight:
        expected["CPUWeight"] = job.cpu_weight
    if job.io_weight:
        expected["IOWeight"] = job.io_weight
    for name, sign in (("IOReadBandwidthMax", "read="), ("IOWriteBandwidthMax", "write=")):
        told = [text.rpartition(":") for text in job.io_max]
        rates = [(path, rate) for path, _, rates in told for rate in rates.split(",") if rate.startswith(sign)]
        expected[name] = [[simple(path), parse_size(rate.removeprefix(sign))] for path, rate in rates]
    if job.interval:
        usec = round(job.interval.total_seconds() * 1e6)
        expected |= {
            "Unit": job.unit if job.overlap == "queue" else f"lsh-tick@{job.id}.service",
            "RandomizedDelayUSec": round(job.jitter.total_seconds() * 1e6) if job.jitter else 0,
            "FixedRandomDelay": job.jitter is not None,
            "TimersMonotonic": [["OnActiveUSec", usec], ["OnUnitActiveUSec", usec]],
            "TimersCalendar": [],
            "Persistent": False,
            "AccuracyUSec": 1,
        }
    return expected


def asked_isolation(job: Job) -> dict[str, Any]:
    boxed, strict = job.sandbox != "none", job.sandbox == "strict"
    own = ("/tmp/", "/var/tmp/") if boxed or job.dynamic_user else ()
    hidden = (*own, "/home/", "/root/", "/run/user/") if strict else own
    bound = [path for path in job.write_path if path.startswith(hidden)]
    folder = job.working_dir
    seen = folder and f"{folder}/".startswith(hidden) and not f"{folder}/".startswith(tuple(f"{p}/" for p in bound))
    return {
        "DynamicUser": job.dynamic_user,
        "PrivateNetwork": job.network == "none",
        "ProtectSystem": "strict" if boxed or job.dynamic_user else "no",
        "ProtectHome": "tmpfs" if strict else "read-only" if boxed or job.dynamic_user else "no",
        "NoNewPrivileges": boxed or job.dynamic_user,
        "ReadWritePaths": [simple(path) for path in job.write_path if path not in bound],
        "BindPaths": [simple(path) for path in bound],
        "BindReadOnlyPaths": [simple(folder)] if seen and folder else [],
    }


def comparable(told: dict[str, Any], job: Job) -> dict[str, Any]:
    """The same without what a job does not decide: counters, times, and the machine's own OOM score."""
    shown = dict(told)
    for each in ("ExecStart", "ExecStopPost", "ExecCondition"):
        assert not any(ignore_failure for _, _, ignore_failure, *_ in told["ExecStart"])
        shown[each] = [command[1] for command in told[each]]
    shown["LoadCredentialEncrypted"] = sorted(list(each) for each in told["LoadCredentialEncrypted"])
    shown["EnvironmentFiles"] = [list(each) for each in told["EnvironmentFiles"]]
    if job.priority == 5:
        shown["OOMScoreAdjust"] = None
    for name, value in (("TasksMax", job.tasks_max), ("LimitNOFILE", job.open_files_max)):
        shown[name] = shown[name] if value else None  # else the manager's own
    shown["User"] = "" if job.dynamic_user else shown["User"]  # else a name of systemd's choice
    for name in ("BindPaths", "BindReadOnlyPaths"):
        shown[name] = [path for path, *_ in told[name]]
    for name in ("IOReadBandwidthMax", "IOWriteBandwidthMax"):
        shown[name] = [list(each) for each in told[name]]
    if not job.interval:  # a calendar, then: what that becomes is tested elsewhere
        shown = {name: value for name, value in shown.items() if name not in DECIDED[TIMER]}
    else:
        shown["TimersMonotonic"] = sorted([base, usec] for base, usec, _ in told["TimersMonotonic"])
    return shown


def differences(told: dict[str, Any], plain: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """In what a unit differs from a plain one. (A path brings the mounts that it lies on; what starts it is before;
    and so are our helpers, where another test has brought them.)"""
    helpers = ("lsh-failed@", "lsh-succeeded@", "lsh-after@")
    stem = told["Id"].removesuffix(".service")
    own = (".mount", *(f"{stem}.{kind}" for kind in ("timer", "path", "after.path", "socket")))
    for key in told.keys() | plain.keys():
        both: list[Any] = [each.get(key) for each in (told, plain)]
        if key in ("After", "Requires", "Wants"):
            both = [
                sorted(name for name in each if not name.endswith(own) and not name.startswith(helpers))
                for each in both
            ]
        if both[0] != both[1]:
            yield key, both[0]


def test_what_systemd_loads_is_what_was_asked(machine: Machine) -> None:
    valid = list(generated(EXAMPLES))
    assert len(valid) > EXAMPLES / 20  # or the strategy has nothing left to say
    plain = from_plain({"name": "hostile reference", "command": "true"})
    jobs = [plain, *(job for job, _ in valid)]
    files = rendered(plain)
    for _, each in valid:
        files |= each
    try:
        install(machine, files)
        decided, everything = loaded(machine, jobs)
        for job, told in zip(jobs, decided, strict=True):
            assert comparable(told, job) == asked(job), job
        for job, told in zip(jobs, everything, strict=True):
            assert told["Id"] == job.unit
            isolated = job.sandbox != "none" or job.dynamic_user or job.network == "none"
            allowed = DIFFERENT | ISOLATION if isolated else DIFFERENT
            assert {key for key, _ in differences(told, everything[0])} <= allowed, job
    finally:
        machine.run("sh", "-c", f"rm -f {FOLDER}/lsh-hostile-*")
        machine.run("systemctl", "daemon-reload")
