"""A real sshd in a booted machine, on a port of the loopback that it shares with the tests."""

import socket

from tests.system.machine import Machine, eventually

CONFIG = """\
ListenAddress 127.0.0.1:{port}
HostKey /etc/{name}/host_key
AuthorizedKeysFile /etc/{name}/client_key.pub
PidFile none
UsePAM yes
"""


def start(machine: Machine, name: str, *, more: str = "") -> int:
    """Start one that takes /etc/NAME/client_key of any user; its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    config = f"/etc/{name}/sshd_config"
    machine.write(config, CONFIG.format(port=port, name=name) + more + "\n")
    for key in ("host_key", "client_key"):
        machine.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"/etc/{name}/{key}")
    machine.run("systemd-run", f"--unit={name}", "-p", "RuntimeDirectory=sshd", "/usr/sbin/sshd", "-D", f"-f{config}")

    def listens() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    eventually(listens)
    return port
