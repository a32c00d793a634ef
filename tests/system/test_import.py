"""lshctl import crontab and lshctl export: cron's jobs go on as they were, all of them or none; and back again."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.lsh import TIMER, Lsh
from tests.system.machine import Machine

# crontab(1) as far as we need it: cron itself is not on these machines. It refuses what says "refuse me".
CRONTAB = r"""#!/bin/sh
user=$(id -un)
[ "$1" = -u ] && { [ "$(id -u)" = 0 ] || exit 1; user=$2; shift 2; }
file=/tmp/crontabs-of-test/$user
case $1 in
-l) [ -e "$file" ] || { echo "no crontab for $user" >&2; exit 1; }; cat "$file" ;;
-) cat >"$file.new"; ! grep -q 'lsh-.*refuse me' "$file.new" || { echo refused >&2; exit 1; }; mv "$file.new" "$file" ;;
*) exit 1 ;;
esac
"""
FILE = """\
# What the machine does by itself.

PATH=/usr/local/bin:/usr/bin:/bin
GREETING="hello there"

# Sweep the floor
30 2 * * * sweep --all
@weekly /opt/bin/{n}-report.sh
# job: {n} watch
# Looks after the rest.
@reboot /opt/bin/watch
"""


@pytest.fixture
def crontab(machine: Machine) -> Iterator[None]:
    machine.write("/usr/local/bin/crontab", CRONTAB, mode=0o755)
    machine.run("mkdir", "-pm", "1777", "/tmp/crontabs-of-test")
    yield
    machine.run("rm", "-rf", "/usr/local/bin/crontab", "/tmp/crontabs-of-test")


@pytest.fixture
def path(lsh: Lsh) -> str:
    """A place for a crontab, and for its backups."""
    return f"/tmp/{lsh.user}-{lsh.new_name()}/crontab"


def imported(lsh: Lsh, *argv: str) -> dict[str, str]:
    """Import; job → what was done."""
    told = lsh.machine.run("lshctl", "import", "crontab", *argv, "--json", user=lsh.user).json()
    return {job["id"]: job["import"] for job in told["jobs"]}


def definition(lsh: Lsh, job: str) -> dict[str, Any]:
    told: dict[str, Any] = lsh.json("show", job)["definition"]
    return told


def jobs(lsh: Lsh) -> list[str]:
    return [job["id"] for job in lsh.json("list")]


def test_lines_become_jobs_and_a_second_import_changes_nothing(lsh: Lsh, path: str) -> None:
    n = lsh.new_name()
    lsh.machine.write(path, FILE.format(n=n), user=lsh.user)
    before = lsh.files()
    table = lsh("import", "crontab", path, "--dry-run").stdout.splitlines()
    assert table[0].split() == ["JOB", "IMPORT", "FROM", "SCHEDULE", "COMMAND"]
    assert table[1].split() == ["sweep-the-floor", "add", f"{path}:7", *"30 2 * * * sweep --all".split()]
    assert lsh.files() == before

    ids = ["sweep-the-floor", f"{n}-report-sh", f"{n}-watch"]
    assert imported(lsh, path) == dict.fromkeys(ids, "added")
    assert lsh.loaded(f"lsh-{ids[0]}.timer", TIMER, "TimersCalendar")["TimersCalendar"][0][:2] == [
        "OnCalendar",
        "*-*-* 02:30:00",
    ]
    for job in ids[:2]:
        assert lsh.show(f"lsh-{job}.timer", "ActiveState", "UnitFileState") == {
            "ActiveState": "active",
            "UnitFileState": "enabled",
        }
    assert definition(lsh, ids[2])["description"] == "Looks after the rest."

    after = lsh.files()
    assert imported(lsh, path) == dict.fromkeys(ids, "unchanged")
    assert imported(lsh, path, "--replace") == dict.fromkeys(ids, "unchanged")
    assert lsh.files() == after


def test_a_job_has_the_input_the_variables_and_the_folder_that_cron_gave_it(lsh: Lsh, path: str) -> None:
    out = path.removesuffix("crontab")
    # What it should find was seen on Debian's cron; the same lines are in tests/unit/test_crontab.py.
    text = (
        'SHELL=/bin/bash\nQUOTED="  two  "\nEMPTY=""\nMAILTO=ops@example.org\n'
        f"* * * * * cat >{out}in; env -0 >{out}env; pwd >{out}pwd; echo \"$BASH_VERSION\" '\\%s' 'c\\\\d' >{out}args"
        "%line 1%line2\\%x\\\\%y\\z%  é %n $HOME %\n"
    )
    lsh.machine.write(path, text, user=lsh.user)
    said = lsh("import", "crontab", path).stderr
    assert "line 4: no mail goes to ops@example.org" in said
    (job,) = imported(lsh, path)
    assert lsh.run(job)["result"] == "success"
    assert lsh.machine.read(f"{out}in") == "line 1\nline2%x\\%y\\z\n  é \nn $HOME \n"
    home = {"root": "/root"}.get(lsh.user, f"/home/{lsh.user}")
    assert lsh.machine.read(f"{out}pwd") == f"{home}\n"
    assert re.fullmatch(r"5\.\S+ %s c\\d\n", lsh.machine.read(f"{out}args"))
    env = dict(each.split("=", 1) for each in lsh.machine.read(f"{out}env").rstrip("\0").split("\0"))
    wanted = {"PATH": "/usr/bin:/bin", "HOME": home, "LOGNAME": lsh.user, "SHELL": "/bin/bash"}
    wanted |= {"QUOTED": "  two", "EMPTY": "", "MAILTO": "ops@example.org"}
    assert wanted.items() <= env.items()


def test_one_bad_line_and_nothing_is_made(lsh: Lsh, path: str) -> None:
    n = lsh.new_name()
    lsh.machine.write(path, f"0 5 * * * {n}\n61 * * * * {n}-b\n\n5 4 * * {n}-c\n", user=lsh.user)
    before = lsh.files()
    result = lsh("import", "crontab", path, check=False)
    assert result.returncode == 2
    first, second, *rest = result.stderr.splitlines()
    assert first.startswith(f"Not taken: {path}, line 2: minute '61'")
    assert second.startswith(f"Not taken: {path}, line 4: ")
    assert rest[-2:] == [
        "lshctl: 2 lines cannot be taken; nothing was made",
        "  mend what is named above, or leave it out with --skip-bad",
    ]
    assert lsh.files() == before
    told = json.loads(lsh("import", "crontab", path, "--json", check=False).stdout)
    assert [(each["line"], each["text"]) for each in told["refused"]] == [
        (2, f"61 * * * * {n}-b"),
        (4, f"5 4 * * {n}-c"),
    ]
    assert imported(lsh, path, "--skip-bad") == {n: "added"}


def test_a_failure_halfway_takes_back_what_was_made(lsh: Lsh, path: str) -> None:
    n = lsh.new_name()
    lsh.add("--schedule", "0 1 * * *", "--", "true", name=f"{n}-old")
    # An administrator's drop-in with which systemd does not take the second job's timer.
    lsh.write(f"lsh-{n}-2.timer.d/broken.conf", "[Timer]\nOnCalendar=\n")
    text = f"# job: {n} 1\n@daily x\n# job: {n} 2\n@daily y\n# job: {n} old\n@daily z\n"
    lsh.machine.write(path, text, user=lsh.user)
    try:
        before = lsh.files()
        said = lsh("import", "crontab", path, "--replace", "--take-over", check=False)
        assert (said.returncode, f"did not take lsh-{n}-2.timer" in said.stderr) == (1, True), said
        assert lsh.files() == before
        assert lsh.machine.read(path) == text
        assert lsh.show(f"lsh-{n}-1.timer", "LoadState")["LoadState"] == "not-found"
    finally:
        lsh.machine.run("rm", "-r", f"{lsh.folder}/lsh-{n}-2.timer.d")


def test_a_line_that_has_changed_wants_a_word_and_a_new_line_renames_nobody(lsh: Lsh, path: str) -> None:
    n = lsh.new_name()
    lines = f"0 1 * * * {n} a\n0 2 * * * {n} b\n"
    lsh.machine.write(path, lines, user=lsh.user)
    assert imported(lsh, path) == {n: "added", f"{n}-2": "added"}
    lsh.machine.write(path, f"0 3 * * * {n} c\n{lines}", user=lsh.user)
    assert imported(lsh, path) == {f"{n}-3": "added", n: "unchanged", f"{n}-2": "unchanged"}

    lsh.machine.write(path, lines.replace("0 1", "5 1"), user=lsh.user)
    before = lsh.files()
    said = lsh("import", "crontab", path, check=False)
    assert (said.returncode, f"there is another job of that name: {n};" in said.stderr) == (2, True), said
    assert lsh.files() == before
    assert imported(lsh, path, "--replace") == {n: "replaced", f"{n}-2": "unchanged"}
    assert definition(lsh, n)["schedule"] == ["5 1 * * *"]


def test_lines_taken_over_are_comments_and_the_file_has_a_backup(lsh: Lsh, path: str) -> None:
    n = lsh.new_name()
    text = f"A=1\n# Keep\n  0 5 * * * {n}\n\n@weekly {n}\n"
    lsh.machine.write(path, text, user=lsh.user, mode=0o640)
    (backup,) = lsh("import", "crontab", path, "--take-over", "--json").json()["backups"]
    assert re.fullmatch(re.escape(path) + r"\.\d{8}T\d{6}Z\.lsh~", backup)
    assert lsh.machine.read(backup) == text
    assert lsh.machine.read(path) == (
        f"A=1\n# Keep\n# lsh-keep.timer has this now: 0 5 * * * {n}\n\n# lsh-{n}.timer has this now: @weekly {n}\n"
    )
    assert lsh.machine.run("stat", "-c", "%a %U", path).stdout == f"640 {lsh.user}\n"
    assert lsh("import", "crontab", path, "--take-over").stdout == "There is no job to import.\n"
    assert "--take-over needs a file" in lsh.refused("import", "crontab", "-", "--take-over", input=text)


def test_the_callers_own_crontab(lsh: Lsh, crontab: None) -> None:
    assert f"no crontab for {lsh.user}" in lsh.refused("import", "crontab")
    n = lsh.new_name()
    lsh.machine.run("crontab", "-", input=f"0 5 * * * {n}\n", user=lsh.user)
    result = lsh("import", "crontab")
    assert "cron still runs these lines, too" in result.stderr
    (backup,) = lsh("import", "crontab", "--take-over", "--json").json()["backups"]
    assert lsh.machine.read(backup) == f"0 5 * * * {n}\n"
    assert lsh.machine.run("crontab", "-l", user=lsh.user).stdout == f"# lsh-{n}.timer has this now: 0 5 * * * {n}\n"
    # Where crontab(1) does not take the new text, there are no jobs either.
    lsh.machine.run("crontab", "-", input=f"@daily {n}-b refuse me\n", user=lsh.user)
    assert "crontab did not take it: refused" in lsh.told_off("import", "crontab", "--take-over", status=1)
    assert f"{n}-b" not in jobs(lsh)


@pytest.mark.parametrize("scope", ["system"], indirect=True)
def test_root_imports_the_crontab_of_another_user(lsh: Lsh, crontab: None) -> None:
    lsh.machine.add_user("bob")
    n = lsh.new_name()
    out = f"/tmp/{n}.out"
    line = f"# job: {n}\n@daily (id -un; pwd; echo $HOME) >{out}\n"
    lsh.machine.run("crontab", "-", input=line, user="bob")
    assert imported(lsh, "--user", "bob") == {n: "added"}
    assert definition(lsh, n)["run_as"] == "bob"
    assert lsh.run(n)["result"] == "success"
    assert lsh.machine.read(out).split() == ["bob", "/home/bob", "/home/bob"]
    assert "there is no user ghost" in lsh.refused("import", "crontab", "--user", "ghost")


@pytest.mark.parametrize("scope", ["system"], indirect=True)
def test_what_a_user_writes_into_a_crontab_reaches_no_process_of_roots(lsh: Lsh, crontab: None) -> None:
    lsh.machine.add_user("bob")
    n = lsh.new_name()
    trap = f"/tmp/{n}-trap"  # all programs that the recorder might find there, and a shell's start file
    script = f"#!/bin/sh\nid -u >>{trap}/ran\n"
    for name in ("stat", "logger", "id", "env"):
        lsh.machine.write(f"{trap}/{name}", script.replace("id -u", "/usr/bin/id -u"), mode=0o755, user="bob")
    lines = f"PATH={trap}:/usr/bin:/bin\nENV={trap}/env\nBASH_ENV={trap}/env\nLD_LIBRARY_PATH={trap}\n@daily {n} || :\n"
    lsh.machine.run("crontab", "-", input=lines, user="bob")
    assert imported(lsh, "--user", "bob") == {f"bob-{n}": "added"}
    job = f"bob-{n}"
    assert lsh.run(job)["result"] == "success"
    assert "ExecStopPost=-/bin/sh " in lsh.read(f"lsh-{job}.service")
    assert "0" not in lsh.machine.run("sh", "-c", f"cat {trap}/ran 2>/dev/null || :").stdout.split()


@pytest.mark.parametrize("scope", ["user"], indirect=True)
def test_nobody_imports_what_is_not_theirs(lsh: Lsh, path: str) -> None:
    assert "'s crontab is not yours" in lsh.refused("import", "crontab", "--user", "root")
    assert "become jobs of the machine" in lsh.refused("import", "crontab", "--system")
    lsh.machine.write(path, "@daily root x\n", user=lsh.user)
    assert "begins with the name of a user: root" in lsh.refused("import", "crontab", path)
    said = lsh("import", "crontab", path, "--form", "system", check=False)
    assert (said.returncode, "it runs as root" in said.stderr) == (2, True)


@pytest.mark.parametrize("scope", ["system"], indirect=True)
def test_all_crontabs_of_the_machine(lsh: Lsh) -> None:
    files = {
        "/etc/crontab": "17 * * * * root cd / && run-parts --report /etc/cron.hourly\n",
        "/etc/cron.d/tool": "PATH=/opt/bin\n5 4 * * * nobody tool --all\n",
        "/etc/cron.d/tool.dpkg-dist": "5 4 * * * nobody wrong-name\n",
        "/etc/cron.d/loose": "5 4 * * * root others-may-write\n",
        "/etc/anacrontab": "1\t5\tnight.job\tnice run-parts /etc/cron.daily\n30\t5\tother\ttrue\n",
    }
    lsh.machine.run("rm", "-f", "/etc/cron.d/certbot")  # its package's, which is there for a template's sake
    for path, text in files.items():
        lsh.machine.write(path, text, mode=0o666 if path.endswith("loose") else 0o644)
    try:
        result = lsh("import", "crontab", "--system", check=False)
        assert (result.returncode, "/etc/anacrontab, line 2: a period of '30'" in result.stderr) == (2, True), result
        told: Any = lsh("import", "crontab", "--system", "--skip-bad", "--take-over", "--json").json()
        assert {job["id"]: job["line"] for job in told["jobs"]} == {"cron-hourly": 1, "tool": 2, "night-job": 1}
        assert [each.split(":")[0] for each in told["skipped"]] == ["/etc/cron.d/loose", "/etc/cron.d/tool.dpkg-dist"]
        assert len(told["backups"]) == 3
        tool, night = definition(lsh, "tool"), definition(lsh, "night-job")
        assert (tool["run_as"], tool["env"]["PATH"]) == ("nobody", "/opt/bin")
        assert (night["schedule"], night["catch_up"], night["jitter"]) == (["@daily"], "once", "5min")
        assert lsh.machine.read("/etc/anacrontab").splitlines()[1] == "30\t5\tother\ttrue"
        # nobody's home is not there: cron would run the job all the same
        assert tool["working_dir"] == "/"
    finally:
        lsh.machine.run("sh", "-c", "rm -rf /etc/crontab* /etc/cron.d/tool* /etc/cron.d/loose /etc/anacrontab*")


def test_what_is_exported_comes_back_as_it_was(lsh: Lsh, path: str) -> None:
    n = lsh.new_name()
    text = (
        f'MAILTO=""\nA="it\'s"\n# job: {n} A\n# 50 % of it.\n*/5 1-3 * * mon-fri cat >/dev/null; date +\\%F%one%two\n'
        f"CRON_TZ=Asia/Tokyo\nSHELL=/bin/bash\n# job: {n} B\n0 5 * * * echo 'a\\\\b'\n# job: {n} C\n@reboot x\n"
    )
    lsh.machine.write(path, text, user=lsh.user)
    ids = [f"{n}-a", f"{n}-b", f"{n}-c"]
    assert imported(lsh, path) == dict.fromkeys(ids, "added")
    lsh.add("--every", "5m", "--", "true", name=f"{n}-d")
    before = [definition(lsh, job) for job in ids]
    told = lsh("export", "--format", "crontab", *ids, f"{n}-d")
    assert f"Left out: {n}-d: a crontab cannot hold every" in told.stderr
    assert f"Note: {n}-b: CRON_TZ=Asia/Tokyo counts for cronie" in told.stderr

    lsh.machine.write(path, told.stdout, user=lsh.user)
    form = "system" if lsh.scope == "system" else "user"
    assert imported(lsh, path, "--form", form) == dict.fromkeys(ids, "unchanged")
    lsh("remove", *ids)
    assert imported(lsh, path, "--form", form) == dict.fromkeys(ids, "added")
    assert [definition(lsh, job) for job in ids] == before
