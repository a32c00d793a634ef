"""Runs commands inside a UML machine: a JSON request a line comes over its serial line, a JSON answer goes back.

It is the machine's own Python that runs this, from the machine's own disk. Before anything else it mounts the project,
which the jobs of a boot need already (their recorder is in it): forky's root has no mount(8) that could.
"""

import ctypes
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import tty
from typing import Any

LINE = "/dev/ttyS0"
MS_RDONLY = 1


def serve(line: int) -> None:
    send(line, {"id": 0})  # up
    buffer = b""
    while chunk := os.read(line, 65536):
        *requests, buffer = (buffer + chunk).split(b"\n")
        for request in requests:
            send(line, answer(json.loads(request)))


def answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"id": request["id"], **execute(request)}
    except (OSError, LookupError) as error:  # no such command, user or folder: what a shell would say
        return {"id": request["id"], "returncode": 127, "stdout": "", "stderr": f"{error}\n"}


def execute(request: dict[str, Any]) -> dict[str, Any]:
    user = pwd.getpwnam(request["user"])
    with subprocess.Popen(
        request["argv"],
        env=request["env"],
        cwd=request["cwd"],
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=os.getgrouplist(user.pw_name, user.pw_gid),
        stdin=subprocess.DEVNULL if request["input"] is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        umask=0o022,
        start_new_session=True,
        encoding="utf-8",
        errors="surrogateescape",
    ) as process:
        try:
            stdout, stderr = process.communicate(request["input"], timeout=request["timeout"])
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
            return {"returncode": None, "stdout": stdout, "stderr": stderr}
    return {"returncode": process.returncode, "stdout": stdout, "stderr": stderr}


def send(line: int, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(line, data) :]


def mount_project(folder: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"project", folder.encode(), b"hostfs", MS_RDONLY, None) != 0:
        raise OSError(ctypes.get_errno(), f"{folder} cannot be mounted")


def tell_systemd() -> None:
    """What was ordered after this may come now."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.connect(os.environ["NOTIFY_SOCKET"])
        manager.send(b"READY=1")


def main(project: str) -> None:
    mount_project(project)
    line = os.open(LINE, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(line)
    tell_systemd()
    serve(line)


if __name__ == "__main__":
    main(sys.argv[1])
