"""The Debian package on a machine that has never seen the project: installed, upgraded, removed and purged by apt."""

import hashlib
import os
import platform
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system import fresh, roots
from tests.system.machine import Machine, Result, eventually
from tests.system.uml import only_on

NewMachine = Callable[..., Machine]
# Packages with wheels are for one release: that which they are built on, here this machine's.
_RELEASE = platform.freedesktop_os_release()["VERSION_CODENAME"]
on_its_release = only_on(os.environ["LSH_SUITES"] if fresh.BUILT else _RELEASE)
PROJECT = Path(__file__).parents[2]

OWN = ("lsh-agent.service", "lsh-refresh.timer", "lsh-prune.timer")
ON_DEMAND = ("lsh-fleet.timer", "lsh-queue.path", "lsh-catch-up.service", "lsh-api.socket")
SETTING = "/etc/default/lsh-systemd"


class Host:
    """A machine with apt, our packages, and a job that adds a line to a file each second."""

    def __init__(self, machine: Machine, packages: list[Path]) -> None:
        self.machine = machine
        for package in packages:
            shutil.copy(package, machine.disk / "var/tmp")

    def apt(self, *argv: str, check: bool = True) -> Result:
        quiet = ("--quiet", "--yes", "--no-install-recommends", "--option=DPkg::Use-Pty=0")
        env = {"DEBIAN_FRONTEND": "noninteractive"}
        return self.machine.run("apt-get", *quiet, *argv, env=env, timeout=300, check=check)

    def install(self, package: Path, *, check: bool = True) -> Result:
        return self.apt("install", f"/var/tmp/{package.name}", check=check)

    def bootstrap(self, package: Path) -> None:
        """By the script for new machines, which applies jobs, too; a second time changes nothing."""
        self.machine.write("/var/tmp/jobs.yaml", "jobs: {Applied: {every: 1h, command: 'true'}}")
        script, file = (PROJECT / "packaging/bootstrap").read_text(), f"/var/tmp/{package.name}"
        sum_ = hashlib.sha256(package.read_bytes()).hexdigest()

        def call(*argv: str, check: bool = True) -> Result:
            return self.machine.run("sh", "-s", "--", *argv, input=script, timeout=300, check=check)

        for argv in ((), ("https://127.0.0.1/x.deb",), (file, "--sha256", "0" * 64), (file, file)):
            assert call(*argv, check=False).returncode == 2
        assert "1 added" in call(file, "--sha256", sum_, "-f", "/var/tmp/jobs.yaml").stdout
        told = call(file, "--sha256", sum_, "-f", "/var/tmp/jobs.yaml").stdout
        assert told == "Nothing to change: 1 job as described.\n"
        self.machine.run("lshctl", "remove", "applied")

    def choose(self, what: str) -> None:
        """What becomes of jobs on removal."""
        self.machine.run("sed", "-i", f"s/^JOBS_ON_REMOVE=.*/JOBS_ON_REMOVE={what}/", SETTING)

    def state(self, unit: str) -> tuple[str, str]:
        """Whether it is active, and whether it is enabled."""
        words = [
            self.machine.run("systemctl", verb, unit, check=False).stdout.strip()
            for verb in ("is-active", "is-enabled")
        ]
        return words[0], words[1]

    def beats(self) -> int:
        return len(self.machine.read("/var/tmp/beats").splitlines())

    def beats_on(self) -> None:
        """The job runs: it has done so since this was asked."""
        before = self.beats()
        eventually(lambda: self.beats() > before, timeout=60)

    def recorded(self) -> int:
        runs = self.machine.run("lshctl", "runs", "beat", "--json", "--limit", "0").json()
        return sum(run["result"] == "success" for run in runs)


@on_its_release
def test_a_package_s_life(new_machine: NewMachine, suite: str, tmp_path: Path) -> None:
    packages = fresh.packages()
    new, supabase, api = (packages[name] for name in ("lsh-systemd", "lsh-systemd-supabase", "lsh-systemd-api"))
    old = fresh.older(new, "0.0.9", tmp_path)
    machine = new_machine(fresh.FRESH + suite)
    host = Host(machine, [old, new, supabase, api])

    host.install(old)
    assert {unit: host.state(unit) for unit in OWN} == dict.fromkeys(OWN, ("active", "enabled"))
    assert {unit: host.state(unit) for unit in ON_DEMAND} == dict.fromkeys(ON_DEMAND, ("inactive", "disabled"))
    machine.run("lshctl", "add", "Beat", "--every", "1s", "--", "echo beat >>/var/tmp/beats")
    machine.run("lshctl", "add", "Rare", "--schedule", "0 3 * * *", "--overlap", "skip", "--", "true")
    eventually(lambda: host.recorded() >= 2, timeout=60)
    machine.add_user("bob")
    machine.run("lshctl", "add", "Mine", "--", "true", user="bob")
    machine.run("lshctl", "start", "mine", "--wait", user="bob")
    machine.write("/etc/lsh/lsh.toml", "keep_days = 30\n")
    machine.run("systemctl", "disable", "--now", "lsh-refresh.timer")

    _upgrade(host, new)
    _supabase(host, supabase)
    _api(host, api)
    _removal(host, new)
    _purge(host, jobs="delete" if suite == "bookworm" else "stop")


