"""Other machines: the same lshctl command there, by ssh(1)."""

import os
import re
import select
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any, NoReturn

from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.text import MAX_ARGUMENT_BYTES, visible

# Tells the lshctl over there that an lshctl has called it, and that it has no terminal (see end_with_caller).
OVER_SSH = "LSH_OVER_SSH"

# [USER@]HOST[:PORT]: nothing that ssh could take for an option, or a ProxyCommand's shell for more than a word.
_DESTINATION = re.compile(
    r"(?P<user>[\w.+][\w.+@\\-]*@)?(?:\[(?P<address>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<name>\w[\w.-]*))"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
_HINT = "it is [USER@]HOST[:PORT], such as root@web1, web1:2222 or [2001:db8::1]"


def call(hosts: Sequence[str], words: Sequence[str]) -> NoReturn:
    """Become ssh, which runs lshctl with these words there. Raises BadInput for a host that is none, or several.

    No parent of ssh's stays: its exit status (255 where it fails by itself, with its own message) and what Ctrl-C does
    are ssh's own.
    """
    if len(hosts) > 1:
        raise BadInput("--host takes one machine at a time", hint='for host in web1 web2; do lshctl -H "$host" …; done')
    terminal = all(map(os.isatty, (0, 1, 2)))
    arguments = ssh_arguments(hosts[0], words, terminal=terminal, no_color=bool(os.environ.get("NO_COLOR")))
    try:
        os.execvp("ssh", arguments)
    except FileNotFoundError:
        raise LshError("ssh is not installed here", hint="sudo apt install openssh-client") from None


def ssh_arguments(host: str, words: Sequence[str], *, terminal: bool, no_color: bool) -> list[str]:
    """ssh's command line; with ``terminal`` the other side has one, too. Raises BadInput."""
    destination, port = parse(host)
    # Whoever waits (logs -f, start --wait) learns within a minute that the other side has gone.
    options = ["-x", "-o", "ServerAliveInterval=15"]
    if terminal:
        # A secret may begin with ssh's escape character; no "Connection to web1 closed."
        options += ["-t", "-e", "none", "-o", "LogLevel=ERROR"]
    else:
        options += ["-T"]  # whatever ssh_config says: a terminal would turn \n into \r\n, and mix up the two outputs
    if port is not None:
        options += ["-p", str(port)]
    variables = {OVER_SSH: not terminal, "NO_COLOR": no_color}
    line = shell_line(host, words, [name for name, wanted in variables.items() if wanted])
    return ["ssh", *options, "--", destination, line]


def parse(host: str) -> tuple[str, int | None]:
    """What ssh takes as destination, and the port. Raises BadInput."""
    found = _DESTINATION.fullmatch(host)
    if found is None:
        raise BadInput(f"{visible(host)} is not a host that ssh could reach", hint=_HINT)
    port = int(found["port"]) if found["port"] else None
    if port is not None and not 1 <= port <= 65535:
        raise BadInput(f"{visible(host)}: there is no port {port}", hint=_HINT)
    return (found["user"] or "") + (found["address"] or found["name"]), port


def shell_line(host: str, words: Sequence[str], variables: Sequence[str] = ()) -> str:
    """What the login shell there (a POSIX one) is given: lshctl with exactly these words, and ``variables`` set to 1.

    ssh joins its arguments with blanks and sshd gives them to that shell, hence one line, quoted here. Raises BadInput
    where it is longer than sshd could pass on.
    """
    missing = f"lshctl: {host} has no lshctl in the PATH of its ssh sessions\n  install it there, in /usr/local/bin"
    environment = [f"{name}=1" for name in variables]
    line = (
        f"command -v lshctl >/dev/null || {{ printf '%s\\n' {shlex.quote(missing)} >&2; exit 127; }}; "
        f"exec {shlex.join([*(['env', *environment] if environment else []), 'lshctl', *words])}"
    )
    if len(os.fsencode(line)) > MAX_ARGUMENT_BYTES:
        raise BadInput(
            f"the command line is longer than the {MAX_ARGUMENT_BYTES} bytes that ssh can pass on",
            hint="put the job's command into a script file there",
        )
    return line


def end_with_caller() -> None:
    """From now on the end of the ssh that has called us is a Ctrl-C.

    Without a terminal nothing there would tell us: sshd closes what we write to, and lets us go on.
    """

    def interrupt(number: int, frame: Any) -> None:
        if not isinstance(sys.exc_info()[1], BrokenPipeError):  # else we have noticed, and clean up
            raise KeyboardInterrupt

    def watch() -> None:
        hangup = select.poll()
        hangup.register(2, 0)  # nothing but POLLHUP and POLLERR
        hangup.poll()
        signal.pthread_kill(main, signal.SIGINT)

    main = threading.get_ident()
    signal.signal(signal.SIGINT, interrupt)
    threading.Thread(target=watch, daemon=True).start()
