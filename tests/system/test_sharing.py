"""A fleet that shares its work: three machines, one of which dies, and a Supabase that goes away."""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.supabase.project import migrated
from tests.supabase.stack import Stack
from tests.system import roots
from tests.system.booted import Booted
from tests.system.lsh import Lsh, seconds
from tests.system.machine import Machine, eventually
from tests.system.test_catch_up import set_back

NewMachine = Callable[..., Machine]
_ROW = """
    SELECT to_jsonb(q) || jsonb_build_object('host', h.name)
    FROM public.queued_runs q LEFT JOIN public.hosts h ON h.id = q.host WHERE q.id = {}"""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """One with the tables, for these tests to break."""
    with migrated() as stack:
        yield stack


@pytest.fixture
def fleet(new_machine: NewMachine, stack: Stack) -> list[Lsh]:
    """Three machines, with each systemd at least one, that know the stack."""
    suites = [*roots.SUITES, *roots.SUITES, *roots.SUITES][:3]
    return [member(new_machine(suite), stack) for suite in suites]


def member(machine: Machine, stack: Stack, more: str = "") -> Lsh:
    machine.run("mkdir", "-p", "/etc/lsh")
    machine.write("/etc/lsh/lsh.toml", f'[supabase]\nurl = "{stack.url}"\n{more}')
    machine.write("/etc/lsh/supabase.key", stack.secret_key)
    machine.run("chmod", "600", "/etc/lsh/supabase.key")
    return Lsh(machine, "system")


def user_member(machine: Booted, stack: Stack) -> Lsh:
    lsh, folder = Lsh(machine, "user"), "/home/bob/.config/lsh"
    machine.run("mkdir", "-p", folder, user=lsh.user)
    machine.write(f"{folder}/lsh.toml", f'[supabase]\nurl = "{stack.url}"\n', user=lsh.user)
    machine.write(f"{folder}/supabase.key", stack.secret_key, user=lsh.user)
    machine.run("chmod", "600", f"{folder}/supabase.key")
    return lsh


