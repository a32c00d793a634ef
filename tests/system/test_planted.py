"""What another user plants where root writes or reads: links, pipes, devices, another's home.

Nothing outside is touched, nothing hangs, and what root makes is root's."""

from collections.abc import Callable, Iterator

import pytest

from tests.system.lsh import Lsh
from tests.system.machine import Machine, eventually
from tests.system.uml import only_on

# What must never come into being, and what must stay as it is.
AIM = "/etc/planted"
PRECIOUS = "/root/precious"
HOME = "/home/bob/planted"


@pytest.fixture
def root(machine: Machine) -> Iterator[Lsh]:
    """root's lshctl, on a machine where bob has a folder; at the end nothing has got out of that."""
    bob, lsh = Lsh(machine, "user"), Lsh(machine, "system")
    machine.run("sh", "-c", f"echo secret >{PRECIOUS}; chmod 600 {PRECIOUS}; rm -rf {HOME} {AIM}")
    machine.run("mkdir", "-p", HOME, user=bob.user)
    yield lsh
    lsh("limits", "set", "--global", "none")
    lsh.clean()
    left = machine.run("sh", "-c", f"ls -d {AIM}* 2>/dev/null; stat -c %u:%a {PRECIOUS}; cat {PRECIOUS}")
    machine.run("rm", "-rf", HOME, AIM, PRECIOUS)
    assert left.stdout == "0:600\nsecret\n"


def plant(root: Lsh, script: str) -> None:
    root.machine.run("sh", "-c", f"cd {HOME} && {script}", user="bob")


READING = [
    ("restore", f"{HOME}/x"),
    ("import", "crontab", f"{HOME}/x"),
    ("import", "crontab", f"{HOME}/x", "--take-over"),
    ("apply", "-f", f"{HOME}/x.yaml"),
    ("templates", "add", f"{HOME}/x.yaml"),
    ("add", "x", "--schedule", "@daily", "--except-calendar", f"{HOME}/x", "--", "true"),
    ("apply", "--git", "https://localhost/x.git", "--signed-by", f"{HOME}/x"),
]
WRITING = [("backup", f"{HOME}/x"), ("backup", "--force", f"{HOME}/x")]


@only_on("forky")
def test_pipes_devices_links_and_folders_in_place_of_a_file(root: Lsh) -> None:
    """A pipe that nobody writes to, a device without end, a link to what is not there: each is refused."""
    for planted in ("mkfifo x", "ln -s /dev/zero x", f"ln -s {AIM} x", "mkdir x"):
        plant(root, f"rm -rf x x.yaml && {planted} && ln -s x x.yaml")
        for argv in [*WRITING, *READING] if planted in ("mkfifo x", "ln -s /dev/zero x") else WRITING:
            result = root(*argv, check=False, timeout=60)
            assert result.returncode in (1, 2), (planted, result)
            assert "Traceback" not in result.stderr and HOME in result.stderr


def test_a_backup_into_another_s_folder(root: Lsh) -> None:
    """Whatever becomes of its names meanwhile: of those that end in -journal and -wal, too."""
    swap = f"while :; do for f in .ledger.db.*; do [ -L $f ] || ln -sf {AIM} $f-journal; ln -sfn {AIM} $f; done; done"
    assert isinstance(root.machine, Machine)
    swapper = root.machine.popen("sh", "-c", f"cd {HOME} && {swap}", user="bob")
    try:
        for number in range(5):
            root("backup", f"{HOME}/ledger.db{number}", check=False, timeout=60)
            root("backup", "--force", f"{HOME}/ledger.db", check=False, timeout=60)
    finally:
        swapper.kill()
    plant(root, "rm -rf * .ledger*")
    root("backup", f"{HOME}/ledger.db")
    assert root.machine.run("stat", "-c", "%u:%a:%F", f"{HOME}/ledger.db").stdout == "0:600:regular file\n"
    assert root("restore", f"{HOME}/ledger.db").stdout
    assert root.machine.run("sh", "-c", "ls -A /var/lib/lsh | grep backup", check=False).stdout == ""


