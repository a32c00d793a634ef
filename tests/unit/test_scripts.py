"""Who could change what a command or an import runs."""

import os
from pathlib import Path

import pytest

from lsh_systemd import checks, interpreter, pythonjobs, scripts
from lsh_systemd.checks import DangerousCommand
from tests.clirunner import CliRunner

BOB = 1000
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    for name in ("tasks.py", "shop/__init__.py", "shop/tasks.py"):
        (tmp_path / name).write_text("")
    return tmp_path


@as_root
@pytest.mark.parametrize(
    ("path", "owner", "mode", "sure"),
    [
        (".", 0, 0o755, []),
        (".", BOB, 0o755, [True]),
        (".", 0, 0o777, [True]),
        (".", 0, 0o1777, []),
        (".", 0, 0o1775, []),
        ("tasks.py", BOB, 0o755, [True]),
        ("tasks.py", 0, 0o666, [True]),
    ],
)
def test_who_may_replace_a_program(folder: Path, path: str, owner: int, mode: int, sure: list[bool]) -> None:
    os.chown(folder / path, owner, -1)
    (folder / path).chmod(mode)
    assert [certain for _, certain in scripts.weaknesses(str(folder / "tasks.py"), uid=0)] == sure
    # A link is replaced where it stands.
    (folder / "link").symlink_to("/bin/true")
    assert [certain for _, certain in scripts.weaknesses(str(folder / "link"), uid=0)] == (sure if path == "." else [])


@as_root
def test_of_a_group_it_is_doubtful(folder: Path) -> None:
    os.chown(folder, 0, BOB)
    folder.chmod(0o775)
    assert [certain for _, certain in scripts.weaknesses(str(folder / "tasks.py"), uid=0)] == [False]


@as_root
@pytest.mark.parametrize(
    ("path", "mode", "module"),
    [
        (".", 0o755, "tasks"),
        (".", 0o755, "nowhere.near"),
        ("shop", 0o755, "shop.tasks"),
        ("shop/__init__.py", 0o644, "shop.tasks"),
        ("shop/tasks.py", 0o644, "shop.tasks"),
    ],
)
def test_what_an_import_runs(folder: Path, monkeypatch: pytest.MonkeyPatch, path: str, mode: int, module: str) -> None:
    monkeypatch.delenv("LSH_ALLOW_DANGEROUS_COMMANDS", raising=False)
    assert checks.importing("/bin/true", module, folder) == []
    os.chown(folder / path, BOB, -1)
    with pytest.raises(DangerousCommand, match=f"{module} is not imported"):
        checks.importing("/bin/true", module, folder)
    monkeypatch.setenv("LSH_ALLOW_DANGEROUS_COMMANDS", "1")
    assert checks.importing("/bin/true", module, folder) != []


def test_a_sticky_folder_takes_new_files_from_everybody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LSH_ALLOW_DANGEROUS_COMMANDS", raising=False)
    folder.chmod(0o1777)
    with pytest.raises(DangerousCommand, match="is open to all"):
        checks.importing("/bin/true", "tasks", folder)


def test_what_is_refused_has_not_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lsh_systemd import cli

    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "HOME"):
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setenv("PYTHONPATH", str(Path(pythonjobs.__file__).parents[1]))
    monkeypatch.delenv("LSH_ALLOW_DANGEROUS_COMMANDS", raising=False)
    monkeypatch.chdir(folder)
    (folder / "tasks.py").write_text("open('ran', 'w')\n")
    assert interpreter.definitions(interpreter.choose(None, folder), "tasks", folder) == []
    (folder / "ran").unlink()
    (folder / "tasks.py").chmod(0o666)
    for verb in ("diff", "apply"):
        result = CliRunner().invoke(cli.main, ["--user", verb, "--python", "tasks"])
        assert result.exit_code == 2 and "everybody may change" in result.stderr
    assert not (folder / "ran").exists()
