"""The pager: a terminal gets what it makes of the output; a pipe, and who wants none, gets the output."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

EXPLAIN = [sys.executable, "-m", "lsh_systemd.cli", "explain", "0 2 * * *"]


def seen(tmp_path: Path, **environ: str) -> str:
    """What somebody at a terminal sees."""
    main, side = pty.openpty()
    bare = {
        name: value for name, value in os.environ.items() if name not in ("PAGER", "LSH_PAGER", "NO_COLOR", "SUDO_UID")
    }
    environ = bare | {"HOME": str(tmp_path), "TERM": "xterm", "COLUMNS": "100"} | environ
    process = subprocess.Popen(EXPLAIN, stdin=side, stdout=side, stderr=side, env=environ)
    os.close(side)
    told = b""
    while True:
        try:
            told += os.read(main, 65536)
        except OSError:  # the last of them has closed it
            break
    os.close(main)
    assert process.wait() == 0
    return told.decode()


def test_a_terminal_has_the_pager(tmp_path: Path) -> None:
    through = seen(tmp_path, LSH_PAGER="sed s/^/P:/")
    lines = through.splitlines()
    assert len(lines) > 3 and all(line.startswith("P:") for line in lines)
    assert seen(tmp_path, PAGER="sed s/^/P:/") == through


@pytest.mark.parametrize("environ", [{"LSH_PAGER": "", "PAGER": "sed s/^/P:/"}, {"PAGER": "cat"}])
def test_who_wants_none_has_none(tmp_path: Path, environ: dict[str, str]) -> None:
    assert "P:" not in seen(tmp_path, **environ)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, as sudo would make one")
def test_who_is_another_has_less_and_no_shell(tmp_path: Path) -> None:
    (tmp_path / "less").write_text('#!/bin/sh\necho "secure=$LESSSECURE open=$LESSOPEN"\ncat\n')
    (tmp_path / "less").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    told = seen(tmp_path, SUDO_UID="1000", LSH_PAGER="sed s/^/P:/", LESSOPEN="|sh %s", PATH=path)
    assert told.startswith("secure=1 open=\r\n") and "P:" not in told


def test_a_pipe_has_none(tmp_path: Path) -> None:
    environ = os.environ | {"HOME": str(tmp_path), "LSH_PAGER": "sed s/^/P:/"}
    told = subprocess.run(EXPLAIN, env=environ, capture_output=True, text=True, check=True).stdout
    assert "P:" not in told
