"""Limits and isolation: what is refused, what a level becomes in the unit file, and what stopped a run."""

from datetime import UTC, datetime
from typing import Any

import pytest

from lsh_systemd import bounds, unit
from lsh_systemd.cli.options import merge
from lsh_systemd.errors import BadInput
from lsh_systemd.hints import hints
from lsh_systemd.job import Job
from lsh_systemd.jobfile import from_plain, to_plain
from lsh_systemd.run import Run
from lsh_systemd.scope import Scope

STRICT: dict[str, Any] = {"sandbox": "strict"}


def job(**fields: Any) -> Job:
    return from_plain({"name": "x", "command": "true", **fields})


def service(made: Job, *, scope: Scope = Scope.SYSTEM, recorder: str = "/usr/lib/r", namespaces: bool = True) -> str:
    now = datetime(2026, 11, 22, tzinfo=UTC)
    files = unit.render(made, scope=scope, recorder=recorder, now=now, local_zone="UTC", namespaces=namespaces)
    return files["lsh-x.service"].partition("\n[X-Lsh]\n")[0]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"memory_high": "2G", "memory_max": "1G"}, "--memory-high is above --memory-max"),
        ({"memory_high": 1}, "memory threshold 1 is not between"),
        ({"swap_max": "-1"}, "not a size"),
        ({"cpu_weight": 0}, "CPU weight 0 is not between"),
        ({"io_weight": 10_001}, "I/O weight 10001 is not between"),
        ({"tasks_max": 1}, "task limit 1 is not between 2"),
        ({"file_size_max": 0}, "file size limit 0"),
        ({"open_files_max": 3}, "limit of open files 3 is not between 16"),
        ({"io_max": ["/var"]}, "is no I/O limit"),
        ({"io_max": ["var:read=1M"]}, "not an absolute path"),
        ({"io_max": ["/var:read=much"]}, "not a size"),
        ({"io_max": ["/var:read=0"]}, "I/O limit 0"),
        ({"io_max": ["/var:trim=1M"]}, "is no I/O limit"),
        ({"io_max": ["/var:read=1M\nNice=1"]}, "is no I/O limit"),
        ({"io_max": ["/var\nNice=1:read=1M"]}, "U+000A"),
        ({"io_max": ["/var:read=1M", "/var:write=1M,read=2M"]}, "twice"),
        ({"sandbox": "total"}, "not one of none, standard, strict"),
        ({"network": "some"}, "not one of host, none"),
        ({"dynamic_user": True, "run_as": "nobody"}, "exclude each other"),
        ({"write_path": ["/srv"]}, "--write-path needs --sandbox"),
        ({"write_path": ["srv"], **STRICT}, "not an absolute path"),
        ({"write_path": ["/srv/../etc"], **STRICT}, "'..'"),
        ({"write_path": ["/"], **STRICT}, "leaves nothing to protect"),
        ({"write_path": ["//."], **STRICT}, "leaves nothing to protect"),
        ({"write_path": ["/tmp"], "sandbox": "standard"}, "has its own /tmp"),
        ({"write_path": ["/home/"], **STRICT}, "has its own /home"),
        ({"write_path": ["/home/a:b"], **STRICT}, "cannot let '/home/a:b' in"),
        ({"working_dir": "/tmp/a'b", "dynamic_user": True}, "cannot let"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput) as error:
        job(**fields)
    assert told in error.value.message


def test_what_makes_sense_is_taken_and_read_back() -> None:
    for fields in (
        {"memory_high": "1G", "memory_max": "1G", "swap_max": 0},
        {"write_path": ["/home"], "sandbox": "standard"},
        {"write_path": ["/srv/a:b"], **STRICT},
        {"write_path": ["/srv"], "dynamic_user": True},
        {"io_max": ["/a:b:read=1.5M", "/var:write=2K"]},
    ):
        made = job(**fields)
        assert from_plain(to_plain(made)) == made


