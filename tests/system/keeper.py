"""What a machine stands on: a private copy-on-write layer over a root, and whoever cleans up after it.

Who owns what: this process holds the pipe to a *keeper*, a shell that is PID 1 of its own PID and mount namespaces. The
mounts and the machine's processes live in those. So when the tests end in whatever way (SIGKILL included), the pipe
closes, the keeper ends, and with it go the processes and mounts: the kernel cleans up, not we.
"""

import contextlib
import os
import select
import signal
import subprocess
import uuid
from itertools import count
from pathlib import Path

from tests.system import fresh, roots

__all__ = ["BootFailed", "Child", "Keeper"]

UNSHARE = ("unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--mount-proc")

# $1 the cache folder, $2 the root's folder name. Relative paths: mount's options would need colons and commas escaped.
SCRIPT = r"""
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


class Keeper:
    """A machine's folder, gone with this process, and the place where its processes are started.

    In the folder: `root`, the machine's own layer over its suite's root, with a name and an ID, the same at each boot.
    """

    def __init__(self, suite: str) -> None:
        root = (fresh if suite.startswith(fresh.FRESH) else roots).ensure(suite)
        self.name = f"lsh-{os.getpid()}-{next(_numbers)}"
        self._shell = subprocess.Popen(
            [*UNSHARE, "sh", "-c", SCRIPT, "keeper", str(roots.CACHE), root.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # the terminal's Ctrl-C is for the tests, which then end it
            text=True,
        )
        try:
            self._wait_for_disk()
        except BaseException:
            self.close()
            raise

    @property
    def folder(self) -> Path:
        """Seen from outside; within the keeper it is `machine`, a relative path."""
        return Path(f"/proc/{self._shell.pid}/root{roots.CACHE}/machine")

    @property
    def disk(self) -> Path:
        return self.folder / "root"

    def console(self) -> str:
        """What the machine printed since its last boot, where it was told to print into `machine/console.log`."""
        log = self.folder / "console.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def start(self, command: str) -> "Child":
        """Start a command line of the shell in the background; it ends with the keeper at the latest."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{command} & echo $!\n")
        self._shell.stdin.flush()
        keeper = pid_outside(1, parent=self._shell.pid)
        return Child(pid_outside(int(self._shell.stdout.readline()), parent=keeper))

    def close(self) -> None:
        """Give everything back; the disk is lost."""
        self._shell.communicate()

    def _wait_for_disk(self) -> None:
        assert self._shell.stdout is not None
        assert self._shell.stderr is not None
        if self._shell.stdout.readline() != "ready\n":
            raise BootFailed(f"no disk for {self.name}: {self._shell.stderr.read()}")
        (self.disk / "etc/machine-id").write_text(uuid.uuid4().hex + "\n")
        (self.disk / "etc/hostname").write_text(self.name + "\n")


class Child:
    """A process that the keeper has started."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)  # cannot come to mean another process; readable once the process has ended

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def has_ended(self, *, within: float) -> bool:
        """Wait for its end."""
        return bool(select.select([self.pidfd], [], [], within)[0])

    def forget(self) -> None:
        os.close(self.pidfd)


def pid_outside(inside: int, *, parent: int) -> int:
    """Our PID of the child of `parent` that has the PID `inside` in the keeper's namespace."""
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines())
            pids = fields["NSpid"].split()  # ours, the keeper's, then the machine's
            if fields["PPid"] == str(parent) and len(pids) > 1 and pids[1] == str(inside):
                return int(pids[0])
    raise BootFailed(f"a process of the machine has ended already (PID {inside} in its keeper's namespace)")
