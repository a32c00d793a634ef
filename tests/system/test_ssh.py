"""lshctl --host: bob, without a job of his own, works on the jobs of another machine through a real sshd."""

import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.system import sshd
from tests.system.lsh import Lsh
from tests.system.machine import Machine, Process, eventually
from tests.system.uml import only_on

pytestmark = only_on("forky")

WORDS = [
    "",
    "a b",
    "$HOME $(id) `id`",
    'it\'s "so"',
    ";",
    "x\ny\\",
    "-x",
    "--",
    "~",
    "*",
    "%n",
    "é漢😀",
    "\udcff\udcfe",
]
CLIENT = """\
Host web1
    HostName 127.0.0.1
    IdentityFile ~/.ssh/client_key
    StrictHostKeyChecking yes
"""
EDITOR = """#!/bin/sh
test -t 0 && test -t 1 && sed -i 's/^timeout = .*/timeout = "7min"/' "$1"
"""


class Web1:
    """The machine as bob reaches it, over ssh, as root; and ``root``, who is there already and looks."""

    def __init__(self, machine: Machine, port: int) -> None:
        self.machine, self.port, self.root = machine, port, Lsh(machine, "system")

    def argv(self, *argv: str, user: str = "root") -> tuple[str, ...]:
        return "lshctl", "-H", f"{user}@web1:{self.port}", *argv

    def __call__(self, *argv: str, **options: Any) -> Any:
        return self.machine.run(*self.argv(*argv), user="bob", **options)

    def popen(self, *argv: str, **options: Any) -> Process:
        return self.machine.popen(*argv, user="bob", **options)


@pytest.fixture(scope="module")
def port(machine: Machine) -> Iterator[int]:
    """A server that knows bob's key, for root and for bob; its port."""
    machine.add_user("bob")
    machine.write("/etc/web1/editor", EDITOR, mode=0o755)
    port = sshd.start(machine, "web1", more="SetEnv EDITOR=/etc/web1/editor")
    machine.write("/home/bob/.ssh/config", CLIENT, user="bob")
    key = machine.read("/etc/web1/host_key.pub")
    machine.write("/home/bob/.ssh/known_hosts", f"[127.0.0.1]:{port} {key}", user="bob")
    machine.write("/home/bob/.ssh/client_key", machine.read("/etc/web1/client_key"), mode=0o600, user="bob")
    yield port
    machine.run("systemctl", "stop", "web1")
    machine.run("rm", "-r", "/etc/web1", "/home/bob/.ssh")


@pytest.fixture
def web1(machine: Machine, port: int) -> Iterator[Web1]:
    web1 = Web1(machine, port)
    yield web1
    web1.root.clean()


def test_the_command_runs_there_as_it_was_typed(web1: Web1) -> None:
    root, name = web1.root, web1.root.new_name()
    command = """printf '%s|' "$((1+1))" 'a;b' "c\\"d" é; echo\necho "two" >&2; exit 3"""
    web1("add", name, "--tag", "it's", "--env", "A= $B\n\\", "--description", "", "--", command)
    shown = root.json("show", name)
    definition = {key: shown["definition"][key] for key in ("command", "tags", "env")}
    assert definition == {"command": command, "tags": ["it's"], "env": {"A": " $B\n\\"}}
    assert web1("list", "--json").json() == root.json("list")
    assert web1.machine.run("lshctl", "list", "--json", user="bob").json() == []
    listed = web1.machine.run(*web1.argv("list", "--json", user="bob"), user="bob")
    assert listed.json() == []  # as bob there: his own jobs, unless the scope is told
    told = web1.machine.run("lshctl", "--system", *web1.argv("list", "--json", user="bob")[1:], user="bob")
    assert [each["id"] for each in told.json()] == [name]

    result = web1("start", "--wait", name, check=False)
    assert (result.returncode, result.stderr) == (1, "") and "exit-code" in result.stdout
    assert root.runs(name)[-1]["output"] == '2|a;b|c"d|é|\ntwo\n'
    program = "import os, sys; sys.stdout.buffer.write(b'|'.join(map(os.fsencode, sys.argv[1:]))); sys.exit(7)"
    result = web1("run", "--no-shell", "--", "python3", "-c", program, *WORDS[:-1], check=False)
    assert (result.returncode, result.stdout, result.stderr) == (7, "|".join(WORDS[:-1]), "")
    refused = web1("show", WORDS[-1], check=False)  # bytes that are no text arrive, too
    assert refused.returncode == 2 and r"'\udcff\udcfe'" in refused.stderr
    failed = web1.machine.run("lshctl", "-H", "web1:1", "list", user="bob", check=False)
    assert failed.returncode == 255 and "port 1" in failed.stderr


def test_standard_input_goes_there(web1: Web1) -> None:
    web1("secrets", "set", "over-ssh", input="~.\n$x", check=True)
    web1("import", "crontab", "-", input="# job: over ssh\n0 1 * * * true\n")
    (job,) = web1.root.json("list")
    assert job["id"] == "over-ssh"
    web1("set", job["id"], "--secret", "over-ssh", "--", 'cat "$CREDENTIALS_DIRECTORY/over-ssh"')
    assert web1.root.run(job["id"])["output"] == "~.\n$x"
    web1("remove", job["id"])
    web1("secrets", "remove", "over-ssh")


def test_at_a_terminal_all_is_as_at_one_there(web1: Web1) -> None:
    name = web1.root.add("--timeout", "5min", "--", "true")
    edited = at_a_terminal(web1, "edit", name)
    told, _ = edited.communicate(timeout=30)
    assert edited.returncode == 0, told
    assert f"Changed {name}." in told and "Connection to" not in told
    assert web1.root.json("show", name)["definition"]["timeout"] == "7min"

    once = web1.root.new_name()
    with at_a_terminal(web1, "run", "--name", once, "--", "echo ready; sleep 1000") as process:
        assert process.stdout and process.stdin and process.stdout.readline() == "ready\n"
        process.stdin.write("\x03")
        process.stdin.flush()
        assert process.wait(30) == 130
    assert ended(web1, once) == ("signal", "TERM")


def test_without_a_terminal_the_end_of_ssh_is_a_ctrl_c(web1: Web1) -> None:
    """For the quiet and for the talkative, which learn of it in their own ways."""
    for command in ("echo ready; sleep 1000", "echo ready; while :; do echo more; sleep 0.001; done"):
        name = web1.root.new_name()
        with web1.popen(*web1.argv("run", "--name", name, "--", command)) as process:
            assert process.stdout and process.stdout.readline() == "ready\n"
            process.interrupt()
            assert ended(web1, name) == ("signal", "TERM")
    name = web1.root.add("--", "echo ready")
    web1.root.run(name)
    with web1.popen(*web1.argv("logs", "--follow", name)) as process:
        assert process.stdout and any("ready" in line for line in process.stdout)
        process.interrupt()
    eventually(lambda: web1.machine.run("pgrep", "-x", "journalctl", check=False).returncode == 1)


def at_a_terminal(web1: Web1, *argv: str) -> Process:
    line = shlex.join(web1.argv(*argv))
    return web1.popen("script", "--quiet", "--return", "--command", line, "/dev/null", stdin=subprocess.PIPE)


def ended(web1: Web1, name: str) -> tuple[str, str]:
    (run,) = web1.root.ended(name)
    assert not [path for path in web1.root.files() if name in path]
    return run["result"], run["signal"]
