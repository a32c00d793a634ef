"""The bar that shows how long work comes on: on a real terminal, and on nothing else."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
CLEARED = "\r\x1b[K"
# Long work is as long as its maker likes: what is done goes on until standard input says so.
WORK = """
import sys, time
from lsh_systemd import progress
from lsh_systemd.cli import bar
kind = sys.argv[1]
try:
    with bar.shown():
        if kind == "quick":
            for _ in progress.each("nothing", range(10)):
                pass
        while kind in ("endless", "failing"):
            progress.tell("digging", 3, 10)
            time.sleep(0.01)
            if kind == "failing" and time.monotonic() % 1e9 > float(sys.argv[2]):
                raise ValueError
        if kind == "long":
            for _ in progress.each("digging a hole", range(20)):
                time.sleep(0.06)
            print("dug", flush=True)
except (KeyboardInterrupt, ValueError):
    print("the end", file=sys.stderr)
"""


def started(kind: str, *argv: str, **env: str) -> tuple[subprocess.Popen[bytes], int]:
    """The work, with its output on a terminal of 50 columns; the terminal's other end."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, kind, *argv], stdin=theirs, stdout=theirs, stderr=theirs, cwd=PROJECT,
        start_new_session=True, env=os.environ | {"TERM": "xterm", "COLUMNS": "50"} | env,
    )  # fmt: skip
    os.close(theirs)
    return process, ours


def read(ours: int, until: str | None = None) -> str:
    """What is on the terminal: all until its end, or until that has come."""
    text = ""
    while until is None or until not in text:
        try:
            more = os.read(ours, 4096).decode()
        except OSError:  # nobody has the other end any more
            break
        if not more:
            break
        text += more
    return text


def test_long_work_shows_a_bar_that_goes() -> None:
    process, ours = started("long")
    text = read(ours)
    assert process.wait() == 0
    frames = text.split("\x1b[K\r")[:-1]
    assert frames and all(frame.startswith("\r[") and "%  " in frame and len(frame) <= 50 for frame in frames), text
    parts = [frame[1:].split("%")[0].split()[-1] for frame in frames]
    assert parts == sorted(parts, key=int) and "digging" in frames[0]
    assert text.endswith(f"{CLEARED}dug\r\n")
    assert "\x1b[?25l" not in text  # the cursor is never hidden: who kills us need not bring it back


@pytest.mark.parametrize(("kind", "env"), [("quick", {}), ("long", {"TERM": "dumb"}), ("long", {"TERM": ""})])
def test_quick_work_and_dumb_terminals_show_none(kind: str, env: dict[str, str]) -> None:
    process, ours = started(kind, **env)
    text = read(ours)
    assert process.wait() == 0 and text == ("dug\r\n" if kind == "long" else "")


def test_ctrl_c_leaves_the_terminal_tidy() -> None:
    process, ours = started("endless")
    text = read(ours, "30%")
    process.send_signal(signal.SIGINT)
    text += read(ours)
    assert process.wait() == 0
    assert text.endswith(f"{CLEARED}the end\r\n"), text


def test_a_failure_takes_the_bar_away_and_no_terminal_gets_one() -> None:
    process, ours = started("failing", "0")
    assert (read(ours), process.wait()) == ("the end\r\n", 0)
    done = subprocess.run([sys.executable, "-c", WORK, "long"], capture_output=True, text=True, cwd=PROJECT, check=True)
    assert (done.stdout, done.stderr) == ("dug\n", "")
