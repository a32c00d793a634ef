"""The machines that the system tests run on, and what is kept of them when a test fails.

    def test_a(machine): …                      on both systemds, each booted once and shared by the tests
    def test_b(new_machine, suite): …           on both, a machine of its own: for tests that reboot, break or count
    def test_c(new_machine): new_machine("forky")
    def test_d(lsh): lsh("add", …)              on both, in both scopes: as root, and as bob with jobs of his own
    def test_e(uml): …                          on both, each with a kernel of its own, shared by tests: set the
                                                clock before you rely on it, reboot as you like, remove your jobs

Of the four pairs of systemd and scope a test of `lsh` runs in two: both systemds, both scopes, which with which differs
from test to test. LSH_MATRIX=all runs all four, in nearly twice the time.

With `-n 3 --dist loadgroup` the two suites run side by side, and OWN_MACHINES beside them.
"""

import os
import re
import shutil
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.system import roots
from tests.system.booted import Booted
from tests.system.lsh import Lsh
from tests.system.machine import Machine
from tests.system.uml import UmlMachine

JOURNALS = roots.CACHE / "test-journals"
TOOLS = "mmdebstrap systemd-nspawn nsenter unshare mount journalctl linux.uml mke2fs debugfs".split()
OWN_MACHINES = {
    *(
        "test_ansible",
        "test_api",
        "test_api_faults",
        "test_catch_up",
        "test_clock",
        "test_contract",
        "test_exact",
        "test_fleet_show",
        "test_ledger",
    ),
    *(
        "test_machine",
        "test_missed",
        "test_power",
        "test_readme",
        "test_refresh",
        "test_store",
        "test_sync",
        "test_team_secrets",
    ),
    "test_uml",
}
BEGINNING = datetime(2027, 1, 15, 12, tzinfo=UTC)  # where the clocks of the UML machines begin; tests go on from there

M = TypeVar("M", bound=Booted)
_running: list[Booted] = []
_began = pytest.StashKey[float]()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With --dist loadgroup all tests of a suite go to the same worker, and find the machines that are up there; those
    that mostly boot machines of their own go to a third.

    (The mark xdist_group would do it, had xdist not lost sight of it with pytest 9.2: its issue 1386.)
    """
    from xdist.scheduler import LoadGroupScheduling  # type: ignore[import-untyped]

    class BySuite(LoadGroupScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file, _, rest = nodeid.partition("::")
            parameters = rest.rpartition("[")[2]
            suite = next((name for name in roots.ALL_SUITES.values() if name in parameters), nodeid)
            return f"{file} {suite}" if Path(file).stem in OWN_MACHINES else suite

    return BySuite(config, log) if config.getoption("dist") == "loadgroup" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("LSH_MATRIX") == "all":
        return
    pairs = Counter(filter(None, map(_beside_the_pair, items)))
    left_out = {item for item in items if pairs[_beside_the_pair(item)] == 4 and not _on_its_diagonal(item)}
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


def _beside_the_pair(item: pytest.Item) -> str:
    """What a test is called without its systemd and scope; empty where it does not have both."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    if not {"suite", "scope"} <= parameters.keys():
        return ""
    suite, scope = roots.SUITES[parameters["suite"]], parameters["scope"]
    return item.nodeid.replace(suite, "", 1).replace(f"[{scope}-", "[-", 1).replace(f"-{scope}", "-", 1)


def _on_its_diagonal(item: pytest.Item) -> bool:
    """Whether this pair is one of the test's two."""
    parameters = item.callspec.params  # type: ignore[attr-defined]
    diagonal = list(roots.SUITES).index(parameters["suite"]) ^ (parameters["scope"] == "user")
    return bool(diagonal == zlib.crc32(_beside_the_pair(item).encode()) % 2)


@pytest.fixture(scope="session")
def _able_to_boot() -> None:
    """Without root or a tool there is nothing to test on: never passed over in CI, said aloud elsewhere."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        problem = f"booted machines need {', '.join(missing)}: `make setup` installs them"
    elif os.geteuid() != 0:
        problem = "booted machines need root: `make test` uses sudo"
    else:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(problem)
    pytest.skip(problem)


@pytest.fixture(scope="session", params=[pytest.param(suite, id=name) for suite, name in roots.SUITES.items()])
def suite(request: pytest.FixtureRequest) -> str:
    """A Debian suite; a test that asks for it, or for `machine`, runs once on each."""
    return str(request.param)


@pytest.fixture(scope="session")
def machine(suite: str, _able_to_boot: None) -> Iterator[Machine]:
    """A machine shared with other tests: leave it as you found it, and do not reboot it."""
    with ExitStack() as stack:
        yield _start(stack, Machine(suite))


@pytest.fixture
def new_machine(_able_to_boot: None) -> Iterator[Callable[..., Machine]]:
    """Boots machines for this test alone: new_machine(suite, nspawn_options=…). Several are fine."""
    with ExitStack() as stack:
        yield lambda suite, **options: _start(stack, Machine(suite, **options))


@pytest.fixture(scope="session")
def uml(suite: str, _able_to_boot: None) -> Iterator[UmlMachine]:
    """A machine with its own kernel, shared with other tests. Its clock is anywhere, its jobs are gone."""
    with ExitStack() as stack:
        yield _start(stack, UmlMachine(suite, clock=BEGINNING))


@pytest.fixture(params=["system", "user"])
def scope(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def lsh(machine: Machine, scope: str) -> Iterator[Lsh]:
    """lshctl on the shared machine; the jobs that a test makes are removed after it."""
    lsh = Lsh(machine, scope)
    yield lsh
    lsh.clean()


def _start(stack: ExitStack, machine: M) -> M:
    _running.append(machine)
    stack.callback(_running.remove, machine)
    stack.enter_context(machine)
    return machine


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[_began] = time.time()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[None]:  # the report, which is passed on as it is
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.failed and _running:
        path = JOURNALS / (re.sub(r"[^\w.-]+", "_", item.nodeid).strip("_") + ".journal.txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(_last_words(machine, item.stash[_began]) for machine in _running), errors="replace")
        report.sections.append(("the machine's journal", str(path.relative_to(roots.PROJECT))))
    return report  # type: ignore[return-value]


def _last_words(machine: Booted, since: float) -> str:
    """What helps to understand a failure; a machine that is in no state to tell must not hide the failure itself."""
    try:
        journal = machine.journal_text(since=since)
    except Exception as error:
        journal = f"no journal: {error}"
    return f"===== {machine.name} ({machine.suite})\n{journal}\n----- its console\n{machine.console()}"
