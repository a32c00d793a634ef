"""What the command line promises without a systemd: help, imports, wrong words."""

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from lsh_systemd import cli

HEAVY = ("jinja2", "croniter", "fastapi", "supabase", "pydbus", "gi", "cryptography", "apprise", "sqlite3", "tomli_w")


def imported_by(*arguments: str) -> set[str]:
    """The modules that this command line imports, in a process of its own."""
    code = (
        "import sys\nfrom lsh_systemd.cli import main\n"
        f"try:\n    main({list(arguments)!r})\nexcept SystemExit:\n    pass\n"
        "print('\\n' + ' '.join(sys.modules))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return set(output.splitlines()[-1].split())


@pytest.mark.parametrize(
    "arguments", [["--help"], ["add", "--help"], ["list", "--help"], ["runs", "--help"], ["secrets", "--help"]]
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    assert imported_by(*arguments).isdisjoint(HEAVY)


def test_explain_imports_no_renderer_and_no_bus() -> None:
    assert imported_by("explain", "5 4 * * *").isdisjoint({*HEAVY} - {"sqlite3"})


@pytest.mark.parametrize("name", cli._COMMANDS)
def test_the_summary_of_each_command_is_its_docstring_s_first_sentence(name: str) -> None:
    command = cli.main.get_command(cli.main.make_context("lshctl", ["--help"], resilient_parsing=True), name)
    assert command is not None and command.help is not None
    first = command.help.split("\n")[0]
    assert first.startswith(cli._SUMMARIES[name].rstrip("."))


@pytest.mark.parametrize("package", ["gi", "pydbus"])
def test_what_only_the_distribution_has_is_told_where_it_is_missing(package: str) -> None:
    code = f"import sys\nsys.modules['{package}'] = None\nfrom lsh_systemd.cli import main\nmain(['agent', 'status'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    first, hint = done.stderr.splitlines()
    assert first == f"lshctl: the Python package {package} is missing"
    assert "pipx install --system-site-packages lsh-systemd" in hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user that the machine does not know")
def test_a_user_without_a_home_is_told() -> None:
    code = "import os\nfrom lsh_systemd.cli import main\nos.setuid(54321)\nmain(['--user', 'limits'])"
    environ = {name: value for name, value in os.environ.items() if name != "HOME" and not name.startswith("XDG_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environ)
    assert (done.returncode, done.stderr) == (2, "lshctl: this user has no home folder\n  set HOME\n")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["frobnicate"], "no such command"),
        (["explain", "61 * * * *"], "minute '61'"),
        (["explain", "* * * *"], "field"),
        (["explain", "0 0 * * *", "--tz", "Mars/Olympus"], "not a time zone"),
        (["explain", "0 0 * * *", "--from", "nonsense"], "not a point in time"),
        (["add", "x", "--priority", "11", "--", "true"], "priority 11 is not between"),
        (["add", "x", "--every", "-5m", "--", "true"], "not a time span"),
        (["add", "x", "--every", "5m", "--on-boot", "--", "true"], "exclude each other"),
        (["add", "x", "--tz", "Europe/Berlin", "--", "true"], "needs --schedule"),
        (["add", "x", "--env", "FOO", "--", "true"], "NAME=VALUE"),
        (["add", "x", "--env", "F-O=1", "--", "true"], "not a variable name"),
        (["add", "x", "--memory-max", "much", "--", "true"], "not a size"),
        (["add", "x", "--cpu-quota", "half", "--", "true"], "percent"),
        (["add", "x", "--schedule", "0 0 30 2 *", "--", "true"], "0 0 30 2"),
        (["add", "x\ny", "--", "true"], "U+000A"),
        (["add", "agent", "--", "true"], "taken by a unit of lsh-systemd"),
        (["add", "x", "--", " "], "the command is empty"),
        (["add", "x"], "missing argument"),
        (["add", "x", "--no-shell", "--", "-rm", "x"], "without a shell"),
    ],
)
def test_wrong_words_get_one_clear_error_and_status_2(arguments: list[str], expected: str) -> None:
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 2, result.output
    assert expected in result.output
    assert "Traceback" not in result.output
