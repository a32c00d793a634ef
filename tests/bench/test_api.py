"""What the HTTP API and the dashboard cost, on a booted machine with many jobs and a store of many runs. Nothing passes
or fails by time: the aims are printed beside the figures.

LSH_BENCH_API_JOBS (1000) and LSH_BENCH_RUNS (1000000) say how many there are.
"""

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lsh_systemd import unit
from lsh_systemd.jobfile import from_plain
from lsh_systemd.scope import Scope
from tests.bench.test_reports import RUNS, fill, year
from tests.system.booted import eventually
from tests.system.machine import Machine
from tests.tools import needs

JOBS = int(os.environ.get("LSH_BENCH_API_JOBS", "1000"))
ROUNDS = 5
LISTENERS = 500
PAGES = (
    *("/jobs", "/jobs?limit=50", "/jobs/job-7", "/runs", "/runs?failed=true", "/jobs/job-7/runs", "/jobs/job-7/report"),
    *("/ui", "/ui/figures", "/ui/jobs", "/ui/jobs?q=job-7", "/ui/jobs/job-7", "/ui/jobs/job-7/edit", "/ui/new"),
    *("/ui/runs", "/ui/runs?result=failed", "/ui/runs?result=timeout", "/ui/runs?result=missed", "/ui/runs?job=job-7"),
    *("/ui/runs/RUN", "/ui/queue", "/ui/alerts", "/ui/fleet", "/ui/audit", "/ui/settings"),
)
# Whatever else stands before a route, none of it does here.
BARE = """
import sys
import uvicorn
from fastapi import FastAPI, Response

body, app = open(sys.argv[1], "rb").read(), FastAPI()

@app.get("/jobs")
def jobs() -> Response:
    return Response(body, media_type="application/json")

uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False, server_header=False, http="h11",
            ws="none", timeout_keep_alive=15, h11_max_incomplete_event_size=65536, limit_concurrency=2000)
"""


@dataclass
class Served:
    machine: Machine
    port: int
    key: str

    def get(self, path: str) -> bytes:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port)) as link:
            link.request("GET", path, headers={"X-API-Key": self.key})
            answer = link.getresponse()
            body = answer.read()
            assert answer.status == 200, (path, body)
        return body

    def seconds(self, path: str) -> float:
        """Of one that finds nothing of a second ago."""
        time.sleep(1.1)
        began = time.perf_counter()
        self.get(path)
        return time.perf_counter() - began

    def resident_bytes(self) -> int:
        return int(json.loads(self.get("/status"))["memoryUsage"]["rss"])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "lsh.db"
    fill(path, year(RUNS, JOBS))
    return path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def add_jobs(machine: Machine) -> None:
    folder, timers = machine.disk / "etc/systemd/system", []
    (folder / "timers.target.wants").mkdir(exist_ok=True)
    for number in range(JOBS):
        job = from_plain({"name": f"job-{number}", "command": "true", "schedule": f"{number % 60} 3 * * *"})
        files = unit.render(job, scope=Scope.SYSTEM, recorder="/bin/true", now=datetime.now(UTC), local_zone="UTC")
        for name, text in files.items():
            (folder / name).write_text(text)
        (folder / "timers.target.wants" / job.timer).symlink_to(f"../{job.timer}")
        timers.append(job.timer)
    machine.run("systemctl", "start", *timers, timeout=300)


@pytest.fixture
def served(new_machine: Callable[..., Machine], suite: str, store: Path) -> Iterator[Served]:
    machine = new_machine(suite)
    add_jobs(machine)
    kept = machine.disk / "var/lib/lsh"
    kept.mkdir(mode=0o750)
    shutil.copy(store, kept / "lsh.db")
    machine.run("lshctl", "agent", "enable")
    told = machine.run("lshctl", "api", "key", "create", "bench", "--role", "admin", "--json").json()
    here = Served(machine, free_port(), told["key"])
    listen = ("lshctl", "api", "serve", "--listen", f"127.0.0.1:{here.port}")
    # Of both servers none writes a line for each request: that is journald's speed.
    machine.run("systemd-run", "--unit=api", "--setenv=LSH_LOG_LEVEL=warning", *listen)
    eventually(lambda: answers(here.port, "/health"), timeout=60)
    yield here


