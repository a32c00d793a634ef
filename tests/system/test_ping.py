"""A monitor outside is told of each run, whatever the job may and may not do; and the job never waits for it."""

import time
import uuid
from collections.abc import Iterator

import pytest

from tests.system.lsh import Lsh
from tests.system.machine import eventually
from tests.system.receiver import Http


@pytest.fixture
def http() -> Iterator[Http]:
    with Http() as server:
        yield server


def test_start_and_end_are_told(lsh: Lsh, http: Http) -> None:
    url = f"http://127.0.0.1:{http.port}/uuid?create=1"
    expected = []
    strict = ("--sandbox", "strict", "--network", "none")
    for options, command, end in (
        (strict, "sleep 1", ""),
        ((), "sleep 1; exit 3", "/3"),
        (("--timeout", "1s"), "sleep 60", "/fail"),
        (("--retries", "1", "--retry-delay", "1s"), "sleep 1; exit 1", None),
    ):
        job = lsh.add("--ping", url, *options, "--", command)
        run = lsh.run(job, check=False)
        if end is None:  # the first attempt's end is not the last word
            run = lsh.ended(job, 2)[-1]
            expected.append(f"/uuid/start?create=1&rid={uuid.UUID(lsh.runs(job)[0]['id'])}")
            end = "/1"
        expected += [f"/uuid{path}?create=1&rid={uuid.UUID(run['id'])}" for path in ("/start", end)]
        count = len(expected)
        eventually(lambda count=count: len(http.requests) >= count, timeout=20)  # type: ignore[misc]
    time.sleep(1)
    assert [each.path for each in http.requests] == expected


def test_the_url_may_be_a_secret_and_a_skipped_run_is_not_told(lsh: Lsh, http: Http) -> None:
    lsh("secrets", "set", "hc", input=f"http://127.0.0.1:{http.port}/hidden")
    flag = lsh.new_path()
    job = lsh.add("--ping", "{secret:hc}", "--condition", f"test -e {flag}", "--", "true")
    lsh.run(job, check=False)
    lsh.machine.run("touch", flag)
    run = lsh.run(job)
    eventually(lambda: http.requests)
    time.sleep(1)
    assert [each.path for each in http.requests] == [f"/hidden?rid={uuid.UUID(run['id'])}"]
    assert "hidden" not in lsh.systemctl("cat", f"lsh-{job}.service").stdout
    assert "is used by" in lsh.told_off("secrets", "remove", "hc")
    assert [each["jobs"] for each in lsh.json_of("secrets", "list")] == [[job]]
    for wrong in ("hush hush", 'http://hush/"', "ftp://hush"):
        said = lsh.told_off("secrets", "rotate", "hc", input=wrong)
        assert "URL to ping" in said and "hush" not in said


@pytest.mark.parametrize("scope", ["system"], indirect=True)
def test_a_monitor_that_does_not_answer_holds_nothing_up(lsh: Lsh) -> None:
    """Nothing listens there; the job runs again and again in the meantime."""
    job = lsh.add("--ping", "http://127.0.0.1:9/x", "--", "true")
    ids = [lsh.run(job)["id"] for _ in range(3)]
    trying = lsh.systemctl("list-units", "--plain", "--state=activating", f"lsh-tell-end@{job}:*").stdout
    assert all(f"lsh-tell-end@{job}:{run_id}:s.service" in trying for run_id in ids)
    assert "no URL to ping" in lsh.refused("add", "bad", "--ping", 'http://x/"', "--", "true")
    assert "there is no secret" in lsh.refused("add", "bad", "--ping", "{secret:nowhere}", "--", "true")
