"""What the command line promises without a systemd: help, imports, wrong words."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lsh_systemd import cli
from tests.clirunner import CliRunner

HEAVY = (
    "jinja2",
    "croniter",
    "fastapi",
    "supabase",
    "pydbus",
    "gi",
    "cryptography",
    "apprise",
    "sqlite3",
    "tomli_w",
    "yaml",
)


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
    assert result.exit_code == 2, result.stderr
    assert expected in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without jobs and templates."""
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    return tmp_path


def test_what_is_wrong_with_job_files_is_told_without_a_systemd(home: Path) -> None:
    file = home / "jobs.toml"
    file.write_text('[jobs.a]\ncommand = "x"\n[jobs.b]\nschedule = "* * *"\ncommand = "x\x1b"\n[jobs.c]\n')
    result = CliRunner().invoke(cli.main, ["--user", "diff", "-f", str(file)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"{file}:5:13: no TOML: ")
    file.write_text('[jobs.a]\ncommand = "x"\n[jobs.b]\nschedule = "* * *"\ncommand = "x"\n[jobs.c]\n')
    result = CliRunner().invoke(cli.main, ["--user", "apply", "-f", str(file), "--json"])
    assert result.exit_code == 2
    told = json.loads(result.stdout)
    assert (told["applied"], told["jobs"]) == (False, [])
    assert [(each["line"], each["column"]) for each in told["refused"]] == [(4, 1), (6, 1)]
    assert result.stderr.splitlines()[-1] == "lshctl: 2 errors in job files; nothing was changed"


def test_templates_are_listed_shown_and_added(home: Path) -> None:
    run = CliRunner().invoke
    told = json.loads(run(cli.main, ["--user", "templates", "list", "--json"]).stdout)
    assert {"database-backup", "log-cleanup", "disk-monitor", "data-sync"} <= {each["id"] for each in told}
    shown = run(cli.main, ["--user", "templates", "show", "postgres-backup"]).stdout
    assert "Needs: pg_dump, find" in shown and "(required)" in shown
    (home / "own.yaml").write_text("templates: {own: {parameters: {n: {type: integer}}, job: {command: 'x {{ n }}'}}}")
    assert run(cli.main, ["--user", "templates", "add", str(home / "own.yaml")]).stdout.endswith("own.yaml: own\n")
    assert "own" in run(cli.main, ["--user", "templates", "list"]).stdout
    for words, said in [
        (["add", "--template", "own"], "needs n"),
        (["add", "--template", "own", "--set", "n=x"], "whole number"),
        (["add", "--template", "onw", "--set", "n=1"], "did you mean own?"),
        (["add", "x", "--set", "n=1", "--", "y"], "--set goes with --template"),
        (["export", "--format", "kubernetes"], "--image"),
        (["export", "--format", "nomad"], "--image"),
        (["export", "--image", "debian:13"], "--format kubernetes and nomad"),
    ]:
        result = run(cli.main, ["--user", *words])
        assert result.exit_code == 2 and said in result.stderr, result.stderr
