"""lshctl run: a command once, now, as if it had been typed, and a unit of systemd's all the same."""

import json
import signal

import pytest

from tests.system.lsh import Lsh
from tests.system.machine import eventually

NASTY = r"""printf '%s|' "$((1+1))" 'a;b' "c\"d" '\' '%n' é '$x'; echo; printf 'two\nlines\n'"""


def leftovers(lsh: Lsh) -> list[str]:
    return [path for path in lsh.files() if "/lsh-run-" in path]


def test_output_and_status_are_the_command_s(lsh: Lsh) -> None:
    result = lsh("run", "--", "echo out; echo err >&2; sleep 0.2; printf end; exit 7", check=False)
    assert (result.returncode, result.stdout, result.stderr) == (7, "out\nerr\nend", "")
    assert leftovers(lsh) == []


@pytest.mark.parametrize(
    ("command", "options", "status"),
    [
        ("true", [], 0),
        ("kill -KILL $$", [], 128 + signal.SIGKILL),
        ("sleep 60", ["--timeout", "1s"], 124),
        ("exec /no/such/program", [], 127),
    ],
)
def test_exit_status(lsh: Lsh, command: str, options: list[str], status: int) -> None:
    assert lsh("run", *options, "--", command, check=False).returncode == status
    assert leftovers(lsh) == []


def test_the_shell_sees_what_was_typed(lsh: Lsh) -> None:
    expected = lsh.machine.run("sh", "-c", NASTY, user=lsh.user).stdout
    assert lsh("run", "--", NASTY).stdout == expected


def test_words_without_a_shell_are_kept(lsh: Lsh) -> None:
    words = ["", "a b", "$HOME", "%n", ";", "x\ny", "-", "\\", '"']
    program = "import json, sys; print(json.dumps(sys.argv[1:]))"
    told = lsh("run", "--no-shell", "--", "python3", "-c", program, *words).stdout
    assert json.loads(told) == words


def test_ten_thousand_lines_come_in_order(lsh: Lsh) -> None:
    """No more than journald's rate limit lets through where it cannot be switched off (user scope)."""
    assert lsh("run", "--", "seq 9000").stdout == "".join(f"{n}\n" for n in range(1, 9001))


def test_the_run_is_on_record(lsh: Lsh) -> None:
    run = json.loads(lsh("run", "--json", "--", "echo hello; exit 3", check=False).stdout)
    assert (run["result"], run["exit_status"], run["output"], run["trigger"]) == ("exit-code", 3, "hello\n", "manual")
    assert [each["id"] for each in lsh.runs(run["job"])] == [run["id"]]


def test_detached_it_goes_on(lsh: Lsh) -> None:
    told = json.loads(lsh("run", "--detach", "--json", "--", "sleep 0.5; echo late").stdout)
    (run,) = lsh.ended(told["job"])
    assert (run["id"], run["output"], run["result"]) == (told["id"], "late\n", "success")
    assert leftovers(lsh) == []


def test_ctrl_c_ends_the_command(lsh: Lsh) -> None:
    name = lsh.new_name()
    process = lsh.popen("run", "--name", name, "--", "echo ready; sleep 1000")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.interrupt()
    assert process.wait(30) == 130
    (run,) = lsh.ended(name)
    assert (run["result"], run["signal"]) == ("signal", "TERM")
    assert not [path for path in lsh.files() if name in path]


def test_the_command_ends_with_who_reads_it(lsh: Lsh) -> None:
    name = lsh.new_name()
    line = f"lshctl run --name {name} -- 'while echo more; do sleep 0.01; done' | head --lines=1"
    assert lsh.machine.run("sh", "-c", line, user=lsh.user).stdout == "more\n"
    (run,) = lsh.ended(name)
    assert (run["result"], run["signal"]) == ("signal", "TERM")
    assert not [path for path in lsh.files() if name in path]


def test_a_daemon_reload_in_the_middle_changes_nothing(lsh: Lsh) -> None:
    """On 252 a reload spoils units made by StartTransientUnit: their record would be lost."""
    name = lsh.new_name()
    process = lsh.popen("run", "--name", name, "--", 'echo ready; sleep 2; x=done; echo "$x"; exit 5')
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    lsh.systemctl("daemon-reload")
    assert process.stdout.readline() == "done\n"
    assert process.wait(30) == 5
    (run,) = lsh.ended(name)
    assert (run["exit_status"], run["output"]) == (5, "ready\ndone\n")
    assert run["cpu_seconds"] is not None


def test_options_become_directives_and_dry_run_does_nothing(lsh: Lsh) -> None:
    shown = lsh("run", "--memory-max", "64M", "--nice", "5", "--dry-run", "--", "touch /tmp/never").stdout
    assert "MemoryMax=64M\n" in shown and "Nice=5\n" in shown
    assert lsh("run", "--nice", "5", "--", "nice").stdout == "5\n"
    assert leftovers(lsh) == []
    assert not lsh.machine.exists("/tmp/never")


def test_as_another_user(lsh: Lsh) -> None:
    if lsh.scope == "user":
        assert "--run-as needs --system" in lsh.refused("run", "--run-as", "root", "--", "id")
        return
    lsh.machine.add_user("bob")
    result = lsh("run", "--run-as", "bob", "--", "id -un; exit 4", check=False)
    assert (result.stdout, result.returncode) == ("bob\n", 4)
    assert leftovers(lsh) == []


def test_a_name_that_is_taken_is_refused(lsh: Lsh) -> None:
    job = lsh.add("--", "true")
    assert "already" in lsh.refused("run", "--name", job, "--", "true")
    eventually(lambda: leftovers(lsh) == [])
