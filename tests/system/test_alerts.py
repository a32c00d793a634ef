"""Who is told of what: once, with the words that help, whatever dies in between; to real servers on the loopback."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.lsh import Lsh, seconds
from tests.system.machine import eventually
from tests.system.receiver import Http, Mail

# Where one scope shows what there is to see.
as_root = pytest.mark.parametrize("scope", ["system"], indirect=True)
as_bob = pytest.mark.parametrize("scope", ["user"], indirect=True)
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
    assert f"\nlshctl --{lsh.scope} runs --id {run['id'][:12]}\n" in body
    ((told,),) = [lsh.json_of("alerts", "history", "--limit", "1")]
    assert (told["state"], told["event"], told["run"]) == ("sent", "failure", run["id"])


@as_bob
def test_a_missed_run_is_told_and_a_resting_one_is_not(agent: Lsh, http: Http) -> None:
    """The timer is stopped behind lshctl's back; with the agent off, it is told of when the agent is back."""
    lsh = agent
    often = ("--calendar", "*:*:0/2", "--", "true")
    watched, resting, renamed, remade = (lsh.add(*often) for _ in range(4))
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
    lsh.ended(remade, 2)  # all of them have been looked at
    for job in (resting, renamed):
        lsh("disable", job)
    lsh("rename", renamed, new := lsh.new_name())
    lsh("remove", remade)
    lsh.add("--disabled", *often, name=remade)
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
    assert titles == [f"{watched} did not run when it should have", f"{watched} has recovered"]
    # What was missed after it had been told was added to it.
    (missed,) = [run for run in lsh.runs(watched) if run["result"] == "missed"]
    assert missed["metrics"]["missed"] >= 2
    assert missed["reason"].startswith(f"{missed['metrics']['missed']} runs, from ")
    for job in (resting, new, remade):
        assert job not in str(http.told())
        assert "missed" not in {run["result"] for run in lsh.runs(job)}


@as_root
def test_retries_are_waited_for_and_a_storm_is_one_message(agent: Lsh, http: Http) -> None:
    """The URL's secret is shown nowhere; what is muted is noted and not told."""
    lsh = agent
    lsh("secrets", "set", "hook", input="s3cret/t0ken")
    url = f"json://127.0.0.1:{http.port}/{{secret:hook}}"
    lsh("alerts", "add", "storm", "--tag", "stormy", "--to", url, "--gather", "4s", "--at-most-every", "0")
    flag = lsh.new_path()
    again = lsh.add("--tag", "stormy", "--retries", "2", "--retry-delay", "100ms", "--", f"test -e {flag}")
    others = [lsh.add("--tag", "stormy", "--", "exit 1") for _ in range(5)]
    quiet = lsh.add("--tag", "stormy", "--", "exit 1")
    lsh.add("--", "exit 1")
    lsh("alerts", "mute", "--job", quiet, "--for", "1h")
    lsh.systemctl("start", "--no-block", *(f"lsh-{job}.service" for job in (again, *others, quiet)))
    eventually(lambda: http.requests, timeout=40)
    ((title, body),) = http.told()
    assert http.requests[0].path == "/s3cret%2Ft0ken"
    assert "6 alerts: " in title
    assert all(job in body for job in (again, *others)) and quiet not in body
    assert [run["attempt"] for run in lsh.runs(again)] == [1, 2, 3]
    lsh.machine.run("touch", flag)
    lsh.run(again)
    eventually(lambda: http.requests[1:], timeout=40)
    assert http.told()[1][0].endswith(f"{again} has recovered")
    states = {each["job"]: each["state"] for each in lsh.json_of("alerts", "history")[::-1]}
    assert states == dict.fromkeys([again, *others], "sent") | {quiet: "muted"}
    shown = [lsh("alerts", *argv).stdout for argv in (("list",), ("list", "--json"), ("history", "--json"))]
    assert "s3cret" not in "".join(shown) and "json://…" in shown[0]
    assert "127.0.0.1" not in "".join(shown)


