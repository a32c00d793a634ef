"""The ledger against the truth: what jobs wrote of themselves into a file, while all that can die does.

LSH_EXACT (1) multiplies the numbers of runs and deaths: 20 makes ten thousand runs, two hundred deaths of the agent.
"""

import os
import time
from collections.abc import Callable, Iterator

import pytest

from tests.system.lsh import Lsh, seconds
from tests.system.machine import Machine, eventually

NewMachine = Callable[..., Machine]
TIMES = int(os.environ.get("LSH_EXACT", "1"))
# A run's output is what it writes of itself; every fourth or so fails.
COMMAND = (
    "began=$(date +%s.%6N); echo $INVOCATION_ID; {work} [ $(($$ % 4)) -gt 0 ]; status=$?; "
    "echo $INVOCATION_ID $began $(date +%s.%6N) $status >>{truth}; exit $status"
)


class Truth:
    """A job whose runs, side by side if need be, tell of themselves in a file."""

    def __init__(self, lsh: Lsh, work: str = "") -> None:
        self.lsh, self.machine = lsh, lsh.machine
        self.path = f"/var/tmp/truth-{lsh.new_name()}"
        self.machine.run("install", "--mode=666", "/dev/null", self.path)
        command = COMMAND.format(work=work, truth=self.path)
        self.job = lsh.add("--schedule", "0 0 1 1 *", "--overlap", "parallel", "--", command)
        self._started = 0

    def starts(self, count: int, at_once: int = 4) -> str:
        """A shell's command that has so many runs, some of them side by side."""
        numbers = range(self._started, self._started + count)
        self._started += count
        units = [f"lsh-{self.job}@{number}.service" for number in numbers]
        each = [" ".join(units[start : start + at_once]) for start in range(0, count, at_once)]
        return "\n".join(f"systemctl --{self.lsh.scope} start {words} 2>/dev/null" for words in each) + "\ntrue\n"

    def during(self, starts: str, disturbance: str) -> None:
        self.run(f"({starts}) & {disturbance}\nwait")

    def run(self, script: str) -> None:
        """As standard input: ten thousand runs are too many for one argument."""
        self.machine.run("bash", input=script, user=self.lsh.user, timeout=300 + 120 * TIMES)

    def lines(self) -> dict[str, list[str]]:
        told = [line.split() for line in self.machine.read(self.path).splitlines()]
        assert len({line[0] for line in told}) == len(told)
        return {line[0]: line for line in told}

    def check(self, *, missing: int = 0, within: float = 0.05, lost_output: int = 0) -> None:
        """The ledger has exactly these runs (but so many), each with its result, output (but of so many) and times (in
        seconds)."""
        truth = self.lines()

        def whole() -> bool:
            runs = self.lsh.runs(self.job)
            return sum(run["result"] is not None for run in runs) >= len(truth) - missing

        eventually(whole, timeout=60)
        runs = {run["id"]: run for run in self.lsh.runs(self.job)}
        assert len(runs) == len(truth) - missing
        late = silent = 0
        for run_id, run in runs.items():
            _, began, ended, status = truth[run_id]
            assert (run["exit_status"], run["signal"], run["attempt"]) == (int(status), None, 1)
            assert run["result"] == ("success" if status == "0" else "exit-code")
            silent += run["output"] == ""
            assert run["output"] in (f"{run_id}\n", "")
            before, after = float(began) - seconds(run["started_at"]), seconds(run["ended_at"]) - float(ended)
            # (systemd says that it starts a run when it has done so: the run may be quicker)
            assert min(before, after) > -within
            late += max(before, after) > within
        # systemd itself may come late on a busy machine; that must not be the rule
        assert late <= len(runs) / 2
        assert silent <= lost_output


@pytest.fixture
def truth(lsh: Lsh) -> Iterator[Truth]:
    yield Truth(lsh)
    lsh("agent", "disable")


def test_as_fast_as_systemd_starts_them(truth: Truth) -> None:
    truth.run(truth.starts(500 * TIMES, 50))
    truth.check(within=10)


