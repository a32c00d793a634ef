"""The HTTP API of a machine, called on its Unix socket: machines beside each other share the ports."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.system.lsh import Lsh

WEBHOOK = "a-secret-of-the-webhook-s"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Api:
    """The API of one scope, called by curl as a program there would."""

    lsh: Lsh
    port: int

    def key(self, role: str, *argv: str) -> str:
        name = f"{role}-{self.lsh.new_name()}"
        told = self.lsh("api", "key", "create", name, "--role", role, *argv, "--json").json()
        return str(told["key"])

    def __call__(
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        body: Any = None,
        check: int | None = 200,
        **headers: str,
    ) -> Answer:
        argv = ["--request", method, *(["--header", f"X-API-Key: {key}"] if key else [])]
        argv += [word for name, value in headers.items() for word in ("--header", f"{name.replace('_', '-')}: {value}")]
        text = None if body is None else body if isinstance(body, str) else json.dumps(body)
        if text is not None:
            argv += ["--data-binary", "@-"]
            argv += [] if "Content_Type" in headers else ["--header", "Content-Type: application/json"]
        argv += ["--include", f"http://localhost{path}"]
        told = self.curl(*argv, input=text)
        head, _, rest = told.replace("\r\n", "\n").partition("\n\n")
        lines = head.split("\n")
        answer = Answer(
            status=int(lines[0].split()[1]),
            headers={name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])},
            text=rest,
        )
        assert check in (None, answer.status), answer
        return answer

    @property
    def socket(self) -> str:
        return ("/run" if self.lsh.scope == "system" else "/run/user/1000") + "/lsh/api.sock"

    def curl(self, *argv: str, input: str | None = None, timeout: float = 60) -> str:
        command = ("curl", "--silent", "--show-error", "--no-buffer", "--unix-socket", self.socket, *argv)
        return self.lsh.machine.run(*command, user=self.lsh.user, input=input, timeout=timeout).stdout


@contextmanager
def serving(lsh: Lsh) -> Iterator[Api]:
    """The API of the scope, off again in the end."""
    port = {"system": 3030, "user": 3031}[lsh.scope] + (10 if "bookworm" in lsh.machine.suite else 0)
    folder = "/etc/lsh" if lsh.scope == "system" else "/home/bob/.config/lsh"
    lsh.machine.write(f"{folder}/environment", f"CRON_WEBHOOK_SECRET={WEBHOOK}\n", user=lsh.user)
    lsh.machine.run("chmod", "600", f"{folder}/environment")
    lsh("api", "enable", "--listen", f"127.0.0.1:{port}")
    yield Api(lsh, port)
    lsh("api", "disable")
    lsh("agent", "disable")
    lsh.machine.run("rm", "-f", f"{folder}/environment", f"{folder}/lsh.toml")
