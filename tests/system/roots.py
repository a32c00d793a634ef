"""Debian roots to boot machines from, one a suite: made once, kept in .cache/roots, never written to again.

`python -m tests.system.roots [SUITE…]` makes those that are missing (all, by default) and prints their paths.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
CACHE = PROJECT / ".cache"
ROOTS = CACHE / "roots"

ALL_SUITES = {
    "bookworm": "systemd-252",  # the oldest that we support
    "trixie": "systemd-257",
    "forky": "systemd-newest",  # Debian's testing suite
}
# The one in between is for a run by hand: LSH_SUITES=trixie make test
SUITES = {name: ALL_SUITES[name] for name in (os.environ.get("LSH_SUITES") or "bookworm forky").split()}
PACKAGES = (
    "systemd systemd-sysv dbus dbus-user-session libpam-systemd polkitd passwd "
    "python3 python3-gi python3-pydbus python3-systemd tzdata tar gzip procps util-linux bsdutils curl "
    "openssh-client openssh-server git "
    # what templates call
    "borgbackup bsd-mailx certbot logrotate msmtp-mta openssl restic rsync smartmontools unattended-upgrades"
).split()
FROM_DEBIAN = {"pydbus", "systemd-python"}  # among PACKAGES already; pip would have to build them

# Where a machine sees the project. The same in every clone, readable to every user and outside /home, /root and /tmp,
# so that hardened units (ProtectHome=, PrivateTmp=) can read it too.
PROJECT_INSIDE = "/opt/lsh/project"
SITE_INSIDE = "/opt/lsh/site"
PYCACHE_INSIDE = "/opt/lsh/pycache"

# Nothing of these is under test; they start at odd moments, fail in a container, or would take this host's port 22.
MASKED = (
    "apt-daily.timer apt-daily-upgrade.timer certbot.timer dpkg-db-backup.timer fstrim.timer logrotate.timer "
    "smartmontools.service systemd-pstore.service unattended-upgrades.service "
    "console-getty.service getty@.service dev-hugepages.mount sys-fs-fuse-connections.mount "
    "ssh.service ssh.socket sshd-unix-local.socket sshd-vsock.socket"
).split()


def ensure(suite: str) -> Path:
    """The root of this suite, made now if it is not there yet (about half a minute)."""
    ROOTS.mkdir(parents=True, exist_ok=True)
    root = ROOTS / f"{suite}-{_recipe_key()}"
    with _locked(ROOTS / f"{suite}.lock"):
        if not root.is_dir():
            _build(suite, root)
            _remove_outdated(suite, current=root)
    return root


def _recipe_key() -> str:
    """Changes with this file and with the requirements: all that a root is made from."""
    recipe = Path(__file__).read_text() + "\n".join(_requirements())
    return hashlib.sha256(recipe.encode()).hexdigest()[:12]


def _requirements() -> list[str]:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["alerts"], *extras["api"], *extras["supabase"]]
    return [requirement for requirement in wanted if requirement not in FROM_DEBIAN]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two test runs at once, or two workers of one: the second waits and finds the root made."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(suite: str, root: Path) -> None:
    print(f"roots: making {root.relative_to(PROJECT)}", file=sys.stderr, flush=True)
    unfinished = ROOTS / f"{suite}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    _install_debian(suite, unfinished)
    _install_requirements(unfinished)
    _prepare(unfinished)
    _compile(unfinished)
    unfinished.rename(root)


def _remove_outdated(suite: str, *, current: Path) -> None:
    """What earlier recipes made, unless a machine stands on it still."""
    mounts = ""
    for process in Path("/proc").glob("[0-9]*/mountinfo"):
        with suppress(OSError):  # it has ended since
            mounts += process.read_text()
    for old in ROOTS.glob(f"{suite}-*"):
        if old != current and f"lowerdir=roots/{old.name}," not in mounts:
            shutil.rmtree(old, ignore_errors=True)


def _install_debian(suite: str, root: Path) -> None:
    _call(
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=apt",
        f"--include={','.join(PACKAGES)}",
        '--aptopt=Acquire::Check-Valid-Until "false"',  # a mirror may be a frozen snapshot
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        suite,
        str(root),
        *_mirror(),
    )


def _mirror() -> list[str]:
    """The mirror that this machine's own apt uses; none named: mmdebstrap's default."""
    targets = _call(
        "apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian", "Label: Debian"
    )
    return [uri for uri in targets.split() if uri.startswith(("http://", "https://"))][:1]


def _install_requirements(root: Path) -> None:
    """With this machine's pip, for the root's Python: the root needs neither pip nor a network."""
    python = (root / "usr/bin/python3").readlink().name
    _call(
        *(sys.executable, "-m", "pip", "install", "-qq", "--no-compile", "--root-user-action=ignore"),
        *("--python-version", python.removeprefix("python"), "--only-binary=:all:"),
        *("--target", str(root) + SITE_INSIDE),
        *_requirements(),
    )
    packages = root / "usr/local/lib" / python / "dist-packages"
    packages.mkdir(parents=True, exist_ok=True)
    # The project is read-only inside: compiled modules are kept elsewhere, or each start would compile them anew.
    (packages / "lsh-systemd.pth").write_text(
        f"import sys; sys.pycache_prefix = '{PYCACHE_INSIDE}'\n{PROJECT_INSIDE}\n{SITE_INSIDE}\n"
    )


def _prepare(root: Path) -> None:
    """The small things that make a folder a machine. Each boot's own (name, machine ID) are container.py's."""
    for unit in MASKED:
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    (root / "etc/machine-id").write_text("")
    (root / "var/log/journal").mkdir(exist_ok=True)  # makes the journal persistent
    (root / PROJECT_INSIDE.lstrip("/")).mkdir()
    pycache = root / PYCACHE_INSIDE.lstrip("/")
    pycache.mkdir()
    pycache.chmod(0o1777)  # users of the machine write there, too


def _compile(root: Path) -> None:
    """A new prefix is empty for the standard library as well: fill it once for all machines."""
    libraries = [SITE_INSIDE, "/usr/lib/python3/dist-packages", os.path.realpath(root / "usr/bin/python3")]
    libraries[-1] = "/usr/lib/" + Path(libraries[-1]).name
    _call("chroot", str(root), "python3", "-m", "compileall", "-q", "-x", "/(test|lib2to3|idlelib)/", *libraries)


def _call(*argv: str) -> str:
    """Run a tool; what it printed. A tool that is missing or fails ends the build with its own words."""
    if shutil.which(argv[0]) is None:
        raise RuntimeError(f"{argv[0]} is missing: `make setup` installs it")
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    with ThreadPoolExecutor() as pool:
        for root in pool.map(ensure, sys.argv[1:] or SUITES):
            print(root)


if __name__ == "__main__":
    main()
