"""The RPM and Arch's package: built by their own tools from the last commit, and installed by them into empty folders.

There are no mirrors of those distributions here: what they depend on is left out, and no scriptlet runs.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
# Beside the Python package.
INSTALLED = (
    "usr/bin/lsh usr/lib/lsh-systemd/record usr/lib/systemd/system/lsh-agent.service "
    "usr/lib/systemd/user/lsh-agent.service usr/lib/systemd/system-preset/50-lsh-systemd.preset "
    "usr/share/bash-completion/completions/lshctl usr/share/man/man1/lshctl.1.gz usr/share/man/man5/lsh-job.5.gz"
).split()


def call(*argv: str | Path, cwd: Path | None = None, **env: str) -> str:
    done = subprocess.run(argv, cwd=cwd, env=os.environ | env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}\n{done.stdout}{done.stderr}"
    return done.stdout


def check(root: Path) -> None:
    """All is there, and lshctl works from where it is."""
    missing = [name for name in INSTALLED if not (root / name).is_file()]
    # Compressed or not, that is the distribution's way.
    assert [name for name in missing if not (root / name).with_suffix("").is_file()] == []
    (package,) = root.glob("usr/lib/python3*/*-packages/lsh_systemd")
    shipped = {path.relative_to(PROJECT) for path in (PROJECT / "lsh_systemd").rglob("*.py")}
    assert {path.relative_to(package.parent) for path in package.rglob("*.py")} == shipped
    told = call("/usr/bin/python3", root / "usr/bin/lshctl", "--version", PYTHONPATH=str(package.parent))
    assert told.startswith("lshctl, version")
    for unit in (root / "usr/lib/systemd/system").glob("lsh-*.service"):
        for program in re.findall(r"^Exec\w+=[-+]?(/usr/\S+)", unit.read_text(), re.MULTILINE):
            assert (root / program.lstrip("/")).exists() or not program.startswith("/usr/lib/lsh"), (unit.name, program)


@pytest.mark.slow
def test_the_rpm(tmp_path: Path) -> None:
    call(PROJECT / "packaging/dev/rpm", tmp_path / "rpm", "--nodeps")
    (package,) = tmp_path.glob("rpm/noarch/*.rpm")
    root = tmp_path / "root"
    root.mkdir()
    call("rpm", "--root", root, "--install", "--nodeps", "--noscripts", package)
    check(root)
    call("rpm", "--root", root, "--verify", "--nodeps", "lsh-systemd")
    scripts = call("rpm", "--query", "--package", "--scripts", package)
    kinds = re.split(r"^(\w+) scriptlet \(using /bin/sh\):\n", scripts, flags=re.MULTILINE)[1:]
    assert kinds[::2] == ["postinstall", "preuninstall", "postuninstall", "posttrans"]
    for script in kinds[1::2]:
        subprocess.run(["sh", "-n"], input=script, text=True, check=True)


@pytest.mark.slow
def test_arch_s_package() -> None:
    # makepkg will not be root; pytest's folders are root's alone.
    folder = Path(call("mktemp", "--directory", "--tmpdir=/var/tmp", "lsh-arch.XXXXXX").strip())
    try:
        call("git", "-c", f"safe.directory={PROJECT}", "clone", "--quiet", f"file://{PROJECT}", folder / "clone")
        (folder / "bin").mkdir()
        (folder / "bin/python").symlink_to("/usr/bin/python3")
        call("chown", "--recursive", "nobody:", folder)
        own = {"HOME": str(folder), "PKGDEST": str(folder), "DEB_PYTHON_INSTALL_LAYOUT": "deb"}
        path = f"{folder}/bin:/usr/bin:/bin"
        call(*NOBODY, "makepkg", "--nodeps", cwd=folder / "clone/packaging/arch", PATH=path, **own)
        (package,) = folder.glob("*.pkg.tar*")
        root = folder / "root"
        (root / "db").mkdir(parents=True)
        pacman = ("pacman", "--root", root, "--dbpath", root / "db", "--noconfirm")
        elsewhere = ("--cachedir", root, "--gpgdir", root, "--hookdir", root, "--logfile", folder / "log")
        call(*pacman, *elsewhere, "--upgrade", "--nodeps", "--nodeps", "--noscriptlet", package)
        check(root)
        assert "0 altered files" in call(*pacman, "--query", "--check", "--check", "lsh-systemd")
        call("bash", "-n", PROJECT / "packaging/arch/lsh-systemd.install")
    finally:
        shutil.rmtree(folder)