def test_a_priority_gives_way_to_weights_of_their_own() -> None:
    made = job(priority=10, cpu_weight=7, io_weight=8, nice=9)
    assert bounds.priority_directives(made) == {"OOMScoreAdjust": -500}
    lines = service(made).splitlines()
    assert [line for line in lines if "Weight" in line or "Nice" in line] == ["Nice=9", "CPUWeight=7", "IOWeight=8"]
    assert bounds.priority_directives(job(priority=10, cpu_weight=7)) == {
        "IOWeight": 1000,
        "Nice": -10,
        "OOMScoreAdjust": -500,
    }


def test_rates_are_bytes() -> None:
    made = job(io_max=["/var:read=10M,write=5M", "/srv/a b:write=1000"])
    assert bounds.io_limits(made) == [
        ("IOReadBandwidthMax", "/var", 10 * 2**20),
        ("IOWriteBandwidthMax", "/var", 5 * 2**20),
        ("IOWriteBandwidthMax", "/srv/a b", 1000),
    ]
    assert 'IOWriteBandwidthMax="/srv/a b" 1000' in service(made).splitlines()


def test_hidden_folders_are_bound_in() -> None:
    """What the job may write and where it runs is there, also below a folder that it does not see."""
    paths = ["/srv/a b", "/home/bob/out", "/tmp/out"]
    lines = service(job(sandbox="strict", write_path=paths, working_dir="/home/bob/app")).splitlines()
    assert [line for line in lines if "Paths=" in line and "Inaccessible" not in line] == [
        'ReadWritePaths="/srv/a b"',
        "BindReadOnlyPaths=/home/bob/app",
        "BindPaths=/home/bob/out",
        "BindPaths=/tmp/out",
    ]
    lines = service(job(sandbox="standard", write_path=paths, working_dir="/tmp/out/in")).splitlines()
    assert [line for line in lines if "Paths=" in line] == [
        'ReadWritePaths="/srv/a b"',
        "ReadWritePaths=/home/bob/out",
        "BindPaths=/tmp/out",
    ]


@pytest.mark.parametrize(
    ("fields", "system", "user"),
    [
        ({}, "-+/bin/sh", "-/bin/sh"),
        ({"run_as": "nobody"}, "-/bin/sh", None),
        ({"dynamic_user": True}, "-/bin/sh", None),
        ({"sandbox": "strict"}, "-+/bin/sh", "-+/bin/sh"),
        ({"sandbox": "strict", "env": {"A": "b"}}, "-+/bin/sh", "-+/bin/sh"),
        # what the job can write could be loaded into the recorder, outside
        ({"sandbox": "strict", "env": {"LD_LIBRARY_PATH": "/srv"}}, "-/bin/sh", "-/bin/sh"),
        ({"sandbox": "strict", "env_file": ["/srv/env"]}, "-/bin/sh", "-/bin/sh"),
        ({"network": "none"}, "-+/bin/sh", "-+/bin/sh"),
    ],
)
def test_the_recorder_is_no_way_out(fields: dict[str, Any], system: str, user: str | None) -> None:
    expected = {Scope.SYSTEM: system, Scope.USER: user}
    for scope, prefix in expected.items():
        if prefix:
            lines = service(job(**fields), scope=scope, recorder="/home/bob/r").splitlines()
            (stop,) = [line for line in lines if line.startswith("ExecStopPost=")]
            assert stop.split()[0] == f"ExecStopPost={prefix}"
            inside = fields.get("sandbox") == "strict" and "+" not in prefix
            assert ("BindReadOnlyPaths=/home/bob/r" in lines) == inside


def test_a_user_manager_gets_what_it_can_do() -> None:
    assert "PrivateUsers=yes" in service(job(sandbox="standard"), scope=Scope.USER)
    assert "PrivateUsers" not in service(job(sandbox="standard"), scope=Scope.SYSTEM)
    without = service(job(sandbox="strict", network="none", write_path=["/srv"]), scope=Scope.USER, namespaces=False)
    for namespaced in ("Private", "Protect", "Paths=", "CapabilityBoundingSet"):
        assert namespaced not in without
    assert {"NoNewPrivileges=yes", "RestrictAddressFamilies=AF_UNIX"} < set(without.splitlines())
    with pytest.raises(BadInput, match="cannot make users"):
        service(job(dynamic_user=True), scope=Scope.USER)


