"""What lshctl export says beside what it writes."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from lsh_systemd import cli, unit
from lsh_systemd.job import Job
from lsh_systemd.scope import Scope
from lsh_systemd.unitdir import UnitDir
from tests.clirunner import CliRunner


@pytest.mark.parametrize("form", ["yaml", "toml", "json"])
def test_a_project_that_is_lost_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    now = datetime(2026, 11, 22, tzinfo=UTC)
    for name, project in (("a", "web"), ("b", "web"), ("c", "shop"), ("d", None)):
        job = Job(name=name, command="true", schedule=("0 2 * * *",), applied=project)
        files = unit.render(job, scope=Scope.USER, recorder="/bin/true", now=now, local_zone="UTC")
        UnitDir(tmp_path / "systemd/user").write(files)

    def export(*names: str) -> tuple[str, str]:
        result = CliRunner().invoke(cli.main, ["--user", "export", "--format", form, *names])
        assert result.exit_code == 0, result.stderr
        return result.stdout, result.stderr

    together, said = export("a", "b")
    assert "web" in together and said == ""
    for names in (("a", "c"), ("a", "d")):
        several, said = export(*names)
        assert "web" not in several and "web" in said
    assert "shop, web" in export()[1]
    assert export("d")[1] == ""
