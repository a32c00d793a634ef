"""`python -m tests.system.in_machine COMMAND…`: run a command in a throw-away machine and pass its exit status on.

What packaging/dev/in-machine calls where no systemd is running. LSH_SUITE chooses the machine (default: bookworm).
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tests.system.machine import Machine, Process

GRACE = 10.0  # seconds that an interrupted command has for its own cleaning up
PASSED_ON = ("TERM", "COLUMNS", "LINES", "NO_COLOR", "CI")


class Stopped(Exception):
    """We were told to end; the argument is the signal."""


def main(argv: list[str]) -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        with Machine(os.environ.get("LSH_SUITE", "bookworm")) as machine:
            return _run(machine, argv)
    except Stopped as stopped:
        return 128 + int(stopped.args[0])


def _run(machine: Machine, argv: list[str]) -> int:
    env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    # The command has our own standard input and output: what it says is seen as it says it.
    process = machine.popen(*argv, cwd=Path.cwd(), env=env, stdin=None, stdout=None, stderr=None)
    try:
        status = process.wait()
    except Stopped as stopped:
        status = _end(process, stopped.args[0])
    return status if status >= 0 else 128 - status


def _end(process: Process, number: signal.Signals) -> int:
    """Let the command end by itself, then take what is left of it down with the machine."""
    process.interrupt(number)
    try:
        process.wait(timeout=GRACE)
    except (subprocess.TimeoutExpired, Stopped):  # a second Ctrl-C: no more patience
        process.kill()
    return 128 + number


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise Stopped(signal.Signals(number))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
