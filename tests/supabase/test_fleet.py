"""Reports over several hosts: what each host's own ledger says, added up."""

import json
import random
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lsh_systemd.cli import main
from lsh_systemd.errors import BadInput
from lsh_systemd.figures import Figures
from lsh_systemd.fleet import Fleet
from lsh_systemd.job import Job
from lsh_systemd.mirrored import job_row
from lsh_systemd.remote import Remote, Target
from lsh_systemd.report import Reporter
from lsh_systemd.run import Run
from tests.supabase.project import NOW, Host, migrated
from tests.supabase.stack import Stack

_DAY = 86_400_000_000
_RUNS = 700  # of each host: more than PostgREST tells at once, in all
_RESULTS = ["success"] * 6 + ["exit-code", "timeout", "skipped", "missed", "lost", None]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with migrated() as stack:
        yield stack


@pytest.fixture(scope="module")
def hosts(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> list[Host]:
    """Three, two of them of the same name, with runs of all kinds over ten days."""
    draw, hosts = random.Random(6), []
    for number, name in enumerate(["web", "web", "db"]):
        host = Host(stack, tmp_path_factory.mktemp(name) / "lsh.db", name=name)
        host.put(*(_any_run(draw, name) for _ in range(_RUNS)))
        job = Job(name=f"Job {number}", command="true", schedule=("0 2 * * *",))
        host.jobs = {job.id: job_row(job, id=job.id, host=host.id, scope="system", state="waiting", next_at=None)}
        host.sync()
        hosts.append(host)
    return hosts


def _any_run(draw: random.Random, host: str) -> Run:
    def some(most: int) -> int | None:
        return draw.choice([None, draw.randrange(most), draw.randrange(most)])

    began = NOW - draw.randrange(10 * _DAY)
    started = draw.choice([began] * 20 + [None])
    return Run(
        id=uuid.UUID(int=draw.getrandbits(128)).hex, job=f"job-{draw.randrange(4)}", unit="u", host=host,
        result=draw.choice(_RESULTS), started_usec=started, duration_usec=some(10**9) if started else None,
        cpu_usec=some(10**6), memory_peak_bytes=some(2**40), attempt=draw.choice([1, 1, 2]),
        due_usec=draw.choice([None, began - 5_000_000, began + 1]), metrics='{"n": 1.5}',
    )  # fmt: skip


@pytest.fixture
def fleet(stack: Stack) -> Iterator[Fleet]:
    remote = Remote(Target(url=stack.url, key=stack.secret_key))
    yield Fleet(remote)
    remote.close()


@pytest.mark.parametrize(("since", "until"), [(None, None), (NOW - 5 * _DAY, NOW - _DAY // 2)])
def test_a_report_is_what_the_hosts_say(fleet: Fleet, hosts: list[Host], since: int | None, until: int | None) -> None:
    period: dict[str, Any] = {"since_usec": since, "until_usec": until}
    own = {host.id: {each["job"]: each for each in _reporter(host, period).jobs()} for host in hosts}
    told = fleet.report(by="both", **period)
    assert {(each["host_id"], each["job"]) for each in told} == {(h, job) for h, jobs in own.items() for job in jobs}
    for each in told:
        _check_same(each, own[each["host_id"]][each["job"]])
    for host in hosts:
        (whole,) = fleet.report([host.id], by="all", **period)
        _check_same(whole, _reporter(host, period).overall())
    (overall,) = fleet.report(by="all", **period)
    for name in ("runs", "successes", "skipped", "retries"):
        assert overall[name] == sum(each[name] for jobs in own.values() for each in jobs.values())
    assert overall["runs"] > 700


def _reporter(host: Host, period: dict[str, Any]) -> Reporter:
    return Reporter(Figures(host.store.query), **period)


def _check_same(told: dict[str, Any], own: dict[str, Any]) -> None:
    figures = told.keys() - {"job", "host", "host_id"}
    assert {name: told[name] for name in figures} == {
        name: pytest.approx(own[name]) if isinstance(own[name], float) else own[name] for name in figures
    }


def test_runs_are_told_as_their_hosts_tell_them(fleet: Fleet, hosts: list[Host]) -> None:
    known = {run.id: run.to_json() | {"output": ""} for host in hosts for run in host.store.runs()}
    told = {run.id: run.to_json() for run, _ in fleet.runs()}
    assert told == known and len(told) == 3 * _RUNS
    some = list(fleet.runs(["db"], job="job-1", since_usec=NOW - 3 * _DAY, unsuccessful=True, limit=5))
    assert [(run.id, more["host_id"]) for run, more in some] == [
        (run.id, hosts[2].id)
        for run in hosts[2].store.runs(job="job-1", since_usec=NOW - 3 * _DAY, unsuccessful=True, limit=5)
    ]
    assert len(list(fleet.runs(["web"]))) == 2 * _RUNS


def test_hosts_and_jobs(fleet: Fleet, hosts: list[Host], stack: Stack) -> None:
    stack.sql(f"UPDATE hosts SET last_seen_at = now() - interval '1 hour' WHERE id = '{hosts[0].id}'")
    assert {(row["id"], row["online"]) for row in fleet.hosts()} == {
        (hosts[0].id, False), (hosts[1].id, True), (hosts[2].id, True)
    }  # fmt: skip
    assert [(row["id"], row["host"]) for row in fleet.jobs(["db"])] == [("job-2", "db")]
    hosts[2].jobs = {}
    hosts[2].sync()
    assert fleet.jobs(["db"]) == []
    assert [row["id"] for row in fleet.jobs(removed=True)] == ["job-0", "job-1", "job-2"]
    with pytest.raises(BadInput, match="no host 'mail'"):
        fleet.jobs(["mail"])


def test_lshctl_fleet(hosts: list[Host], stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {
        "SUPABASE_URL": stack.url,
        "SUPABASE_SECRET_KEY": stack.secret_key,
        "HOME": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)

    def said(*argv: str) -> str:
        done = CliRunner().invoke(main, ["--user", "fleet", *argv], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    assert len(json.loads(said("runs", "--json", "--limit", "7"))) == 7
    assert {each["host"] for each in json.loads(said("report", "--by", "host", "--json"))} == {"web", "db"}
    for argv in (["hosts"], ["jobs", "--removed"], ["runs", "--host", "db"], ["report", "job-1", "--by", "both"]):
        assert "db" in said(*argv)
