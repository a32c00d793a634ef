"""What a job writes is kept with its run: whole where it is short, its head and its tail where it is long."""

import contextlib
import shlex
import threading
from collections.abc import Callable, Iterator

from tests.system.booted import Booted
from tests.system.lsh import Lsh
from tests.system.machine import Machine, eventually

NewMachine = Callable[..., Machine]
LIMIT = 64 * 1024  # lsh.toml's output_bytes, by default


@contextlib.contextmanager
def stopped_journald(machine: Booted, *, seconds: float) -> Iterator[None]:
    """journald as it is when it is busy for so long."""
    machine.run("systemctl", "kill", "--signal=STOP", "systemd-journald.service")
    going_on = threading.Timer(seconds, machine.run, ("systemctl", "kill", "--signal=CONT", "systemd-journald.service"))
    going_on.start()
    yield
    going_on.join()


def output_of(lsh: Lsh, command: str) -> tuple[str, int]:
    """Run the command as a job; its output as `runs --json` tells it, and how many bytes it was."""
    run = lsh.run(lsh.add("--", command), check=False)
    return run["output"], run["output_bytes"]


def test_output_is_whole_however_quickly_the_command_ends(lsh: Lsh) -> None:
    """Of a process that is gone before journald looks, the lines no longer carry their unit's name."""
    job = lsh.add("--no-shell", "--", "/bin/echo", "so quick")
    for _ in range(5):
        lsh.systemctl("start", f"lsh-{job}.service")
    runs = lsh.ended(job, 5)
    assert [run["output"] for run in runs] == ["so quick\n"] * 5
    assert {run["output_bytes"] for run in runs} == {9}


def test_both_streams_are_kept_in_their_order(lsh: Lsh) -> None:
    assert output_of(lsh, "echo one; echo two >&2; echo three; exit 1") == ("one\ntwo\nthree\n", 14)
    assert output_of(lsh, "printf 'no newline'") == ("no newline", 10)
    assert output_of(lsh, "true") == ("", 0)
    assert output_of(lsh, "echo '<3>no level of syslog'; echo '  indented'")[0] == "<3>no level of syslog\n  indented\n"


def test_output_need_not_be_text(lsh: Lsh) -> None:
    """JSON holds text alone: what is no UTF-8 is shown as U+FFFD; the number of bytes is that of the bytes."""
    assert output_of(lsh, r"printf 'gr\374n \377\n'") == ("gr\ufffdn \ufffd\n", 7)
    assert output_of(lsh, r"printf 'a\033[31mb\033[0m\n'") == ("a\x1b[31mb\x1b[0m\n", 12)


def test_journald_drops_empty_lines_and_blanks_at_the_end(lsh: Lsh) -> None:
    """A known limit, as documented: journald takes neither empty lines nor the blanks at a line's end."""
    assert output_of(lsh, r"printf 'a\n\n\nb  \t\n  c\n'") == ("a\nb\n  c\n", 8)


def test_long_output_keeps_its_head_and_its_tail(lsh: Lsh) -> None:
    lines = [f"line {number:07}\n" for number in range(1, 10001)]
    size = sum(map(len, lines))
    output, told = output_of(lsh, "seq -f 'line %07.0f' 1 10000")
    assert told == size == 130_000
    marker = f"\n[… {size - LIMIT} bytes left out …]\n"
    head, tail = output.split(marker)
    whole = "".join(lines)
    assert (head, tail) == (whole[: LIMIT // 2], whole[-LIMIT // 2 :])


def test_one_line_longer_than_journald_takes_is_put_together_again(lsh: Lsh) -> None:
    """journald cuts a line after 48 KiB."""
    assert output_of(lsh, "printf '%060000d\\n' 0") == ("0" * 60000 + "\n", 60001)


def test_how_much_is_kept_can_be_set(lsh: Lsh) -> None:
    settings = "/etc/lsh/lsh.toml" if lsh.scope == "system" else "/home/bob/.config/lsh/lsh.toml"
    lsh.machine.write(settings, "output_bytes = 1024\n", user=lsh.user)
    output, size = output_of(lsh, "seq -f %09.0f 200")
    lsh.machine.run("rm", settings)
    whole = "".join(f"{number:09}\n" for number in range(1, 201))
    assert (output, size) == (f"{whole[:512]}\n[… 976 bytes left out …]\n{whole[-512:]}", 2000)


def test_many_lines_at_once_keep_their_tail(new_machine: NewMachine, suite: str, scope: str) -> None:
    """A system job has no limit of lines; for a user, journald's own holds for all jobs together."""
    lsh = Lsh(new_machine(suite), scope)
    job = lsh.add("--", "seq 100000; echo the end >&2")
    lsh("start", job)
    (run,) = lsh.ended(job, timeout=60)
    assert run["result"] == "success"
    assert run["output"].startswith("1\n2\n3\n")
    assert len(run["output"].encode()) <= LIMIT + 100
    if scope == "system":
        assert run["output"].endswith("99999\n100000\nthe end\n")
        assert run["output_bytes"] == sum(len(str(number)) + 1 for number in range(1, 100001)) + 8


def test_what_children_write_later_does_not_slip_into_the_next_run(lsh: Lsh) -> None:
    job = lsh.add("--", 'echo "run $(cat /proc/sys/kernel/random/uuid)"; cat /proc/self/cgroup >/dev/null')
    for _ in range(4):
        lsh.systemctl("start", f"lsh-{job}.service")
    outputs = [run["output"] for run in lsh.ended(job, 4)]
    assert len(set(outputs)) == 4
    assert all(output.startswith("run ") and output.count("\n") == 1 for output in outputs)


def test_output_of_a_run_in_progress_is_in_the_logs(lsh: Lsh) -> None:
    job = lsh.add("--", "echo begun; sleep 60")
    lsh("start", job)
    eventually(lambda: "begun" in lsh("logs", job).stdout)
    lsh("stop", job)
    (run,) = lsh.ended(job)
    assert run["output"] == "begun\n"


def test_a_run_is_waited_for_until_journald_has_told_of_its_end(lsh: Lsh) -> None:
    job = lsh.add("--", "echo done; exit 3")
    for verb in (f"start --wait --json {job}", "run -- 'echo done; exit 3'"):
        with stopped_journald(lsh.machine, seconds=7):
            result = lsh(*shlex.split(verb), check=False)
        assert "done" in result.stdout, result
        assert result.returncode == (1 if job in verb else 3), result
