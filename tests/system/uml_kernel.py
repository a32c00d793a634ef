"""User-Mode Linux: a kernel of its own, as an ordinary process, on an ext4 image of a machine's disk.

(hostfs, which needs no image, has no shared mmap, and SQLite's WAL wants that. The project alone is seen through it.)
"""

import contextlib
import json
import os
import select
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.system import roots
from tests.system.keeper import BootFailed, Child, Keeper

BOOT_TIMEOUT = 120.0  # seconds; a boot takes five
HALT_TIMEOUT = 60.0
GRACE = 30.0  # seconds beyond a command's own time limit, after which the machine must have hung
MEMORY = "512M"  # what is not used takes none of this host's
DISK = "2G"  # sparse; a root is a tenth of it
AGENT = "usr/local/lib/test-agent.py"
AGENT_UNIT = f"""[Unit]
Description=Commands of the tests
DefaultDependencies=no
Before=sysinit.target
[Service]
Type=notify
ExecStart=/usr/bin/python3 -S /{AGENT} {roots.PROJECT_INSIDE}
"""

# Their starts, and those of the generators, would be half of a boot; forky has no mount(8) for the mounts.
UNNEEDED = (
    "dev-mqueue.mount tmp.mount kmod-static-nodes.service ldconfig.service modprobe@.service systemd-binfmt.service "
    "systemd-journal-catalog-update.service systemd-modules-load.service systemd-pcrphase.service "
    "systemd-pcrphase-sysinit.service systemd-random-seed.service systemd-remount-fs.service systemd-sysctl.service "
    "systemd-sysusers.service systemd-update-done.service systemd-update-utmp.service "
    "systemd-update-utmp-runlevel.service"
).split()

# Relative paths, seen from the cache folder, where the keeper stands: a kernel option has no way to escape a comma.
OPTIONS = (
    f"mem={MEMORY} ubd0=machine/disk.ext4 root=/dev/ubda rw hostfs=.. uml_dir=machine/uml/ "
    "ssl0=fd:3,fd:4 con=null con0=null,fd:1 console=tty0 systemd.firstboot=no"
).split()


class Died(Exception):
    """The kernel has ended, or hangs."""


