"""The unit files of one scope on disk: read, written atomically, taken back where a step failed."""

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from lsh_systemd.errors import LshError, refused

# The largest job has a command of 128 KiB, a few times over.
_LARGEST_FILE = 4 * 2**20
_WANTS = "timers.target.wants"
_KINDS = ("timer", "path", "socket")
# From here on one sync of all file systems is cheaper than one of each file.
_MANY_FILES = 20


# The kernel writes times in steps of up to 10 ms.
GRAIN_NS = 100_000_000
# When a file was written and changed, its size, and which one it is.
Sign = tuple[int, int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class UnitPair:
    """The text of a job's unit files as they stand on disk. ``timer`` is empty where there is none; ``others`` are
    those that watch paths, sockets and other jobs, or hold hooks."""

    service: str
    timer: str
    enabled: bool
    others: Mapping[str, str] = field(default_factory=dict)


class UnitDir:
    """One folder of unit files. Raises LshError, with the reason, where the file system says no."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other lshctl's from changing jobs here at the same time."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise _refused("open", self.path, error) from None
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def services(self, prefix: str) -> list[str]:
        """The names of all .service files here that begin with ``prefix``, sorted. Folders and devices are no files."""
        try:
            with os.scandir(self.path) as entries:
                named = [each for each in entries if each.name.startswith(prefix) and each.name.endswith(".service")]
                return sorted(each.name for each in named if each.is_file())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _refused("read", self.path, error) from None

    def written(self) -> tuple[int, ...]:
        """When the folder, and those of its links, were last written to (ns since 1970; 0: there is none)."""
        return tuple(map(_written, self._folders))

    @cached_property
    def _folders(self) -> list[str]:
        return [str(self.path), *(str(self.path / _wants(f".{kind}")) for kind in _KINDS)]

    def enabled_timers(self, prefix: str) -> list[str]:
        """The names of all timers beginning with ``prefix`` that are started at boot, sorted."""
        try:
            with os.scandir(self.path / _WANTS) as entries:
                return sorted(
                    each.name for each in entries if each.name.startswith(prefix) and each.name.endswith(".timer")
                )
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _refused("read", self.path / _WANTS, error) from None

    def read(self, service: str, timer: str) -> UnitPair | None:
        """The pair of files, or None where there is no such service file."""
        text = self.text(service)
        if text is None:
            return None
        return UnitPair(service=text, timer=self.text(timer) or "", enabled=self.is_enabled(timer))

    def is_enabled(self, unit: str) -> bool:
        return os.path.islink(f"{self.path}/{_wants(unit)}/{unit}")  # noqa: PTH114  (a thousand paths cost 20 ms)

    def write(self, files: Mapping[str, str]) -> None:
        """Put all files in place, each whole or not at all; where a later one fails, the earlier ones stay."""
        staged: list[tuple[Path, Path]] = []
        many = len(files) > _MANY_FILES
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                staged.append((self._stage(name, text, sync=not many), self.path / name))
            if many:
                os.sync()
            # services last: a job is there from then on
            for temporary, final in sorted(staged, key=lambda pair: pair[1].suffix == ".service"):
                temporary.replace(final)
            self._show_change()
            sync_folder(self.path)
        except OSError as error:
            raise _refused("write", self.path, error) from None
        finally:
            for temporary, _ in staged:
                temporary.unlink(missing_ok=True)

    def remove(self, *names: str) -> None:
        try:
            for name in names:
                (self.path / name).unlink(missing_ok=True)
            sync_folder(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return  # the folder itself is not there
        except OSError as error:
            raise _refused("remove files from", self.path, error) from None

    def sweep(self, prefix: str) -> None:
        """Take away what writers of units that begin so have left here when they were killed."""
        with contextlib.suppress(OSError):
            for path in self.path.glob(f".{prefix}*"):
                path.unlink(missing_ok=True)

    def set_enabled(self, units: Mapping[str, bool]) -> None:
        """Have each unit started at boot, or not; the folders are synced once."""
        touched = set()
        try:
            for unit, wanted in units.items():
                link = self.path / _wants(unit) / unit
                if wanted != link.is_symlink():
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(f"../{unit}") if wanted else link.unlink()
                    touched.add(link.parent)
            for folder in touched:
                sync_folder(folder)
        except OSError as error:
            raise _refused("write", self.path, error) from None

    def enable(self, unit: str) -> None:
        """Have the timer (or path, or socket) started at boot, as EnableUnitFiles does.

        Not through D-Bus: from systemd 258 on, EnableUnitFiles marks every unit of the machine as "changed on disk,
        run daemon-reload" (seen on 262), and the reload takes a second for each thousand jobs.
        """
        self.want(unit, _wants(unit))

    def want(self, unit: str, wants_folder: str) -> None:
        """Have the unit started with a target: a link in the target's .wants folder."""
        wants = self.path / wants_folder
        try:
            wants.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                (wants / unit).symlink_to(f"../{unit}" if (self.path / unit).exists() else _packaged(unit, self.path))
            sync_folder(wants)
        except OSError as error:
            raise _refused("write", wants, error) from None

    def disable(self, unit: str) -> None:
        self.remove(f"{_wants(unit)}/{unit}")

    def _show_change(self) -> None:
        """Give the folder a modification time of its own.

        By that time systemd knows whether to look for new files. The kernel's own has a grain of 4 to 10 ms: of two
        jobs added within that, systemd would not find the second.
        """
        now = time.time_ns()
        os.utime(self.path, ns=(now, now))

    def text(self, name: str) -> str | None:
        """What a file holds; None where there is none."""
        try:
            # Not one that would block (a pipe) or never end (a device).
            descriptor = os.open(f"{self.path}/{name}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                self._saw(name, status)
                if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_FILE:
                    return None
                # Whatever bytes a hand edit left: they must come back out as they were.
                return file.read(status.st_size).decode("utf-8", "surrogateescape")
        except FileNotFoundError:
            self._saw(name, None)
            return None
        except OSError as error:
            raise _refused("read", self.path / name, error) from None

    def _saw(self, name: str, status: os.stat_result | None) -> None:
        """Called for each file that is read, as it was then; None where there is none."""

    def _stage(self, name: str, text: str, *, sync: bool) -> Path:
        """A finished copy beside the place where the file will be."""
        import tempfile  # only those who write pay for it

        descriptor, path = tempfile.mkstemp(prefix=f".{name[:100]}.", dir=self.path)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text.encode("utf-8", "surrogateescape"))
                file.flush()
                os.fchmod(descriptor, 0o644)
                if sync:
                    os.fsync(descriptor)
        except BaseException:
            Path(path).unlink(missing_ok=True)
            raise
        return Path(path)


class WatchedDir(UnitDir):
    """The same folder, noting all that is read of it, so that one can tell later whether it would be read again."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._files: dict[str, Sign | None] = {}
        self._links: dict[str, bool] = {}
        self._until_ns = time.time_ns() - GRAIN_NS

    def _saw(self, name: str, status: os.stat_result | None) -> None:
        self._files[str(self.path / name)] = _sign(status) if status else None

    def is_enabled(self, unit: str) -> bool:
        enabled = super().is_enabled(unit)
        self._links[str(self.path / _wants(unit) / unit)] = enabled
        return enabled

    @property
    def is_settled(self) -> bool:
        """Whether a later change would show: not that of a file which has just been written, as its time may be the
        same once more."""
        return all(sign is None or max(sign[:2]) < self._until_ns for sign in self._files.values())

    def is_as_before(self) -> bool:
        """Whether all that was read is still what it was."""
        for path, sign in self._files.items():
            if _now(path) != sign:
                return False
        islink = os.path.islink
        return all(islink(path) == there for path, there in self._links.items())


def _written(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns  # noqa: PTH116  # for each request
    except OSError:
        return 0


def _sign(status: os.stat_result) -> Sign:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev


def _now(path: str) -> Sign | None:
    try:
        return _sign(os.stat(path))  # noqa: PTH116  # a thousand times in a row: Path would be most of it
    except OSError:
        return None


def _wants(unit: str) -> str:
    """lsh-x.path → paths.target.wants."""
    return f"{unit.rpartition('.')[2]}s.target.wants"


def _packaged(unit: str, beside: Path) -> Path:
    """Where a package has put the unit: the name of the folder tells the scope."""
    return Path("/usr/lib/systemd") / beside.name / unit


def sync_folder(folder: Path) -> None:
    """Have what was renamed or removed in the folder so on the disk, too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refused(verb: str, path: Path, error: OSError) -> LshError:
    hint = "try sudo, or --user for jobs of your own" if isinstance(error, PermissionError) else None
    return refused(f"cannot {verb} {path}: {error.strerror or error}", error, hint=hint)
