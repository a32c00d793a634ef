"""The container's recipe, the fly.toml and the proxies' examples agree with each other and with the code. See
tests/system/test_container.py and test_proxy.py for what they do."""

import re
import tomllib
from pathlib import Path

import pytest

from lsh_systemd import config
from lsh_systemd.api.app import ROUTES
from lsh_systemd.api.server import PORT
from lsh_systemd.scope import Scope

PROJECT = Path(__file__).resolve().parents[2]
CONTAINER, PROXY = PROJECT / "packaging/container", PROJECT / "packaging/proxy"
RECIPE, INIT = (CONTAINER / "Containerfile").read_text(), (CONTAINER / "init").read_text()
FLY = tomllib.loads((CONTAINER / "fly.toml").read_text())
PROXIES = {name: (PROXY / name).read_text() for name in ("nginx.conf", "Caddyfile")}


def test_all_mean_the_same_port_and_path() -> None:
    service = FLY["http_service"]
    (check,) = service["checks"]
    assert service["internal_port"] == int(FLY["env"]["PORT"]) == PORT
    assert f"PORT={PORT}" in RECIPE and f"EXPOSE {PORT}\n" in RECIPE and f"PORT:-{PORT}}}/health" in RECIPE
    assert f"PORT={{PORT:-{PORT}}}" in INIT.replace("$", "")
    for text in PROXIES.values():
        assert set(re.findall(r"127\.0\.0\.1:(\d+)", text)) == {str(PORT)}
    open_paths = {route.path for routes, prefix in ROUTES for route in routes.routes if not prefix}
    assert check["path"] == "/health" and check["path"] in open_paths


def test_fly_keeps_what_the_deployment_guide_says() -> None:
    service, (machine,), (volume,) = FLY["http_service"], FLY["vm"], FLY["mounts"]
    assert (FLY["app"], FLY["primary_region"], service["force_https"]) == ("mcli-lsh-daemon", "sjc", True)
    assert (service["auto_stop_machines"], service["min_machines_running"]) == ("off", 1)
    assert service["concurrency"] == {"type": "connections", "hard_limit": 1000, "soft_limit": 500}
    assert machine == {"cpu_kind": "shared", "cpus": 1, "memory_mb": 512}
    assert volume["destination"] == FLY["env"]["LSH_DATA"]
    assert f"LSH_DATA={volume['destination']}" in RECIPE and (CONTAINER / FLY["build"]["dockerfile"]).is_file()
    # A key in a file that is in git would be nobody's secret.
    assert not any(re.search("KEY|SECRET|SUPABASE", name) for name in FLY["env"])


def test_the_recipe_s_units_are_ours() -> None:
    ours = {path.name for path in (PROJECT / "units").iterdir()}
    named = {each for line in re.findall(r"systemctl (?:preset|enable) (.*)", RECIPE) for each in line.split()}
    assert {each for each in named if each.startswith("lsh-")} == {
        "lsh-agent.service", "lsh-refresh.timer", "lsh-prune.timer", "lsh-api.socket"
    } <= ours  # fmt: skip
    given = {path.parent.name.removesuffix(".d"): path.read_text() for path in (CONTAINER / "units").glob("*/*.conf")}
    assert {"lsh-api.service", "lsh-sync.service"} <= set(given) <= ours
    # Variables that somebody reads, and none of them for a job.
    sources = "".join(path.read_text() for path in (PROJECT / "lsh_systemd").rglob("*.py"))
    for text in given.values():
        for name in re.findall(r"PassEnvironment=(.*)", text)[0].split():
            assert f'"{name}"' in sources, name
    assert {name for name in FLY["env"] if name not in ("PORT", "LSH_DATA")} <= set(
        given["lsh-api.service"].split("=", 1)[1].split()
    )


def test_the_recipe_has_what_the_package_depends_on() -> None:
    control = (PROJECT / "debian/control").read_text()
    fields = re.search(r"Package: lsh-systemd\n.*?Depends:\n(.*?)Recommends:", control, re.DOTALL)
    assert fields
    wanted = set(re.findall(r"^ ([a-z][a-z0-9.+-]+)", fields[1], re.MULTILINE))
    wanted |= {"python3-fastapi", "python3-prometheus-client", "python3-uvicorn", "systemd-sysv", "mount", "procps"}
    last = RECIPE.rpartition("\nFROM ")[2]
    installed = set(re.findall(r"[a-z][a-z0-9.+-]+", last.partition("rm -rf")[0]))
    assert wanted <= installed
    entry = re.search(r'ENTRYPOINT \["/usr/lib/lsh-systemd/(\w+)"\]', RECIPE)
    assert entry and (CONTAINER / entry[1]).stat().st_mode & 0o111 and f"packaging/container/{entry[1]}" in RECIPE


@pytest.mark.parametrize("proxy", PROXIES)
def test_the_setting_that_a_proxy_wants_is_one(proxy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (setting,) = re.findall(r"^# +(\[api\])\n# +(trust_proxy = .+)$", PROXIES[proxy], re.MULTILINE)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "lsh").mkdir()
    (tmp_path / "lsh/lsh.toml").write_text("\n".join(setting))
    assert config.load(Scope.USER).api.trust_proxy