@as_bob
def test_a_stuck_run_and_its_numbers_are_told_and_rules_follow_a_rename(agent: Lsh, http: Http) -> None:
    lsh = agent
    job = lsh.add("--stuck-after", "1s", "--", "lshctl metric items=3 errors=0; sleep 4")
    other = lsh.add("--", "lshctl metric items=3")
    url = f"json://127.0.0.1:{http.port}"
    lsh("alerts", "add", "ops", "--to", f"{url}/ops", *PROMPT)
    numbers = ("--metric", "items<100", "--metric", "errors>0", "--on", "none", "--job", job.upper())
    assert lsh("alerts", "add", "numbers", "--to", f"{url}/numbers", *numbers, *PROMPT).stderr == ""
    lsh.run(other)
    lsh.run(job)
    eventually(lambda: http.requests[2:])
    time.sleep(1)
    titles = {path: [] for path in ("/ops", "/numbers")}  # type: dict[str, list[str]]
    for request, (title, _) in zip(http.requests, http.told(), strict=True):
        titles[request.path].append(title.partition("] ")[2])
    ops = [f"{job} is stuck: it has run for 1s", f"{job} has recovered"]
    assert titles == {"/ops": ops, "/numbers": [f"{job} tells of a number: items is 3, below 100"]}
    table = lsh("alerts", "list").stdout
    assert "items<100, errors>0" in table and "failure, missed, stuck, recovery" in table

    lsh("alerts", "add", "glob", "--job", f"{job[:-1]}*", "--to", url)
    new = lsh.new_name()
    assert "The alert rule glob" in lsh("rename", job, f"new {new}").stderr
    jobs = {rule["name"]: rule.get("jobs") for rule in lsh.json_of("alerts", "list")}
    assert jobs == {"ops": None, "numbers": [f"new-{new}"], "glob": [f"{job[:-1]}*"]}
    nobody = lsh("alerts", "add", "ops", "--replace", "--tag", "nobody", "--to", url)
    assert "no job that it is about" in nobody.stderr


@as_bob
def test_what_cannot_be_delivered_waits_and_is_told_once(agent: Lsh, http: Http) -> None:
    lsh = agent
    lsh("alerts", "add", "ops", "--to", f"json://127.0.0.1:{http.port}", *PROMPT)
    http.answer = 500
    job = lsh.add("--", "exit 1")
    lsh.run(job, check=False)

    def state() -> dict[str, Any]:
        ((target,),) = [rule["targets"] for rule in lsh.json_of("alerts", "list")]
        return dict(target)

    eventually(lambda: state()["failures"])
    lsh.systemctl("kill", "--signal=KILL", "lsh-agent.service")
    eventually(lambda: lsh.json_of("agent", "status") == {"state": "active"})
    time.sleep(2)
    assert (len(http.requests), state()["failures"], state()["waiting"]) == (1, 1, 1)  # no loop
    told = [each for each in lsh("doctor", "--json", check=False).json() if each["check"] == "alerts"]
    assert [each["level"] for each in told] == ["error"] and "the rule ops cannot send" in told[0]["message"]
    http.answer = 200
    lsh("alerts", "test", "ops")
    eventually(lambda: http.requests[2:])
    assert [title.partition("] ")[2] for title, _ in http.told()[1:]] == [
        "lshctl alerts test ops",
        f"{job} failed: exit-code (exit status 1)",
    ]
    eventually(lambda: (state()["failures"], state()["waiting"]) == (0, 0))


