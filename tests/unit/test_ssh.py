"""How a command reaches another machine: which hosts are taken, and what a shell there makes of the line."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsh_systemd import ssh
from lsh_systemd.errors import BadInput
from tests import hostile
from tests.tools import needs

# An argument is any bytes but NUL; what is no UTF-8 arrives as lone surrogates.
_bytes = st.binary(max_size=20).map(lambda raw: os.fsdecode(raw.replace(b"\0", b"")))
arguments = st.lists(st.one_of(hostile.printable, _bytes, st.sampled_from(["", "-x", "--", "\n", "~", "=ls", "!!"])))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with an lshctl that prints its words, and the variables that ours would see."""
    folder = tmp_path_factory.mktemp("bin")
    lshctl = folder / "lshctl"
    lshctl.write_text('#!/bin/sh\nprintf "%s\\0" "$LSH_OVER_SSH" "$@"\n')
    lshctl.chmod(0o755)
    yield folder


def shell(shell: str, line: str, path: Path | str) -> subprocess.CompletedProcess[bytes]:
    argv = [f"/bin/{shell}", "-c", line]
    return subprocess.run(argv, capture_output=True, check=False, env={"PATH": f"{path}:/usr/bin:/bin"})


@given(words=arguments, name=st.sampled_from(["sh", "bash"]), variables=st.sampled_from([(), (ssh.OVER_SSH,)]))
def test_a_shell_gives_back_exactly_the_words(
    path: Path, words: list[str], name: str, variables: tuple[str, ...]
) -> None:
    done = shell(name, ssh.shell_line("web1", words, variables), path)
    told = done.stdout.split(b"\0")[:-1]
    assert (told, done.stderr, done.returncode) == (
        [b"1" if variables else b"", *map(os.fsencode, words)],
        b"",
        0,
    )


def test_a_machine_without_lshctl_is_told(tmp_path: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", ssh.shell_line("bob@web1:22", ["list", "$(touch x)"])],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": str(tmp_path)},
    )
    assert done.returncode == 127
    assert done.stderr.startswith(b"lshctl: bob@web1:22 has no lshctl in") and done.stderr.count(b"\n") == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("web1", ("web1", None)),
        ("web-1.example.org", ("web-1.example.org", None)),
        ("root@web1", ("root@web1", None)),
        ("web1:2222", ("web1", 2222)),
        ("first.last@corp@web1:1", ("first.last@corp@web1", 1)),
        ("CORP\\bob@10.0.0.1", ("CORP\\bob@10.0.0.1", None)),
        ("[::1]", ("::1", None)),
        ("bob@[fe80::1%eth0]:65535", ("bob@fe80::1%eth0", 65535)),
        ("büro", ("büro", None)),
    ],
)
def test_hosts_that_are_taken(host: str, expected: tuple[str, int | None]) -> None:
    assert ssh.parse(host) == expected


@pytest.mark.parametrize(
    "host",
    [
        *(
            "",
            " ",
            "-oProxyCommand=touch x",
            "-v",
            "bob@-v",
            "-v@web1",
            "@web1",
            "bob@",
            "web1:",
            "web1:0",
            "web1:65536",
        ),
        *("web1:x", "web1:١", "web1 ls", "web1\n", "web1\nls", "web1;ls", "$(ls)", "`ls`", "a'b", 'a"b', "web1/box"),
        *(
            "ssh://web1",
            "2001:db8::1",
            "[::1",
            "[-v]",
            "[]",
            "web1\0",
            "web1\x1b[31m",
            "\ud800",
            "%h",
            "a|b",
            "a b@web1",
        ),
    ],
)
def test_hosts_that_are_refused_before_ssh_is_called(host: str) -> None:
    with pytest.raises(BadInput, match=r"is not a host|there is no port"):
        ssh.parse(host)
    if "\0" in host or "\ud800" in host:
        return  # no command line can hold it
    done = lshctl("-H", host, "list", path="/nonexistent")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 2 and "[USER@]HOST[:PORT]" in done.stderr


def lshctl(*argv: str, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lsh_systemd.cli", *argv],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PATH": path},
    )


@pytest.mark.parametrize(
    ("argv", "status", "expected"),
    [
        (["-H", "web1", "list"], 1, "ssh is not installed here"),
        (["-H", "web1"], 2, "missing command"),
        (["list", "-H", "web1"], 2, "goes before the command"),
        (["-H", "web1", "-H", "web2", "list"], 2, "one machine at a time"),
        (["-H", "web1", "add", "x", "--", "x" * 131000], 2, "longer than the 131071 bytes"),
    ],
)
def test_what_goes_wrong_here_is_told_in_short(argv: list[str], status: int, expected: str) -> None:
    done = lshctl(*argv, path="/nonexistent")
    assert (done.returncode, done.stdout) == (status, "")
    assert expected in done.stderr and len(done.stderr.splitlines()) <= 2


def test_nothing_of_the_command_is_imported() -> None:
    code = (
        "import sys\nfrom lsh_systemd.cli import main\nsys.argv[0] = 'lshctl'\n"
        "try:\n    main(['-H', '-x', 'list'])\nexcept SystemExit:\n    print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert "lsh_systemd.ssh" in imported and "lsh_systemd.cli.look" not in imported


def test_the_end_of_ssh_is_a_ctrl_c_but_disturbs_no_clean_up() -> None:
    code = (
        "import os, signal, time\nfrom lsh_systemd.ssh import end_with_caller\nend_with_caller()\n"
        "try:\n    raise BrokenPipeError\nexcept BrokenPipeError:\n    os.kill(os.getpid(), signal.SIGINT)\n"
        "try:\n    print('cleaned up', flush=True)\n    while True:\n        time.sleep(0.01)\n"
        "except KeyboardInterrupt:\n    print('interrupted')"
    )
    argv = [sys.executable, "-c", code]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline() == "cleaned up\n"
        process.stderr.close()
        assert process.stdout.read() == "interrupted\n"


@needs("ssh")
@pytest.mark.parametrize("terminal", [True, False])
def test_ssh_understands_it(terminal: bool) -> None:
    """`ssh -G` tells what ssh would do."""
    argv = ssh.ssh_arguments("bob@[::1]:2222", ["list"], terminal=terminal, no_color=True)
    assert argv[-1].endswith("exec env NO_COLOR=1 lshctl list" if terminal else " NO_COLOR=1 lshctl list")
    told = subprocess.run([argv[0], "-G", "-F", "none", *argv[1:]], capture_output=True, text=True, check=True).stdout
    settings = dict(line.split(" ", 1) for line in told.splitlines() if " " in line)
    assert (settings["user"], settings["hostname"], settings["port"]) == ("bob", "::1", "2222")
    assert settings["requesttty"] == ("true" if terminal else "false")
    assert settings["escapechar"] == ("none" if terminal else "~")
