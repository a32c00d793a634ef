"""Completion, as the shells ask for it: commands without importing them, jobs by the names of their unit files."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from lsh_systemd import cli

PROJECT = Path(__file__).resolve().parents[2]
HEAVY = {"jinja2", "gi", "pydbus", "sqlite3", "systemd", "tomli_w", "lsh_systemd.cli.add"}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a user with some jobs, and lshctl in the PATH."""
    units = tmp_path / "config/systemd/user"
    units.mkdir(parents=True)
    for name in ("lsh-daily-backup.service", "lsh-daily-backup.timer", "lsh-daily-mail.service", "lsh-tidy.service"):
        (units / name).touch()
    # Units of our own and of others, and a run beside its job: no jobs.
    for name in ("lsh-agent.service", "other.service", "lsh-tidy@7.service"):
        (units / name).touch()
    script = tmp_path / "bin/lshctl"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lsh_systemd.cli "$@"\n')
    script.chmod(0o755)
    yield {
        "PATH": f"{script.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(PROJECT),
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("lshctl li", ["list", "limits"]),
        ("lshctl show NOTHING", []),
        ("lshctl --user show d", ["daily-backup", "daily-mail"]),
        ("lshctl show --user d", ["daily-backup", "daily-mail"]),
        ("lshctl --user runs t", ["tidy"]),
        ("lshctl --user remove tidy daily-m", ["daily-mail"]),
        ("lshctl --user add x --after daily-b", ["daily-backup"]),
        ("lshctl --user prune --job ti", ["tidy"]),
        ("lshctl --user logs a", []),
        ("lshctl -H web1 --user show d", []),
        ("lshctl agent en", ["enable"]),
        ("lshctl list --ta", ["--tag"]),
        ("lshctl --hos", ["--host"]),
    ],
)
def test_bash_completes(home: dict[str, str], line: str, expected: list[str]) -> None:
    words = line.split()
    script = (
        'eval "$(lshctl completion bash)"\n'
        f"COMP_WORDS=({line}) COMP_CWORD={len(words) - 1}\n"
        '_lshctl_completion lshctl "${COMP_WORDS[COMP_CWORD]}"\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-eu", "-c", script], env=home, capture_output=True, text=True, check=True)
    assert done.stdout.split() == expected
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("shell", "function"), [("bash", "complete -o nosort -F"), ("zsh", "#compdef"), ("fish", "complete --")]
)
def test_each_shell_has_its_script(shell: str, function: str) -> None:
    for arguments, environ in (([shell], {}), ([], {"SHELL": f"/usr/bin/{shell}"})):
        result = CliRunner(env=environ).invoke(cli.main, ["completion", *arguments])
        assert result.exit_code == 0
        assert function in result.output


@pytest.mark.parametrize("shell", ["", "/bin/dash"])
def test_another_shell_is_told_so(shell: str) -> None:
    result = CliRunner(env={"SHELL": shell}).invoke(cli.main, ["completion"])
    assert result.exit_code == 2
    assert "which shell?" in result.output


@pytest.mark.parametrize("words", ["lshctl a", "lshctl --user show d"])
def test_a_tab_imports_nothing_heavy(home: dict[str, str], words: str) -> None:
    code = (
        "import sys\nfrom lsh_systemd.cli import main\n"
        "try:\n    main(prog_name='lshctl')\nexcept SystemExit:\n    pass\nprint('\\n' + ' '.join(sys.modules))"
    )
    asked = {"_LSHCTL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = subprocess.run([sys.executable, "-c", code], env=home | asked, capture_output=True, text=True, check=True)
    assert HEAVY.isdisjoint(done.stdout.splitlines()[-1].split())
