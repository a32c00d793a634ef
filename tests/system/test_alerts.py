"""Who is told of what: once, with the words that help, whatever dies in between; to real servers on the loopback."""

from collections.abc import Iterator

import pytest

from tests.system.lsh import Lsh
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
