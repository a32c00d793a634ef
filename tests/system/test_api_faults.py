"""The HTTP API while what it stands on fails: it is killed, journald ends, disks are full, the ledger is damaged."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.system.api import WEBHOOK, Answer, Api, serving
from tests.system.booted import eventually
from tests.system.lsh import Lsh
from tests.system.machine import Machine, Process

NewMachine = Callable[..., Machine]
STORE, UNITS = "/var/lib/lsh", "/etc/systemd/system"


@pytest.fixture
def api(new_machine: NewMachine, suite: str) -> Iterator[Api]:
    """On a machine of its own, as it is broken in the end."""
    with serving(Lsh(new_machine(suite), "system")) as api:
        yield api


def problems(api: Api) -> list[str]:
    told: list[str] = api("GET", "/health", check=None).json()["problems"]
    return told


def becomes_healthy(api: Api) -> None:
    eventually(lambda: api("GET", "/health", check=None).status == 200, timeout=60)
    assert problems(api) == []


def no_traceback(lsh: Lsh) -> None:
    units = [word for name in ("api", "agent", "prune") for word in ("-u", f"lsh-{name}.service")]
    assert "Traceback" not in lsh.machine.run("journalctl", *units).stdout


def whole(lsh: Lsh, name: str) -> bool:
    """Whether the job is there as if nothing had happened."""
    told = lsh.json("show", name)
    timer = lsh.show(f"lsh-{name}.timer", "ActiveState")["ActiveState"]
    left = lsh.machine.run("find", UNITS, "-name", f".lsh-{name}.*").stdout
    return (told["changed"], told["enabled"], timer, left) == (False, True, "active", "")


# At which sign the server is killed: what there is of a job as it is being made, and a moment after all of it.
_NOTED = (
    "import sqlite3, sys; db = sqlite3.connect('file:/var/lib/lsh/lsh.db?mode=ro', uri=True); "
    "sys.exit(not db.execute('SELECT 1 FROM api_answers WHERE status IS NULL').fetchall())"
)
SIGNS = {
    "noted": f'python3 -c "{_NOTED}"',
    "staged": f"ls {UNITS}/.lsh-NAME.* 2>/dev/null",
    "service": f"test -e {UNITS}/lsh-NAME.service",
    "link": f"test -e {UNITS}/timers.target.wants/lsh-NAME.timer",
}


def killed_over(api: Api, sign: str, name: str, path: str, key: str, body: Any) -> None:
    """Send a POST, and kill the server once there is that sign of it, or it has answered."""
    lsh = api.lsh
    api("GET", "/status", key=key)  # it runs
    script = (
        "pid=$(systemctl show --value --property=MainPID lsh-api.service)\n"
        'curl --silent --max-time 60 --unix-socket "$1" --header "X-API-Key: $2" --header "Idempotency-Key: once-$3" '
        '--header "Content-Type: application/json" --data "$4" "http://localhost$5" >/dev/null &\n'
        f"until {sign.replace('NAME', name)} || ! kill -0 $! 2>/dev/null; do :; done\n"
        "kill -KILL $pid; wait $!; exit 0"
    )
    lsh.machine.run("sh", "-c", script, "sh", api.socket, key, name, json.dumps(body), path, timeout=120)


def test_killed_in_the_middle_of_a_request(api: Api) -> None:
    """Repeated, it has been made once, and is whole."""
    lsh, admin = api.lsh, api.key("admin")
    for sign in (*SIGNS, *SIGNS):
        name = lsh.new_name()
        body = {"name": name, "command": "true", "schedule": {"cron": "0 2 * * *"}, "tags": ["made"]}
        killed_over(api, SIGNS[sign], name, "/jobs", admin, body)
        repeated = api("POST", "/jobs", key=admin, body=body, check=201, Idempotency_Key=f"once-{name}")
        assert repeated.json()["id"] == name
        assert whole(lsh, name), (sign, lsh.json("show", name))
        again = api("POST", "/jobs", key=admin, body=body, check=201, Idempotency_Key=f"once-{name}")
        assert (again.json(), again.headers["idempotency-replayed"]) == (repeated.json(), "true")
        api("POST", "/jobs", key=admin, body=body, check=409)
    # A run that had begun is not begun again.
    for _ in range(2):
        job = lsh.add("--", "true")
        started = f"systemctl show --property=InvocationID lsh-{job}.service | grep --quiet =."
        killed_over(api, started, job, f"/jobs/{job}/trigger", admin, {})
        told = api("POST", f"/jobs/{job}/trigger", key=admin, body={}, Idempotency_Key=f"once-{job}").json()
        assert [run["id"] for run in lsh.ended(job)] == [told["run_id"]]
    # What is wrong with it is told each time, and nothing of another job's is touched.
    taken = lsh.add("--every", "2h", "--", "true")
    body = {"name": taken, "command": "true", "schedule": {"every": "1h"}}
    killed_over(api, SIGNS["noted"], taken, "/jobs", admin, body)
    for _ in range(2):
        api("POST", "/jobs", key=admin, body=body, check=409, Idempotency_Key=f"once-{taken}")
    assert whole(lsh, taken) and lsh.json("show", taken)["definition"]["every"] == "2h"
    becomes_healthy(api)
    no_traceback(lsh)


class Listener:
    """What comes on a stream, line by line."""

    def __init__(self, api: Api, path: str, key: str) -> None:
        assert isinstance(api.lsh.machine, Machine)
        self.lines: list[str] = []
        command = ("curl", "--silent", "--no-buffer", "--unix-socket", api.socket, "--header", f"X-API-Key: {key}")
        self.process: Process = api.lsh.machine.popen(*command, f"http://localhost{path}")
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line)

    def hears(self, *texts: str) -> None:
        """Waits for a line with all of these in it."""
        eventually(lambda: any(all(text in line for text in texts) for line in self.lines), timeout=60)

    def close(self) -> None:
        self.process.interrupt()
        self._thread.join()
        self.process.wait()


def test_journald_is_restarted_while_somebody_listens(api: Api) -> None:
    lsh, admin = api.lsh, api.key("admin")
    told = lsh.new_path()
    job = lsh.add("--", f"while :; do head -n1 {told} 2>/dev/null; sleep 0.2; done")
    other = lsh.add("--", "true")
    lsh.machine.write(told, "in-the-beginning\n")
    events, lines = Listener(api, "/events", admin), Listener(api, f"/jobs/{job}/logs/live", admin)
    events.hears(": listening")
    lsh("start", job)
    lines.hears("in-the-beginning")
    for number, command in enumerate((("restart",), ("kill", "--signal=KILL"))):
        lsh.systemctl(*command, "systemd-journald.service")
        lsh.machine.write(told, f"later-{number}\n")
        lines.hears(f"later-{number}")
        events.hears('"finished"', lsh.run(other)["id"])
        becomes_healthy(api)
    assert events.process.poll() is None
    for each in (events, lines):
        each.close()
    no_traceback(lsh)


@contextmanager
def small_disk(lsh: Lsh, folder: str, size: str) -> Iterator[Callable[[bool], None]]:
    """The folder on a disk of its own, which can be filled, and emptied again."""
    machine = lsh.machine
    units = ("lsh-api.service", "lsh-agent.service")
    lsh.systemctl("stop", *units)
    mount = f"mount(b'small', b'{folder}', b'tmpfs', 0, b'size={size},mode=755')"
    machine.run("cp", "-a", folder, "/kept")
    machine.run("python3", "-c", f"import ctypes; exit(ctypes.CDLL(None).{mount})")  # there is no mount(8)
    machine.run("cp", "-a", "/kept/.", folder)
    lsh.systemctl("daemon-reload")

    def fill(full: bool) -> None:
        lsh.systemctl("stop", *units)  # the ledger's log goes: where it stays, there is room in it
        script = "cat /dev/zero >$1/filling" if full else "rm -f $1/filling"
        machine.run("sh", "-c", script, "sh", folder, check=not full)
        lsh.systemctl("reset-failed", *units, check=False)

    try:
        yield fill
    finally:
        fill(False)
    machine.run("python3", "-c", f"import ctypes; exit(ctypes.CDLL(None).umount2(b'{folder}', 2))")
    machine.run("rm", "-r", "/kept")
    lsh.systemctl("daemon-reload")


def is_told(answer: Answer) -> bool:
    """Whether it is done, or is told that it cannot be for now."""
    if answer.status in (503, 507):
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"] and "Traceback" not in answer.text
        return True
    assert answer.status < 300, answer
    return False


def posts(api: Api, key: str, job: str) -> Iterator[Answer]:
    """Everything that there is to POST."""
    for number, path in enumerate(("start", "trigger", "stop", "restart", "disable", "enable")):
        for once in ({}, {"Idempotency_Key": f"{path}-{number}"}):
            yield api("POST", f"/jobs/{job}/{path}", key=key, check=None, **once)
    for path in ("stop", "start", "trigger", "reset-stuck-jobs"):
        yield api("POST", f"/api/cron/{path}", key=key, body={}, check=None)
    yield api("POST", "/api/cron/webhook", body={"jobId": job}, check=None, X_Webhook_Secret=WEBHOOK)


def test_full_disks_and_a_damaged_ledger(api: Api) -> None:
    lsh, admin = api.lsh, api.key("admin")
    job = lsh.add("--every", "1h", "--", "echo hello")
    lsh.run(job)
    new = {"command": "true", "schedule": {"every": "2h"}}

    # The ledger's: what needs it waits, what does not is done; nothing is half there.
    with small_disk(lsh, STORE, "4M") as fill:
        becomes_healthy(api)
        fill(True)
        eventually(lambda: problems(api) != [])
        assert any("the disk of the store is full" in each for each in problems(api))
        once = lsh.new_name()
        refused = api("POST", "/jobs", key=admin, body=new | {"name": once}, check=None, Idempotency_Key="full")
        assert is_told(refused), refused
        assert once not in [each["id"] for each in lsh_list(lsh)]
        unnoted = lsh.new_name()
        if not is_told(api("POST", "/jobs", key=admin, body=new | {"name": unnoted}, check=None)):
            assert (Path(UNITS) / f"lsh-{unnoted}.timer").name in lsh.machine.run("ls", UNITS).stdout
        said = [is_told(each) for each in posts(api, admin, job)]
        assert any(said), said
        form = {"Content_Type": "application/x-www-form-urlencoded"}
        login = api("POST", "/ui/login", body=f"key={admin}", check=None, **form)
        assert login.status in (503, 507), login
        fill(False)
        becomes_healthy(api)
        made = api("POST", "/jobs", key=admin, body=new | {"name": once}, check=201, Idempotency_Key="full")
        assert made.json()["id"] == once and whole(lsh, once)
        api("POST", "/api/cron/start", key=admin, body={})
        api("POST", f"/jobs/{job}/enable", key=admin)
        assert whole(lsh, job)
        no_traceback(lsh)

    # The unit files': no job is made or changed, and those that there are stay as they are.
    with small_disk(lsh, UNITS, "2M") as fill:
        becomes_healthy(api)
        fill(True)
        eventually(lambda: problems(api) != [])
        assert problems(api) == ["the disk of the unit files is full: no job can be made or changed"]
        before, once = lsh.files(), lsh.new_name()
        for _ in range(2):
            refused = api("POST", "/jobs", key=admin, body=new | {"name": once}, check=507, Idempotency_Key="units")
            assert is_told(refused)
            refused = api(
                "PATCH", f"/jobs/{job}", key=admin, body={"schedule": {"every": "3h"}}, check=507, If_Match="*"
            )
            assert is_told(refused)
        assert lsh.files() == before and whole(lsh, job)
        print([(answer.status, answer.text) for answer in posts(api, admin, job) if is_told(answer)])
        fill(False)
        becomes_healthy(api)
        api("POST", "/jobs", key=admin, body=new | {"name": once}, check=201, Idempotency_Key="units")
        api("POST", "/api/cron/start", key=admin, body={})
        api("POST", f"/jobs/{job}/enable", key=admin)
        assert whole(lsh, once) and whole(lsh, job)
        no_traceback(lsh)

    # A ledger that is none any more is made anew from the journal.
    runs = {each["id"] for each in lsh.runs(job)}
    assert runs
    junk = "import os; f = open('/var/lib/lsh/lsh.db', 'r+b'); f.write(os.urandom(20_000)); f.close()"
    lsh.machine.run("sh", "-c", 'python3 -c "$1" && rm -f /var/lib/lsh/lsh.db-wal /var/lib/lsh/lsh.db-shm', "sh", junk)
    lsh.systemctl("stop", "lsh-agent.service")
    lsh.systemctl("restart", "lsh-api.service")
    for answer in (api("GET", "/runs", key=admin, check=None), *posts(api, admin, job)):
        is_told(answer)
    becomes_healthy(api)
    eventually(lambda: runs <= {each["id"] for each in api("GET", "/runs?limit=1000", key=admin).json()}, timeout=60)
    no_traceback(lsh)


def lsh_list(lsh: Lsh) -> list[dict[str, Any]]:
    """The jobs, by their unit files alone: the ledger cannot be asked."""
    listed = lsh.machine.run("ls", UNITS).stdout.split()
    return [{"id": name.removeprefix("lsh-").removesuffix(".timer")} for name in listed if name.endswith(".timer")]