class Kernel:
    """One machine's disk and, while it is up, its kernel and the line to the agent inside. Not thread-safe."""

    def __init__(self, suite: str) -> None:
        self._keeper = Keeper(suite)
        self.name = self._keeper.name
        self.disk = self._keeper.disk  # as it is before the first boot
        self.console = self._keeper.console
        self.ahead = 0.0  # seconds by which a boot sets its clock ahead of this host's
        self._image = self._keeper.folder / "disk.ext4"
        self._child: Child | None = None
        self._to = self._from = -1
        self._received = b""
        self._requests = 0
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    @property
    def is_up(self) -> bool:
        return self._child is not None

    def boot(self) -> None:
        """Boot and wait until systemd has started all that it wanted to. Raises BootFailed."""
        try:
            if not self._image.exists():
                self._format()
            self._start()
            self._receive(0, time.monotonic() + BOOT_TIMEOUT)
            self.request(["systemctl", "is-system-running", "--wait"], timeout=BOOT_TIMEOUT)
        except Died as death:
            self.kill()
            raise BootFailed(f"{self.name} {death}\n{self.console()}") from None
        except BaseException:
            self.kill()
            raise

    def power_off(self) -> None:
        """Shut down in order. What is not down after HALT_TIMEOUT is killed."""
        if self._child:
            with contextlib.suppress(Died):
                self.request(["systemctl", "poweroff"], timeout=HALT_TIMEOUT)
            self._child.has_ended(within=HALT_TIMEOUT)
        self.kill()

    def kill(self) -> None:
        """Pull the plug: what was not synced inside is lost."""
        if self._child:
            for leader in _children(self._child.pid):  # PID 1 of its namespace: unshare waits for the end of all of it
                with contextlib.suppress(ProcessLookupError):
                    os.kill(leader, signal.SIGKILL)
            if not self._child.has_ended(within=HALT_TIMEOUT):
                self._child.signal(signal.SIGKILL)
            self._child.forget()
        for end in (self._to, self._from):
            if end >= 0:
                os.close(end)
        self._child, self._to, self._from, self._received = None, -1, -1, b""

    def close(self) -> None:
        """Give everything back; the disk is lost."""
        self.kill()
        self._keeper.close()

    def request(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        user: str = "root",
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        input: str | None = None,
    ) -> Any:
        """Have the agent run a command; its answer. Raises Died."""
        self._requests += 1
        command = {"argv": argv, "user": user, "env": env, "cwd": cwd, "input": input, "timeout": timeout}
        data = json.dumps({"id": self._requests, **command}).encode() + b"\n"
        deadline = time.monotonic() + timeout + GRACE
        while data:
            self._wait(deadline, writing=True)
            data = data[os.write(self._to, data) :]
        return self._receive(self._requests, deadline)

    def journals(self) -> Path:
        """The journal's files as they are on the disk of a machine that is off."""
        folder = self._keeper.folder / "log"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        argv = ["debugfs", "-R", "rdump /var/log/journal .", str(self._image)]
        subprocess.run(argv, cwd=folder, capture_output=True, check=False)
        return folder / "journal"

    def _prepare(self) -> None:
        """Make a container's disk one of a machine that hears us over its serial line."""
        (self.disk / AGENT).write_text(Path(__file__).with_name("uml_agent.py").read_text())
        etc = self.disk / "etc/systemd"
        (etc / "system/test-agent.service").write_text(AGENT_UNIT)
        (etc / "system/sysinit.target.wants/test-agent.service").symlink_to("../test-agent.service")
        (etc / "system-generators").mkdir()
        generators = [each.name for each in self.disk.glob("usr/lib/systemd/system-generators/*")]
        for masked in (*(f"system/{unit}" for unit in UNNEEDED), *(f"system-generators/{each}" for each in generators)):
            (etc / masked).symlink_to("/dev/null")

    def _format(self) -> None:
        argv = ["mke2fs", "-q", "-t", "ext4", "-E", "nodiscard", "-d", str(self.disk), str(self._image), DISK]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BootFailed(f"no disk for {self.name}: {done.stderr}")

    def _start(self) -> None:
        folder = self._keeper.folder
        for name in ("to", "from"):
            (folder / name).unlink(missing_ok=True)
            os.mkfifo(folder / name)
        # Opened here first, so that neither side waits for the other.
        self._to = os.open(folder / "to", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._from = os.open(folder / "from", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        clock = f"systemd.clock_usec={round((time.time() + self.ahead) * 1e6)}"
        # A PID namespace within the keeper's: the end of the kernel is then the end of all its processes.
        own_pids = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
        uml = shlex.join(["env", "TMPDIR=machine", *own_pids, "linux.uml", *OPTIONS, clock])
        self._child = self._keeper.start(f"{uml} </dev/null >machine/console.log 2>&1 3<machine/to 4>machine/from")

    def _receive(self, number: int, deadline: float) -> Any:
        """The answer to a request; answers to earlier ones, which nobody waits for any more, are passed over."""
        while True:
            *lines, self._received = self._received.split(b"\n")
            for line in lines:
                if line.startswith(b"{") and (message := json.loads(line))["id"] == number:
                    return message
            self._wait(deadline)
            self._received += os.read(self._from, 65536)

    def _wait(self, deadline: float, *, writing: bool = False) -> None:
        """Wait until the line has something for us, or takes something from us."""
        if self._child is None:
            raise Died("is off")
        left = max(0.0, deadline - time.monotonic())
        readers, writers = ([], [self._to]) if writing else ([self._from], [])
        readable, writable, _ = select.select([*readers, self._child.pidfd], writers, [], left)
        if self._child.pidfd in readable:
            raise Died("has died")
        if not readable and not writable:
            raise Died("does not answer")


def _children(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):  # it has ended already
        yield from map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
