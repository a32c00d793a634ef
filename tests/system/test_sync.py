"""Runs of booted machines, reported to a real Supabase by their agents."""

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.supabase.project import migrated
from tests.supabase.stack import Stack
from tests.system import roots
from tests.system.booted import Result
from tests.system.lsh import Lsh
from tests.system.machine import Machine, eventually
from tests.system.roots import SUITES
from tests.system.uml import only_on

as_root = pytest.mark.parametrize("scope", ["system"], indirect=True)
as_bob = pytest.mark.parametrize("scope", ["user"], indirect=True)
_CONFIG = {"system": "/etc/lsh", "user": "/home/bob/.config/lsh"}


@pytest.fixture(scope="session")
def supabase() -> Iterator[Stack]:
    """The machines share this host's network: they reach its loopback."""
    with migrated() as stack:
        yield stack


def connect(lsh: Lsh, stack: Stack) -> None:
    """Set the project and its key, as README says."""
    folder, machine = _CONFIG[lsh.scope], lsh.machine
    machine.run("mkdir", "-p", folder, user=lsh.user)
    machine.write(f"{folder}/lsh.toml", f'[supabase]\nurl = "{stack.url}"\n', user=lsh.user)
    machine.write(f"{folder}/supabase.key", f"{stack.secret_key}\n", user=lsh.user)
    machine.run("chmod", "600", f"{folder}/supabase.key", user=lsh.user)


@pytest.fixture
def reporting(lsh: Lsh, supabase: Stack) -> Iterator[Lsh]:
    connect(lsh, supabase)
    lsh("agent", "enable")
    yield lsh
    lsh("agent", "disable")
    lsh.machine.run("rm", "-r", _CONFIG[lsh.scope])


def there(stack: Stack, lsh: Lsh, table: str, job: str, columns: str) -> list[dict[str, Any]]:
    """The rows that this host has over there."""
    host, key = lsh.json_of("sync", "status")["host"], "id" if table == "jobs" else "job"
    rows = f"SELECT {columns} FROM {table} WHERE host = '{host}' AND {key} = '{job}'"
    return list(json.loads(stack.sql(f"SELECT coalesce(json_agg(each), '[]') FROM ({rows}) each")))


@as_bob
def test_bob_reports_his_own(reporting: Lsh, supabase: Stack) -> None:
    lsh = reporting
    job = lsh.add("--", "echo hello")
    lsh.run(job)
    eventually(lambda: there(supabase, lsh, "runs", job, "result, scope"), timeout=60)
    assert there(supabase, lsh, "runs", job, "result, scope") == [{"result": "success", "scope": "user:bob"}]
    assert there(supabase, lsh, "jobs", job, "command, created_by") == [{"command": "echo hello", "created_by": "bob"}]


@as_root
def test_the_agent_reports(reporting: Lsh, supabase: Stack) -> None:
    """A run while it goes on, and when it has ended; its job, and who made it; after a while that Supabase was away."""
    lsh = reporting
    assert all(each["level"] == "ok" for each in lsh.json_of("sync", "test"))
    flag = lsh.new_path()
    job = lsh.add("--schedule", "0 3 * * *", "--", f"echo hello; while ! test -e {flag}; do sleep 0.1; done")
    lsh("start", job)
    eventually(lambda: there(supabase, lsh, "runs", job, "result") == [{"result": None}], timeout=60)
    lsh.machine.run("touch", flag)
    eventually(lambda: there(supabase, lsh, "runs", job, "result") == [{"result": "success"}], timeout=60)
    (run,) = lsh.ended(job)
    (told,) = there(supabase, lsh, "runs", job, "replace(id::text, '-', '') AS id, cpu_usec, scope")
    assert told == {"id": run["id"], "cpu_usec": round(run["cpu_seconds"] * 1e6), "scope": "system"}
    assert supabase.sql(f"SELECT output FROM run_output WHERE run = '{run['id']}'") == "hello"
    (mirrored,) = there(supabase, lsh, "jobs", job, "schedule, state, created_by, removed_at")
    assert mirrored == {"schedule": "0 3 * * *", "state": "waiting", "created_by": "root", "removed_at": None}
    assert there(supabase, lsh, "audit", job, "verb") == [{"verb": "add"}]
    # Away: that is told, and tried again later; nothing waits for it.
    supabase.stop("postgrest")
    lsh.run(job)
    lsh.told_off("sync", "now", status=1)
    assert "502" in lsh.json_of("sync", "status")["error"]
    supabase.start("postgrest")
    # A key that others may read is not taken, and that is told, too.
    key = f"{_CONFIG[lsh.scope]}/supabase.key"
    lsh.machine.run("chmod", "644", key)
    assert "may be read by others" in lsh.told_off("sync", "now")
    (finding,) = [each for each in lsh("doctor", "--json", check=False).json() if each["check"] == "supabase"]
    assert finding["level"] == "error" and "may be read by others" in finding["message"]
    lsh.machine.run("chmod", "600", key)
    lsh("remove", job)
    lsh("sync", "retry")
    eventually(lambda: there(supabase, lsh, "jobs", job, "removed_at")[0]["removed_at"], timeout=60)
    assert len(there(supabase, lsh, "runs", job, "id")) == 2 and lsh.json_of("sync", "status")["waiting"] == {}
    # Neither the units nor the log nor what is shown have the key.
    shown = lsh.systemctl("show", "lsh-sync.service", "lsh-agent.service").stdout
    shown += lsh.machine.journal_text() + lsh("sync", "status").stdout + lsh("sync", "history", "--json").stdout
    assert supabase.secret_key not in shown


