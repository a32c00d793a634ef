"""What is wanted and what there is → what is to be done; and files on disk that include each other."""

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsh_systemd import specfiles, unit
from lsh_systemd.applying import adoption, compare
from lsh_systemd.batch import Change
from lsh_systemd.errors import BadInput
from lsh_systemd.job import Job
from lsh_systemd.jobs import Found
from lsh_systemd.jobspec import Wanted, gather
from lsh_systemd.located import Place
from lsh_systemd.scope import Scope
from lsh_systemd.unitdir import UnitDir, UnitPair


def job(name: str = "a", **fields: Any) -> Job:
    return Job(**{"name": name, "command": "x", "schedule": ("0 2 * * *",), "applied": "web", **fields})


def files(one: Job) -> dict[str, str]:
    now = datetime(2026, 11, 22, tzinfo=UTC)
    return unit.render(one, scope=Scope.SYSTEM, recorder="/bin/true", now=now, local_zone="UTC")


def found(one: Job, *, enabled: bool = True, changed: bool = False, transient: bool = False) -> Found:
    texts = files(one)
    service, timer = texts.pop(one.unit), texts.pop(one.timer, "")
    pair = UnitPair(service=service, timer=timer, enabled=enabled, others=texts)
    return Found(id=one.id, job=one, pair=pair, dir=UnitDir(Path("/x")), transient=transient, changed=changed)


def wanted(one: Job, *, enabled: bool = True) -> Wanted:
    return Wanted(job=one, enabled=enabled, place=Place(file="a.yaml"))


A = job()
TABLE: list[tuple[list[Wanted], list[Found], dict[str, str]]] = [
    ([wanted(A)], [], {"a": "add"}),
    ([wanted(A)], [found(A)], {"a": "unchanged"}),
    ([wanted(A)], [found(A, enabled=False)], {"a": "change"}),
    ([wanted(A, enabled=False)], [found(A)], {"a": "change"}),
    ([wanted(A, enabled=False)], [found(A, enabled=False)], {"a": "unchanged"}),
    ([wanted(A)], [found(A, changed=True)], {"a": "change"}),
    ([wanted(A)], [found(A, transient=True)], {"a": "change"}),
    ([wanted(A)], [found(job(command="y"))], {"a": "change"}),
    # A job of somebody's own hand becomes the files'; one of another project, too.
    ([wanted(A)], [found(job(applied=None))], {"a": "change"}),
    ([wanted(A)], [found(job(applied="other"))], {"a": "change"}),
    # Only what apply has made for the same project goes.
    ([], [found(A)], {"a": "remove"}),
    ([], [found(job(applied=None))], {}),
    ([], [found(job(applied="other"))], {}),
    ([], [found(A, transient=True)], {}),
]


@pytest.mark.parametrize(("wants", "there", "actions"), TABLE)
def test_what_it_takes(wants: list[Wanted], there: list[Found], actions: dict[str, str]) -> None:
    steps = compare(wants, {each.id: each for each in there}, prune=frozenset({"web"}))
    assert {step.id: step.action for step in steps} == actions


def test_whose_a_job_was_is_said_and_another_project_s_is_not_taken() -> None:
    assert adoption(wanted(A), None) is adoption(wanted(A), A) is None
    by_hand = adoption(wanted(A), job(applied=None))
    assert by_hand and by_hand.message.startswith("a was made by hand")
    other = job(applied="other")
    with pytest.raises(BadInput, match="a is the project other's"):
        adoption(wanted(A), other)
    with pytest.raises(BadInput):
        adoption(wanted(A), other, prune=frozenset({"web"}))
    for said in (adoption(wanted(A), other, force=True), adoption(wanted(A), other, prune=frozenset({"other"}))):
        assert said and "was the project other's" in said.message


def test_the_difference_names_settings_and_hides_variables() -> None:
    (step,) = compare(
        [wanted(job(nice=5, env={"A": "new"}))], {"a": found(job(timeout=None, env={"A": "old"}), enabled=False)}
    )
    assert step.difference == {"env.A": ("***", "***"), "nice": (None, 5), "enabled": (False, True)}


def test_a_job_that_was_cut_off_is_written_anew() -> None:
    (step,) = compare([wanted(A)], {"a": found(A)}, suspect=frozenset({"a"}))
    assert step.action == "change"
    assert compare([], {"a": found(A)}) == []


jobs = st.builds(
    job,
    name=st.sampled_from("abc"),
    command=st.sampled_from("xy"),
    applied=st.sampled_from(["web", "other", None]),
    schedule=st.sampled_from([("0 2 * * *",), ()]),
)
projects = frozenset({"web"})


