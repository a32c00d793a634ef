"""What does not fit on the screen goes through a pager, as git's and systemctl's output does."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping

import click

# Commands that only tell. (journalctl, behind `logs`, has a pager of its own.)
PAGED = frozenset("list show next runs report stats insights audit explain graph doctor schema diff".split())
# Leave at once where all fits, keep colours, leave the text on the screen.
_LESS = "FRX"


def begin(ctx: click.Context) -> None:
    """Send standard output through the pager until the context ends, where a person reads it and wants one."""
    if not sys.stdout.isatty():
        return
    # Who may do this alone as somebody else (sudo) is not to have a shell of his: less would start one (!sh).
    secure = _is_of_another()
    command = _command({} if secure else os.environ)
    if command is None:
        return
    size = shutil.get_terminal_size()
    sys.stdout.flush()
    try:
        # $PAGER is a line for the shell, as for git and man.
        pager = subprocess.Popen(["/bin/sh", "-c", command], stdin=subprocess.PIPE, env=_environment(secure))
    except OSError:
        return
    assert pager.stdin
    screen = os.dup(1)
    os.dup2(pager.stdin.fileno(), 1)
    pager.stdin.close()
    # It is a screen all the same.
    os.environ.update(COLUMNS=str(size.columns), LINES=str(size.lines))
    if not os.environ.get("NO_COLOR"):
        ctx.color = True
    ctx.call_on_close(_end(pager, screen))


def _is_of_another() -> bool:
    from lsh_systemd.trust import person

    return person().uid != os.getuid()


def _environment(secure: bool) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not (secure and name.startswith("LESS"))}
    return {"LESS": _LESS} | own | ({"LESSSECURE": "1"} if secure else {})


def _command(environ: Mapping[str, str]) -> str | None:
    """The pager's command line; None for none."""
    for name in ("LSH_PAGER", "PAGER"):
        if name in environ:
            command = environ[name].strip()
            return None if command in ("", "cat") else command
    return "less" if shutil.which("less") else None


def _end(pager: subprocess.Popen[bytes], screen: int) -> Callable[[], None]:
    def end() -> None:
        sys.stdout.flush()
        os.dup2(screen, 1)
        os.close(screen)
        # Ctrl-C is the pager's now.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        pager.wait()
        signal.signal(signal.SIGINT, before)

    return end
