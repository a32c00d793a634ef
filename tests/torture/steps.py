"""What happens in a life under torture: commands, whole or cut off, and blows to all that lshctl stands on."""

import json
from collections.abc import Callable

from tests.torture.life import Known, Life

# What stands in them has broken units, shells and tables of others; each has a slug of its own.
NAMES = (
    "alpha",
    "Beta Job",
    "gamma%h%i",
    "e'quote",
    'd"ouble',
    "f;semi",
    "g$HOME",
    "h\\back",
    "<b>bold</b>",
    "Ünïcode",
)
SCHEDULES = (None, "@every 2s", "@every 5s", "*/3 * * * * *", "* * * * * *", "0 3 * * *")
PROJECT = "/var/tmp/torture.json"


def add(life: Life) -> None:
    draw = life.random
    name = draw.choice(NAMES)
    schedule, overlap = draw.choice(SCHEDULES), draw.choice(("queue", "queue", "skip", "parallel", "replace"))
    command, token = life.new_command()
    options = []
    if schedule is None:
        overlap = "queue"
    else:
        options += ["--overlap", overlap, "--schedule", schedule, *(["--seconds"] if schedule.count(" ") == 5 else [])]
    if draw.random() < 0.3:
        options += ["--retries", str(draw.randint(1, 2)), "--retry-delay", "1s"]
    if draw.random() < 0.2:
        options += ["--timeout", "2s"]
    if draw.random() < 0.2:
        options += ["--env", "X=%h $Y \\ '\""]
    if draw.random() < 0.2 and schedule and not schedule.startswith("@"):
        options += ["--catch-up", draw.choice(("once", "all"))]
    there = {known.name for known in life.jobs.values()}
    cut = draw.random() < 0.3
    result = life.tell("add", *options, "--", name, command, cut=cut)
    if name in there:
        assert result.returncode == 2, result
    elif result.returncode == 0 or (cut and _is_there(life, name)):  # else options that exclude each other
        life.know(_id_of(life, name), Known(name=name, token=token, schedule=schedule, overlap=overlap))
    else:
        assert result.returncode == 2, result


def change(life: Life) -> None:
    """set: another command, perhaps another schedule."""
    if job := some_job(life):
        known = life.jobs[job]
        command, token = life.new_command()
        schedule = life.random.choice(SCHEDULES[1:]) if known.schedule else None
        options = ["--schedule", schedule] if schedule else []
        if schedule and schedule.count(" ") == 5:
            options += ["--seconds"]
        result = life.tell("set", job, *options, "--", command, cut=life.random.random() < 0.3)
        assert result.returncode == 0, result
        life.know(
            job, Known(name=known.name, token=token, schedule=schedule, overlap=known.overlap, enabled=known.enabled)
        )


def rename(life: Life) -> None:
    if (job := some_job(life)) and life.jobs[job].name in NAMES:  # the project's would be pruned under any other
        name = life.random.choice(NAMES)
        there = {known.name for known in life.jobs.values()}
        cut = life.random.random() < 0.3
        result = life.tell("rename", job, name, cut=cut)
        if name in there:
            assert result.returncode in (1, 2) or life.jobs[job].name == name, result
        elif result.returncode == 0 or (cut and _is_there(life, name)):  # else it runs just now
            known = life.jobs.pop(job)
            known.name = name
            life.know(_id_of(life, name), known)
        else:
            assert result.returncode in (1, 2), result


def remove(life: Life) -> None:
    if job := some_job(life):
        cut = life.random.random() < 0.3
        result = life.tell("remove", job, cut=cut)
        assert result.returncode == 0 or cut, result
        del life.jobs[job]


def enable(life: Life) -> None:
    if job := some_job(life):
        verb = life.random.choice(("enable", "disable"))
        result = life.tell(verb, job, cut=life.random.random() < 0.3)
        if life.jobs[job].schedule:
            assert result.returncode == 0, result
            life.jobs[job].enabled = verb == "enable"


def start(life: Life) -> None:
    if job := some_job(life):
        life.tell(life.random.choice(("start", "start", "restart", "stop")), job, cut=life.random.random() < 0.2)


