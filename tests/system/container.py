"""A container whose systemd really boots: a private copy-on-write layer over a root, and systemd-nspawn on it.

Who owns what: this process holds the pipe to a *keeper*, a shell that is PID 1 of its own PID and mount namespaces. The
mounts and nspawn live in those. So when the tests end in whatever way (SIGKILL included), the pipe closes, the keeper
ends, and with it go the machine's processes and mounts: the kernel cleans up, not we. (A SIGKILL to nspawn alone would
leave the machine running without it.)
"""

import contextlib
import os
import select
import shlex
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

from tests.system import roots

BOOT_TIMEOUT = 60.0  # seconds; a boot takes one or two, more where many start at once
HALT_TIMEOUT = 30.0

KEEP = ("unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--mount-proc")

# $1 the cache folder, $2 the root's folder name. Relative paths: mount's options would need colons and commas escaped.
KEEPER = r"""
set -e
cd "$1"
mkdir -p machine
mount -t tmpfs -o mode=0755 tmpfs machine
mkdir machine/upper machine/work machine/root
mount -t overlay -o "lowerdir=roots/$2,upperdir=machine/upper,workdir=machine/work" overlay machine/root 2>/dev/null ||
    cp -a "roots/$2/." machine/root/
# nspawn's own traces (locks, propagation folders) stay in here as well
mkdir -p /run/systemd/nspawn
mount -t tmpfs -o mode=0700 tmpfs /run/systemd/nspawn
echo ready
while read -r line; do eval "$line"; done
"""

_numbers = count(1)


class BootFailed(Exception):
    """The machine did not come up; the message ends with its console."""


class Container:
    """One machine's disk and, while it is up, its processes. Not thread-safe; several side by side are fine."""

    def __init__(self, suite: str, *, nspawn_options: tuple[str, ...] = ()) -> None:
        root = roots.ensure(suite)
        _sweep()
        self.name = f"lsh-{os.getpid()}-{next(_numbers)}"
        self.nspawn_options = nspawn_options
        self.leader = 0  # the PID, seen from outside, of the machine's PID 1; 0 while it is off
        self._nspawn = 0
        self._supervisor = -1  # nspawn's pidfd, which cannot come to mean another process
        self._cgroups = [base / self.name for base in _own_cgroups()]
        self._keeper = subprocess.Popen(
            [*KEEP, "sh", "-c", KEEPER, "keeper", str(roots.CACHE), root.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # the terminal's Ctrl-C is for the tests, which then end it
            text=True,
        )
        try:
            self._identify()
        except BaseException:
            self.close()
            raise

    @property
    def disk(self) -> Path:
        """The machine's file system, readable also while it is off."""
        return Path(f"/proc/{self._keeper.pid}/root{roots.CACHE}/machine/root")

    def console(self) -> str:
        log = self.disk.parent / "console.log"
        return log.read_text(errors="replace") if log.exists() else ""

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
        self._signal(signal.SIGTERM)
        if not self._has_ended(HALT_TIMEOUT):
            self.kill()
        self._forget()

    def kill(self) -> None:
        """As if the container died: nothing inside has a chance to say goodbye. The disk stays."""
        if self.leader:
            # The end of a PID 1 is the end of its whole PID namespace, and nspawn ends when it sees it.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.leader, signal.SIGKILL)
        if not self.leader or not self._has_ended(HALT_TIMEOUT):
            self._signal(signal.SIGKILL)
            self._has_ended(HALT_TIMEOUT)
        self._forget()

    def close(self) -> None:
        """Give everything back; the disk is lost."""
        if self._supervisor >= 0:
            self.kill()
        self._keeper.communicate()

    def enter(self) -> list[str]:
        """A command line that runs what follows it inside, in the cgroup of the machine's PID 1.

        Left in a cgroup outside, the command would seem to systemd to belong to nothing at all.
        """
        cgroups = [f"{group}/payload/init.scope/cgroup.procs" for group in self._cgroups]
        script = f'for f in {shlex.join(cgroups)}; do echo 0 >"$f"; done 2>/dev/null; exec nsenter "$@"'
        return ["/bin/sh", "-c", script, "enter", f"--target={self.leader}", "--all", "--wd", "--"]

    def _identify(self) -> None:
        """Wait for the disk and give the machine its own name and ID, the same at each boot."""
        assert self._keeper.stdout is not None
        assert self._keeper.stderr is not None
        if self._keeper.stdout.readline() != "ready\n":
            raise BootFailed(f"no disk for {self.name}: {self._keeper.stderr.read()}")
        (self.disk / "etc/machine-id").write_text(uuid.uuid4().hex + "\n")
        (self.disk / "etc/hostname").write_text(self.name + "\n")

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
        self._tell_keeper(f"({join}; exec {shlex.join(nspawn)}) </dev/null >machine/console.log 2>&1 & echo $!")
        assert self._keeper.stdout is not None
        keeper = _pid_outside(1, parent=self._keeper.pid)
        self._nspawn = _pid_outside(int(self._keeper.stdout.readline()), parent=keeper)
        self._supervisor = os.pidfd_open(self._nspawn)

    def _wait_until_ready(self, notifications: socket.socket) -> None:
        deadline = time.monotonic() + BOOT_TIMEOUT
        while (left := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select([notifications.fileno(), self._supervisor], [], [], left)
            if notifications.fileno() in ready:
                message = _parse(notifications.recv(65536))
                if leader := message.get("X_NSPAWN_LEADER_PID"):
                    self.leader = _pid_outside(int(leader), parent=self._nspawn)
                if "READY" in message:
                    return
            elif ready:
                raise BootFailed(f"{self.name} died while booting:\n{self.console()}")
        raise BootFailed(f"{self.name} is not up after {BOOT_TIMEOUT:.0f} s:\n{self.console()}")

    def _tell_keeper(self, line: str) -> None:
        assert self._keeper.stdin is not None
        self._keeper.stdin.write(line + "\n")
        self._keeper.stdin.flush()

    def _signal(self, number: signal.Signals) -> None:
        if self._supervisor >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._supervisor, number)

    def _has_ended(self, timeout: float) -> bool:
        """Wait for nspawn's end (a pidfd becomes readable then)."""
        return self._supervisor < 0 or bool(select.select([self._supervisor], [], [], timeout)[0])

    def _forget(self) -> None:
        if self._supervisor >= 0:
            os.close(self._supervisor)
        self._supervisor, self.leader = -1, 0
        for cgroup in self._cgroups:
            _remove_cgroup(cgroup)


def _pid_outside(inside: int, *, parent: int) -> int:
    """Our PID of the child of `parent` that has the PID `inside` in the keeper's namespace."""
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines())
            pids = fields["NSpid"].split()  # ours, the keeper's, then the machine's
            if fields["PPid"] == str(parent) and len(pids) > 1 and pids[1] == str(inside):
                return int(pids[0])
    raise BootFailed(f"a process of the machine has ended already (PID {inside} in its keeper's namespace)")


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
