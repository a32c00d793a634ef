"""The templates for PostgreSQL, with a real one; no machine is booted for it."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lsh_systemd import jobfields, specfiles
from lsh_systemd.scope import Scope
from tests.supabase.stack import Stack
from tests.system.booted import eventually


@pytest.fixture
def shop(supabase: Stack) -> Iterator[Stack]:
    supabase.sql("CREATE DATABASE shop")
    yield supabase
    supabase.sql("DROP DATABASE shop")


def run(stack: Stack, template: str, **values: str | int) -> subprocess.CompletedProcess[str]:
    """What the template's command does, as the user whom the database trusts."""
    fields, _ = jobfields.instantiate(specfiles.templates(Scope.SYSTEM)[template], values, own={})
    env = os.environ | {"PGHOST": "127.0.0.1", "PGPORT": str(stack.port), "PGUSER": "postgres"}
    return subprocess.run(["/bin/sh", "-c", fields["command"]], env=env, capture_output=True, text=True, check=False)


def restored(dump: Path) -> str:
    """The SQL that a dump in PostgreSQL's own format holds."""
    return subprocess.run(["pg_restore", "--file=-", dump], capture_output=True, text=True, check=True).stdout


def test_a_dump_is_whole_or_not_there_and_old_ones_go(shop: Stack, tmp_path: Path) -> None:
    old, others = tmp_path / "shop_20200101_000000.dump", tmp_path / "shops_20200101_000000.dump"
    for path in (old, others):
        path.touch()
        os.utime(path, (0, 0))
    for _ in range(2):  # the second may be within the same second
        assert run(shop, "postgres-backup", db="shop", folder=str(tmp_path)).stderr == ""
    assert not old.exists() and others.exists()
    dumps = sorted(tmp_path.glob("shop_*"))
    assert dumps and all(re.fullmatch(r"shop_\d{8}_\d{6}\.dump", path.name) for path in dumps)
    assert "PostgreSQL database dump complete" in restored(dumps[-1])
    assert dumps[-1].stat().st_mode & 0o077 == 0

    failed = run(shop, "postgres-backup", db="nothing", folder=str(tmp_path))
    assert failed.returncode != 0 and "nothing" in failed.stderr
    assert not list(tmp_path.glob("nothing_*.dump"))


def test_a_plain_dump_and_vacuum(shop: Stack, tmp_path: Path) -> None:
    folder = tmp_path / "with a space"
    folder.mkdir()
    done = run(shop, "database-backup", db="shop", host="127.0.0.1", folder=str(folder))
    assert (done.returncode, done.stderr) == (0, "")
    (dump,) = folder.iterdir()
    assert "PostgreSQL database dump complete" in dump.read_text()

    def vacuumed() -> int:
        return int(shop.sql("SELECT coalesce(sum(vacuum_count), 0) FROM pg_stat_sys_tables"))

    before = vacuumed()
    assert run(shop, "postgres-vacuum").returncode == 0
    eventually(lambda: vacuumed() > before)
