"""Who is told of what: once, with the words that help, whatever dies in between; to real servers on the loopback."""

import time
from collections.abc import Iterator

import pytest

from tests.system.lsh import Lsh, seconds
from tests.system.machine import eventually
from tests.system.receiver import Http

PROMPT = ("--gather", "0", "--at-most-every", "0")


@pytest.fixture
def http() -> Iterator[Http]:
    with Http() as server:
        yield server


@pytest.fixture
def agent(lsh: Lsh) -> Iterator[Lsh]:
    """lshctl with the agent running, and without rules in the end."""
    lsh("agent", "enable")
    yield lsh
    for rule in lsh.json_of("alerts", "list"):
        lsh("alerts", "remove", rule["name"])
    lsh("agent", "disable")


def test_a_failure_is_told_once_with_what_helps(agent: Lsh, http: Http) -> None:
    lsh = agent
    lsh("alerts", "add", "ops", "--to", f"json://127.0.0.1:{http.port}/hook", *PROMPT)
    job = lsh.add("--", "echo before; printf 'the \\033[31mend @everyone\\n'; exit 3")
    run = lsh.run(job, check=False)
    eventually(lambda: http.requests)
    ((title, body),) = http.told()
    assert http.requests[0].path == "/hook"
    assert title.endswith(f"] {job} failed: exit-code (exit status 3)")
    assert "before" in body and "\\x1b[31mend" in body and "@everyone" not in body
    assert body.endswith(f"lshctl --{lsh.scope} runs --id {run['id'][:12]}")
    ((told,),) = [lsh.json_of("alerts", "history", "--limit", "1")]
    assert (told["state"], told["event"], told["run"]) == ("sent", "failure", run["id"])


def test_a_missed_run_is_told_and_a_resting_one_is_not(agent: Lsh, http: Http) -> None:
    """The timer is stopped behind lshctl's back; with the agent off, it is told of when the agent is back."""
    lsh = agent
    watched, resting = (lsh.add("--calendar", "*:*:0/2", "--", "true") for _ in range(2))
    lsh(
        "alerts",
        "add",
        "ops",
        "--on",
        "missed,recovery",
        "--grace",
        "1s",
        "--to",
        f"json://127.0.0.1:{http.port}",
        *PROMPT,
    )
    lsh("disable", resting)
    lsh.ended(watched, 2)
    assert http.requests == []
    lsh.systemctl("stop", "lsh-agent.service", f"lsh-{watched}.timer")
    last = lsh.ended(watched)[-1]
    time.sleep(5)
    lsh.systemctl("start", "lsh-agent.service")
    eventually(lambda: http.requests, timeout=30)
    missed = lsh.runs(watched)[-1]
    assert (missed["result"], missed["trigger"], missed["duration_seconds"]) == ("missed", "timer", None)
    assert seconds(last["started_at"]) < seconds(missed["due_at"]) <= seconds(last["started_at"]) + 2.1
    lsh.systemctl("start", f"lsh-{watched}.timer")
    eventually(lambda: len(http.requests) >= 2, timeout=30)
    time.sleep(3)
    titles = [title.partition("] ")[2] for title, _ in http.told()]
    # What was missed after the first message is told when the job runs again.
    assert {*titles} <= {f"{watched} did not run when it should have", f"{watched} has recovered"}
    assert titles[0] == f"{watched} did not run when it should have" and f"{watched} has recovered" in titles
    assert resting not in str(http.told())
    assert "missed" not in {run["result"] for run in lsh.runs(resting)}
