"""A life of jobs: what lshctl was told, what must therefore be there, and whether it is.

Jobs write of themselves into a file: that is the truth which the ledger is compared with. A command that was cut off is
given again, as a person would, until it has said yes or no; then the model knows again.
"""

import itertools
import random
import shlex
import time
from dataclasses import dataclass
from typing import Any

from lsh_systemd.job import RESERVED_IDS
from lsh_systemd.unit import id_of_unit
from tests.system.booted import Result, eventually
from tests.system.lsh import Lsh, seconds
from tests.system.machine import Machine

TRUTH = "/var/tmp/truth"
STATUSES = {0, 1, 2, 3}  # of lshctl
MUST_BE_WELL = {"manager", "access", "recorder", "store", "jobs", "apply", "schedules", "queue", "settings"}
STATES = {"system": "/var/lib/lsh", "user": "/home/bob/.local/state/lsh"}

Truth = dict[str, dict[str, list[str]]]  # a run's id → "B" (began), "E" (ended) → token, time, exit status


@dataclass
class Known:
    """What the model knows of a job."""

    name: str
    token: str  # what its command writes beside each run
    schedule: str | None
    overlap: str
    enabled: bool = True


class Life:
    """One scope of one machine under torture. `log` has every step, to be shown where an invariant breaks."""

    def __init__(self, machine: Machine, scope: str, seed: int) -> None:
        self.machine, self.random = machine, random.Random(seed)
        self.lsh = Lsh(machine, scope)
        self.state = STATES[scope]
        self.jobs: dict[str, Known] = {}  # by id
        self.alone: set[str] = set()  # tokens of jobs that must not run beside themselves
        self.log: list[str] = []
        self._tokens = 0
        machine.run("install", "--mode=666", "/dev/null", TRUTH)

    def note(self, text: str) -> None:
        self.log.append(f"{time.strftime('%H:%M:%S')} {text}")

    def tell(self, *argv: str, cut: bool = False) -> Result:
        """lshctl with these words; with `cut` it is killed at some moment first, and told again."""
        if cut:
            process = self.lsh.popen(*argv)
            time.sleep(self.random.uniform(0, 0.35))
            process.kill()
            process.communicate()
            self.note(f"cut off: {shlex.join(argv)}")
        result = self.lsh(*argv, check=False)
        self.note(f"{shlex.join(argv)} → {result.returncode} {result.stderr.strip()[:500]}")
        assert "Traceback" not in result.stderr + result.stdout, result
        assert result.returncode in STATUSES, result
        return result

    def new_command(self) -> tuple[str, str]:
        """A command that tells the truth, and its token."""
        self._tokens += 1
        token = f"t{self._tokens}"
        line = f'printf "%s {token} %s %s %s\\n" {{}} "$INVOCATION_ID" "$(date +%s.%N)" {{}} >>{TRUTH}'
        sleep = self.random.choice(("0", "0", "0.3", "1", "2.5"))
        status = self.random.choice(("0", "0", "0", "1", "$(($$ % 2))"))
        return f"{line.format('B', '-')}; sleep {sleep}; s={status}; {line.format('E', '$s')}; exit $s", token

    def know(self, job: str, known: Known) -> None:
        self.jobs[job] = known
        if known.overlap != "parallel":
            self.alone.add(known.token)

    # --- what must be so whenever no command is under way

    def check(self) -> None:
        self._check_jobs()
        self._check_files()
        self._check_runs()
        told = self.lsh("doctor", "--json", check=False).json()
        wrong = [each for each in told if each["level"] != "ok" and each["check"] in MUST_BE_WELL]
        assert not wrong, wrong

    def _check_jobs(self) -> None:
        listed = {job["id"]: job for job in self.lsh.json("list")}
        assert sorted(listed) == sorted(self.jobs)
        for job, known in self.jobs.items():
            now = listed[job]
            assert (now["name"], now["changed"]) == (known.name, False), now
            assert not known.schedule or now["enabled"] == known.enabled, now

    def _check_files(self) -> None:
        """The units of the model's jobs and no others, and systemd has loaded them as they are."""
        paths = [path for path in self.lsh.files() if ".wants/" not in path and "lsh-" in path]
        names = {path.rsplit("/", 1)[1] for path in paths}
        ours = {
            name for name in names if name.endswith((".service", ".timer")) and id_of_unit(name) not in RESERVED_IDS
        }
        wanted = {f"lsh-{job}.service" for job in self.jobs}
        wanted |= {f"lsh-{job}.timer" for job, known in self.jobs.items() if known.schedule}
        assert {name for name in ours if "@" not in name} == wanted
        assert not {name for name in names if name.startswith(".") or name.endswith(("~", ".tmp"))}
        for job, known in self.jobs.items():
            if known.schedule:
                state = self.lsh.show(f"lsh-{job}.timer", "ActiveState", "NeedDaemonReload")
                assert state == {"ActiveState": "active" if known.enabled else "inactive", "NeedDaemonReload": "no"}, (
                    job
                )

    def _check_runs(self) -> None:
        """Each run that came to its end is on record with that end, and only once."""
        truth = self._truth()
        ended = {run_id for run_id, lines in truth.items() if "E" in lines}
        runs: dict[str, dict[str, Any]] = {}

        def missing() -> set[str]:
            runs.update({run["id"]: run for run in self.lsh.json("runs", "--limit", "0")})
            return {run_id for run_id in ended if runs.get(run_id, {}).get("result") is None}

        eventually(lambda: not missing(), timeout=60)
        for run_id in ended:
            run, lines = runs[run_id], truth[run_id]
            if run["result"] in ("success", "exit-code"):  # nothing ended it at that very moment
                assert run["exit_status"] == int(lines["E"][2]), (run, lines)
                assert seconds(run["started_at"]) <= float(lines["B"][1]) + 0.1, (run, lines)
                assert seconds(run["ended_at"]) >= float(lines["E"][1]) - 0.1, (run, lines)
        self._check_overlaps(truth)

    def _check_overlaps(self, truth: Truth) -> None:
        times: dict[str, list[tuple[float, float]]] = {}
        for lines in truth.values():
            if "B" in lines and "E" in lines and lines["B"][0] in self.alone:
                times.setdefault(lines["B"][0], []).append((float(lines["B"][1]), float(lines["E"][1])))
        for token, spans in times.items():
            spans.sort()
            for (_, end), (start, _) in itertools.pairwise(spans):
                assert start >= end, f"{token} ran beside itself at {start}"

    def _truth(self) -> Truth:
        told: Truth = {}
        for line in self.machine.read(TRUTH).splitlines():
            what, token, run_id, at, status = line.split()
            assert what not in told.setdefault(run_id, {}), f"{run_id} began or ended twice"
            told[run_id][what] = [token, at, status]
        return told