def test_taking_over_a_crontab_in_another_s_folder_is_left_to_them(root: Lsh) -> None:
    plant(root, "echo '0 2 * * * true' >crontab")
    assert "where others may, too" in root.refused("import", "crontab", f"{HOME}/crontab", "--take-over")
    root.machine.run("sh", "-c", "echo '0 2 * * * true' >/tmp/bobs; chown bob /tmp/bobs")
    assert "where others may, too" in root.refused("import", "crontab", "/tmp/bobs", "--take-over")
    root.machine.run("rm", "/tmp/bobs")


@pytest.mark.parametrize(
    ("variable", "argv"),
    [
        ("HOME=/home/bob", "add x --every 1h -- true"),
        ("XDG_RUNTIME_DIR=/run/user/1000", "add x --every 1h -- true"),
        ("XDG_STATE_HOME=/home/bob/new", "api key list"),
        ("XDG_CONFIG_HOME=/home/bob/new", "limits set --global 1"),
    ],
)
def test_root_keeps_out_of_another_user_s_jobs(root: Lsh, variable: str, argv: str) -> None:
    """sudo that keeps HOME: the folders of jobs would be bob's."""
    told = root.machine.run("env", variable, "lshctl", "--user", *argv.split(), check=False)
    assert (told.returncode, told.stdout) == (2, "")
    assert "another user's" in told.stderr
    assert root.machine.run("find", "/home/bob", "/run/user/1000", "-user", "root", "-name", "*lsh*").stdout == ""


def test_what_root_says_for_a_run_goes_through_no_link(root: Lsh) -> None:
    long = "i=0; while [ $i -lt 5000 ]; do echo items=$i; i=$((i+1)); done >metrics"
    plant(root, f"{long}; ln -s {AIM} .metrics.new")
    said = root.machine.run("env", f"LSH_METRICS={HOME}/metrics", "lshctl", "metric", "items=1", check=False)
    assert said.returncode == 1
    plant(root, f"rm -f metrics; ln -s {AIM} metrics")
    assert (
        root.machine.run("env", f"LSH_METRICS={HOME}/metrics", "lshctl", "metric", "a=1", check=False).returncode == 1
    )


def as_bob(root: Lsh, job: str) -> Callable[[str], None]:
    """bob's run has come in between: its folder is his, and has these links in it."""

    def links(names: str) -> None:
        folder = f"/run/lsh/said/lsh-{job}.service"
        script = f"mkdir -p {folder}; for f in {names}; do ln -sf {AIM} {folder}/$f; done; chown -hR bob {folder}"
        root.machine.run("sh", "-c", script)

    return links


def test_a_retry_notes_its_number_through_no_link(root: Lsh) -> None:
    job = root.add("--run-as", "bob", "--retries", "1", "--retry-delay", "3s", "--", "exit 3")
    root("start", job)
    eventually(lambda: root.json("show", job)["state"] == "retrying")
    as_bob(root, job)("attempt")
    assert [run["attempt"] for run in root.ended(job, 2, timeout=60)][-1] in (1, 2)
    eventually(lambda: root.runs(job)[-1]["attempt"] == 2)


def test_the_dispatcher_marks_a_start_through_no_link(root: Lsh) -> None:
    first = root.add("--", "sleep 600")
    root("limits", "set", "--global", "1")
    waiting = root.add("--run-as", "bob", "--", "true")
    root("start", first)
    eventually(lambda: [each["state"] for each in root.json("queue")] == ["running"])
    root("start", waiting)
    as_bob(root, waiting)("starting attempt")
    root("stop", first)
    assert root.ended(waiting, timeout=60)[0]["result"] == "success"


def test_nothing_is_made_that_others_may_write_to(root: Lsh) -> None:
    """Whatever the caller's umask."""
    commands = (
        "lshctl add open --every 1h --on-failure 'echo x' -- true",
        "lshctl run -- true",
        "lshctl limits set --global 9",
        "lshctl alerts add x --to json://localhost/",
        "lshctl list",
        "echo x | lshctl secrets set s",
    )
    root.machine.run("sh", "-ec", "umask 0; " + "; ".join(commands))
    places = "/etc/systemd/system /run/systemd/system /etc/lsh /var/lib/lsh /run/lsh"
    open_to_all = root.machine.run(
        "find", *places.split(), "-perm", "/022", "!", "-type", "l", "!", "-type", "s", check=False
    )
    assert open_to_all.stdout == ""
    root("secrets", "remove", "s")
    root("alerts", "remove", "x")
