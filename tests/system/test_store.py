"""The ledger's care: a full disk, a damaged file, pruning, backups. Each on a machine of its own, as they break it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.system import roots
from tests.system.booted import Booted
from tests.system.lsh import Lsh
from tests.system.machine import Machine, Result, eventually
from tests.system.uml import only_on

NewMachine = Callable[..., Machine]
STORES = {"system": "/var/lib/lsh/lsh.db", "user": "/home/bob/.local/state/lsh/lsh.db"}
SETTINGS = {"system": "/etc/lsh/lsh.toml", "user": "/home/bob/.config/lsh/lsh.toml"}
HOMES = {"system": "/root", "user": "/home/bob"}
NOISE = "head -c 30000 /dev/urandom | base64"  # 41 KB that do not compress well


# What systemd has no part in need not be seen in both scopes on both.
once_each = pytest.mark.parametrize(
    ("suite", "scope"),
    [
        pytest.param(suite, scope, id=f"{roots.ALL_SUITES[suite]}-{scope}")
        for suite, scope in (("bookworm", "system"), ("forky", "user"))
    ],
    indirect=True,
    scope="session",
)


@pytest.fixture
def own(new_machine: NewMachine, suite: str, scope: str) -> Lsh:
    return Lsh(new_machine(suite), scope)


def ids(runs: list[dict[str, Any]]) -> list[str]:
    return [run["id"] for run in runs]


def sql(lsh: Lsh, statement: str) -> Any:
    """What the store itself has, without collecting."""
    script = (
        "import json, sqlite3, sys; db = sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True); "
        "print(json.dumps(db.execute(sys.argv[2]).fetchall()))"
    )
    told = lsh.machine.run("python3", "-c", script, STORES[lsh.scope], statement, user=lsh.user, check=False)
    return json.loads(told.stdout) if told.returncode == 0 else None


def damage(lsh: Lsh, script: str) -> None:
    """Do something to the file `f`, of which `size` is the size."""
    code = f"import os, sys; f = open(sys.argv[1], 'r+b'); size = f.seek(0, 2)\n{script}\nf.close()"
    lsh.machine.run("python3", "-c", code, STORES[lsh.scope])


def asides(lsh: Lsh) -> list[str]:
    listed = lsh.machine.run("sh", "-c", f"ls {STORES[lsh.scope]}.* 2>/dev/null", check=False).stdout.split()
    return [path for path in listed if "/lsh.db.corrupt-" in path and not path.endswith(("-wal", "-shm"))]


def on_disk(lsh: Lsh, path: str) -> Path:
    assert isinstance(lsh.machine, Machine)
    return lsh.machine.disk / path.lstrip("/")


def forget_journal(machine: Booted) -> None:
    machine.run("journalctl", "--sync")
    machine.run("journalctl", "--rotate")
    machine.run("journalctl", "--vacuum-files=1")


@once_each
def test_a_damaged_store_is_set_aside_and_made_anew(own: Lsh) -> None:
    job = own.add("--", NOISE)
    for _ in range(4):
        own.run(job)
    own("rename", job, "other")
    forgotten = own.runs("other")
    forget_journal(own.machine)
    own.run("other")
    known = own.runs("other")
    assert len(known) == 5

    # In the middle of what one run wrote: it alone is lost.
    (page,) = [number for number in range(3, 200) if _is_output(own, number)][:1] or [0]
    assert page
    damage(own, f"f.seek({page} * 4096); f.write(os.urandom(4096))")
    shown = own("runs", "other", "--json")
    assert shown.stderr.count("\n") == 2
    (aside,) = asides(own)
    assert aside in shown.stderr
    left = shown.json()[::-1]
    assert len(left) == 4 and all(run in known for run in left)
    again = own("runs", "other", "--json")
    assert (again.json()[::-1], again.stderr) == (left, "")
    findings = [each for each in own("doctor", "--json", check=False).json() if each["check"] == "store"]
    assert findings[0]["level"] == "ok"
    assert [each["level"] for each in findings if aside in each["message"]] == ["warning"]

    # Its beginning, seen by many at once: none of its rows can be read, and the journal has but the last run.
    damage(own, "f.seek(0); f.write(bytes(100))")
    many = [own.popen("runs", "--json") for _ in range(4)]
    said = [process.communicate(timeout=60) for process in many]
    assert [ids(json.loads(out)) for out, _ in said] == [ids(known[-1:])] * 4
    assert "".join(err for _, err in said).count("It is kept as") == 1
    assert len(asides(own)) == 2
    assert forgotten[0]["id"] not in ids(own.runs("other"))


def _is_output(lsh: Lsh, page: int) -> bool:
    """Whether the page is full of what compression makes: no two bytes in a row are zero, no text."""
    with on_disk(lsh, STORES[lsh.scope]).open("rb") as file:
        file.seek(page * 4096)
        data = file.read(4096)
    return len(data) == 4096 and len(set(data)) > 200 and b"lsh-" not in data


def test_the_agent_mends_the_store_by_itself(own: Lsh) -> None:
    own("agent", "enable")
    job = own.add("--", "echo hello")
    known = own.run(job)
    eventually(lambda: sql(own, "SELECT count(*) FROM runs WHERE result IS NOT NULL") == [[1]])
    own.systemctl("stop", "lsh-agent.service")  # so that all is in the file
    damage(own, "f.truncate(size // 2)")
    own.systemctl("start", "lsh-agent.service")
    own.systemctl("start", f"lsh-{job}.service")
    eventually(lambda: sql(own, "SELECT count(*) FROM runs WHERE result IS NOT NULL") == [[2]])
    assert own.runs(job)[0] == known
    assert len(asides(own)) == 1
    own.machine.run("journalctl", "--sync")
    unit = f"_SYSTEMD{'_USER' if own.scope == 'user' else ''}_UNIT=lsh-agent.service"
    said = own.machine.run("journalctl", "--output=cat", unit).stdout
    assert said.count("It is kept as") == 1 and asides(own)[0] in said

    # What no reader meets, the daily look finds: an index that has lost its order.
    state = own.systemctl("show", "lsh-prune.timer", "--property=ActiveState,UnitFileState").stdout
    assert state == "ActiveState=active\nUnitFileState=enabled\n"
    own.systemctl("start", "lsh-prune.service")
    assert len(asides(own)) == 1
    spoil = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('PRAGMA writable_schema = ON'); "
        "db.execute(\"UPDATE sqlite_master SET sql = replace(sql, 'job, ', 'unit, ') WHERE name = 'runs_by_job'\"); "
        "db.commit()"
    )
    own.machine.run("python3", "-c", spoil, STORES[own.scope], user=own.user)
    own.systemctl("start", "lsh-prune.service")
    assert len(asides(own)) == 2
    assert len(own.runs(job)) == 2


@only_on("forky")
def test_a_full_disk_is_waited_out(new_machine: NewMachine, suite: str) -> None:
    """The agent pauses and says so, jobs go on, and once there is room every run is there, once and whole."""
    lsh = Lsh(new_machine(suite), "system")
    folder = str(Path(STORES["system"]).parent)
    mount = f"ctypes.CDLL(None).mount(b'small', b'{folder}', b'tmpfs', 0, b'size=640k,mode=750')"
    lsh.machine.run("python3", "-c", f"import ctypes, os; os.mkdir('{folder}'); exit({mount})")
    lsh("agent", "enable")
    job = lsh.add("--", NOISE)
    lsh.systemctl("start", f"lsh-{job}.service")
    eventually(lambda: sql(lsh, "SELECT count(*) FROM runs WHERE result IS NOT NULL") == [[1]])

    lsh.machine.run("sh", "-c", f"cat /dev/zero > {folder}/filler", check=False)
    for _ in range(3):
        lsh.systemctl("start", f"lsh-{job}.service")

    def said() -> Result:
        return lsh.machine.run("journalctl", "--output=cat", "--quiet", "-u", "lsh-agent")

    eventually(lambda: "trying again in 10 s" in said().stdout)
    assert "full" in said().stdout
    assert "StatusText=Waiting: " in lsh.systemctl("show", "lsh-agent", "--property=StatusText").stdout
    assert "full" in lsh.told_off("runs", job, status=1)
    assert lsh("list").stdout.count(job) == 1
    findings = {(each["check"], each["level"]) for each in lsh("doctor", "--json", check=False).json()}
    assert ("store", "warning") in findings
    assert asides(lsh) == []

    lsh.machine.run("rm", f"{folder}/filler")
    eventually(lambda: sql(lsh, "SELECT count(*) FROM runs WHERE result IS NOT NULL") == [[4]], timeout=30)
    runs = lsh.runs(job)
    assert len(set(ids(runs))) == 4
    assert {(run["result"], run["output_bytes"], len(run["output"])) for run in runs} == {("success", 40527, 40527)}
    assert lsh.systemctl("show", "lsh-agent", "--property=NRestarts").stdout == "NRestarts=0\n"


@once_each
def test_pruning(own: Lsh) -> None:
    job, quiet = own.add("--", "echo hello; sleep 0.01"), own.add("--", "echo quiet")
    own.run(quiet)
    for _ in range(5):
        own.run(job)
    runs = own.runs(job)
    own("start", own.add("--", "sleep 1000", name="long"))
    assert own.json("prune") == {"runs": 0, "outputs": 0, "output_bytes": 0, "changes": 0}
    assert own.json("prune", "--keep", "4", "--job", job, "--dry-run")["runs"] == 1
    assert own.runs(job) == runs
    assert "Removed 1 run" in own("prune", "--keep", "4", "--job", job).stdout
    assert own.runs(job) == runs[1:]
    for wrong in (["--keep", "0"], ["--older-than", "-5"], ["--older-than", "0"], ["--job", "no-such-job"], ["x"]):
        own.refused("prune", *wrong)
    own.machine.write(SETTINGS[own.scope], "keep_runs = -1\n", user=own.user)
    assert "keep_runs" in own.refused("prune")

    # By the settings, as the timer does; and a store that is made anew has no more than they allow.
    own.machine.write(SETTINGS[own.scope], "keep_runs = 2\n", user=own.user)
    own("agent", "enable")
    own.systemctl("start", "lsh-prune.service")
    assert own.systemctl("show", "lsh-prune.service", "--property=Result").stdout == "Result=success\n"
    assert own.runs(job) == runs[3:]
    damage(own, "f.seek(0); f.write(bytes(100))")
    assert own.runs(job) == runs[3:]

    # The newest run of a job stays, and one that goes on; nothing stays of a job that is gone.
    assert own.json("prune", "--older-than", "1s")["runs"] >= 1
    assert (own.runs(job), own.runs(quiet)[0]["output"]) == (runs[4:], "quiet\n")
    assert [run["result"] for run in own.runs("long")] == [None]
    own("remove", quiet)
    assert own.json("prune", "--older-than", "1s")["runs"] == 1
    assert quiet not in {run["job"] for run in own.json("runs")}


@once_each
def test_backup_and_restore(own: Lsh, new_machine: NewMachine, suite: str) -> None:
    machine, job, file = own.machine, own.add("--", "echo hello"), f"{HOMES[own.scope]}/backup"
    own("agent", "enable")
    own.run(job)
    own.run(job)
    assert own("backup", file).stdout == f"Backed up 2 runs to {file}.\n"
    size = int(machine.run("stat", "--format=%s", file).stdout)
    assert own.json("backup", "--force", file) == {"file": file, "runs": 2, "bytes": size}
    assert machine.run("stat", "--format=%a %U", file).stdout == f"600 {own.user}\n"
    before = machine.run("sha256sum", file).stdout
    assert "--force" in own.refused("backup", file)
    assert "itself" in own.refused("backup", "--force", STORES[own.scope])
    assert machine.run("sha256sum", file).stdout == before

    own.run(job)
    runs = own.runs(job)
    for wrong in ("/etc/passwd", "/no/such/file", "/etc", STORES[own.scope]):
        own.refused("restore", wrong)
        own.refused("restore", "--dry-run", wrong)
    assert own("restore", "--dry-run", file).stdout == f"Would make {file} the ledger.\n"
    assert own.runs(job) == runs
    restored = own("restore", file)  # the journal has the third
    assert "has 3 runs" in restored.stdout
    assert ".before-restore-" in restored.stdout
    assert own.runs(job) == runs

    forget_journal(machine)  # and with it the entry that the backup's cursor names
    told = own.json("restore", file)
    assert told["runs"] == 2 and ".before-restore-" in told["kept"]
    assert own.runs(job) == runs[:2]
    own.run(job)  # the agent has gone on in the store that it had open
    assert ids(own.runs(job))[:2] == ids(runs[:2]) and len(own.runs(job)) == 3

    # A new host
    elsewhere = Lsh(new_machine(suite), own.scope)
    elsewhere.machine.write(file, on_disk(own, file).read_bytes(), user=own.user)
    elsewhere("restore", file)
    elsewhere.run(elsewhere.add("--", "echo hello", name=job))
    there = elsewhere.runs(job)
    assert there[:2] == runs[:2] and len(there) == 3
    assert there[2]["host"] == elsewhere.machine.name