@given(
    st.lists(jobs, unique_by=lambda each: each.id),
    st.lists(st.tuples(jobs, st.booleans()), unique_by=lambda e: e[0].id),
)
def test_once_done_nothing_is_left_to_do(there: list[Job], wants: list[tuple[Job, bool]]) -> None:
    present = {each.id: found(each) for each in there}
    asked = [wanted(replace(each, applied="web"), enabled=enabled) for each, enabled in wants]
    steps = compare(asked, present, prune=projects)
    for step in steps:
        if step.wanted:
            present[step.id] = found(step.wanted.job, enabled=step.wanted.enabled and step.wanted.job.has_timer)
        else:
            del present[step.id]
    assert {step.action for step in compare(asked, present, prune=projects)} <= {"unchanged"}
    assert all(each.job in there for name, each in present.items() if name not in {want.job.id for want in asked})


def test_a_change_stops_no_timer_whose_phase_would_be_lost() -> None:
    every = job(schedule=(), every=datetime.resolution * 10**9)
    kept = Change(job=replace(every, command="y"), found=found(every), files=files(replace(every, command="y")))
    assert not kept.stops and not kept.new_timer
    assert Change(job=every, found=found(every), enabled=False, files=files(every)).stops
    assert Change(job=None, found=found(A)).goes == ("lsh-a.timer", "lsh-a.service")
    boot = job(schedule=(), on_boot=True)
    assert Change(job=boot, files=files(boot)).starts == ()


def test_files_are_found_followed_and_read_once(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.yaml").write_text("include: [sub/*.yaml, common.toml]\njobs: {a: {command: 'x {{ v }}'}}")
    (tmp_path / "b.json").write_text('{"include": "common.toml", "jobs": {"b": {"command": "x {{ v }}"}}}')
    (tmp_path / "common.toml").write_text('vars.v = "1"\n[jobs.c]\ncommand = "c"\n')
    (tmp_path / "sub/d.yaml").write_text("jobs: {d: {command: d}}")
    (tmp_path / ".hidden.yaml").write_text("- no")
    (tmp_path / "README").write_text("no")
    reader = specfiles.Reader()
    got = gather(reader.sources([str(tmp_path)]), templates={}, variables={}, environ={})
    assert not reader.refused and not got.refused
    assert {each.job.id: each.job.command for each in got.wanted} == {"a": "x 1", "b": "x 1", "c": "c", "d": "d"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("include: nix.yaml", "a.yaml:1:1: cannot read {0}/nix.yaml: No such file or directory"),
        ("jobs: {}\ninclude:\n- a.yaml", "a.yaml:3:3: {0}/a.yaml includes itself"),
        ("include: 7", "a.yaml:1:1: include must be a file, or a list of files"),
        ("include: nix/*.yaml", "a.yaml:1:1: {0}/nix is no folder (wildcards may stand in a file's name)"),
        ("include: '*.toml'", "a.yaml:1:1: no job file is called *.toml"),
        ("\xff", "a.yaml:1:1: it is not valid UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.yaml").write_bytes(text.encode("latin-1"))
    reader = specfiles.Reader()
    reader.sources([str(tmp_path / "a.yaml")])
    assert [str(each) for each in reader.refused] == [f"{tmp_path}/{said.format(tmp_path)}"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("loop.yaml", "cannot read"),
        ("pipe.yaml", "it is no plain file"),
        ('"a\\0.yaml"', "null"),
        ("'**.yaml'", "includes itself"),
        ("long0.yaml", "too many"),
        (".", "cannot read"),
    ],
)
def test_what_is_strange_is_told_and_no_more(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    for number in range(50):
        (tmp_path / f"long{number}.yaml").write_text(f"include: long{number + 1}.yaml")
    (tmp_path / "a.yaml").write_text(f"include: {name}")
    reader = specfiles.Reader()
    reader.sources([str(tmp_path / "a.yaml")])
    assert any(said in each.message for each in reader.refused), reader.refused


def test_on_the_command_line_a_pipe_of_the_shell_s_will_do(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.write(write, b"jobs: {a: {command: x}}")
    os.close(write)
    try:
        assert len(specfiles.Reader().sources([f"/dev/fd/{read}"])) == 1
    finally:
        os.close(read)
    os.mkfifo(tmp_path / "a.yaml")
    reader = specfiles.Reader()
    assert reader.sources([str(tmp_path / "a.yaml")]) == [] and "it is no plain file" in reader.refused[0].message


def test_what_is_no_job_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("jobs: []")
    for name in (tmp_path / "x.txt", tmp_path):
        with pytest.raises(BadInput, match="job file"):
            specfiles.Reader().sources([str(name)])
