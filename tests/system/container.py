"""A container whose systemd really boots: systemd-nspawn on a machine's disk.

nspawn is the keeper's child, in the keeper's PID namespace: a SIGKILL to nspawn alone would leave the machine running.
"""

import contextlib
import os
import select
import shlex
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.system import roots
from tests.system.keeper import BootFailed, Child, Keeper, pid_outside

BOOT_TIMEOUT = 60.0  # seconds; a boot takes one or two, more where many start at once
HALT_TIMEOUT = 30.0


class Container:
    """One machine's disk and, while it is up, its processes. Not thread-safe; several side by side are fine."""

    def __init__(self, suite: str, *, nspawn_options: tuple[str, ...] = ()) -> None:
        _sweep()
        self._keeper = Keeper(suite)
        self.name = self._keeper.name
        self.disk = self._keeper.disk  # the machine's file system, readable also while it is off
        self.console = self._keeper.console
        self.nspawn_options = nspawn_options
        self.leader = 0  # the PID, seen from outside, of the machine's PID 1; 0 while it is off
        self._nspawn: Child | None = None
        self._cgroups = [base / self.name for base in _own_cgroups()]

    @property
    def is_up(self) -> bool:
        return self.leader != 0

    def boot(self) -> None:
        """Boot and wait until systemd says that it is ready. Raises BootFailed."""
        try:
            with _notify_socket(self.name) as notifications:
                self._start_nspawn()
                self._wait_until_ready(notifications)
        except BaseException:
            self.kill()
            raise

    def power_off(self) -> None:
        """Shut down in order; the disk stays. What is not down after HALT_TIMEOUT is killed."""
        if self._nspawn:
            self._nspawn.signal(signal.SIGTERM)
            if not self._nspawn.has_ended(within=HALT_TIMEOUT):
                self.kill()
        self._forget()

    def kill(self) -> None:
        """As if the container died: nothing inside has a chance to say goodbye. The disk stays."""
        if self._nspawn:
            if self.leader:
                # The end of a PID 1 is the end of its whole PID namespace, and nspawn ends when it sees it.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.leader, signal.SIGKILL)
            if not self.leader or not self._nspawn.has_ended(within=HALT_TIMEOUT):
                self._nspawn.signal(signal.SIGKILL)
                self._nspawn.has_ended(within=HALT_TIMEOUT)
        self._forget()

    def close(self) -> None:
        """Give everything back; the disk is lost."""
        self.kill()
        self._keeper.close()

    def journals(self) -> Path:
        """The journal's files, also while it is off."""
        return self.disk / "var/log/journal"

    def enter(self) -> list[str]:
        """A command line that runs what follows it inside, in the cgroup of the machine's PID 1.

        Left in a cgroup outside, the command would seem to systemd to belong to nothing at all.
        """
        cgroups = [f"{group}/payload/init.scope/cgroup.procs" for group in self._cgroups]
        script = f'for f in {shlex.join(cgroups)}; do echo 0 >"$f"; done 2>/dev/null; exec nsenter "$@"'
        return ["/bin/sh", "-c", script, "enter", f"--target={self.leader}", "--all", "--wd", "--"]

    def _start_nspawn(self) -> None:
        project = str(roots.PROJECT).replace("\\", "\\\\").replace(":", "\\:")
        nspawn = [
            *("env", f"NOTIFY_SOCKET=@{self.name}", "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1"),
            *("systemd-nspawn", "--quiet", "--boot", "--notify-ready=yes", "--register=no", "--keep-unit"),
            *("--console=pipe", "--link-journal=no", "--timezone=off", f"--machine={self.name}"),
            "--directory=machine/root",
            # norbind: the project's folder has the machine's own disk in it
            f"--bind-ro={project}:{project}:norbind",
            f"--bind-ro={project}:{roots.PROJECT_INSIDE}:norbind",
            *self.nspawn_options,
            "systemd.firstboot=no",
        ]
        # A cgroup of its own: two machines in one would take each other's services for their own and kill them.
        cgroups = shlex.join(map(str, self._cgroups))
        join = f'for g in {cgroups}; do mkdir -p "$g"; echo 0 >"$g/cgroup.procs"; done'
        command = f"({join}; exec {shlex.join(nspawn)}) </dev/null >machine/console.log 2>&1"
        self._nspawn = self._keeper.start(command)

    def _wait_until_ready(self, notifications: socket.socket) -> None:
        assert self._nspawn is not None
        deadline = time.monotonic() + BOOT_TIMEOUT
        while (left := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select([notifications.fileno(), self._nspawn.pidfd], [], [], left)
            if notifications.fileno() in ready:
                message = _parse(notifications.recv(65536))
                if leader := message.get("X_NSPAWN_LEADER_PID"):
                    self.leader = pid_outside(int(leader), parent=self._nspawn.pid)
                if "READY" in message:
                    return
            elif ready:
                raise BootFailed(f"{self.name} died while booting:\n{self.console()}")
        raise BootFailed(f"{self.name} is not up after {BOOT_TIMEOUT:.0f} s:\n{self.console()}")

    def _forget(self) -> None:
        if self._nspawn:
            self._nspawn.forget()
        self._nspawn, self.leader = None, 0
        for cgroup in self._cgroups:
            _remove_cgroup(cgroup)


def _own_cgroups() -> list[Path]:
    """This process's cgroups in the hierarchies that systemd uses: the unified one, and on older set-ups its own."""
    paths = dict(line.split(":", 1)[1].split(":", 1) for line in Path("/proc/self/cgroup").read_text().splitlines())
    mounts = {"": ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"], "name=systemd": ["/sys/fs/cgroup/systemd"]}
    return [
        Path(mount + path)
        for hierarchy, path in paths.items()
        for mount in mounts.get(hierarchy, [])
        if Path(mount, "cgroup.procs").exists()
    ]


def _sweep() -> None:
    """Remove the (empty) cgroups of machines whose tests were killed: all that the kernel does not clean up itself."""
    for base in _own_cgroups():
        for left in base.glob("lsh-*-*"):
            if not Path("/proc", left.name.split("-")[1]).exists():
                _remove_cgroup(left, timeout=0)


def _remove_cgroup(cgroup: Path, *, timeout: float = 5) -> None:
    """Only empty ones can go; what is left of a killed machine may take a moment to leave."""
    deadline = time.monotonic() + timeout
    while cgroup.exists():
        for folder, _, _ in os.walk(cgroup, topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()
        if time.monotonic() >= deadline:
            break
        time.sleep(0.01)


@contextlib.contextmanager
def _notify_socket(name: str) -> Iterator[socket.socket]:
    """Where nspawn tells its leader's PID, and that the machine is up."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        yield listener


def _parse(notification: bytes) -> Mapping[str, str]:
    return dict(line.split("=", 1) for line in notification.decode().splitlines() if "=" in line)
