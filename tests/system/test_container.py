"""What the container image starts (packaging/container/init) where somebody else is process 1: a systemd within a
machine's. The image itself is built and booted by hand; tests/unit/test_container.py holds its recipe together."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.lsh import Lsh
from tests.system.machine import eventually
from tests.system.roots import PROJECT_INSIDE
from tests.system.uml import only_on

PORT, KEY = 3059, "a-key-of-sixteen-or-more"
UNITS = f"{PROJECT_INSIDE}/packaging/container/units"
# A container has its own /run, /tmp and machine ID; its volume outlasts it.
START = f"""
mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /tmp && mount --bind /srv/volume /data &&
    touch /srv/id && mount --bind /srv/id /etc/machine-id &&
    export PORT={PORT} LSH_API_KEY={KEY} LSH_JOB_TIMEOUT=77 LSH_MAX_CONCURRENT_JOBS=3 &&
    exec {PROJECT_INSIDE}/packaging/container/init
"""


@pytest.fixture
def image(lsh: Lsh) -> Iterator[None]:
    """The machine's root has what the image's has: our units, and which of them hear what the container is given."""
    lsh("agent", "enable")
    lsh("api", "enable")
    lsh.systemctl("stop", "lsh-api.socket")
    drop_ins = f"cd {UNITS} && mkdir -p /data /srv/volume && cp -r . /etc/systemd/system"
    lsh.machine.run("sh", "-c", drop_ins)
    lsh.systemctl("daemon-reload")
    yield
    lsh.machine.run("systemctl", "stop", "inside.service", check=False)
    gone = f"cd {UNITS} && for each in *; do rm -r /etc/systemd/system/$each; done; rm -r /srv/volume /srv/id"
    lsh.machine.run("sh", "-c", gone)
    lsh.systemctl("daemon-reload")
    lsh("api", "disable")
    lsh("agent", "disable")


@only_on("bookworm")
@pytest.mark.parametrize("scope", ["system"])
def test_a_container_s_life(lsh: Lsh, image: None) -> None:
    def ask(method: str, path: str, body: Any = None) -> Any:
        argv = ["curl", "--silent", "--request", method, "--header", f"X-API-Key: {KEY}"]
        argv += [] if body is None else ["--json", json.dumps(body)]
        told = lsh.machine.run(*argv, f"http://127.0.0.1:{PORT}{path}", check=False).stdout
        return json.loads(told) if told else None

    def start() -> None:
        scope = ("--unit=inside", "--property=Delegate=yes", "--property=KillMode=mixed", "--property=Type=exec")
        lsh.machine.run("systemd-run", *scope, "unshare", "--mount", "sh", "-c", START)
        eventually(lambda: (ask("GET", "/health") or {}).get("status") == "healthy", timeout=120)

    start()
    body = {"name": "inside", "command": "env; cat /proc/sys/kernel/random/boot_id; cat /proc/1/environ"}
    assert ask("POST", "/jobs", body | {"schedule": {"cron": "0 2 1 1 *"}})["status"] == "created"
    assert ask("GET", "/jobs/inside")["definition"]["timeout"] == "1min 17s"
    assert ask("GET", "/status")["role"] == "admin"
    ask("POST", "/jobs/inside/trigger")
    (run,) = eventually(lambda: [each for each in ask("GET", "/jobs/inside/runs") if each["result"]], timeout=60)
    output = eventually(lambda: ask("GET", f"/runs/{run['id']}")["output"], timeout=60)
    assert KEY not in output and "LSH_METRICS=" in output
    lasting = ask("POST", "/jobs", {"name": "lasting", "command": "sleep 1000"})
    assert lasting["status"] == "created"
    ask("POST", "/jobs/lasting/trigger")
    eventually(lambda: ask("GET", "/jobs/lasting")["state"] == "running", timeout=60)
    # The machine's own systemd knows nothing of this.
    assert lsh.json("list") == []

    # Told to end, it powers off in order; begun again, it is the same host after a boot.
    host = lsh.machine.run("cat", "/srv/volume/machine-id").stdout
    assert host != lsh.machine.run("cat", "/etc/machine-id").stdout
    lsh.systemctl("stop", "inside.service")
    assert lsh.show("inside.service", "Result") == {"Result": "success"}
    start()
    assert {each["id"] for each in ask("GET", "/jobs")} == {"inside", "lasting"}
    (again,) = ask("GET", "/jobs/inside/runs")
    assert again == run and host == lsh.machine.run("cat", "/srv/volume/machine-id").stdout
    (ended,) = eventually(lambda: [each for each in ask("GET", "/jobs/lasting/runs") if each["result"]], timeout=60)
    assert ended["result"] in ("signal", "lost", "success")