def by_instant(fleet: list[Lsh], job: str, every: int) -> dict[int, list[dict[str, Any]]]:
    """The runs of all hosts, by the scheduled time that they fall to."""
    found = defaultdict(list)
    for lsh in fleet:
        for run in lsh.runs(job):
            if run["result"]:
                found[int(seconds(run["started_at"]) // every)].append(run)
    return dict(sorted(found.items()))


def test_once_in_the_fleet(fleet: list[Lsh], stack: Stack) -> None:
    """Each time has one run, with a token that grows; also when the one that makes it has died."""
    for lsh in fleet:
        for name, policy in (("nightly", "skip"), ("either", "run")):
            options = ("--calendar", "*:*:0/4", "--once-in-fleet", "--fleet-unreachable", policy)
            lsh.add(*options, "--", "echo token=$LSH_FENCING_TOKEN", name=name)
    every = 4

    def instants(hosts: int, since: float = 0) -> list[list[dict[str, Any]]]:
        """What became of those times that all hosts have told of."""
        found = [runs for at, runs in by_instant(fleet, "nightly", every).items() if at * every >= since]
        return [runs for runs in found if len(runs) == hosts]

    eventually(lambda: len(instants(3)) >= 2, timeout=40)
    tokens = []
    for runs in instants(3):
        assert Counter(run["result"] for run in runs) == {"success": 1, "skipped": 2}
        tokens += [int(run["output"].removeprefix("token=")) for run in runs if run["result"] == "success"]
        assert all("makes the run of" in run["reason"] for run in runs if run["result"] == "skipped")
    assert tokens == sorted(set(tokens))
    assert {run["trigger"] for runs in instants(3) for run in runs} == {"timer"}
    # by hand it runs, whatever the fleet does, and has no token
    assert fleet[0].run("nightly")["output"] == "token=\n"

    dead = fleet.pop(0)
    dead.machine.kill()
    since = time.time() + every
    eventually(lambda: len(instants(2, since)) >= 2, timeout=40)
    for runs in instants(2, since):
        assert Counter(run["result"] for run in runs) == {"success": 1, "skipped": 1}

    stack.stop("nginx")
    since = time.time() + 2 * every
    eventually(lambda: len(instants(2, since)) >= 1, timeout=40)
    for runs in instants(2, since):
        assert {run["result"] for run in runs} == {"skipped"}
        assert all(run["reason"].startswith("Supabase could not be asked: ") for run in runs)
    for lsh in fleet:
        told = [run for run in lsh.runs("either") if run["result"] and seconds(run["started_at"]) > since]
        assert {(run["result"], run["output"]) for run in told} == {("success", "token=\n")}
    stack.start("nginx")
    since = time.time() + 2 * every
    eventually(lambda: any(run["result"] == "success" for runs in instants(2, since) for run in runs), timeout=40)
    for lsh in fleet:  # the key is nowhere but in its file
        script = "systemctl show '*'; journalctl; cat /proc/[0-9]*/cmdline /etc/systemd/system/lsh-*"
        shown = lsh.machine.run("sh", "-c", script, check=False).stdout
        assert "lsh-nightly.service" in shown
        assert stack.secret_key not in shown


def test_the_queue_of_a_fleet(new_machine: NewMachine, stack: Stack) -> None:
    suites = list(roots.SUITES)
    fleet = [
        member(new_machine(suite), stack, f'[fleet]\nslots = 6\ntags = ["{tag}"]\n')
        for suite, tag in ((suites[0], "gpu"), (suites[-1], "disk"))
    ]
    names = [lsh.machine.run("hostname").stdout.strip() for lsh in fleet]
    first, second = fleet
    for lsh in fleet:
        tell = 'printf "%s\\n" "$FILE" "$SIZE" "$LSH_QUEUE_ID" "$LSH_QUEUE_USER" "$LSH_FENCING_TOKEN"'
        options = ("--from-fleet", "--param", "FILE=[^/]+", "--param", "SIZE", "--env", "SIZE=10")
        lsh.add(*options, "--", tell, name="resize")
        lsh.add("--from-fleet", "--param", "SPAN", "--", "sleep $SPAN", name="rest")
        lsh.add("--from-fleet", "--", "exit 7", name="fails")
        lsh.add("--from-fleet", "--param", "A=(a+)+$", "--", "true", name="slow")
        lsh.add("--template", "session-cleanup", "--from-fleet", "--param", "folder", "--param", "minutes", name="tidy")
        lsh.add("--", "true", name="private")
        assert "It offers fails, resize, rest, slow, tidy." in lsh("fleet", "join", "--poll", "1s").stdout

    def enqueue(*argv: str) -> int:
        return int(first.json_of("fleet", "enqueue", *argv)["id"])

    def nap(span: str, user: str) -> int:
        params = json.dumps({"SPAN": span})
        added = f"lsh_queue_add(gen_random_uuid(), 'rest', p_params => '{params}', p_user => '{user}')"
        return int(stack.sql(f"SELECT public.{added} ->> 'id'"))

    def queued(number: int) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(stack.sql(_ROW.format(number)))
        return told

    def ended(number: int) -> dict[str, Any]:
        def look() -> dict[str, Any]:
            row = queued(number)
            return row if row["state"] not in ("queued", "running") else {}

        return eventually(look, timeout=30)

    # parameters are exactly what they were, and nothing else
    odd = "a b\"$(touch owned)`id`%n\\ \\n é '; $HOME"
    fine = enqueue("resize", "--param", f"FILE={odd}", "--tag", "gpu", "--for-user", "ann")
    there = enqueue("resize", "--param", "FILE=x", "--param", "SIZE=7", "--host", names[1], "--at", "-1s")
    wrong = [
        enqueue("resize", "--param", "FILE=../x"),
        enqueue("resize", "--param", "SIZE=1"),
        enqueue("resize", "--param", "FILE=x", "--param", "PATH=/tmp"),
        enqueue("tidy", "--param", "minutes=0"),
        enqueue("tidy", "--param", "folder=tmp"),
        enqueue("slow", "--param", f"A={'a' * 3000}!"),  # its pattern would not be through with that in this universe
    ]
    first.machine.run("sh", "-c", "mkdir '/srv/a b'; touch -d 2020-01-01 '/srv/a b/old'; touch '/srv/a b/new'")
    tidy = enqueue("tidy", "--param", "folder=/srv/a b", "--host", names[0])
    fails = enqueue("fails", "--retries", "1")
    private, nowhere = enqueue("private"), enqueue("no such job")
    row = ended(fine)
    (shown,) = [each for each in second.json_of("fleet", "queue", "--all") if each["id"] == fine]
    assert {name: shown[name] for name in ("host", "run", "user", "params", "result")} == {
        "host": names[0], "run": row["run"], "user": "ann", "params": {"FILE": odd}, "result": "success",
    }  # fmt: skip
    assert seconds(shown["run_at"]) <= seconds(shown["claimed_at"]) <= seconds(shown["ended_at"])
    assert (row["state"], row["result"], row["exit_status"], row["host"]) == ("succeeded", "success", 0, names[0])
    (run,) = first.runs("resize")
    assert run["output"].splitlines() == [odd, "10", str(fine), "ann", str(row["token"])]
    assert (run["id"], run["trigger"]) == (row["run"].replace("-", ""), "queue")
    assert ended(tidy)["state"] == "succeeded"
    assert first.machine.run("ls", "/srv/a b").stdout == "new\n"
    assert ended(there)["host"] == names[1]
    assert second.runs("resize")[0]["output"].splitlines()[:2] == ["x", "7"]
    for number in wrong:
        told = ended(number)
        assert (told["state"], told["result"], told["run"]) == ("failed", "refused", None)
        assert "parameter" in told["message"] or "pattern" in told["message"]
    told = ended(fails)
    assert (told["state"], told["result"], told["exit_status"], told["attempt"]) == ("failed", "exit-code", 7, 2)
    assert {queued(number)["state"] for number in (private, nowhere)} == {"queued"}
    for number in (private, nowhere):
        assert first("fleet", "cancel", str(number)).stdout == f"Run {number} is cancelled.\n"

    # two at once of each user, wherever; one that runs is ended where it runs
    naps = [nap("1.5", "bob") for _ in range(4)]
    long = nap("300", "carl")
    assert {ended(number)["state"] for number in naps} == {"succeeded"}
    rows = [queued(number) for number in naps]
    steps = sorted([(row["claimed_at"], 1) for row in rows] + [(row["ended_at"], -1) for row in rows])
    assert max(sum(step for _, step in steps[: end + 1]) for end in range(len(steps))) == 2
    assert "will end it" in first("fleet", "cancel", str(long)).stdout
    assert ended(long)["state"] == "cancelled"
    assert "has ended already: succeeded" in first("fleet", "cancel", str(fine), check=False).stderr

    # whoever works on the queue is killed: the run goes on, and its end is told
    kept = nap("4", "f")
    eventually(lambda: queued(kept)["state"] == "running")
    for lsh in fleet:
        lsh.systemctl("kill", "--signal=KILL", "lsh-fleet.service", check=False)
    assert ended(kept)["state"] == "succeeded"

    # cut off for too long, a host ends what another will make
    cut = nap("300", "g")
    eventually(lambda: queued(cut)["state"] == "running")
    stack.stop("nginx")
    for lsh in fleet:
        lsh.machine.run("sh", "-c", "echo 0 >/run/lsh/fleet/heard")
        lsh.systemctl("kill", "--signal=KILL", "lsh-fleet.service", check=False)
    running = ("list-units", "lsh-rest@*", "--state=activating", "--plain", "--no-legend")
    eventually(lambda: all(lsh.systemctl(*running).stdout == "" for lsh in fleet), timeout=30)
    stack.start("nginx")
    assert (ended(cut)["state"], ended(cut)["result"]) == ("failed", "signal")

    # a host dies: its runs are made by others where they may be; what it says afterwards counts no more
    once = enqueue("rest", "--param", "SPAN=100", "--host", names[0], "--for-user", "d")
    again = enqueue("rest", "--param", "SPAN=1", "--retries", "1", "--tag", "gpu", "--at", "+1d", "--for-user", "e")
    stack.sql(f'UPDATE public.queued_runs SET run_at = now(), params = \'{{"SPAN": "100"}}\' WHERE id = {again}')
    eventually(lambda: {queued(each)["state"] for each in (once, again)} == {"running"})
    eventually(lambda: len(first.systemctl(*running).stdout.splitlines()) == 2)
    first.machine.kill()
    stack.sql(f"""
        UPDATE public.queued_runs SET lease_until = now() WHERE id IN ({once}, {again});
        UPDATE public.queued_runs SET tags = '{{}}', params = '{{"SPAN": "1"}}' WHERE id = {again}""")
    assert ended(once)["state"] == "lost"
    told = ended(again)
    assert (told["state"], told["attempt"], told["host"]) == ("succeeded", 2, names[1])
    first.machine.boot()
    assert ended(enqueue("resize", "--param", "FILE=x", "--host", names[0]))["state"] == "succeeded"
    assert [queued(each)["state"] for each in (once, again)] == ["lost", "succeeded"]
    assert first.machine.run("ls", "/var/lib/lsh/fleet").stdout == ""
    # a user's own queue
    bob = user_member(first.machine, stack)
    bob.add("--from-fleet", "--param", "A", "--", 'echo "$A"', name="own")
    bob("fleet", "join", "--poll", "1s")
    assert ended(enqueue("own", "--param", "A=$x y", "--of-user", "bob"))["state"] == "succeeded"
    assert [run["output"] for run in bob.runs("own")] == ["$x y\n"]

    first("fleet", "leave")
    waits = enqueue("resize", "--param", "FILE=x", "--host", names[0])
    second("fleet", "enqueue", "fails", "--key", "k", "--host", "nobody")
    assert "has that key already" in second("fleet", "enqueue", "fails", "--key", "k").stdout
    assert queued(waits)["state"] == "queued"


def test_once_in_the_fleet_with_all_else_that_a_job_may_have(new_machine: NewMachine, stack: Stack) -> None:
    """Caps, overlaps, retries, a user's own jobs, a time off: each time that is claimed has its run, with its token."""
    machine = new_machine("bookworm")
    root, bob = member(machine, stack), user_member(machine, stack)
    say, claim = "echo token=$LSH_FENCING_TOKEN", "--once-in-fleet"

    def claimed(job: str, scope: str = "user:bob") -> set[str]:
        tokens = "SELECT 'token=' || token FROM public.fleet_claims WHERE host IS NOT NULL"
        return set(stack.sql(f"{tokens} AND job = '{job}' AND scope = '{scope}'").split())

    bob("limits", "set", "--group", "db=1")
    holder = bob.add("--group", "db", "--", "sleep 14")
    bob("start", holder)
    every = ("--calendar", "*:*:0/6", claim)
    waits = bob.add(*every, "--group", "db", "--", f"{say}; sleep 3")
    beside = bob.add(*every, "--group", "db", "--overlap", "parallel", "--", f"{say}; sleep 3")
    skips = bob.add(*every, "--overlap", "skip", "--", f"{say}; sleep 8")
    replaced = bob.add(*every, "--overlap", "replace", "--", f"{say}; sleep 60")
    retried = bob.add(*every, "--retries", "2", "--retry-delay", "300ms", "--", f"{say}; exit 3")
    jobs = [waits, beside, skips, replaced, retried]

    def results(job: str) -> Counter[str]:
        return Counter(run["reason"] or run["result"] for run in bob.runs(job) if run["result"])

    late = "the run before still waited for its turn"
    eventually(lambda: results(waits)[late] and results(waits)["success"], timeout=90)
    eventually(lambda: results(skips)["the run before still went on"] and results(skips)["success"], timeout=60)
    eventually(lambda: results(beside)["success"] >= 2, timeout=60)
    eventually(lambda: results(replaced)["signal"] >= 2, timeout=60)
    for job in jobs:
        bob("disable", job)
    eventually(lambda: "lsh-claim@" not in bob.systemctl("list-units", "--state=activating").stdout, timeout=30)
    eventually(lambda: {row["job"] for row in bob.json("queue")} <= {replaced}, timeout=60)
    bob("stop", replaced)
    under_way = {"running", "retrying"}
    eventually(lambda: under_way.isdisjoint(each["state"] for each in bob.json("list")), timeout=30)
    for job in jobs:
        made = [run for run in bob.runs(job) if run["output"]]
        assert {run["output"].strip() for run in made} == claimed(job)
        firsts = [run["output"] for run in made if run["attempt"] == 1]
        assert len(firsts) == len(set(firsts))  # and none twice
    attempts: dict[str, list[str]] = defaultdict(list)
    for run in bob.runs(retried):
        if run["output"]:
            attempts[run["first_id"] or run["id"]].append(run["output"])
    assert all(len(set(each)) == 1 for each in attempts.values())
    assert max(map(len, attempts.values())) == 3
    # What the fleet gave is for no other run.

    def by_hand(job: str) -> list[str]:
        runs = [run for run in bob.runs(job) if run["trigger"] == "manual" and run["result"]]
        return [run["output"] for run in runs]

    bob.systemctl("start", f"lsh-{skips}.service")
    bob("start", retried)
    assert eventually(lambda: by_hand(skips), timeout=20) == ["token=\n"]
    assert eventually(lambda: by_hand(retried), timeout=20) == ["token=\n"]

    # A time off: it is made up for, where nobody else has; a retry that was to come is still that of its time.
    hourly = ("--schedule", "0 * * * *", "--catch-up", "once", claim)
    ours, theirs = (root.add(*hourly, "--", say) for _ in range(2))
    again = root.add("--at", "+4s", claim, "--retries", "1", "--retry-delay", "8s", "--", f"{say}; exit 1")
    eventually(lambda: root.json("show", again)["state"] == "retrying", timeout=40)
    machine.kill()
    for job in (ours, theirs):
        set_back(root, job, datetime.now(UTC) - timedelta(hours=3))
    stack.sql(f"""
        INSERT INTO public.fleet_claims (tenant, scope, job, instant, claimant)
        SELECT 'default', 'system', '{theirs}', date_trunc('hour', now()) + n * interval '1 hour', gen_random_uuid()
        FROM generate_series(0, 1) AS n""")
    machine.boot()
    (late_one,) = root.ended(ours, timeout=60)
    assert {late_one["output"].strip()} == claimed(ours, "system")
    (left,) = root.ended(theirs, timeout=60)
    assert left["result"] == "skipped" and "makes the run of" in left["reason"]
    both = root.ended(again, 2, timeout=60)
    assert [run["attempt"] for run in both] == [1, 2]
    assert {run["output"].strip() for run in both} == claimed(again, "system")


@pytest.mark.parametrize(
    "argv",
    [
        ("add", "x", "--once-in-fleet", "--", "true"),
        ("add", "x", "--once-in-fleet", "--every", "1h", "--", "true"),
        ("add", "x", "--once-in-fleet", "--schedule", "@daily", "--catch-up", "all", "--", "true"),
        ("add", "x", "--once-in-fleet", "--schedule", "@daily", "--fleet-unreachable", "wait", "--", "true"),
        ("add", "x", "--fleet-unreachable", "run", "--schedule", "@daily", "--", "true"),
        ("add", "x", "--param", "A", "--", "true"),
        ("add", "x", "--from-fleet", "--param", "A=[", "--", "true"),
        ("add", "x", "--from-fleet", "--param", "A", "--param", "A=b", "--", "true"),
        ("add", "x", "--from-fleet", "--param", "LD_PRELOAD", "--", "true"),
        ("add", "x", "--from-fleet", "--param", "LSH_JOB", "--", "true"),
        ("add", "x", "--from-fleet", "--retries", "1", "--", "true"),
        ("fleet", "enqueue", "x"),  # no project is set
        ("fleet", "join"),
        ("fleet", "enqueue", "x", "--param", "A"),
        ("fleet", "enqueue", "x", "--param", "A=b\nc"),
        ("fleet", "enqueue", "x", "--priority", "11"),
        ("fleet", "queue", "--state", "asleep"),
        ("fleet", "limits", "--user", "many"),
    ],
)
def test_refused(lsh: Lsh, argv: tuple[str, ...]) -> None:
    lsh.refused(*argv, status=2)
