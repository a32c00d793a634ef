"""What the packages say agrees with the project: its version, what it needs, its units."""

import re
import tomllib
from pathlib import Path

import pytest

from lsh_systemd import __version__

PROJECT = Path(__file__).resolve().parents[2]
# Where a package has another name than python3-NAME.
DEBIAN_NAMES = {"systemd-python": "python3-systemd", "pyyaml": "python3-yaml"}
RPM_NAMES = {"systemd-python": "python3-systemd"}
ARCH_NAMES = {"systemd-python": "python-systemd", "jinja2": "python-jinja", "pyyaml": "python-yaml"}


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("debian/changelog", r"^lsh-systemd \((\S+)\)"),
        ("packaging/rpm/lsh-systemd.spec", r"^Version: +(\S+)$"),
        ("packaging/arch/PKGBUILD", r"^pkgver=(\S+)$"),
    ],
)
def test_every_package_has_the_project_s_version(file: str, line: str) -> None:
    found = re.search(line, (PROJECT / file).read_text(), re.MULTILINE)
    assert found and found[1] == __version__


def test_every_package_needs_what_the_project_needs() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[<>=]", requirement)[0] for requirement in project["dependencies"]]
    assert len(names) > 4
    control = (PROJECT / "debian/control").read_text().partition("Recommends:")[0]
    spec = (PROJECT / "packaging/rpm/lsh-systemd.spec").read_text()
    arch = re.search(r"^depends=\((.*?)\)", (PROJECT / "packaging/arch/PKGBUILD").read_text(), re.DOTALL | re.MULTILINE)
    assert arch
    for name in names:
        debian, rpm = (names.get(name, f"python3-{name}") for names in (DEBIAN_NAMES, RPM_NAMES))
        assert re.search(rf"^ {debian}\b", control, re.MULTILINE)
        assert re.search(rf"^Requires: +{rpm}\b", spec, re.MULTILINE)
        assert ARCH_NAMES.get(name, f"python-{name}") in re.split(r"[\s'>]+", arch[1])


@pytest.mark.parametrize("scope", ["system", "user"])
def test_presets_name_each_unit_that_can_be_enabled(scope: str) -> None:
    lines = (PROJECT / f"packaging/presets/{scope}.preset").read_text().splitlines()
    named = {line.split()[1]: line.split()[0] for line in lines if not line.startswith("#")}
    units = [path for path in (PROJECT / "units").iterdir() if (".user." in path.name) == (scope == "user")]
    units += (PROJECT / "units").glob("*.timer")
    assert set(named) == {path.name.replace(".user.", ".") for path in units if "[Install]" in path.read_text()}
    enabled = {unit for unit, word in named.items() if word == "enable"}
    assert enabled == ({"lsh-agent.service", "lsh-refresh.timer", "lsh-prune.timer"} if scope == "system" else set())