def answers(port: int, path: str) -> bool:
    with contextlib.suppress(OSError), contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as link:
        link.request("GET", path)
        return link.getresponse().status == 200
    return False


def per_second(url: str, *headers: str) -> float:
    """Requests that wrk gets answered, whole and with 200."""
    argv = ["wrk", "--threads=1", "--connections=8", "--duration=4s", *(f"--header={each}" for each in headers), url]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in told and "Socket errors" not in told, told
    return float(re.findall(r"Requests/sec:\s+([\d.]+)", told)[0])


@needs("wrk")
def test_all_that_the_api_costs(served: Served) -> None:
    machine = served.machine
    print(f"\nsystemd {machine.systemd_version}, {JOBS} jobs, {RUNS} runs, medians of {ROUNDS}")
    listing(served)
    listeners(served)
    pages(served)


def listing(served: Served) -> None:
    body = served.get("/jobs")
    (served.machine.disk / "root/body").write_bytes(body)
    (served.machine.disk / "root/bare.py").write_text(BARE)
    port = free_port()
    served.machine.run("systemd-run", "--unit=bare", "python3", "/root/bare.py", "/root/body", str(port))
    eventually(lambda: answers(port, "/jobs"), timeout=60)
    rounds = [
        (per_second(f"http://127.0.0.1:{served.port}/jobs", f"X-API-Key: {served.key}"), per_second(f"http://127.0.0.1:{port}/jobs"))
        for _ in range(ROUNDS)
    ]  # fmt: skip
    served.machine.run("systemctl", "stop", "bare")
    ours, bare = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratio = statistics.median(one / other for one, other in rounds)
    size = f"{len(body) / 2**10:.0f} KiB"
    print(f"  GET /jobs ({size}) / a bare route, per second {ratio:6.2f}   ({ours:.0f} / {bare:.0f}; aim: 0.5)")


def pages(served: Served) -> None:
    (run,) = json.loads(served.get("/runs?limit=1&failed=true"))
    for path in (each.replace("RUN", run["id"]) for each in PAGES):
        served.get(path)
        took = statistics.median(served.seconds(path) for _ in range(ROUNDS))
        print(f"  GET {path[:40]:40}  {took * 1e3:6.0f} ms   (aim: 100 ms)")


def listeners(served: Served) -> None:
    """Many listen to events, one of them without ever reading."""
    before = served.resident_bytes()
    with contextlib.ExitStack() as stack:
        links = [stack.enter_context(socket.create_connection(("127.0.0.1", served.port))) for _ in range(LISTENERS)]
        for link in links:
            link.settimeout(60)
            link.sendall(f"GET /events HTTP/1.1\r\nHost: x\r\nX-API-Key: {served.key}\r\n\r\n".encode())
        slow, *quick = links
        for link in quick:
            read_until(link, b": listening")
        served.machine.run("lshctl", "add", "heard", "--", "head -c 100000 /dev/urandom | base64")
        delays = []
        for _ in range(ROUNDS):
            served.machine.run("lshctl", "start", "--wait", "heard")
            began = time.perf_counter()
            for link in quick:
                read_until(link, b"event: finished")
            delays.append(time.perf_counter() - began)
        grown = served.resident_bytes() - before
        slow.recv(1)
    print(f"  {LISTENERS} listeners to events                   {grown / 2**20:6.0f} MiB   (aim: 150 MB)")
    print(f"  all but a slow one told of a run's end      {statistics.median(delays) * 1e3:6.0f} ms")


def read_until(link: socket.socket, wanted: bytes) -> None:
    seen = b""
    while wanted not in seen:
        part = link.recv(65536)
        assert part, seen
        seen = seen[-200:] + part
