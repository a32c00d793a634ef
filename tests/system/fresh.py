"""What the Debian package is tested with: the package itself, and fresh Debian roots to install it on.

A fresh root knows nothing of the project. It has apt's lists and its downloads of all that the package depends on, so
that a test needs no network, and yet finds out where a dependency is missing. (What it shares with roots.py is private
there: any change of that file makes all roots of all clones anew.)
"""

import hashlib
import os
import re
import shutil
import sys
from pathlib import Path

from tests.system import roots

FRESH = "fresh-"  # before a suite's name
PACKAGES = roots.CACHE / "deb-of-tests"
# Built elsewhere (by `make packages`), they are taken as they are.
BUILT = os.environ.get("LSH_PACKAGES")
_DEBIAN = "systemd systemd-sysv dbus dbus-user-session libpam-systemd passwd".split()
# What a package is made of, besides lsh_systemd/ itself.
_SOURCES = "debian units packaging pyproject.toml README.md LICENSE".split()


def ensure(suite: str) -> Path:
    """The fresh root of "fresh-SUITE", made now if it is not there yet (about half a minute)."""
    roots.ROOTS.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256((Path(__file__).read_text() + " ".join(_depends(suite))).encode()).hexdigest()[:12]
    root = roots.ROOTS / f"{suite}-{key}"
    with roots._locked(roots.ROOTS / f"{suite}.lock"):
        if not root.is_dir():
            _build(suite, root)
            roots._remove_outdated(suite, current=root)
    return root


def packages() -> dict[str, Path]:
    """The project's packages by name, built now if the project has changed since (half a minute)."""
    if BUILT:
        return _by_name(Path(BUILT))
    PACKAGES.mkdir(parents=True, exist_ok=True)
    with roots._locked(PACKAGES / "lock"):
        key, built = _sources_key(), PACKAGES / "built-from"
        if not built.exists() or built.read_text() != key:
            built.unlink(missing_ok=True)
            roots._call(str(roots.PROJECT / "packaging/dev/deb"), "--binary", str(PACKAGES))
            built.write_text(key)
    return _by_name(PACKAGES)


def _by_name(folder: Path) -> dict[str, Path]:
    return {path.name.partition("_")[0]: path for path in folder.glob("*.deb")}


def _sources_key() -> str:
    digest = hashlib.sha256()
    for source in ("lsh_systemd", *_SOURCES):
        path = roots.PROJECT / source
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(roots.PROJECT)} {file.stat().st_mode}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def _depends(suite: str) -> list[str]:
    """The Debian packages that ours depend on in that release, by name."""
    control = (roots.PROJECT / "debian/control").read_text()
    fields = "".join(re.findall(r"^Depends:\n((?: .*\n)+)", control, re.MULTILINE))
    names = {line.split()[0].rstrip(",") for line in fields.splitlines()}
    api = () if suite == f"{FRESH}bookworm" else ("python3-fastapi", "python3-uvicorn")
    return sorted({"python3", "curl", *api, *(name for name in names if not name.startswith(("$", "lsh-systemd")))})


def _build(suite: str, root: Path) -> None:
    print(f"roots: making {root.relative_to(roots.PROJECT)}", file=sys.stderr, flush=True)
    unfinished = roots.ROOTS / f"{suite}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    download = "apt-get install --quiet=2 --yes --download-only --no-install-recommends"
    roots._call(
        *("mmdebstrap", "--quiet", "--mode=root", "--variant=apt", f"--include={','.join(_DEBIAN)}"),
        '--aptopt=Acquire::Check-Valid-Until "false"',  # a mirror may be a frozen snapshot
        '--aptopt=APT::Install-Recommends "false"',
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--skip=cleanup/apt",  # lists and downloads stay
        f'--customize-hook=APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" {download} {" ".join(_depends(suite))}',
        *(suite.removeprefix(FRESH), str(unfinished), *roots._mirror()),
    )
    (unfinished / roots.PROJECT_INSIDE.lstrip("/")).parent.mkdir()
    roots._prepare(unfinished)
    unfinished.rename(root)


def older(package: Path, version: str, folder: Path) -> Path:
    """The same package as of an older version, of which there is none yet that was released."""
    tree, made = folder / "tree", folder / f"{package.name.partition('_')[0]}_{version}.deb"
    roots._call("dpkg-deb", "--raw-extract", str(package), str(tree))
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"^Version: .*$", f"Version: {version}", control.read_text(), flags=re.MULTILINE))
    roots._call("dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(made))
    shutil.rmtree(tree)
    return made
