"""The house stands as CONTRIBUTING.md describes it: its floors, its one door to each outside world, its sizes."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PACKAGE = PROJECT / "lsh_systemd"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 400

# A module imports from lower floors and from its own; on floor 2, where each module is the door to one thing outside,
# never from its own. A package (cli, api) counts as one module.
FLOORS = {
    0: "errors progress",
    1: "alertrule alerttext audit bounds calendar_text credentials cron cronjobs crontab danger dated describe "
    "drawing envtext failure filling finding fold gap hints hooks insights instants interrupts job jobexport jobfields "
    "jobfile jobschema jobspec jobtemplate kubernetes located loglines mirrored nomad plainfile playbook plots "
    "pythonjobs pythonspec queueing retry rollup rows run said sandbox schedule scope sharing shellwords span "
    "spec stats surprises text timetable unit writers zones",
    2: "alertfile analyze caps checkout config cputime crontabs environment figures heldruns host ics interpreter "
    "journal manager notify probe queue remote sayings schema scripts seal shellcheck specfiles ssh stamps store "
    "storefile teamfiles underway unitdir vault",
    3: "alerts applying backups batch catchup checks claims collector connect control crowd daemons delivery digest "
    "dispatch doctor elapses explaining fleet fleetorders fleetqueue follow held importer jobs ledger limits "
    "membership midway missed once outbox pythonrun refresh report retention runs secrecy standing status stuck "
    "sync teamsecrets trust unsent",
    4: "__init__ agent api cli jobmanager lsh",
}
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names.split()}

# Outside library → the module (or two) that may know it.
DOORS = {
    "pydbus": "manager",
    "gi": "manager",
    "systemd.journal": "journal",
    "sqlite3": "store storefile",  # its rows, and the file as a whole
    "icalendar": "ics",
    "recurring_ical_events": "ics",
    "supabase": "remote",
    "postgrest": "remote",
    "httpx": "remote",
    "cryptography": "seal",
    "apprise": "notify",
    "yaml": "located jobexport",
    "fastapi": "api",
    "starlette": "api",
    "uvicorn": "api",
    "prometheus_client": "api",
}


def _name(path: Path) -> str:
    """The module as the tables name it: `lsh_systemd/cli/add.py` is cli."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> Iterator[str]:
    """Every dotted name that a file imports, also in functions: `from a import b` is both a and a.b."""
    package = path.relative_to(PROJECT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *filter(None, [node.module])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _of_the_house(path: Path) -> set[str]:
    """The other modules of ours that a file imports."""
    modules = {found[1] for name in _imports(path) if (found := re.match(r"lsh_systemd\.(\w+)", name))}
    return {module for module in modules if (PACKAGE / f"{module}.py").exists() or (PACKAGE / module).is_dir()} - {
        _name(path)
    }


def _id(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", MODULES, ids=_id)
def test_every_module_has_a_floor(path: Path) -> None:
    assert _name(path) in FLOOR, f"{_id(path)} is on no floor: add it to FLOORS in {Path(__file__).name}"


@pytest.mark.parametrize("path", MODULES, ids=_id)
def test_modules_import_from_lower_floors_only(path: Path) -> None:
    own = FLOOR.get(_name(path), 0)
    highest = own - 1 if own == 2 else own
    too_high = {name: FLOOR[name] for name in _of_the_house(path) if FLOOR.get(name, 0) > highest}
    assert not too_high, f"{_id(path)} is on floor {own} and imports from {too_high}"


@pytest.mark.parametrize("path", MODULES, ids=_id)
def test_each_outside_library_has_one_door(path: Path) -> None:
    imported = set(_imports(path))
    wrong = {library for library, door in DOORS.items() if library in imported and _name(path) not in door.split()}
    assert not wrong, f"{_id(path)} imports {wrong}; only {[DOORS[library] for library in wrong]} may"


@pytest.mark.parametrize("folder", [PACKAGE, PROJECT / "tests"], ids=lambda folder: folder.name)
def test_a_file_is_read_in_one_sitting(folder: Path) -> None:
    lines = {str(path): len(path.read_text().splitlines()) for path in folder.rglob("*.py")}
    too_long = {path: count for path, count in lines.items() if count > MAX_LINES}
    assert not too_long, "find the two things that each of these does"


def _shell_scripts() -> list[Path]:
    scripts = [path for folder in (PACKAGE, PROJECT / "packaging", PROJECT / ".ci") for path in folder.rglob("*")]
    return sorted(path for path in scripts if path.is_file() and _shell(path))


def _shell(path: Path) -> str | None:
    """sh or bash, by the first line."""
    with path.open("rb") as file:
        found = re.match(rb"#!.*\b((?:ba|da)?sh)\b", file.readline(100))
    return found[1].decode() if found else None


@pytest.mark.parametrize("path", _shell_scripts(), ids=lambda path: str(path.relative_to(PROJECT)))
def test_shell_scripts_parse(path: Path) -> None:
    done = subprocess.run([_shell(path) or "sh", "-n", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_rules_see_what_they_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checker that finds nothing is only good if it can find something."""
    package = tmp_path / "lsh_systemd"
    (package / "cli").mkdir(parents=True)
    for name in ("store.py", "manager.py", "errors.py", "cli/__init__.py"):
        (package / name).touch()
    source = (
        "from lsh_systemd import manager, __version__\nfrom .errors import X\ndef f():\n from systemd import journal\n"
    )
    (package / "store.py").write_text(source)
    (package / "cli" / "add.py").write_text("from .. import store\nimport lsh_systemd.manager as m\nfrom . import x\n")
    monkeypatch.setitem(globals(), "PROJECT", tmp_path)
    monkeypatch.setitem(globals(), "PACKAGE", package)
    assert _of_the_house(package / "store.py") == {"manager", "errors"}
    assert "systemd.journal" in set(_imports(package / "store.py"))
    assert _of_the_house(package / "cli" / "add.py") == {"store", "manager"}
    with pytest.raises(AssertionError, match="floor 2"):
        test_modules_import_from_lower_floors_only(package / "store.py")


def test_the_map_has_a_row_for_each_floor() -> None:
    text = (PROJECT / "CONTRIBUTING.md").read_text().partition("| --- | --- |\n")[2].partition("\n\n")[0]
    assert [row[:3] for row in text.splitlines()] == [f"| {floor}" for floor in FLOORS]
