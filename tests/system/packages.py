"""`python -m tests.system.packages [SUITE…]`: what `make packages` calls. The Debian packages of each release: built
there by its own tools, judged by its own lintian, and installed on a booted machine that has never seen the project.

A root to build in is made once and kept in .cache/roots as those of the machines are; packages end in .cache/packages.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.system import roots

PACKAGES = roots.CACHE / "packages"
_BUILD = "build-"  # before a suite's name
# What lintian of a newer release finds, and that of an older one would miss (debian/README.source).
_REDUNDANT = "redundant-priority-optional-field redundant-rules-requires-root-no-field".split()


def ensure(suite: str) -> Path:
    """The root to build in."""
    roots.ROOTS.mkdir(parents=True, exist_ok=True)
    wanted = ["build-essential", "lintian", *_build_depends()]
    key = hashlib.sha256(" ".join(wanted).encode()).hexdigest()[:12]
    root, unfinished = roots.ROOTS / f"{_BUILD}{suite}-{key}", roots.ROOTS / f"{_BUILD}{suite}.unfinished"
    with roots._locked(roots.ROOTS / f"{_BUILD}{suite}.lock"):
        if not root.is_dir():
            print(f"packages: making {root.relative_to(roots.PROJECT)}", flush=True)
            shutil.rmtree(unfinished, ignore_errors=True)
            roots._call(
                *("mmdebstrap", "--quiet", "--mode=root", "--variant=buildd", f"--include={','.join(wanted)}"),
                '--aptopt=Acquire::Check-Valid-Until "false"',
                *(suite, str(unfinished), *roots._mirror()),
            )
            unfinished.rename(root)
            roots._remove_outdated(f"{_BUILD}{suite}", current=root)
    return root


def _build_depends() -> list[str]:
    field = re.search(r"^Build-Depends:\n((?: .*\n)+)", (roots.PROJECT / "debian/control").read_text(), re.MULTILINE)
    assert field
    return [line.split()[0].rstrip(",") for line in field[1].splitlines()]


def build(suite: str) -> Path:
    """Build them and ask lintian; the folder where they are."""
    root, folder = ensure(suite), PACKAGES / suite
    roots._call(str(roots.PROJECT / "packaging/dev/deb"), "--in", str(root), str(root / "packages"))
    _lintian(suite, root)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(root / "packages", folder)
    return folder


def _lintian(suite: str, root: Path) -> None:
    changes = [f"/packages/{path.name}" for path in (root / "packages").glob("*.changes")]
    assert changes
    suppressed = ("--suppress-tags", ",".join(_REDUNDANT)) if suite == "forky" else ()
    argv = ["lintian", "--allow-root", "--pedantic", "--fail-on=error,warning,pedantic", *suppressed, *changes]
    done = subprocess.run(["chroot", str(root), *argv], capture_output=True, text=True, check=False)
    print(done.stdout + done.stderr, end="", flush=True)
    if done.returncode != 0:
        raise SystemExit(f"packages: lintian of {suite} finds something")


def main() -> None:
    for suite in sys.argv[1:] or roots.ALL_SUITES:
        folder = build(suite)
        print(f"packages: {suite}: {', '.join(sorted(path.name for path in folder.glob('*.deb')))}", flush=True)
        env = os.environ | {"LSH_SUITES": suite, "LSH_PACKAGES": str(folder)}
        argv = [sys.executable, "-m", "pytest", "tests/system/test_package.py", "-q"]
        subprocess.run(argv, env=env, cwd=roots.PROJECT, check=True)


if __name__ == "__main__":
    main()
