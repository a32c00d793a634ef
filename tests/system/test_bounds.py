"""Limits: systemd has loaded what was asked, and those that a container can show do stop a job.

(Memory, CPU and I/O need a kernel of their own: tests/system/uml.)
"""

from typing import Any

import pytest

from tests.system.lsh import SERVICE, Lsh

NEVER = 2**64 - 1
MIB = 2**20
OPEN_MANY = 'python3 -c \'f = [open("/dev/null") for _ in range(200)]; print("all open")\''


@pytest.mark.parametrize(
    ("options", "loaded"),
    [
        (["--memory-high", "256M"], {"MemoryHigh": 256 * MIB, "MemoryMax": NEVER}),
        (
            ["--memory-high", "1G", "--memory-max", "2G", "--swap-max", "0"],
            {"MemoryHigh": 1024 * MIB, "MemoryMax": 2048 * MIB, "MemorySwapMax": 0},
        ),
        (["--cpu-quota", "25%", "--cpu-weight", "20"], {"CPUQuotaPerSecUSec": 250_000, "CPUWeight": 20}),
        (["--priority", "8"], {"CPUWeight": 398, "IOWeight": 398, "Nice": -6, "OOMScoreAdjust": -300}),
        (
            ["--priority", "8", "--cpu-weight", "1", "--io-weight", "10000", "--nice", "3"],
            {"CPUWeight": 1, "IOWeight": 10_000, "Nice": 3, "OOMScoreAdjust": -300},
        ),
        (
            ["--io-max", "/var:read=10M,write=5M", "--io-max", "/:write=1000"],
            {
                "IOReadBandwidthMax": [["/var", 10 * MIB]],
                "IOWriteBandwidthMax": [["/var", 5 * MIB], ["/", 1000]],
            },
        ),
        (
            ["--tasks-max", "12", "--file-size-max", "3M", "--open-files-max", "64"],
            {"TasksMax": 12, "LimitFSIZE": 3 * MIB, "LimitFSIZESoft": 3 * MIB, "LimitNOFILE": 64},
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_limit_is_loaded(lsh: Lsh, options: list[str], loaded: dict[str, Any]) -> None:
    job = lsh.add(*options, "--", "true")
    told = lsh.loaded(f"lsh-{job}.service", SERVICE, *loaded)
    for name in ("IOReadBandwidthMax", "IOWriteBandwidthMax"):
        if name in told:
            assert sorted(told.pop(name)) == sorted(loaded[name])
    assert told == {name: value for name, value in loaded.items() if name in told}


def test_a_limit_goes_again(lsh: Lsh) -> None:
    job = lsh.add("--open-files-max", "64", "--memory-high", "1G", "--", "ulimit -n")
    assert lsh.run(job)["output"] == "64\n"
    lsh("set", job, "--unset", "open-files-max", "--memory-high", "2G", "--memory-max", "3G")
    assert lsh.run(job)["output"] != "64\n"
    assert lsh.loaded(f"lsh-{job}.service", SERVICE, "MemoryHigh") == {"MemoryHigh": 2048 * MIB}


@pytest.mark.parametrize(
    ("options", "command", "lifted"),
    [
        (["--file-size-max", "64K"], "dd if=/dev/zero of=/tmp/$$ bs=1k count=100; rm /tmp/$$", "--file-size-max SIZE"),
        (["--open-files-max", "100"], OPEN_MANY, "--open-files-max N"),
    ],
)
def test_a_limit_stops_a_run_and_is_named(lsh: Lsh, options: list[str], command: str, lifted: str) -> None:
    """The record is there all the same, and the way out is told."""
    command = f"{command} || exit 9" if "dd" not in command else f"sh -c '{command}; exit 9'"
    free = lsh.run(lsh.add("--", command), check=False)
    job = lsh.add(*options, "--", command)
    run = lsh.run(job, check=False)
    assert (run["result"], run["exit_status"]) == ("exit-code", 9)
    assert free["output"] != run["output"]
    assert lsh.json("show", job)["hints"][0]["fix"] == f"lshctl --{lsh.scope} set {job} {lifted}"
    assert f"set {job} {lifted}" in lsh("show", job).stdout
    assert f"set {job} {lifted}" in lsh("doctor", check=False).stdout


def test_the_smallest_limits_leave_a_record(lsh: Lsh) -> None:
    """The recorder is bound by them, too."""
    job = lsh.add("--tasks-max", "2", "--open-files-max", "16", "--file-size-max", "1", "--", "echo out")
    run = lsh.run(job)
    assert (run["result"], run["output"], run["trigger"]) == ("success", "out\n", "manual")
    assert run["started_at"] and run["cpu_seconds"] is not None


def test_what_cannot_hold_is_said(lsh: Lsh) -> None:
    """These machines have no control of memory, CPU, I/O and tasks: their host keeps it to itself."""
    told = lsh("add", lsh.new_name(), "--memory-max", "1G", "--io-max", "/nonexistent:read=1M", "--", "true")
    lines = told.stderr.splitlines()
    assert "--memory-max --io-max will not hold" in lines[0]
    assert lines[1:] == ["lshctl: --io-max /nonexistent will not hold: there is no /nonexistent"]
    assert ("your user manager" in lines[0]) == (lsh.scope == "user")
    assert lsh("add", lsh.new_name(), "--open-files-max", "100", "--", "true").stderr == ""


@pytest.mark.parametrize(
    "options",
    [
        ["--memory-high", "2G", "--memory-max", "1G"],
        ["--tasks-max", "1"],
        ["--open-files-max", "3"],
        ["--io-max", "/var"],
        ["--io-max", "/var\nNice=1:read=1M"],
        ["--write-path", "/srv"],
        ["--sandbox", "strict", "--write-path", "/"],
        ["--network", "off"],
        ["--dynamic-user", "--run-as", "nobody"],
    ],
    ids=" ".join,
)
def test_nonsense_changes_nothing(lsh: Lsh, options: list[str]) -> None:
    lsh.refused("add", lsh.new_name(), *options, "--", "true")
