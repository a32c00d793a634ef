"""A machine with a kernel of its own, up in six seconds: its own clock, real cgroup controllers, a plug to pull.

with UmlMachine("bookworm", clock=datetime(2027, 1, 15, tzinfo=UTC)) as machine:
    machine.set_clock(datetime(2027, 3, 28, 0, 59, 58, tzinfo=UTC))
    machine.kill()  # as a power cut: what was not synced is lost
    machine.boot(clock=datetime(2027, 3, 29, tzinfo=UTC))

Everything takes about five times as long as in a container (a lshctl two seconds), and it has no network.
"""

import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import pytest

from tests.system import roots
from tests.system.booted import Booted, CommandFailed, Result, not_done
from tests.system.uml_kernel import Died, Kernel

__all__ = ["UmlMachine", "only_on"]


def only_on(suite: str) -> pytest.MarkDecorator:
    """For tests that take long and would show the same on the other suite."""
    return pytest.mark.parametrize(
        "suite", [pytest.param(suite, id=roots.ALL_SUITES[suite])], indirect=True, scope="session"
    )


class UmlMachine(Booted):
    """User-Mode Linux on a disk of its own. `suite` is one of roots.ALL_SUITES; `clock` is what it takes for the time.

    The clock goes on while the machine is off.
    """

    def __init__(self, suite: str, *, clock: datetime | None = None) -> None:
        self._kernel = Kernel(suite)
        self._remember(clock)
        super().__init__(suite, self._kernel)

    def boot(self, *, clock: datetime | None = None) -> None:
        """Boot, at another time where one is given."""
        self._remember(clock)
        super().boot()

    def set_clock(self, at: datetime) -> None:
        """As an administrator sets it: systemd is told, and time runs on from there."""
        self._remember(at)
        self.run("date", f"--set=@{at.timestamp():.6f}")

    def _remember(self, clock: datetime | None) -> None:
        if clock:
            self._kernel.ahead = clock.timestamp() - time.time()

    def clock(self) -> float:
        """POSIX time as the machine has it."""
        return float(self.run("date", "+%s.%N").stdout)

    def journal_text(self, *, since: float = 0) -> str:
        """All of it, as the machine's clock is its own."""
        return super().journal_text()

    def _execute(
        self,
        argv: tuple[str, ...],
        *,
        user: str,
        env: Mapping[str, str | None] | None,
        cwd: str | Path | None,
        input: str | None,
        timeout: float,
    ) -> Result:
        given = self._environment(user, env)
        place = str(cwd or given["HOME"])
        try:
            answer = self._kernel.request(argv, timeout=timeout, user=user, env=given, cwd=place, input=input)
        except Died as death:
            raise CommandFailed(f"{self.name} {death}: {argv}\n{self.console()}") from None
        said = {"stdout": answer["stdout"], "stderr": answer["stderr"]}
        if answer["returncode"] is None:
            raise not_done(Result(argv=argv, returncode=-9, **said), timeout)
        return Result(argv=argv, returncode=answer["returncode"], **said)
