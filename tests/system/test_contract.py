"""The API keeps what its OpenAPI document promises: schemathesis calls every path, one by one and in sequences, with
what fits the document and what does not.

LSH_SCHEMATHESIS (10) says with how many made-up requests a path; a failure prints the seed and the curl that shows it.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.system.booted import eventually
from tests.system.machine import Machine

EXAMPLES = os.environ.get("LSH_SCHEMATHESIS", "10")
FOLDER = Path(__file__).parent / "contract"
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


# A machine of its own: the jobs that are made are anything, and limits and schedules are changed on the way.
def test_what_the_document_promises_is_kept(new_machine: Callable[..., Machine], tmp_path: Path) -> None:
    machine = new_machine("forky")
    port = free_port()
    machine.write("/etc/lsh/lsh.toml", '[api]\ntrust_proxy = ["127.0.0.1"]\n')
    machine.run("lshctl", "agent", "enable")
    for name, command in (("works", "echo out"), ("fails", "false")):
        machine.run("lshctl", "add", name, "--every", "1h", "--", command)
        machine.run("lshctl", "start", "--wait", name, check=False)
    told = machine.run("lshctl", "api", "key", "create", "contract", "--role", "admin", "--json").json()
    key = f"X-API-Key: {told['key']}"
    machine.run("systemd-run", "--unit=api", "lshctl", "api", "serve", "--listen", f"127.0.0.1:{port}")
    url = f"http://127.0.0.1:{port}"
    curl = ("curl", "--silent", "--fail", "--header", key)
    document = eventually(lambda: machine.run(*curl, f"{url}/openapi.json", check=False).stdout, timeout=60)
    (tmp_path / "openapi.json").write_text(document)

    done = subprocess.run(
        [
            *(SCHEMATHESIS, f"--config-file={FOLDER / 'schemathesis.toml'}", "run", tmp_path / "openapi.json"),
            *(f"--url={url}", f"--header={key}", "--checks=all", f"--max-examples={EXAMPLES}", "--seed=1"),
            *("--generation-deterministic", "--continue-on-failure", "--request-timeout=60", "--no-color"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(FOLDER)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

    # It has not only been turned away.
    verbs = {each["verb"] for each in json.loads(machine.run("lshctl", "audit", "--json", "--limit", "0").stdout)}
    assert {"add", "set", "remove", "enable", "disable"} <= verbs, verbs
    runs = json.loads(machine.run("lshctl", "runs", "--json", "--limit", "0").stdout)
    assert "api" in {each["trigger"] for each in runs}
    assert json.loads(machine.run(*curl, f"{url}/health").stdout)["status"] == "healthy"
