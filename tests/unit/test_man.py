"""The man pages: they say what there is, and read well in groff and mandoc."""

import importlib.util
import re
import subprocess
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest

from lsh_systemd import cli, jobfile
from lsh_systemd.config import Api, Config, Fleet, Supabase

PROJECT = Path(__file__).resolve().parents[2]


def _build() -> Any:
    spec = importlib.util.spec_from_file_location("build_man", PROJECT / "packaging/man/build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages() -> Mapping[str, str]:
    found: Mapping[str, str] = _build().pages()
    return found


@pytest.fixture(scope="module")
def read(pages: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The pages as one reads them, blanks made one."""
    folder = tmp_path_factory.mktemp("man")
    texts = {}
    for name, page in pages.items():
        (folder / name).write_text(page)
        done = subprocess.run(["mandoc", "-Tutf8", folder / name], capture_output=True, text=True, check=True)
        texts[name] = " ".join(re.sub(".\b", "", done.stdout).split())
    return texts


def test_mandoc_finds_nothing_to_warn_of(pages: Mapping[str, str], tmp_path: Path) -> None:
    assert sorted(pages) == ["lsh-agent.8", "lsh-job.5", "lsh.1", "lsh.toml.5", "lshctl.1"]
    for name, page in pages.items():
        (tmp_path / name).write_text(page)
        done = subprocess.run(
            ["mandoc", "-Tlint", "-W", "warning", tmp_path / name], capture_output=True, text=True, check=False
        )
        assert done.stdout == ""


def _commands(context: click.Context) -> list[click.Context]:
    group = context.command
    assert isinstance(group, click.Group)
    commands = [(name, group.get_command(context, name)) for name in group.list_commands(context)]
    own = [click.Context(each, info_name=name, parent=context) for name, each in commands if each and not each.hidden]
    return own + [deeper for each in own if isinstance(each.command, click.Group) for deeper in _commands(each)]


def test_every_command_and_option_is_told(read: Mapping[str, str]) -> None:
    found = _commands(click.Context(cli.main, info_name="lshctl"))
    assert len(found) > 60
    for context in found:
        usage = " ".join([context.command_path, *context.command.collect_usage_pieces(context)])
        assert usage.removeprefix("lshctl ") in read["lshctl.1"]
        for parameter in context.command.params:
            record = parameter.get_help_record(context)
            if record is not None:
                assert " ".join(record[0].split()) in read["lshctl.1"]


def test_every_field_setting_and_daemon_is_told(read: Mapping[str, str]) -> None:
    for field in jobfile.FIELDS:
        assert f" {field} " in read["lsh-job.5"]
    for table in (Config, Supabase, Api, Fleet):
        for setting in fields(table):
            assert re.search(rf"(\s|\[){setting.name}( =|\])", read["lsh.toml.5"]), setting.name
    for unit in (PROJECT / "units").glob("*"):
        assert unit.name.replace(".user.", ".") in read["lsh-agent.8"]


def test_a_page_is_the_same_at_each_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1790000000")
    first = _build().pages()
    assert first == _build().pages()
    assert '"2026-09-21"' in first["lsh.1"]
