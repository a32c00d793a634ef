"""The stack that the tests of Supabase talk to, started once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lsh_systemd.remote import Remote, Target
from tests.supabase.project import Host, migrated
from tests.supabase.stack import Stack
from tests.supabase.troubled import Troubled


@pytest.fixture(scope="session")
def supabase() -> Iterator[Stack]:
    """A stack shared with other tests, as empty as a new project."""
    with Stack() as stack:
        yield stack


@pytest.fixture(scope="session")
def project() -> Iterator[Stack]:
    """One that has the schema. It is shared, too: a test works on hosts of its own."""
    with migrated() as stack:
        yield stack


@pytest.fixture
def hosts_key(project: Stack) -> Iterator[Remote]:
    """The project as hosts talk to it."""
    remote = Remote(Target(url=project.url, key=project.secret_key))
    yield remote
    remote.close()


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A project of the module's own: its tests may break it."""
    with migrated() as stack:
        yield stack


@pytest.fixture
def line(stack: Stack) -> Iterator[Troubled]:
    """The way to it, which a test may have fail."""
    with Troubled(stack.url) as line:
        yield line


@pytest.fixture
def host(stack: Stack, line: Troubled, tmp_path: Path) -> Host:
    """One with a ledger of its own, at the other end of the line."""
    return Host(stack, tmp_path / "lsh.db", url=line.url)