def test_no_sandbox_takes_its_write_paths_along() -> None:
    old = to_plain(job(sandbox="strict", write_path=["/srv"]))
    assert "write_path" not in merge(old, {"sandbox": "none"})
    assert merge(old, {"sandbox": "standard"})["write_path"] == ["/srv"]
    assert "write_path" in merge(old, {"sandbox": "none", "write_path": ["/srv"]})  # and that is refused


@pytest.mark.parametrize(
    ("fields", "ended", "options"),
    [
        (STRICT, {"signal": "SYS"}, ["--sandbox standard"]),
        (STRICT, {"exit_status": 159}, ["--sandbox standard"]),
        ({"sandbox": "standard"}, {"exit_status": 159}, []),
        ({}, {"output": b"touch: cannot touch '/usr/x': Read-only file system\n"}, []),
        (
            {"sandbox": "standard"},
            {"output": b"touch: cannot touch '/usr/x': Read-only file system\n"},
            ["--write-path /usr"],
        ),
        ({"dynamic_user": True}, {"output": b"OSError: [Errno 30] Read-only file system: '/a/b'"}, ["--write-path /a"]),
        (STRICT, {"output": b"cat: /home/bob/x: No such file or directory\n"}, ["--sandbox standard"]),
        (STRICT, {"output": b"cat: '/home/a b/x': No such file or directory\n"}, ["--sandbox standard"]),
        ({"sandbox": "standard"}, {"output": b"cat: /home/bob/x: No such file or directory\n"}, []),
        ({"sandbox": "standard"}, {"output": b'sudo: The "no new privileges" flag is set\n'}, ["--sandbox none"]),
        (STRICT, {"output": b"chown: changing ownership: Operation not permitted\n"}, ["--sandbox standard"]),
        ({"network": "none"}, {"output": b"curl: (6) Could not resolve host: example.org\n"}, ["--network host"]),
        ({}, {"output": b"curl: (6) Could not resolve host: example.org\n"}, []),
        ({**STRICT, "write_path": ["/srv/none"]}, {"exit_status": 226}, ["--write-path PATH"]),
        (STRICT, {"exit_status": 226}, ["--sandbox none --network host"]),
        (STRICT, {"exit_status": 217}, ["--sandbox none --network host"]),
        (STRICT, {"exit_status": 218}, ["--sandbox none --network host"]),
        ({"network": "none"}, {"exit_status": 225}, ["--network host"]),
        (STRICT, {"exit_status": 203}, ["--sandbox standard"]),
        ({}, {"exit_status": 226}, []),
        ({"file_size_max": "1M"}, {"signal": "XFSZ"}, ["--file-size-max SIZE"]),
        ({"file_size_max": "1M"}, {"exit_status": 153}, ["--file-size-max SIZE"]),
        ({}, {"signal": "XFSZ"}, []),
        ({"open_files_max": 20}, {"output": b"[Errno 24] Too many open files"}, ["--open-files-max N"]),
        ({"tasks_max": 5}, {"output": b"sh: 1: Cannot fork\n"}, ["--tasks-max N"]),
        ({"memory_max": "1G"}, {"result": "oom-kill"}, ["--memory-max SIZE"]),
        (STRICT, {"result": "success", "output": b"Read-only file system"}, []),
        (STRICT, {"exit_status": 1, "output": b"no luck"}, []),
    ],
)
def test_what_stopped_a_run_is_named(fields: dict[str, Any], ended: dict[str, Any], options: list[str]) -> None:
    run = Run(**{"id": "1", "job": "x", "unit": "lsh-x.service", "result": "exit-code", **ended})
    assert [hint.options for hint in hints(job(**fields), run)] == options
