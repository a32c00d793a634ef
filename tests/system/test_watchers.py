"""Paths and sockets that start a job."""

import time

from tests.system.lsh import UNIT, Lsh
from tests.system.machine import eventually


def test_a_path_starts_a_job(lsh: Lsh) -> None:
    path = lsh.new_path()
    job = lsh.add("--when-path", path, "--", f"cat {path}")
    status = lsh.json("show", job)
    assert (status["schedule"], status["state"], status["next"]) == (f"path {path}", "waiting", None)
    for count, word in enumerate(("one", "two"), 1):
        lsh.machine.write(f"{path}.new", word)
        lsh.machine.run("mv", f"{path}.new", path)  # whole at once: the job begins as soon as there is something
        assert [(r["trigger"], r["output"]) for r in lsh.ended(job, count)[count - 1 :]] == [("path", word)]
    assert lsh.run(job)["trigger"] == "manual"
    lsh("disable", job)
    assert lsh.json("show", job)["state"] == "disabled"
    assert lsh.loaded(f"lsh-{job}.path", UNIT, "ActiveState") == {"ActiveState": "inactive"}
    lsh.machine.write(path, "three")
    time.sleep(0.7)
    assert len(lsh.runs(job)) == 3
    lsh("enable", job)
    other, new = lsh.new_path(), lsh.new_name()
    lsh("set", job, "--when-path", other)
    lsh("rename", job, new)
    lsh.machine.write(other, "four")
    lsh.machine.write(path, "five")
    eventually(lambda: len(lsh.runs(new)) == 4)
    lsh("remove", new)
    assert [path for path in lsh.files() if f"lsh-{job}." in path or f"lsh-{new}." in path] == []
    lsh.check_fresh()


SERVE = """import socket
listening = socket.socket(fileno=3)
connection, _ = listening.accept()
connection.sendall(b"hello\\n")
"""
ASK = """import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.makefile().read(), end="")
"""


def test_a_socket_starts_a_job(lsh: Lsh) -> None:
    address = f"/run/user/1000/{lsh.new_name()}" if lsh.scope == "user" else f"/run/{lsh.new_name()}"
    job = lsh.add("--when-socket", address, "--no-shell", "--", "/usr/bin/python3", "-c", SERVE)
    assert lsh.json("show", job)["schedule"] == f"socket {address}"
    assert lsh.json("show", job)["state"] == "waiting"
    for count in (1, 2):
        told = lsh.machine.run("python3", "-c", ASK, address, user=lsh.user).stdout
        assert told == "hello\n"
        assert [run["trigger"] for run in lsh.ended(job, count)] == ["path"] * count
    assert lsh.machine.run("stat", "--format=%a %U", address).stdout == f"600 {lsh.user}\n"
    lsh("disable", job)
    assert lsh.machine.run("python3", "-c", ASK, address, user=lsh.user, check=False).returncode != 0
    lsh.check_fresh()


def test_watchers_beside_a_schedule(lsh: Lsh) -> None:
    path = lsh.new_path()
    job = lsh.add("--every", "1h", "--when-path", path, "--", "true")
    lsh.machine.write(path, "")
    lsh.ended(job)
    assert lsh.json("show", job)["schedule"] == f"@every 1h; path {path}"
    lsh("set", job, "--unset", "every")
    assert [name for name in lsh.files() if f"lsh-{job}.timer" in name] == []
    assert lsh.json("show", job)["state"] == "waiting"
    result = lsh("export", "--format", "crontab", job, check=False)
    assert "when_path" in result.stderr
