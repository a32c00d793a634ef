"""Jobs whose files were kept in memory are told as if they had been read this moment."""

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lsh_systemd import unit
from lsh_systemd.jobfile import from_plain
from lsh_systemd.jobs import Found, Jobs
from lsh_systemd.scope import Scope

NOW = datetime(2027, 1, 15, 12, tzinfo=UTC)
NAMES = ("one", "two")
DEFINITIONS = (
    {"command": "true", "every": "1h"},
    {"command": "fals", "every": "2h"},
    {"command": "true", "when_path": ["/tmp/x"]},
    {"command": "true"},
)
# Longer than the kernel's clock for files takes for a step.
TICK_SECONDS = 0.015
Step = tuple[str, str, int]


def told(jobs: Jobs) -> dict[str, tuple[object, ...]]:
    def of(found: Found) -> tuple[object, ...]:
        return found.job, found.files, found.pair, found.changed, found.problem, found.dir.path, found.transient

    return {found.id: of(found) for found in jobs.all()}


def act(folder: Path, step: Step) -> None:
    """Do as lshctl, an editor or an administrator would."""
    what, name, number = step
    service = folder / f"lsh-{name}.service"
    if what == "write":
        job = from_plain({"name": name, **DEFINITIONS[number]})
        files = unit.render(job, scope=Scope.USER, recorder="/bin/true", now=NOW, local_zone="UTC")
        for path in folder.glob(f"lsh-{name}.*"):
            path.unlink()
        for each, text in files.items():
            (folder / f".{each}").write_text(text)
            (folder / f".{each}").replace(folder / each)
    elif what == "edit" and service.exists():  # in its place, and just as long
        service.write_text(service.read_text().replace("lshctl", ("lshctl", "LSHCTL", "Lshctl", "lshCtl")[number]))
    elif what == "remove":
        (folder / f"lsh-{name}.{('service', 'timer', 'path', 'timer')[number]}").unlink(missing_ok=True)
    elif what == "enable":
        kind = ("timer", "path")[number % 2]
        link = folder / f"{kind}s.target.wants" / f"lsh-{name}.{kind}"
        link.parent.mkdir(exist_ok=True)
        link.unlink() if link.is_symlink() else link.symlink_to(f"../{link.name}")


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "HOME"):
        monkeypatch.setenv(name, str(tmp_path_factory.mktemp("home")))
    folder = Jobs(Scope.USER).lasting.path
    folder.mkdir(parents=True)
    return folder


STEPS = st.tuples(
    st.sampled_from(("write", "write", "edit", "remove", "enable")), st.sampled_from(NAMES), st.integers(0, 3)
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, max_size=6))
def test_what_is_kept_is_what_there_is(folder: Path, monkeypatch: pytest.MonkeyPatch, steps: list[Step]) -> None:
    monkeypatch.setattr("lsh_systemd.unitdir.GRAIN_NS", 0)  # what was written a moment ago is kept, too
    kept = Jobs(Scope.USER, keep=True)
    for step in steps:
        time.sleep(TICK_SECONDS)
        act(folder, step)
        time.sleep(TICK_SECONDS)
        for _ in range(2):  # as it is read, and as it was kept
            assert told(kept) == told(Jobs(Scope.USER)), step
        for name in NAMES:
            one, other = kept.find(name), Jobs(Scope.USER).find(name)
            assert (one and (one.job, one.pair)) == (other and (other.job, other.pair))


def test_only_what_has_settled_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Jobs(Scope.USER, keep=True)
    act(folder, ("write", "one", 0))
    assert kept.find("one") is not kept.find("one")  # its time would be the same, were it written once more
    monkeypatch.setattr("lsh_systemd.unitdir.GRAIN_NS", 0)
    time.sleep(TICK_SECONDS)
    found = kept.find("one")
    assert found is kept.find("one")
    act(folder, ("edit", "one", 1))
    assert kept.find("one") is not found