def test_two_hundred_end_in_the_same_second(lsh: Lsh) -> None:
    truth = Truth(lsh, "while [ $(date +%s) -lt $(cat /var/tmp/until) ]; do sleep 0.1; done;")
    lsh.machine.write("/var/tmp/until", str(int(time.time()) + 9))
    starts = truth.starts(200, 200).replace(" start ", " start --no-block ")
    lsh.machine.run("bash", "-c", starts, user=lsh.user, timeout=120)
    eventually(lambda: len(truth.lines()) == 200, timeout=60)
    truth.check(within=60)


def test_the_agent_is_killed_again_and_again(truth: Truth) -> None:
    """Whatever it was at: the next one goes on there."""
    truth.lsh("agent", "enable")
    ctl = f"systemctl --{truth.lsh.scope}"
    deaths = f"""for i in $(seq {10 * TIMES}); do
        sleep 0.$((RANDOM % 70 + 10)); {ctl} kill --signal=KILL lsh-agent.service
        {ctl} reset-failed lsh-agent.service; {ctl} restart --no-block lsh-agent.service
    done 2>/dev/null"""
    truth.during(truth.starts(160 * TIMES), deaths)
    truth.check(within=1)


def test_the_journal_rotates_and_its_daemon_dies(new_machine: NewMachine, suite: str) -> None:
    truth = Truth(Lsh(new_machine(suite), "system"))
    truth.lsh("agent", "enable")
    truth.during(truth.starts(80), "for i in 1 2 3 4 5 6; do sleep 0.4; journalctl --rotate; done")
    truth.check(within=1)
    # not more often: systemd gives up on what dies five times in ten seconds
    truth.during(truth.starts(80), "for i in 1 2; do sleep 0.7; systemctl restart systemd-journald.service; done")
    truth.check(within=1, lost_output=8)  # of those, four at once, not handed over to the next one yet
    deaths = "for i in 1 2; do sleep 1.$RANDOM; systemctl kill --signal=KILL systemd-journald.service; done"
    truth.during(truth.starts(120), deaths)
    truth.check(within=1, lost_output=16)  # and a line that it had read and not written is gone with it
    # What the journal drops before it could be read is counted.
    truth.lsh("agent", "disable")
    truth.lsh.runs(truth.job)
    dropped = 40
    truth.run(truth.starts(dropped))
    truth.machine.run("journalctl", "--rotate")
    newest = truth.machine.run("journalctl", "--lines=1", "--output=json").json()
    truth.machine.run("journalctl", "--vacuum-files=1")
    truth.run(truth.starts(20))
    said = truth.lsh("runs", truth.job).stderr
    assert "the journal dropped " in said and "runs of that time may be missing" in said
    entries = int(said.split("the journal dropped ")[1].split()[0])
    assert entries >= dropped * 4, newest  # systemd's and the job's own words on each run
    assert "dropped" not in truth.lsh("runs", truth.job).stderr
    truth.check(missing=dropped, within=1, lost_output=16)  # of the runs before: no more
    found = truth.lsh("doctor", "--json", check=False).json()
    assert any(f"dropped {entries} entries" in each["message"] for each in found)


def test_a_job_made_anew_under_the_same_name(lsh: Lsh) -> None:
    """Collected in one go: both jobs' runs are there, each with its own."""
    name = lsh.new_name()
    expected = []
    for word in ("one", "two", "three"):
        lsh.add("--", f"echo {word}", name=name)
        lsh.systemctl("start", f"lsh-{name}.service")
        lsh.systemctl("start", f"lsh-{name}.service")
        expected += [f"{word}\n", f"{word}\n"]
        lsh("remove", name)
    assert [(run["result"], run["output"]) for run in lsh.ended(name, 6)] == [("success", word) for word in expected]


def test_a_journal_that_tells_of_no_unit_yet(new_machine: NewMachine, suite: str) -> None:
    """Looked at before anything of ours is in it, it is not taken for read."""
    lsh = Lsh(new_machine(suite), "system")
    lsh("add", "first", "--", "true")
    empty = "journalctl --rotate; journalctl --vacuum-time=1us; rm -f /var/lib/lsh/lsh.db*; lshctl runs"
    lsh.machine.run("sh", "-c", empty)
    lsh.systemctl("start", "lsh-first.service")
    assert [run["result"] for run in lsh.ended("first")] == ["success"]
