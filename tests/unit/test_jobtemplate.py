"""Templates: those that lshctl brings give valid jobs, and no value gives more than a value."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lsh_systemd import danger, specfiles
from lsh_systemd.errors import BadInput
from lsh_systemd.job import Job
from lsh_systemd.jobfields import instantiate
from lsh_systemd.jobfile import from_plain
from lsh_systemd.jobtemplate import Parameter, Template
from lsh_systemd.scope import Scope
from tests.tools import needs

SHIPPED = {each.id: each for each in specfiles.templates(Scope.SYSTEM).values() if not each.source}
SAMPLES: dict[str, Any] = {
    "path": "/srv/a b",
    "integer": 7,
    "boolean": True,
    "size": "1G",
    "span": "5m",
    "cron": "@daily",
}

# As the first document that lsh-systemd replaces has them, word for word.
SEED = [
    ("database-backup", "0 2 * * *", "backup",
     "pg_dump -h localhost -U postgres mydb > /backups/mydb_$(date +%Y%m%d).sql"),
    ("log-cleanup", "0 3 * * 0", "maintenance", 'find /var/log -name "*.log" -mtime +30 -delete'),
    ("disk-monitor", "*/15 * * * *", "monitoring",
     "df -h | awk '$5 > 80 {print $0}' | mail -s \"Disk Space Alert\" admin@example.com"),
    ("data-sync", "0 1 * * *", "data-processing", "rsync -av /data/ user@remote:/backup/data/"),
]  # fmt: skip


def made(template: Template, **given: Any) -> Job:
    fields, _ = instantiate(template, given, own={})
    return from_plain(fields)


def sample(parameter: Parameter) -> Any:
    if parameter.pattern:
        return "a.b" if parameter.default is None else parameter.default
    return parameter.choices[0] if parameter.choices else SAMPLES.get(parameter.type, "it's a b")


@pytest.mark.parametrize(("template", "schedule", "category", "command"), SEED)
def test_the_old_templates_are_as_they_were(template: str, schedule: str, category: str, command: str) -> None:
    job = made(SHIPPED[template])
    assert (job.id, job.schedule, job.category, job.command) == (template, (schedule,), category, command)


@pytest.mark.parametrize("own", [{"every": "1h"}, {"on_boot": True}, {"schedule": None}, {"calendar": ["daily"]}])
@pytest.mark.parametrize("template", SHIPPED.values(), ids=SHIPPED)
def test_a_schedule_takes_the_place_of_the_template_s(template: Template, own: dict[str, Any]) -> None:
    needed = {each.name: sample(each) for each in template.parameters if each.default is None}
    job = from_plain(instantiate(template, needed, own=own)[0])
    assert job.schedule == () and bool(job.activators) == (own != {"schedule": None})
    assert (job.catch_up or "none") == (template.job.get("catch_up", "none") if "calendar" in own else "none")


@pytest.mark.parametrize("template", SHIPPED.values(), ids=SHIPPED)
def test_a_shipped_template_gives_a_job_that_a_shell_can_read(template: Template) -> None:
    needed = {each.name: sample(each) for each in template.parameters if each.default is None}
    full = {each.name: sample(each) for each in template.parameters}
    for given_ in (needed, full):
        job = made(template, **given_)
        assert isinstance(job.command, str) and job.has_timer
        parsed = subprocess.run(["/bin/sh", "-n", "-c", job.command], capture_output=True, text=True, check=False)
        assert parsed.returncode == 0, parsed.stderr
        assert not [each for each in danger.look(job.command, env={}, cwd="/", stdin=None) if each.destroys]
        assert all(re.search(rf"\b{re.escape(need)}\b", job.command) for need in template.needs)
    assert template.description and all(each.description for each in template.parameters)


@needs("shellcheck")
@pytest.mark.parametrize("template", SHIPPED.values(), ids=SHIPPED)
def test_a_shipped_template_has_nothing_that_shellcheck_warns_of(template: Template) -> None:
    from lsh_systemd import shellcheck

    job = made(template, **{each.name: sample(each) for each in template.parameters if each.default is None})
    assert isinstance(job.command, str)
    assert shellcheck.remarks(job.command, job.shell) == []


@pytest.mark.parametrize(
    ("template", "given_", "said"),
    [
        ("database-backup", {"nix": "x"}, "has no parameter 'nix'"),
        ("postgres-backup", {}, "needs db"),
        ("log-cleanup", {"days": "0"}, "days cannot be 0"),
        ("log-cleanup", {"days": "x; rm -rf /"}, "whole number"),
        ("log-cleanup", {"folder": "var/log"}, "not an absolute path"),
        ("database-backup", {"db": "-f/etc/passwd"}, "may not begin with -"),
        ("database-backup", {"db": "a\nb"}, "invisible character"),
        ("database-backup", {"db": ["a", "b"]}, "no list"),
        ("postgres-backup", {"db": "a b"}, "db cannot be"),
        ("certificate-renewal", {"service": "x; id"}, "service cannot be"),
        ("journal-cleanup", {"size": "x"}, "is not a size"),
        ("restic-backup", {"repository": "/r", "paths": []}, "paths is empty"),
    ],
)
def test_a_wrong_value_is_refused(template: str, given_: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=re.escape(said)):
        made(SHIPPED[template], **given_)


def test_several_values_are_several_words() -> None:
    job = made(SHIPPED["restic-backup"], repository="/mnt/r b", paths=["/etc", "/my files"])
    assert "backup --quiet /etc '/my files' &&" in str(job.command)
    assert job.env["RESTIC_REPOSITORY"] == "/mnt/r b"


def test_own_templates_win_and_a_bad_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    file = tmp_path / "mine.yaml"
    file.write_text("templates: {data-sync: {job: {command: mine}}, own: {job: {command: x}}}")
    target, ids = specfiles.install(Scope.USER, file, replace=False)
    assert (target, ids) == (tmp_path / "lsh/templates.d/mine.yaml", ["data-sync", "own"])
    with pytest.raises(BadInput, match="is there already"):
        specfiles.install(Scope.USER, file, replace=False)
    found = specfiles.templates(Scope.USER)
    assert found["data-sync"].job == {"command": "mine"} and found["own"].source == str(target)
    assert found["log-cleanup"] == SHIPPED["log-cleanup"]
    target.write_text("templates:\n  x: {job: {}, parameters: {a: {type: nix}}}\n")
    with pytest.raises(BadInput, match=rf"{re.escape(str(target))}:2:3: 'nix' is no type"):
        specfiles.templates(Scope.USER)
    with pytest.raises(BadInput) as caught:
        specfiles.template(Scope.SYSTEM, "log-clenup")
    assert caught.value.hint == "did you mean log-cleanup?"


def offered(template: str, *params: str, **given: Any) -> Job:
    """The job whose runs bring what it declares."""
    fields, _ = instantiate(SHIPPED[template], given, own={"from_fleet": True, "params": list(params)})
    return from_plain(fields)


def test_what_runs_bring_is_a_variable_in_the_command() -> None:
    job = offered("database-backup", "db", "folder=/srv/.*", "OWN", host="h")
    assert job.command == 'pg_dump -h h -U postgres "$db" > "$folder"/"$db"_$(date +%Y%m%d).sql'
    assert job.env == {"db": "mydb", "folder": "/backups"}
    assert job.params == ("db=(?!-)[^/]+", "folder=(?=(?:/.*)\\Z)(?:/srv/.*)", "OWN")
    assert offered("log-cleanup", "days", days="7").env == {"days": "7"}


@pytest.mark.parametrize(
    ("parameter", "taken", "refused"),
    [
        (Parameter(name="a"), ["x", "a b"], ["", "-x", "../x"]),
        (Parameter(name="a", pattern="[a-z/]+"), ["x", "x/y"], ["", "X", "-x"]),
        (Parameter(name="a", type="path"), ["/", "/x y"], ["", "x"]),
        (Parameter(name="a", type="integer"), ["-7", "0"], ["", "x", "1.5", "9" * 19]),
        (Parameter(name="a", type="integer", min=0), ["0", "7"], ["-1"]),
        (Parameter(name="a", type="integer", min=1), ["1", "70"], ["0", "07"]),
        (Parameter(name="a", type="integer", min=3, max=12), ["3", "12"], ["2", "13", "1"]),
        (Parameter(name="a", type="boolean"), ["true", "false"], ["yes"]),
        (Parameter(name="a", type="choice", choices=("a.b", "c")), ["a.b", "c"], ["axb", ""]),
    ],
)
def test_the_pattern_of_what_runs_bring(parameter: Parameter, taken: list[str], refused: list[str]) -> None:
    for text in taken:
        assert re.fullmatch(parameter.run_pattern(), text)
        assert re.fullmatch(parameter.run_pattern(".*"), text)
    assert not any(re.fullmatch(parameter.run_pattern(), text) for text in refused)
    assert not re.fullmatch(parameter.run_pattern("Q"), taken[0])


@pytest.mark.parametrize(
    ("template", "name", "given"),
    [
        ("journal-cleanup", "size", {}),
        ("restic-backup", "paths", {"repository": "/r"}),
        ("restic-backup", "repository", {}),
        ("disk-space", "percent", {}),
    ],
)
def test_what_no_run_can_bring(template: str, name: str, given: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="no run can bring"):
        offered(template, name, **given)


@pytest.mark.parametrize("own", ["x)|(?:.*", "(?i)x", "(?x)x#", "(", "(?s).*"])
def test_a_job_s_own_pattern_cannot_widen_the_template_s(own: str) -> None:
    with pytest.raises(BadInput):
        Parameter(name="a", pattern="[a-z]+").run_pattern(own)


def test_each_template_that_is_shipped_is_run_with_the_real_tool() -> None:
    """On the booted machines, or, those for PostgreSQL, beside a real server."""
    tests = Path(__file__).parents[1]
    text = "".join((tests / name / "test_templates.py").read_text() for name in ("system", "supabase"))
    shipped = specfiles.templates(Scope.SYSTEM)
    assert len(shipped) > 15
    assert [name for name in shipped if f'"{name}"' not in text] == []
