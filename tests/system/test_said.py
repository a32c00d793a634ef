"""What a run says of itself, from within every kind of run; and whose word counts."""

import json
import shlex
from typing import Any

from lsh_systemd.run import RECORD
from tests.system.lsh import Lsh
from tests.system.machine import Machine, eventually

# What a run says through lshctl, and by its file.
SAYS = (
    "lshctl metric items=1 && lshctl progress 40/100 copying && lshctl metric items=2 rate=0.5 && "
    'echo by_hand=-3 >>"$LSH_METRICS"'
)
TOLD = {"items": 2, "rate": 0.5, "by_hand": -3}


def said(run: dict[str, Any]) -> tuple[Any, ...]:
    return run["metrics"], run["message"], run["progress"]


def test_every_kind_of_run_may_say_something(lsh: Lsh) -> None:
    """In a sandbox or not, as another user or not; each attempt for itself; nothing is left behind."""
    kinds = [(), ("--sandbox", "standard"), ("--sandbox", "strict", "--network", "none")]
    if lsh.scope == "system":
        lsh.machine.add_user("bob")
        kinds += [("--run-as", "bob"), ("--dynamic-user",), ("--run-as", "bob", "--sandbox", "strict")]
    progress = {"done": 40, "total": 100, "fraction": 0.4, "message": "copying"}
    for options in kinds:
        job = lsh.add(*options, "--", SAYS)
        run = lsh.run(job)
        assert said(run) == (TOLD, "copying", progress), (options, run)
    job = lsh.add(
        "--retries", "1", "--retry-delay", "100ms", "--", 'echo "$LSH_METRICS"; lshctl metric attempt_$$=1; exit 1'
    )
    lsh("start", job)
    first, second = lsh.ended(job, 2)
    for run in (first, second):
        (name,) = run["metrics"]
        assert name.startswith("attempt_")
    assert first["metrics"] != second["metrics"]
    assert lsh.machine.run("test", "-e", first["output"].strip(), check=False).returncode == 1
    quiet = lsh.run(lsh.add("--", "true"))
    assert said(quiet) == ({}, None, None)
    once = lsh("run", "--json", "--", SAYS).json()
    assert said(once) == (TOLD, "copying", progress)
    assert "items=2  rate=0.5" in lsh("runs", "--limit", "1").stdout
    assert "SAID" not in lsh("runs", quiet["job"]).stdout
    assert "rate=0.5" in lsh("runs", "--id", once["id"]).stdout


def test_progress_is_seen_while_it_goes_on(lsh: Lsh) -> None:
    go = lsh.new_path()
    command = f'lshctl progress 2/8 "on $$"; until [ -e {go} ]; do sleep 0.1; done'
    job = lsh.add("--overlap", "parallel", "--schedule", "0 0 1 1 *", "--", command)
    lsh("start", job)
    (now,) = eventually(lambda: [each for each in lsh.runs(job) if each["progress"]])
    progress = {"done": 2, "total": 8, "fraction": 0.25, "message": now["message"]}
    assert (now["result"], now["progress"]) == (None, progress)
    shown = lsh.json("show", job)
    assert (shown["progress"], shown["last_run"]["progress"]) == (progress, progress)
    assert "running (25%)" in lsh("list").stdout
    assert "2/8 (25%)" in lsh("show", job).stdout
    assert "2/8 (25%)" in lsh("runs", job).stdout
    lsh("start", job)  # beside it: with words of its own
    both = eventually(lambda: [each for each in lsh.runs(job) if each["progress"]][1:] and lsh.runs(job))
    assert len({each["message"] for each in both}) == 2
    if lsh.scope == "system":  # nobody else may read it, nor write to it
        file = f"/run/lsh/said/lsh-{job}.service/metrics"
        lsh.machine.add_user("bob")
        for command in (f"cat {file}", f"echo items=9 >>{file}", f"LSH_METRICS={file} lshctl metric items=9"):
            assert lsh.machine.run("sh", "-c", command, user="bob", check=False).returncode != 0
    lsh.machine.run("touch", go)
    assert [each["progress"] for each in lsh.ended(job, 2)] == [each["progress"] for each in both]
    assert lsh.json("show", job)["progress"] is None


