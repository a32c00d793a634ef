"""Jobs that are Python functions: what the decorator takes, what becomes of it, and what their runs tell."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lsh_systemd import cli, interpreter, pythonjobs, pythonspec, said
from lsh_systemd.errors import BadInput
from lsh_systemd.pythonjobs import Outcome, job, outcome_of
from tests.clirunner import CliRunner


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(pythonjobs, "_definitions", {})
    yield


def defined(**options: Any) -> dict[str, Any]:
    @job(id="x", **options)
    def function(context: object) -> None: ...

    return pythonjobs.defined(__name__)["x"].to_json()


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({}, {}),
        ({"schedule": "0 2 * * *"}, {"schedule": ["0 2 * * *"]}),
        ({"schedule": ["0 2 * * *", "0 4 * * *"]}, {"schedule": ["0 2 * * *", "0 4 * * *"]}),
        ({"timeout": 120}, {"timeout": "2min"}),
        ({"timeout": "2m"}, {"timeout": "2min"}),
        ({"timeout": timedelta(seconds=1.5)}, {"timeout": "1s 500ms"}),
        ({"max_retries": 2, "retry_delay": "5s"}, {"retries": 2, "retry_delay": "5s"}),
        ({"name": "X!"}, {"name": "X!"}),
        ({"name": "My New Job"}, {"description": "My New Job"}),
        ({"name": "My New Job", "description": "What it does"}, {"description": "What it does"}),
        ({"memory_max": "512M", "env": {"A": "1"}}, {"memory_max": "512M", "env": {"A": "1"}}),
    ],
)
def test_what_the_decorator_takes(options: dict[str, Any], fields: dict[str, Any]) -> None:
    told = defined(**options)
    assert told["fields"] == {"name": "x"} | fields
    assert (told["file"], told["enabled"]) == (__file__, True)
    found, refused = pythonspec.wanted(
        [told], module=__name__, interpreter="/srv/.venv/bin/python", folder="/srv", environ={}
    )
    assert refused == []
    command = ("/srv/.venv/bin/python", "-u", "-P", "-m", "lsh_systemd.pythonrun", "run", "/srv", __name__, "x")
    assert (found[0].job.command, found[0].job.working_dir, found[0].job.id) == (command, "/srv", "x")
    assert found[0].job.applied == f"python-{__name__}"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"id": "X y"}, "no id of a job"),
        ({"id": ""}, "no id of a job"),
        ({"id": "x", "command": "true"}, "cannot have the field command"),
        ({"id": "x", "timeout": "soon"}, "not a time span"),
        ({"id": "x", "timeout": float("nan")}, "no number of seconds"),
        ({"id": "x", "timeout": float("inf")}, "no number of seconds"),
        ({"id": "x", "timeout": ["2m"]}, "timeout must be"),
        ({"id": "x", "enabled": "no"}, "enabled of the job x"),
    ],
)
def test_what_the_decorator_refuses(options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        job(**options)


def test_what_is_no_function_is_refused() -> None:
    class Callable:
        def __call__(self, context: object) -> None: ...

    for what in (Callable(), Callable, functools.partial(print, 1)):
        with pytest.raises(BadInput, match="must be a function"):
            job(id="x")(what)
    assert pythonjobs.defined(__name__) == {}


def test_two_of_one_id_are_refused() -> None:
    defined()
    with pytest.raises(BadInput, match="two jobs x"):
        defined()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"schedule": ["61 * * * *"]}, "x: minute '61'"),
        ({"schedule": ["${BACKUP_SCHEDULE}"]}, "BACKUP_SCHEDULE is not set"),
        ({"colour": "red"}, "not a field of a job"),
    ],
)
def test_what_stands_against_a_job_is_told_with_its_place(fields: dict[str, Any], said: str) -> None:
    told = {"id": "x", "file": "/srv/tasks.py", "line": 7, "enabled": True, "fields": {"name": "x"} | fields}
    found, (remark,) = pythonspec.wanted([told], module="tasks", interpreter="/bin/python", folder="/srv", environ={})
    assert found == [] and said in remark.message
    assert str(remark.place) == "/srv/tasks.py:7:1"


def test_whether_it_is_enabled_is_told_by_no_word() -> None:
    told = defined() | {"enabled": "no"}
    found, (remark,) = pythonspec.wanted([told], module="m", interpreter="/bin/python", folder="/srv", environ={})
    assert found == [] and "enabled must be" in remark.message


def test_schedules_come_from_the_environment() -> None:
    told = defined(schedule="${BACKUP_SCHEDULE}")
    environ = {"BACKUP_SCHEDULE": "0 5 * * *"}
    ((found,), _) = pythonspec.wanted([told], module="m", interpreter="/bin/python", folder="/srv", environ=environ)
    assert (found.job.schedule, found.job.schedule_from) == (("0 5 * * *",), ("${BACKUP_SCHEDULE}",))


@pytest.mark.parametrize(
    ("returned", "outcome"),
    [
        (None, Outcome()),
        (True, Outcome()),
        (False, Outcome(success=False)),
        (Outcome(message="m"), Outcome(message="m")),
        ({"success": False, "message": "m"}, Outcome(success=False, message="m")),
        ({"success": True, "metrics": {"n": 1}}, Outcome(metrics={"n": 1})),
        (3, None),
        ("done", None),
        ({"message": "m"}, None),
        ({"success": True, "colour": "red"}, None),
    ],
)
def test_what_a_function_may_return(returned: Any, outcome: Outcome | None) -> None:
    if outcome is None:
        with pytest.raises(TypeError, match="the job returned"):
            outcome_of(returned)
    else:
        assert outcome_of(returned) == outcome


MODULE = """
print("noise")
from lsh_systemd.pythonjobs import Outcome, job

