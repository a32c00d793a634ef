"""The HTTP API as lsh-api.socket starts it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.api import WEBHOOK, Api, serving
from tests.system.booted import Result, eventually
from tests.system.lsh import Lsh
from tests.system.machine import Machine
from tests.system.uml import only_on

SECRET = "hunter2-and-more"


@pytest.fixture
def api(lsh: Lsh) -> Iterator[Api]:
    with serving(lsh) as api:
        yield api


def test_a_job_s_life_over_http(lsh: Lsh, api: Api) -> None:
    assert lsh.show("lsh-api.service", "ActiveState") == {"ActiveState": "inactive"}  # until somebody calls
    health = api("GET", "/health").json()
    assert (health["status"], health["problems"], health["active_commands"]) == ("healthy", [], 0), health
    assert api("GET", "/api/cron/health").json()["status"] == "healthy"
    admin, operator, viewer = api.key("admin"), api.key("operator"), api.key("viewer")
    name, path = lsh.new_name(), lsh.new_path()

    # Nobody gets in without a key, or beyond its role.
    for given in (None, "wrong", admin[:-1] + "-"):
        assert api("GET", "/jobs", key=given, check=401).json()["status"] == 401
    new = {"name": name, "command": f"echo {SECRET}; sleep 1", "schedule": {"cron": "0 2 * * *"}, "env": {"A": SECRET}}
    for key in (viewer, operator):
        refused = api("POST", "/jobs", key=key, body=new, check=403)
        assert refused.headers["content-type"] == "application/problem+json"
    assert lsh.json("list") == []

    # Made as the policy has it: sandboxed, as a user of its own; and once for each Idempotency-Key.
    made = api("POST", "/jobs", key=admin, body=new, check=201, Idempotency_Key="one")
    assert (made.json()["id"], made.json()["status"]) == (name, "created")
    again = api("POST", "/api/jobs", key=admin, body=new, check=201, Idempotency_Key="one")
    assert (again.json(), again.headers["idempotency-replayed"]) == (made.json(), "true")
    api("POST", "/jobs", key=admin, body=new, check=409)
    api("POST", "/jobs", key=admin, body=new | {"name": "x"}, check=400, Idempotency_Key="one")
    definition = lsh.json("show", name)["definition"]
    assert definition["sandbox"] == "standard"
    assert definition.get("dynamic_user", False) is (lsh.scope == "system")
    for more in ({"sandbox": "none"}, {"secrets": ["x"]}, {"on_failure": ["id"]}, {"env_file": ["/etc/shadow"]}):
        api("POST", "/jobs", key=admin, body=new | {"name": "other"} | more, check=403)
    api("POST", "/jobs", key=admin, body=new | {"name": "other", "command": "rm -rf /"}, check=400)
    assert [each["id"] for each in lsh.json("list")] == [name]

    # Who may not define jobs does not see what they are given.
    told = api("GET", f"/jobs/{name}", key=viewer)
    assert told.json()["definition"]["env"] == {"A": "***"}
    assert api("GET", f"/jobs/{name}", key=admin).json()["definition"]["env"] == {"A": SECRET}

    # Started by a key's holder, seen running, and ended.
    api("POST", f"/jobs/{name}/trigger", key=viewer, check=403)
    run_id = api("POST", f"/jobs/{name}/trigger", key=operator).json()["run_id"]
    assert [each["id"] for each in api("GET", "/jobs?status=running", key=viewer).json()] == [name]
    eventually(lambda: api("GET", f"/runs/{run_id}", key=viewer, check=None).text.find('"result":"success"') > 0)
    run = api("GET", f"/runs/{run_id}", key=viewer).json()
    assert (run["trigger"], run["output"]) == ("api", f"{SECRET}\n")
    assert run["triggered_by"].startswith("operator-")
    assert run == lsh.json("runs", "--id", run_id)
    assert [each["id"] for each in api("GET", f"/jobs/{name}/runs", key=viewer).json()] == [run_id]
    assert SECRET in [line["message"] for line in api("GET", f"/jobs/{name}/logs", key=viewer).json()]
    assert api("GET", f"/jobs/{name}/report", key=viewer).json()["runs"] == 1
    metrics = api("GET", "/metrics", key=viewer).text
    assert f'lsh_runs_total{{job="{name}",result="success"}} 1.0' in metrics
    assert f'lsh_run_duration_seconds_count{{job="{name}"}} 1.0' in metrics

    # Changed by who has seen its newest version.
    api("PATCH", f"/jobs/{name}", key=admin, body={"timeout": "5m"}, check=428)
    version = api("GET", f"/jobs/{name}", key=admin).headers["etag"]
    changed = api(
        "PATCH", f"/jobs/{name}", key=admin, body={"timeout": "5m", "schedule": "0 3 * * *"}, If_Match=version
    )
    assert changed.json()["definition"]["timeout"] == "5min"
    assert lsh.json("show", name)["schedule"] == "0 3 * * *"
    api("PATCH", f"/jobs/{name}", key=admin, body={"timeout": "6m"}, If_Match=version, check=412)
    api("PATCH", f"/jobs/{name}", key=admin, body={"sandbox": "none"}, If_Match="*", check=403)
    assert (
        api("PATCH", f"/jobs/{name}", key=admin, body={"enabled": False}, If_Match="*").json()["status"] == "disabled"
    )
    api("POST", f"/jobs/{name}/enable", key=operator)

    # A job that the command line made with more rights gets no other command over HTTP, but may be started.
    lsh.add("--", f"id -un > {path}", name=f"{name}-root")
    root = f"/jobs/{name}-root"
    api("PATCH", root, key=admin, body={"command": "id"}, If_Match="*", check=403)
    api("PATCH", root, key=admin, body={"description": "who"}, If_Match="*")

    # A key for some jobs sees those only.
    lsh("set", name, "--tag", "http")
    some = api.key("admin", "--jobs", "tag:http")
    assert [each["id"] for each in api("GET", "/jobs", key=some).json()] == [name]
    api("GET", root, key=some, check=404)
    api("POST", "/jobs", key=some, body=new | {"name": "other"}, check=403)
    for method, path in (("POST", "/api/cron/stop"), ("GET", "/secrets"), ("GET", "/alerts"), ("GET", "/fleet/hosts")):
        api(method, path, key=some, check=403)
    assert api("GET", "/alerts/history", key=some).json() == []
    assert "no Supabase project" in api("GET", "/fleet/hosts", key=admin, check=404).text

    # What changes beside the API shows in its answers, though they are kept until then.
    def listed() -> Any:
        return next(each for each in api("GET", "/jobs", key=viewer).json() if each["id"] == name)

    timer, drop_ins = f"lsh-{name}.timer", f"{lsh.folder}/lsh-{name}.timer.d"
    assert (listed()["state"], listed()["changed"], listed()["next"][11:16]) == ("waiting", False, "03:00")
    lsh.systemctl("stop", timer)
    eventually(lambda: listed()["state"] == "stopped")
    lsh.write(f"{timer}.d/other.conf", "[Timer]\nOnCalendar=\nOnCalendar=*-*-* 04:44:00\n")
    lsh.systemctl("daemon-reload")
    lsh.systemctl("start", timer)
    eventually(lambda: (listed()["next"] or "")[11:16] == "04:44")
    lsh.machine.run("sh", "-c", f"echo '# by hand' >>{lsh.folder}/{timer}")
    eventually(lambda: listed()["changed"])
    lsh.machine.run("rm", "-r", drop_ins)
    lsh("restart", name)
    eventually(lambda: listed()["last_run"]["trigger"] == "manual" and listed()["last_run"]["result"] == "success")

    # What was done is on record, with who did it.
    audit = api("GET", f"/audit?job={name}", key=admin).json()
    assert {(each["via"], each["actor"].split("-")[0]) for each in audit if each["via"] == "api"} >= {("api", "admin")}
    api("DELETE", f"/jobs/{name}", key=admin, If_Match="*", check=204)
    api("DELETE", f"/jobs/{name}", key=admin, If_Match="*", check=404)
    assert [each["id"] for each in lsh.json("list")] == [f"{name}-root"]
    journal = lsh.machine.run("journalctl", "-u", "lsh-api.service", "--user-unit", "lsh-api.service").stdout
    assert admin not in journal and SECRET not in journal


@only_on("forky")
def test_a_key_for_some_jobs_takes_nothing_over_and_learns_of_no_others(lsh: Lsh, api: Api) -> None:
    admin, some, named = api.key("admin"), api.key("admin", "--jobs", "tag:web"), api.key("admin", "--jobs", "gone-*")
    hidden, own, free = lsh.add("--", "true"), lsh.new_name(), lsh.new_name()
    folder = "/etc/lsh" if lsh.scope == "system" else "/home/bob/.config/lsh"
    lsh.machine.write(f"{folder}/lsh.toml", '[api]\nallow = ["on_failure"]\n', user=lsh.user)

    def gone(name: str) -> str:
        """A job that was removed, and what only its runs know."""
        lsh.add("--", f"echo {SECRET}", name=name)
        run_id = str(lsh.run(name)["id"])
        lsh("remove", name)
        return run_id

    def new(name: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "command": "true", "schedule": {"every": "1h"}, "tags": ["web"]} | more

    before, _ = gone("gone-1"), gone(lsh.new_name())
    never_run, changed = lsh.add("--", "true"), lsh.new_name()
    lsh("rename", never_run, changed)
    lsh("remove", changed)
    follows = lsh.add("--after", hidden, "--", "true")
    refusals = set()
    for name in ("gone-1", hidden, never_run, changed):
        for path in ("/jobs", "/jobs?dry_run=true"):
            refused = api("POST", path, key=some, body=new(name), check=403)
            refusals.add(refused.text)
            assert name not in refused.text
    assert len(refusals) == 1  # which it was is not told
    api("GET", f"/runs/{before}", key=some, check=404)
    api("GET", "/jobs/gone-1/logs", key=some, check=404)
    # Who has the name has what is under it, and who has all.
    made = api("POST", "/jobs", key=named, body=new("gone-1"), check=201)
    assert api("GET", f"/runs/{before}", key=named).json()["output"] == f"{SECRET}\n"
    api("DELETE", "/jobs/gone-1", key=named, check=204, If_Match=made.headers["etag"])
    api("POST", "/jobs", key=admin, body=new("gone-1", tags=[]), check=201)

    # It makes jobs of its own, is told of those that there are, and names no others, nor is told who names them.
    api("POST", "/jobs", key=some, body=new(own), check=201)
    assert "already" in api("POST", "/jobs", key=some, body=new(own), check=409).text
    for field in (
        {"after": [hidden], "schedule": None},
        {"on_failure": [f"job:{hidden}"]},
        {"after": ["nobody-has-this"]},
    ):
        told = api("POST", "/jobs", key=some, body=new(free, **field), check=404)
        assert "there is no job" in told.text and "mean" not in told.text
        api("PATCH", f"/jobs/{own}", key=some, body=field, check=404, If_Match="*")
    lsh("set", follows, "--unset", "after", "--after", own)
    told = api("DELETE", f"/jobs/{own}", key=some, check=409, If_Match="*")
    assert (
        follows not in told.text and follows in api("DELETE", f"/jobs/{own}", key=admin, check=400, If_Match="*").text
    )
    lsh("set", own, "--after", hidden, "--unset", "every")  # what the administrator has named, it may leave there
    api("PATCH", f"/jobs/{own}", key=some, body={"description": "mine"}, If_Match="*")

    # Of what somebody asks for, nothing that no page has leads to the next page, for him or for others.
    for path in ("/jobs?limit=1&x=%0d%0aSet-Cookie:a", "/jobs?limit=1"):
        link = api("GET", path, key=admin).headers["link"]
        assert link.startswith("</jobs?limit=1&after=") and "Cookie" not in link
    link = api("GET", "/runs?limit=1&failed=false&x=y", key=admin).headers["link"]
    assert link.startswith("</runs?limit=1&until=") and "x=" not in link

    # Two keys of one name are two.
    ids = []
    for _ in range(2):
        key = lsh("api", "key", "create", "same", "--role", "admin", "--json").json()
        ids.append(key["id"])
        api("POST", f"/jobs/{hidden}/disable", key=key["key"], check=None)
        api("PATCH", f"/jobs/{hidden}", key=key["key"], body={"description": key["id"]}, If_Match="*")
    actors = {each["actor"] for each in api("GET", f"/audit?job={hidden}", key=admin).json() if each["via"] == "api"}
    assert actors == {f"same ({each})" for each in ids}

    # Secrets that others may read are none.
    assert lsh("api", "status").stderr == ""
    lsh.machine.run("chmod", "644", f"{folder}/environment")
    lsh.systemctl("stop", "lsh-api.service")
    assert "chmod 600" in lsh("api", "status").stderr
    assert "CRON_WEBHOOK_SECRET" in lsh("doctor", check=False).stdout
    api("POST", "/api/cron/webhook", body={"jobId": hidden}, check=401, X_Webhook_Secret=WEBHOOK)


@only_on("forky")
def test_events_are_resumed_where_they_broke_off(lsh: Lsh, api: Api) -> None:
    admin = api.key("admin")
    name = lsh.new_name()
    api("GET", "/status", key=admin)

    def listen(until: str, *argv: str, path: str = "events") -> list[dict[str, Any]]:
        """What comes, up to the first line with this in it."""
        command = ("curl", "--silent", "--no-buffer", "--unix-socket", api.socket, "--header", f"X-API-Key: {admin}")
        assert isinstance(lsh.machine, Machine)
        told = []
        with lsh.machine.popen(*command, *argv, f"http://localhost/{path}", user=lsh.user) as process:
            assert process.stdout
            for line in process.stdout:
                if line.startswith("data: "):
                    told.append(json.loads(line[6:]))
                if until in line:
                    break
            process.interrupt()
        return told

    listen(": listening")  # from the first listener on, events are kept
    lsh.add("--", "false", name=name)
    run_id = api("POST", f"/jobs/{name}/start", key=admin).json()["run_id"]
    lsh.ended(name)
    told = listen('"type":"failed"', "--header", "Last-Event-ID: 0")
    of_run = [each for each in told if each.get("run_id") == run_id]
    assert [each["type"] for each in of_run] == ["started", "failed"], told
    assert of_run[1]["run"]["result"] == "exit-code"
    later = listen('"type":"failed"', "--header", f"Last-Event-ID: {of_run[0]['id']}")
    assert [each["id"] for each in later] == [each["id"] for each in told if each["id"] > of_run[0]["id"]]
    lines = listen("Failed with result", path=f"jobs/{name}/logs/live?lines=100")
    assert "exit-code" in lines[-1]["message"]


@only_on("bookworm")
@pytest.mark.parametrize("scope", ["system"])
def test_the_lines_of_older_systems_run_as_they_are(lsh: Lsh, api: Api) -> None:
    admin = api.key("admin")
    name = lsh.add("--every", "1h", "--stuck-after", "1s", "--", "sleep 100")
    assert api("POST", "/api/cron/start", key=admin, body={"batchSize": 20, "maxConcurrentJobs": 10}).json()["success"]
    assert lsh.json("limits")["global"] == 10
    assert api("GET", "/api/cron/status", key=admin).json()["config"]["maxConcurrentJobs"] == 10
    assert api("POST", "/api/cron/trigger", key=admin).json()["status"] == "triggered"
    api("POST", "/api/cron/webhook", check=401, X_Webhook_Secret="wrong")
    started = api("POST", "/api/cron/webhook", body={"jobId": name}, X_Webhook_Secret=WEBHOOK).json()
    assert started["success"]
    eventually(lambda: api("GET", "/api/cron/queue", key=admin).json()["processing"] == 1)
    eventually(lambda: api("POST", "/api/cron/reset-stuck-jobs", key=admin, body={}).json()["resetCount"] == 1)
    figures = api("GET", "/api/cron/metrics?startDate=2024-01-01&endDate=2099-01-31&outcome=failed", key=admin).json()
    assert {"overall", "jobs", "runs"} == set(figures)
    assert "insights" in api("GET", "/api/cron/insights", key=admin).json()
    assert name in api("POST", "/api/cron/stop", key=admin).json()["paused"]
    assert lsh.json("show", name)["enabled"] is False
    assert name in api("POST", "/api/cron/start", key=admin, body={}).json()["resumed"]
    assert lsh.json("show", name)["enabled"] is True
    lsh("limits", "set", "--global", "none")

    # lshctl does over HTTP what it does here.
    def there(*argv: str, **options: Any) -> Result:
        return lsh("--url", f"http://127.0.0.1:{api.port}", *argv, env={"LSH_API_KEY": admin}, **options)

    assert "healthy" in lsh("status", "--url", f"http://127.0.0.1:{api.port}").stdout
    other = lsh.new_name()
    assert "Added" in there("add", other, "--every", "2h", "--timeout", "5m", "--", "echo", "there").stdout
    assert lsh.json("show", other)["definition"]["command"] == "echo there"
    assert [each["id"] for each in there("list", "--json").json()] == [each["id"] for each in lsh.json("list")]
    there("start", other)
    run = lsh.ended(other)[0]
    again = there("restart", other, "--json").json()["run_id"]
    assert [each["id"] for each in lsh.ended(other, 2)] == [run["id"], again]
    assert run["id"][:12] in there("runs", other).stdout
    assert there("runs", "--id", run["id"]).stdout == "there\n"
    refused = there("show", "nothing", check=False)
    assert (refused.returncode, refused.stderr.splitlines()[0]) == (2, "lshctl: there is no job 'nothing'")
    there("remove", other)
    assert other not in [each["id"] for each in lsh.json("list")]

    # Limits are kept where nothing was configured before, and come from LSH_MAX_CONCURRENT_JOBS where there are none.
    lsh.machine.run("rm", "-r", "/etc/lsh")
    lsh.systemctl("stop", "lsh-api.service")
    assert api("POST", "/api/cron/start", key=admin, body={"maxConcurrentJobs": 1}).json()["success"]
    assert lsh.json("limits")["global"] == 1
    second = lsh.add("--", "sleep 100")
    for each in (name, second):  # the one runs, the other waits
        assert api("POST", f"/jobs/{each}/start", key=admin).json()["queued"]

        def is_there(count: int = 1 + (each == second)) -> bool:
            told = api("GET", "/api/cron/queue", key=admin).json()
            return bool(told["processing"] == 1 and told["processing"] + told["pending"] == count)

        eventually(is_there, timeout=60)
    api("DELETE", f"/queue/{second}", key=admin, check=204)
    api("DELETE", f"/queue/{second}", key=admin, check=404)
    api("POST", f"/jobs/{name}/stop", key=admin)
    lsh("limits", "set", "--global", "none")
    lsh.machine.write("/etc/lsh/environment", "LSH_MAX_CONCURRENT_JOBS=8\n")
    lsh.systemctl("stop", "lsh-api.service")
    api("GET", "/health")
    assert lsh.json("limits")["global"] == 8
    lsh("limits", "set", "--global", "none")

    # curl -f, with the key in the URL, as a deployment check does it.
    for path in ("health", "status", "jobs"):
        api.curl("--fail", f"http://:{admin}@localhost/{path}")
    revoked = lsh("api", "key", "list", "--json").json()
    for key in revoked:
        lsh("api", "key", "revoke", key["id"])
    api("GET", "/jobs", key=admin, check=401)