@only_on("forky")
def test_the_fleet_over_http(reporting: Lsh, supabase: Stack) -> None:
    """The API has no network, and yet tells what the command line does; and what is wrong where it cannot."""
    lsh, port = reporting, {"system": 3060, "user": 3061}[reporting.scope]
    job = lsh.add("--env", "PASSWORD=hunter2", "--", "echo hello")
    lsh.run(job)
    lsh("sync", "now")
    lsh("api", "enable", "--listen", f"127.0.0.1:{port}")
    keys = {
        name: lsh("api", "key", "create", lsh.new_name(), "--role", "viewer", *argv, "--json").json()["key"]
        for name, argv in (("all", ()), ("some", ("--jobs", job)))
    }
    keys |= {
        role: lsh("api", "key", "create", lsh.new_name(), "--role", role, "--json").json()["key"]
        for role in ("operator", "admin")
    }

    def get(path: str, key: str = "all", status: int = 200) -> str:
        curl = ("curl", "--silent", "--write-out", "\n%{http_code}", "--header", f"X-API-Key: {keys[key]}")
        body, _, told = lsh.machine.run(*curl, f"http://127.0.0.1:{port}{path}").stdout.rpartition("\n")
        assert int(told) == status, body
        return body

    def there_by(role: str, *argv: str, status: int = 0) -> Result:
        """What `lshctl --url` does with that role's key."""
        command = ("lshctl", "--url", f"http://127.0.0.1:{port}", "fleet", *argv)
        done = lsh.machine.run(*command, env={"LSH_API_KEY": keys[role]}, check=False)
        assert done.returncode == status, done
        return done

    host = lsh.json_of("sync", "status")["host"]

    def same(what: str) -> Any:
        """What the API tells, if it is what the command does: a row may be sent once more between the two."""
        told = json.loads(get(f"/fleet/{what}?job={job}&host={host}"))
        return told if told == lsh.json_of("fleet", what, job, "--host", host) else None

    def check_by_url() -> None:
        """The same by `--url`; and the fleet's queue, as far as the role goes."""
        assert [each["id"] for each in there_by("all", "hosts", "--host", host, "--json").json()] == [host]
        assert job in there_by("all", "runs", job, "--since", "-1d").stdout
        assert job in there_by("all", "report", "--host", host).stdout
        assert "hunter2" not in there_by("all", "jobs", "--json").stdout
        order = ("enqueue", job, "--param", "FILE=a b", "--at", "+1d", "--key", job)
        assert "needs the role operator" in there_by("all", *order, status=1).stderr
        number = there_by("operator", *order, "--json").json()["id"]
        assert "has that key already" in there_by("operator", *order).stdout
        (queued,) = [each for each in there_by("admin", "queue", "--json").json() if each["id"] == number]
        told = (queued["params"], queued["state"], queued["key"], queued["user"] == queued["created_by"])
        assert told == ({"FILE": "a b"}, "queued", job, True)
        assert queued in lsh.json_of("fleet", "queue")
        shown = there_by("all", "queue", "--job", job, "--state", "queued").stdout
        assert "FILE=***" in shown and "a b" not in shown
        page = get("/ui/fleet/hosts")
        assert f"{job} <span" in page and "FILE=***" in page
        assert "is cancelled" in there_by("operator", "cancel", str(number)).stdout
        supabase.sql(f"UPDATE queued_runs SET state = 'failed', ended_at = now() WHERE id = {number}")
        assert "has ended already: failed" in there_by("operator", "cancel", str(number), status=2).stderr
        assert "no run 99999999" in there_by("operator", "cancel", "99999999", status=2).stderr
        assert "'x' is no state" in there_by("operator", "queue", "--state", "x", status=2).stderr
        assert "needs the role admin" in there_by("operator", "limits", "--user", "3", status=1).stderr
        assert there_by("admin", "limits", "--user", "3", "--json").json()["user"] == 3
        assert "user: 3" in there_by("all", "limits").stdout
        there_by("admin", "limits", "--user", "2")

    try:
        assert [each["id"] for each in json.loads(get(f"/fleet/hosts?host={host}"))] == [host]
        (mine,) = [each for each in json.loads(get(f"/fleet/jobs?host={host}")) if each["id"] == job]
        assert mine["definition"]["env"] == {"PASSWORD": "***"}
        for what in ("runs", "report"):
            assert len(eventually(partial(same, what), timeout=60)) == 1
        assert "no host 'nobody' has reported" in get("/fleet/hosts?host=nobody", status=400)
        get("/fleet/runs", "some", status=403)
        assert f'<th scope="row">{lsh.json_of("fleet", "hosts", "--host", host)[0]["name"]}</th>' in get(
            "/ui/fleet/hosts"
        )
        assert "the key is for some only" in get("/ui/fleet/hosts", "some")
        if lsh.scope == "system":  # one will do: each question takes a second
            check_by_url()
        told = get("/metrics")
        assert "lsh_sync_sent_timestamp_seconds " in told and 'lsh_sync_waiting{kind="runs"} ' in told
        files = (
            roots.PROJECT / "packaging" / each for each in ("prometheus/lsh-alerts.yml", "grafana/lsh-systemd.json")
        )
        for name in {name for file in files for name in re.findall(r"\blsh_[a-z_]+\b", file.read_text())}:
            assert f"# TYPE {name.removesuffix('_bucket')} " in told, name
        supabase.stop("postgrest")
        assert "cannot read hosts" in get("/fleet/hosts", status=502)
        supabase.start("postgrest")
        get("/fleet/hosts")
        lsh.machine.run("chmod", "644", f"{_CONFIG[lsh.scope]}/supabase.key", user=lsh.user)
        assert "may be read by others" in get("/fleet/hosts", status=502)
    finally:
        lsh("api", "disable")
    assert lsh.show("lsh-ask.socket", "LoadState", "ActiveState")["ActiveState"] == "inactive"
    assert supabase.secret_key not in lsh.machine.journal_text()


