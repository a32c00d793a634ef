"""A Supabase project with our tables, as `lshctl supabase migrate` leaves it."""

from collections.abc import Iterator
from contextlib import contextmanager

from lsh_systemd import schema
from tests.supabase.stack import Stack


@contextmanager
def project() -> Iterator[Stack]:
    with Stack() as stack:
        for each in schema.bundled():
            stack.sql(each.sql)
        stack.stop("postgrest")  # it reads the schema anew when it feels like it
        stack.start("postgrest")
        yield stack