HOSTILE = {
    "ten megabytes": "head -c 10000000 /dev/zero | tr '\\0' 'x' >$F; printf '\\nlast=1\\n' >>$F",
    "no newline at all": "head -c 10000000 /dev/zero >$F",
    "thousands of names": 'seq -f "n%.0f=1" 5000 >$F; echo last=1 >>$F',
    "controls and fields": (
        "printf 'last=1\\nMESSAGE_ID=x\\nLSH_RESULT=success\\n\\0\\377\\n\\033[2Jx=1\\nmessage=\\033[2J$(id)\\n' >$F"
    ),
    "a link": "ln -s /etc/passwd $F",
    "a pipe": "mkfifo $F",
    "a folder": "mkdir $F",
    "no folder": "rm -rf $(dirname $F)",
    "a file without end": "truncate -s 1T $F; printf '\\nlast=1\\n' >>$F",
}


def test_whatever_a_run_writes_its_record_stays_whole(lsh: Lsh) -> None:
    """The exit status is the run's own, the record is one, and nothing reaches the terminal that could move it."""
    for kind, command in HOSTILE.items():
        job = lsh.add("--", f"F=$LSH_METRICS; {command}; exit 3")
        run = lsh.run(job, check=False)
        assert (run["result"], run["exit_status"]) == ("exit-code", 3), kind
        assert run["started_at"] is not None
        (entry,) = lsh.machine.journal(f"MESSAGE_ID={RECORD}", f"LSH_INVOCATION_ID={run['id']}")
        assert entry["LSH_RESULT"] == "exit-code"
        if kind == "thousands of names":
            assert len(run["metrics"]) == 64
        else:
            assert run["metrics"] == ({"last": 1} if "last=" in command else {}), kind
        for shown in (lsh("runs", job), lsh("runs", "--id", run["id"]), lsh("show", job)):
            assert "\x1b" not in shown.stdout
        assert len(json.dumps(said(run))) < 10_000


def test_what_is_no_saying_is_refused(lsh: Lsh) -> None:
    wrong = (["metric", "x"], ["metric", "x=nan"], ["metric", "message=1"], ["progress", "1/0"], ["message", ""])
    for argv in wrong:
        assert "no run of a job" not in lsh.refused(*argv)
    assert "no run of a job" in lsh.refused("metric", "items=1")
    job = lsh.add("--tasks-max", "2", "--", 'echo items=1 >"$LSH_METRICS"')
    assert said(lsh.run(job)) == ({"items": 1}, None, None)
    # A run that says very much has its file made short.
    loop = "import os; from pathlib import Path; from lsh_systemd import said, sayings\n"
    loop += "for n in range(3000): sayings.say(Path(os.environ['LSH_METRICS']), said.metrics_of([f'n{n % 7}={n}']))\n"
    loop += "assert os.stat(os.environ['LSH_METRICS']).st_size < 40000"
    run = lsh.run(lsh.add("--", f"python3 -c {shlex.quote(loop)}"))
    assert run["metrics"] == {f"n{n % 7}": n for n in range(2993, 3000)}
    assert "set by systemd" in lsh.refused("add", "x", "--env", "LSH_METRICS=/tmp/x", "--", "true")


def test_what_is_said_is_kept_exactly_once(machine: Machine) -> None:
    """Another collection of the same journal, into a new ledger, comes to the same."""
    lsh = Lsh(machine, "system")
    job = lsh.add("--", SAYS)
    lsh.run(job)
    (before,) = lsh.runs(job)
    machine.run("sh", "-c", "rm -f /var/lib/lsh/lsh.db*")
    assert lsh.runs(job) == [before]
    assert before["metrics"] == TOLD
    lsh.clean()