def test_the_fleet_is_the_sum_of_its_hosts(new_machine: Callable[..., Machine], supabase: Stack) -> None:
    """Three hosts, of which one sends by hand; and what one of them says of the others."""
    first, *others = SUITES
    hosts = [Lsh(new_machine(suite), "system") for suite in (first, first, *others)]
    for number, lsh in enumerate(hosts):
        connect(lsh, supabase)
        good = lsh.add("--", "true", name="good")
        bad = lsh.add("--retries", "1", "--retry-delay", "100ms", "--", "echo no; exit 3", name="bad")
        for _ in range(2 + number):
            lsh.run(good)
        lsh.run(bad, check=False)
        lsh.ended(bad, 2)
        lsh("sync", "now")
    of_hosts = [lsh.json_of("sync", "status")["host"] for lsh in hosts]
    mine = [argument for each in of_hosts for argument in ("--host", each)]
    own = {host: lsh.json("report") for host, lsh in zip(of_hosts, hosts, strict=True)}
    told = hosts[0].json_of("fleet", "report", "--by", "both", *mine)
    assert len(told) == 2 * len(hosts)
    for each in told:
        (report,) = [report for report in own[each["host_id"]] if report["job"] == each["job"]]
        figures = each.keys() - {"job", "host", "host_id"}
        assert {name: each[name] for name in figures} == {
            name: pytest.approx(report[name]) if isinstance(report[name], float) else report[name] for name in figures
        }
    (whole,) = hosts[-1].json_of("fleet", "report", "--by", "all", *mine)
    for name in ("runs", "successes", "retries"):
        assert whole[name] == sum(report[name] for reports in own.values() for report in reports)
    assert whole["failures_by_result"] == {"exit-code": 2 * len(hosts)}
    runs = hosts[0].json_of("fleet", "runs", "--limit", "0", *mine)
    assert {run["id"] for run in runs} == {run["id"] for lsh in hosts for run in lsh.json("runs", "--limit", "0")}
    assert {row["id"] for row in hosts[0].json_of("fleet", "hosts", *mine) if row["online"]} == {*of_hosts}
    assert len(hosts[0].json_of("fleet", "jobs", *mine)) == 2 * len(hosts)