@as_bob
def test_mail_and_slack(agent: Lsh, http: Http) -> None:
    """Slack's webhook works by its variables alone; a report goes out by mail."""
    lsh = agent
    folder = "/etc/lsh" if lsh.scope == "system" else "/home/bob/.config/lsh"
    slack = f"SLACK_WEBHOOK_URL=http://127.0.0.1:{http.port}/services/T0/B0/x\nENABLE_SLACK_ALERTS=true\n"
    with Mail() as mail:
        lsh(
            "alerts",
            "add",
            "mail",
            "--to",
            f"mailto://127.0.0.1:{mail.port}?from=lsh@example.org&to=ops@example.org",
            *PROMPT,
        )
        lsh.machine.write(f"{folder}/environment", slack, user=lsh.user)
        job = lsh.add("--", "echo '<!channel> it broke'; kill -9 $$")
        lsh.run(job, check=False)
        eventually(lambda: mail.messages and http.requests, timeout=20)
        assert mail.messages[0]["Subject"].endswith(f"{job} failed: signal (signal KILL)")
        assert "it broke" in mail.messages[0].get_content()
        (posted,) = http.requests
        assert posted.path == "/services/T0/B0/x"
        assert f"{job} failed" in posted.json()["text"] and "<!channel>" not in posted.json()["text"]
        assert [rule["name"] for rule in lsh.json_of("alerts", "list")] == ["mail", "slack"]
        lsh.machine.run("rm", f"{folder}/environment")


@as_root
def test_rules_that_are_refused(lsh: Lsh) -> None:
    """Nothing is changed then, and no password is repeated."""
    url = "mailto://me:s3cret@example.org"
    for argv, words in (
        (("add", "ops", "--to", "nonsense"), "no scheme"),
        (("add", "ops", "--to", "nosuchservice://s3cret"), "does not understand"),
        (("add", "ops", "--to", "json://x/{secret:nowhere}"), "there is no secret nowhere"),
        (("add", "ops", "--to", url, "--on", "disaster"), "no event"),
        (("add", "ops", "--to", url, "--success-rate-below", "many"), "no percentage"),
        (("add", "a b", "--to", url), "name of a rule"),
        (("add", "ops", "--to", url, "--on", "recovery"), "recovery"),
        (("add", "ops", "--to", url, "--on", "none"), "nothing to tell of"),
        (("add", "ops", "--to", url, "--metric", "items"), "no bound"),
        (("remove", "slack"), "no rule"),
        (("add", "ops"), "nowhere to send"),
        (("remove", "nowhere"), "no rule"),
        (("test", "nowhere"), "no rule"),
        (("mute",), "either a rule or a job"),
        (("unmute", "--job", "nowhere"), "no job"),
    ):
        said = lsh.told_off("alerts", *argv)
        assert words in said and "s3cret" not in said
    assert lsh.json_of("alerts", "list") == []
    lsh("alerts", "add", "ops", "--to", url, "--dry-run")
    assert lsh.json_of("alerts", "list") == []
    lsh("alerts", "add", "ops", "--to", url)
    assert "--replace" in lsh.told_off("alerts", "add", "ops", "--to", url)
    lsh("alerts", "add", "ops", "--to", url, "--replace", "--quiet", "22:00-07:00")
    file = "/etc/lsh/alerts.toml" if lsh.scope == "system" else "/home/bob/.config/lsh/alerts.toml"
    assert lsh.machine.run("stat", "--format=%a", file).stdout == "600\n"
    (rule,) = lsh.json_of("alerts", "list")
    assert (rule["quiet"], rule["targets"][0]["url"]) == ("22:00-07:00", "mailto://…")

    # A secret that a rule uses stays; where it is gone all the same, doctor tells.
    lsh("secrets", "set", "hook", input="s3cret")
    lsh("alerts", "add", "ops", "--to", "json://127.0.0.1:9/{secret:hook}", "--replace")
    assert [each["rules"] for each in lsh.json_of("secrets", "list")] == [["ops"]]
    assert "alert rule ops" in lsh.told_off("secrets", "remove", "hook")
    lsh.machine.run("rm", "-r", "/var/lib/lsh/secrets")
    told = [each for each in lsh("doctor", "--json", check=False).json() if each["check"] == "alerts"]
    assert [each["fix"] for each in told if "no secret hook" in each["message"]] == ["lshctl --system secrets set hook"]
    lsh("alerts", "remove", "ops")