def _upgrade(host: Host, new: Path) -> None:
    """Jobs are as they were, and what the administrator turned off stays off."""
    unit = host.machine.read("/etc/systemd/system/lsh-beat.service")
    agent = host.machine.run("systemctl", "show", "--property=MainPID", "lsh-agent.service").stdout
    host.bootstrap(new)
    assert host.machine.read("/etc/systemd/system/lsh-beat.service") == unit
    assert host.state("lsh-agent.service") == ("active", "enabled")
    assert host.machine.run("systemctl", "show", "--property=MainPID", "lsh-agent.service").stdout != agent
    assert host.state("lsh-refresh.timer") == ("inactive", "disabled")
    recorded = host.recorded()
    host.beats_on()
    eventually(lambda: host.recorded() > recorded, timeout=60)


def _supabase(host: Host, package: Path) -> None:
    """Its modules are found by this Python, for which alone they are."""
    asked = {"SUPABASE_URL": "http://127.0.0.1:9", "SUPABASE_SECRET_KEY": "sb_secret_x"}
    without = host.machine.run("lshctl", "supabase", "test", env=asked, check=False)
    assert "lsh-systemd-supabase" in without.stdout + without.stderr
    host.install(package)
    with_it = host.machine.run("lshctl", "supabase", "test", env=asked, check=False)
    assert with_it.returncode == 1
    assert "lsh-systemd-supabase" not in with_it.stdout + with_it.stderr


def _api(host: Host, package: Path) -> None:
    """The HTTP API answers, with what the package brings or Debian has."""
    without = host.machine.run("lshctl", "api", "enable", check=False)
    assert without.returncode == 1 and "lsh-systemd-api" in without.stderr, without
    host.install(package)
    host.apt("install", "curl")
    with socket.create_server(("127.0.0.1", 0)) as free:  # machines share their host's ports
        port = free.getsockname()[1]
    host.machine.run("lshctl", "api", "enable", "--listen", f"127.0.0.1:{port}")
    key = host.machine.run("lshctl", "api", "key", "create", "test", "--role", "admin").stdout.split()[-1]
    call = ("curl", "-sS", "--fail", "--unix-socket", "/run/lsh/api.sock", "--header", f"X-API-Key: {key}")
    assert "status" in host.machine.run(*call, "http://lsh/health").json()
    assert '"beat"' in host.machine.run(*call, "http://lsh/jobs").stdout
    host.machine.run(*call, "--request", "POST", "http://lsh/jobs/rare/trigger")
    eventually(lambda: host.machine.run("lshctl", "runs", "rare", "--json").json(), timeout=60)
    assert "lsh_" in host.machine.run(*call, "http://lsh/metrics").stdout
    assert "<form" in host.machine.run(*call, "http://lsh/ui/login").stdout
    host.machine.run("lshctl", "api", "disable")


def _removal(host: Host, new: Path) -> None:
    """Where nothing else was chosen jobs run on, and are known again when the package is back."""
    host.apt("remove", "lsh-systemd", "lsh-systemd-api")
    assert not host.machine.exists("/usr/bin/lshctl")
    assert host.state("lsh-agent.service")[0] == "inactive"
    host.beats_on()
    host.install(new)
    assert host.state("lsh-agent.service") == ("active", "enabled")
    recorded = host.recorded()
    eventually(lambda: host.recorded() > recorded, timeout=60)


def _purge(host: Host, *, jobs: str) -> None:
    """Nothing of the machine's is left but the jobs, where that was chosen, and what a user has."""
    host.choose(jobs)
    host.apt("purge", "lsh-systemd", "lsh-systemd-supabase", "lsh-systemd-api")
    assert host.state("lsh-beat.timer")[0] == "inactive"
    places = ("/etc", "/lib/systemd", "/run/lsh", "/usr/bin", "/usr/lib", "/usr/share", "/var/lib")
    left = host.machine.run("find", *places, "-name", "*lsh[-_.]*", "-o", "-name", "lsh", check=False).stdout.split()
    kept = [f"/etc/systemd/system/lsh-{name}" for name in ("beat.service", "beat.timer", "rare.service", "rare.timer")]
    assert sorted(left) == (kept if jobs == "stop" else [])
    assert host.machine.exists("/home/bob/.config/systemd/user/lsh-mine.service")


@pytest.mark.slow
@pytest.mark.skipif(bool(fresh.BUILT), reason="what has built them has asked its own lintian")
def test_lintian_finds_nothing() -> None:
    folder = fresh.packages()["lsh-systemd"].parent
    argv = ["lintian", "--allow-root", "--pedantic", "--fail-on=error,warning,pedantic"]
    done = subprocess.run([*argv, *map(str, folder.glob("*.changes"))], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@on_its_release
@pytest.mark.skipif(not fresh.BUILT, reason="a part of `make packages`")
def test_debian_s_own_tests_of_the_package_pass(new_machine: NewMachine, suite: str) -> None:
    packages = fresh.packages()
    host = Host(new_machine(fresh.FRESH + suite), [*packages.values()])
    host.apt("install", *(f"/var/tmp/{package.name}" for package in packages.values()))
    host.machine.run("sh", f"{roots.PROJECT_INSIDE}/debian/tests/life", timeout=300)
