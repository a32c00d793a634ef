"""The stack that the tests of Supabase talk to, started once."""

from collections.abc import Iterator

import pytest

from tests.supabase.stack import Stack


@pytest.fixture(scope="session")
def supabase() -> Iterator[Stack]:
    """A stack shared with other tests, as empty as a new project."""
    with Stack() as stack:
        yield stack
