"""Jobs that are Python functions, on a booted machine: applied, run in the project's interpreter, changed, pruned."""

from tests.system.booted import Result, eventually
from tests.system.lsh import Lsh
from tests.system.uml import only_on

pytestmark = only_on("bookworm")

MODULE = """
import asyncio, sys, time
from lsh_systemd.pythonjobs import Context, Outcome, job

@job(id="greet", name="Greet everybody", schedule="${GREET_SCHEDULE}", timeout=600)
async def greet(context: Context) -> Outcome:
    await asyncio.sleep(0)
    context.logger.info("run %s, attempt %d, in %s", context.run_id, context.attempt, sys.prefix)
    context.metrics(before=1)
    return Outcome(message="greeted", metrics={"items": 100 if context.remaining else 0})

@job(id="shaky", max_retries=2, retry_delay="100ms")
def shaky(context):
    if context.attempt < 3:
        raise ValueError(f"attempt {context.attempt}")
    return {"success": True, "message": f"attempt {context.attempt}"}

@job(id="resting", schedule="0 3 * * *", enabled=False)
def resting(context):
    return False
"""
SLOW = """
@job(id="slow")
def slow(context):
    context.progress(1, 2, "waiting")
    time.sleep(10_000)
"""


def test_functions_are_jobs(lsh: Lsh) -> None:
    machine = lsh.machine
    folder = f"{'/srv' if lsh.user == 'root' else '/home/bob'}/shop"
    machine.run("mkdir", "-p", f"{folder}/shop", user=lsh.user)
    machine.write(f"{folder}/shop/__init__.py", "", user=lsh.user)
    machine.write(f"{folder}/shop/tasks.py", MODULE + SLOW, user=lsh.user)
    venv = ("python3", "-m", "venv", "--without-pip", f"{folder}/.venv")
    machine.run(*venv, user=lsh.user)

    def apply(verb: str, *words: str, schedule: str | None = "0 2 * * *") -> Result:
        options = ("--python", "shop.tasks", *words)
        return lsh(verb, *options, cwd=folder, check=False, env={"GREET_SCHEDULE": schedule})

    assert "pip install --no-deps lsh-systemd" in apply("apply").stderr
    machine.run(*venv, "--system-site-packages", user=lsh.user)
    refused = apply("apply", schedule=None)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"{folder}/shop/tasks.py:5:1: greet: --schedule" in refused.stderr
    assert lsh.json("list") == []
    applied = apply("apply")
    assert applied.stdout.splitlines()[-1] == "4 added, 0 unchanged.", applied
    assert apply("apply").stdout == "Nothing to change: 4 jobs as described.\n"
    jobs = {each["id"]: each for each in lsh.json("list")}
    assert (jobs["greet"]["schedule"], jobs["resting"]["state"]) == ("0 2 * * *", "disabled")

    run = lsh.run("greet")
    assert (run["result"], run["message"], run["metrics"]) == ("success", "greeted", {"before": 1, "items": 100})
    assert run["output"] == f"INFO lsh.greet: run {run['id']}, attempt 1, in {folder}/.venv\n"
    assert lsh.run("resting", check=False)["exit_status"] == 1
    lsh("start", "shaky")
    runs = lsh.ended("shaky", 3, timeout=60)
    assert [(run["attempt"], run["result"], run["message"]) for run in runs] == [
        (1, "exit-code", "ValueError: attempt 1"),
        (2, "exit-code", "ValueError: attempt 2"),
        (3, "success", "attempt 3"),
    ]
    for run in runs[:2]:
        assert f'File "{folder}/shop/tasks.py"' in run["output"] and "in shaky" in run["output"]
    lsh("start", "slow")
    eventually(lambda: lsh.runs("slow")[0]["message"] == "waiting", timeout=60)
    lsh("stop", "slow")
    (run,) = lsh.ended("slow", timeout=60)
    assert "in slow" in run["output"], run

    machine.write(f"{folder}/shop/tasks.py", MODULE.replace('"0 3 * * *"', '"0 4 * * *"'), user=lsh.user)
    shown = apply("diff", "--prune", schedule="0 5 * * *")
    assert shown.returncode == 3
    assert [line.split()[0:2] for line in shown.stdout.splitlines() if line[0] in "~-"] == [
        ["~", "greet"], ["~", "resting"], ["-", "slow"],
    ]  # fmt: skip
    assert apply("apply", "--prune", schedule="0 5 * * *").stdout.splitlines()[-1] == (
        "2 changed, 1 removed, 1 unchanged."
    )
    assert {each["id"]: each["schedule"] for each in lsh.json("list")} == {
        "greet": "0 5 * * *", "resting": "0 4 * * *", "shaky": None,
    }  # fmt: skip
    # A job that watches the module applies what becomes of it.
    watch = ("--when-path", f"{folder}/shop/tasks.py", "--working-dir", folder, "--env", "GREET_SCHEDULE=0 6 * * *")
    lsh.add(*watch, "--", "lshctl apply --python shop.tasks --prune", name="tasks")
    machine.write(f"{folder}/shop/tasks.py", MODULE.partition('@job(id="resting"')[0], user=lsh.user)
    left = {"greet": "0 6 * * *", "shaky": None}
    eventually(
        lambda: {each["id"]: each["schedule"] for each in lsh.json("list") if each["id"] != "tasks"} == left, timeout=60
    )
    lsh("remove", "tasks")

    machine.write(f"{folder}/shop/tasks.py", MODULE + "1/0\n", user=lsh.user)
    broken = apply("apply", "--prune")
    assert broken.returncode == 2 and "cannot import shop.tasks: 'ZeroDivisionError" in broken.stderr
    assert len(lsh.json("list")) == 2
    run = lsh.run("greet", check=False)
    assert run["result"] == "exit-code" and "ZeroDivisionError" in run["output"]
    machine.run("rm", "-r", folder, user=lsh.user)