@job(id="good", timeout=60)
async def good(context):
    soon = context.remaining.total_seconds() < 61
    context.logger.info("run %s, attempt %d, %s", context.run_id, context.attempt, soon)
    context.progress(40, 100, "copying")
    context.metrics(items=1.5, errors=0)
    return Outcome(message="all\\ndone", metrics={"items": 2})

@job(id="bad")
def bad(context):
    raise ValueError("no way")

@job(id="numberless")
def numberless(context):
    return {"success": True, "metrics": {"n": float("nan")}}
"""


@pytest.mark.parametrize(
    ("name", "status", "message", "metrics", "output"),
    [
        ("good", 0, "all done", {"items": 2, "errors": 0}, "INFO lsh.good: run abc, attempt 2, True"),
        ("bad", 1, "ValueError: no way", {}, ", in bad"),
        ("numberless", 1, "BadInput", {}, "Traceback"),
        ("gone", 1, None, {}, "defines no job gone any more"),
    ],
)
def test_a_run(
    tmp_path: Path, name: str, status: int, message: str | None, metrics: dict[str, Any], output: str
) -> None:
    (tmp_path / "tasks.py").write_text(MODULE)
    (tmp_path / "attempt").write_text("2\n")
    environ = os.environ | {"LSH_METRICS": str(tmp_path / "metrics"), "INVOCATION_ID": "abc"}
    call = [sys.executable, *pythonspec.RUNNER]
    environ["PYTHONPATH"] = str(Path(pythonjobs.__file__).parents[1])
    given: dict[str, Any] = {"cwd": "/", "env": environ, "capture_output": True}
    listed = subprocess.run([*call, "list", str(tmp_path), "tasks"], **given, check=True)
    assert [each["id"] for each in json.loads(listed.stdout)] == ["good", "bad", "numberless"]
    done = subprocess.run([*call, "run", str(tmp_path), "tasks", name], **given, text=True, check=False)
    assert (done.returncode, output in done.stderr) == (status, True), done.stderr
    told = said.parse((tmp_path / "metrics").read_text()) if message else said.Said()
    assert dict(told.metrics) == metrics and (told.message or "").startswith(message or "")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "what is to be applied?"),
        (["-f", "x.yaml", "--interpreter", "python"], "--interpreter goes with --python"),
        (["--python", "no module"], "is no module"),
        (["--python", "tasks", "--git", "https://git.example/x"], "exclude each other"),
        (["--python", "tasks", "--interpreter", "nowhere/python"], "is no program"),
        (["--python", "tasks", "--interpreter", "/bin/true"], "is no Python"),
        (["--python", "broken"], "cannot import broken: 'ZeroDivisionError"),
        (["--python", "nothing_such"], "No module named"),
        (["--python", "everybodys"], "everybodys is not imported: everybody may change"),
    ],
)
def test_wrong_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], expected: str) -> None:
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(pythonjobs.__file__).parents[1]))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("1/0\n")
    (tmp_path / "everybodys.py").write_text(
        "from lsh_systemd.pythonjobs import job\n@job(id='x')\ndef x(context): ...\n"
    )
    (tmp_path / "everybodys.py").chmod(0o666)
    result = CliRunner().invoke(cli.main, ["--user", "apply", *words])
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert expected in result.stderr


def test_where_a_job_works_nothing_is_imported_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(pythonjobs.__file__).parents[1]))
    (home := tmp_path / "home").mkdir()
    (work := tmp_path / "work").mkdir()
    (home / "tasks.py").write_text(
        "import os, helper\nfrom lsh_systemd.pythonjobs import job\n"
        f"@job(id='x', working_dir={str(work)!r})\ndef x(context): print(os.getcwd(), helper.word)\n"
    )
    (home / "helper.py").write_text("word = 'good'\n")
    planted = [work / name for name in ("helper.py", "json.py", "lsh_systemd/__init__.py", "lsh_systemd/pythonrun.py")]
    (work / "lsh_systemd").mkdir()
    for path in planted:
        path.write_text("raise SystemExit('planted')\n")
    told = interpreter.definitions(sys.executable, "tasks", home)
    ((found,), refused) = pythonspec.wanted(
        told, module="tasks", interpreter=sys.executable, folder=str(home), environ={}
    )
    assert refused == [] and found.job.working_dir == str(work)
    done = subprocess.run(found.job.command, cwd=found.job.working_dir, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == (f"{work} good\n", "", 0)


def test_a_project_s_python_needs_no_other_package() -> None:
    """Of ours, jobs import what is of the standard library alone: their Python has none of our packages."""
    code = "import sys\nbefore = set(sys.modules)\nfrom lsh_systemd import pythonrun\nprint(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    packages = {name.split(".")[0] for name in done.stdout.split() if not name.startswith("_")}
    assert packages - sys.stdlib_module_names == {"lsh_systemd"}
