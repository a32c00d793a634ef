"""The stack that the tests of Supabase talk to, started once."""

from collections.abc import Iterator

import pytest

from lsh_systemd.remote import Remote, Target
from tests.supabase.project import migrated
from tests.supabase.stack import Stack


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
