"""The wheel and the sdist: all that lshctl needs at run time is in them, and it works from a venv."""

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
SHIPPED = ("lsh_systemd", "units", "packaging/man", "packaging/supabase", "pyproject.toml", "MANIFEST.in", "README.md")
SHIPPED_TOO = ("LICENSE", "CHANGELOG.md")


def _call(*argv: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, and the wheel that is built from it alone."""
    folder = tmp_path_factory.mktemp("dist")
    tree = folder / "tree"
    tree.mkdir()
    # A copy: setuptools leaves its own things in the tree.
    _call("sh", "-c", 'tar -c "$@" | tar -x -C "$0"', tree, *SHIPPED, *SHIPPED_TOO, cwd=PROJECT)
    backend = "from setuptools import build_meta; build_meta.build_{}('{}')"
    _call(sys.executable, "-c", backend.format("sdist", folder), cwd=tree)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder)
    _call(sys.executable, "-c", backend.format("wheel", folder), cwd=folder / sdist.name.removesuffix(".tar.gz"))
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


def test_nothing_that_runs_is_left_out(built: tuple[Path, Path]) -> None:
    sdist, wheel = built
    inside = set(zipfile.ZipFile(wheel).namelist())
    wanted = [
        path for path in (PROJECT / "lsh_systemd").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    migrations = list((PROJECT / "packaging/supabase/migrations").glob("*.sql"))
    assert len(wanted) > 100 and migrations
    assert {str(path.relative_to(PROJECT)) for path in wanted} <= inside
    assert {f"lsh_systemd/supabase_migrations/{path.name}" for path in migrations} <= inside
    units = {path.name for path in (PROJECT / "units").iterdir()}
    assert units == {name.rpartition("/")[2] for name in inside if "/share/lsh-systemd/units/" in name}
    with tarfile.open(sdist) as archive:
        assert {"build.py", "lshctl.1.rst"} <= {Path(name).name for name in archive.getnames()}


def test_it_works_from_a_venv(built: tuple[Path, Path], tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", system_site_packages=True, with_pip=False)
    python = tmp_path / "venv/bin/python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index")
    _call(*pip, "--disable-pip-version-check", built[1])
    assert _call(tmp_path / "venv/bin/lshctl", "--version", cwd=tmp_path).startswith("lshctl, version")
    # The unit of a user's agent, as `lshctl --user agent enable` writes it there.
    code = (
        f"import sys; sys.argv[0] = '{tmp_path}/venv/bin/lshctl'\nfrom lsh_systemd import daemons\n"
        "from lsh_systemd.scope import Scope\nprint(daemons._text('lsh-agent.service', Scope.USER))"
    )
    assert f"ExecStart={tmp_path}/venv/bin/lshctl --user agent run" in _call(python, "-c", code, cwd=tmp_path)
