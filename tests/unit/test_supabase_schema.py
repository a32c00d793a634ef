"""The migrations for Supabase as files, and a database's URL taken apart."""

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsh_systemd.errors import BadInput
from lsh_systemd.schema import Migration, bundled, newest, without_password

FOLDER = Path(__file__).resolve().parents[2] / "packaging/supabase/migrations"
HOST = "@db.abcdefgh.supabase.co:5432/postgres"


def test_every_file_is_brought_along() -> None:
    migrations = bundled()
    assert [each.file for each in migrations] == sorted(path.name for path in FOLDER.iterdir())
    assert len({each.version for each in migrations}) == len(migrations) > 2
    assert newest(migrations) == migrations[-1].version


@pytest.mark.parametrize("migration", bundled(), ids=lambda each: each.name)
def test_each_says_what_it_is_for_and_that_it_is_there(migration: Migration) -> None:
    lines = migration.sql.splitlines()
    assert lines[0].startswith("-- ")
    assert lines[-1] == f"insert into public.lsh_schema (version) values ('{migration.version}');"


@pytest.mark.parametrize(
    ("url", "bare", "password"),
    [
        (f"postgresql://postgres:secret{HOST}", f"postgresql://postgres{HOST}", "secret"),
        (f"postgres://postgres.abcdefgh:p%40ss{HOST}?sslmode=require\n", None, "p@ss"),
        (f"postgresql://postgres:p@s/s:?#w{HOST}", f"postgresql://postgres{HOST}", "p@s/s:?#w"),
        (f"postgresql://postgres:{HOST}", f"postgresql://postgres{HOST}", ""),
        (f"postgresql://postgres{HOST}", f"postgresql://postgres{HOST}", ""),
        ("postgresql:///lsh?host=/run/postgresql", "postgresql:///lsh?host=/run/postgresql", ""),
        ("postgres://localhost:5432/lsh", "postgres://localhost:5432/lsh", ""),
    ],
)
def test_a_password_is_taken_out(url: str, bare: str | None, password: str) -> None:
    assert without_password(url) == (bare or f"postgres://postgres.abcdefgh{HOST}?sslmode=require", password)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=40))
def test_any_password(password: str) -> None:
    assert without_password(f"postgresql://u:{quote(password, safe='')}{HOST}") == (f"postgresql://u{HOST}", password)


@pytest.mark.parametrize(
    "url",
    ["", "db", "https://x", "host=h password=secret", "postgresql://u@h/d?password=secret", "postgresql://h/a secret"],
)
def test_what_is_none_is_not_repeated(url: str) -> None:
    with pytest.raises(BadInput) as caught:
        without_password(url)
    assert "secret" not in f"{caught.value.message} {caught.value.hint}"