def start_and_wait(life: Life) -> None:
    if job := some_job(life):
        life.tell("start", "--wait", job)


def apply(life: Life) -> None:
    """A project of up to four jobs, all of it or, cut off, all of it the next time."""
    jobs, found = [], {}
    for number in range(4):
        if life.random.random() < 0.6:
            command, token = life.new_command()
            schedule = life.random.choice(("@every 3s", "0 3 * * *"))
            jobs.append({"name": f"P{number}", "command": command, "schedule": schedule})
            found[f"p{number}"] = Known(name=f"P{number}", token=token, schedule=schedule, overlap="queue")
    life.machine.write(PROJECT, json.dumps({"project": "torture", "jobs": jobs}))
    result = life.tell("apply", "-f", PROJECT, "--prune", cut=life.random.random() < 0.4)
    assert result.returncode == 0, result
    for number in range(4):
        life.jobs.pop(f"p{number}", None)
        if known := found.get(f"p{number}"):
            life.know(f"p{number}", known)


def agent(life: Life) -> None:
    result = life.tell("agent", life.random.choice(("enable", "enable", "disable")), cut=life.random.random() < 0.3)
    assert result.returncode == 0, result


def kill_a_run(life: Life) -> None:
    if job := some_job(life):
        life.lsh.systemctl("kill", "--signal=KILL", f"lsh-{job}.service", check=False)


def kill_ours(life: Life) -> None:
    """The agent, the dispatchers and whatever else of ours goes on."""
    life.lsh.systemctl(
        "kill", "--signal=KILL", "lsh-agent.service", "lsh-queue.service", "lsh-tick@*.service", check=False
    )
    life.lsh.systemctl("reset-failed", "lsh-*", check=False)


def rotate(life: Life) -> None:
    life.machine.run("journalctl", "--rotate")


def restart_journald(life: Life) -> None:
    life.machine.run("systemctl", "reset-failed", "systemd-journald.service", check=False)
    life.machine.run("systemctl", "restart", "systemd-journald.service")


def reload(life: Life) -> None:
    life.lsh.systemctl(life.random.choice(("daemon-reload", "daemon-reexec")))


def restart_bus(life: Life) -> None:
    life.lsh.systemctl("restart", "dbus.service", check=False)


def fill_disk(life: Life) -> None:
    """What lshctl keeps its state on has no room; it must say so, and go on where it was when there is room again."""
    full = f"{life.state}/fill"
    life.machine.run("sh", "-c", 'head -c 200M /dev/zero >"$1"; true', "sh", full, user=life.lsh.user, check=False)
    try:
        for argv in (("list",), ("runs", "--limit", "5")):
            life.tell(*argv)
        if job := some_job(life):
            life.tell("start", job)
    finally:
        life.machine.run("rm", "-f", full)


def reboot(life: Life) -> None:
    life.machine.reboot()


def cut_power(life: Life) -> None:
    life.machine.kill()
    life.machine.boot()


def some_job(life: Life) -> str | None:
    return life.random.choice(sorted(life.jobs)) if life.jobs else None


def _is_there(life: Life, name: str) -> bool:
    return name in {job["name"] for job in life.lsh.json("list")}


def _id_of(life: Life, name: str) -> str:
    """What lshctl has made of the name."""
    return str(life.lsh.json("show", name)["id"])


# how often, beside the others
STEPS: dict[Callable[[Life], None], int] = {
    add: 12,
    change: 5,
    rename: 3,
    remove: 4,
    enable: 5,
    start: 6,
    start_and_wait: 3,
    apply: 4,
    agent: 2,
    kill_a_run: 4,
    kill_ours: 3,
    rotate: 2,
    restart_journald: 1,
    reload: 2,
    restart_bus: 1,
    fill_disk: 2,
    reboot: 1,
    cut_power: 1,
}


def step(life: Life) -> None:
    do = life.random.choices(list(STEPS), weights=list(STEPS.values()))[0]
    life.note(f"- {do.__name__}")
    do(life)
