"""Commands that usually destroy are refused before anything is made, and what was allowed once stays allowed.

No job here is ever started but one whose command only looks bad.
"""

import pytest

from tests.system.lsh import SERVICE, Lsh
from tests.system.machine import Machine

BAD = 'rm -rf "$NOWHERE"/'


def warnings(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("lshctl: warning: ")]


@pytest.mark.parametrize("command", [BAD, "rm -rf /", ":(){ :|:& };:", "curl -s x | sh", "mkfs.ext4 /dev/sda"])
def test_a_dangerous_command_is_refused(lsh: Lsh, command: str) -> None:
    said = lsh.refused("add", "bad", "--", command)
    assert said.startswith("lshctl: the command is dangerous: ")
    assert "--allow-dangerous" in said
    lsh.refused("add", "bad", "--json", "--", command)
    lsh.refused("add", "bad", "--dry-run", "--", command)
    lsh.refused("run", "--", command)


def test_words_without_a_shell_are_looked_at_too(lsh: Lsh) -> None:
    lsh.refused("add", "bad", "--no-shell", "--", "rm", "-rf", "/")
    lsh.refused("add", "bad", "--stdin", "rm -rf /", "--", "sh")
    assert warnings(lsh("add", lsh.new_name(), "--no-shell", "--", "echo", "rm -rf /", ";").stderr) == []


def test_what_is_meant_is_taken_and_remembered(lsh: Lsh) -> None:
    job = lsh.new_name()
    said = lsh("add", job, "--allow-dangerous", "--", BAD)
    assert warnings(said.stderr) == ["lshctl: warning: '$NOWHERE/': where $NOWHERE is empty, this deletes /"]
    assert lsh.json("show", job)["definition"]["allow_dangerous"] is True
    assert warnings(lsh("set", job, "--timeout", "1h").stderr) == []
    lsh("refresh")
    lsh("rename", job, f"{job} b")
    lsh("set", f"{job}-b", "--", f"true; {BAD}")
    lsh.refused("set", f"{job}-b", "--no-allow-dangerous", "--", BAD)


def test_set_and_edit_look_at_what_changes(lsh: Lsh) -> None:
    job = lsh.add("--", "echo fine")
    lsh.refused("set", job, "--", BAD)
    lsh.refused("set", job, "--dry-run", "--", BAD)
    lsh.machine.write("/tmp/editor", "#!/bin/sh\nsed -i 's|echo fine|rm -rf /|' \"$1\"\n", mode=0o755)
    before = lsh.files()
    said = lsh("edit", job, check=False, input="n\n", env={"EDITOR": "/tmp/editor", "VISUAL": None})
    assert (said.returncode, "the command is dangerous" in said.stderr, lsh.files()) == (2, True, before)
    # A variable that is known makes it harmless, and its loss dangerous again.
    lsh("set", job, "--env", "NOWHERE=/tmp/nothing", "--", BAD)
    lsh.refused("set", job, "--unset", "env.NOWHERE")
    environment = ["NOWHERE=/tmp/nothing", lsh.metrics(job)]
    assert lsh.loaded(f"lsh-{job}.service", SERVICE, "Environment") == {"Environment": environment}


@pytest.mark.parametrize(("value", "allows"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_the_variable_of_older_systems_counts(lsh: Lsh, value: str, allows: bool) -> None:
    env = {"LSH_ALLOW_DANGEROUS_COMMANDS": value}
    job = lsh.new_name()
    if not allows:
        lsh.refused("add", job, "--", BAD, env=env)
        return
    lsh("add", job, "--", BAD, env=env)
    assert warnings(lsh("set", job, "--timeout", "1h").stderr) == []
    assert lsh.json("show", job)["definition"]["allow_dangerous"] is True
    harmless = lsh.new_name()
    lsh("add", harmless, "--", "true", env=env)
    assert "allow_dangerous" not in lsh.json("show", harmless)["definition"]


def test_what_is_doubtful_is_a_warning(lsh: Lsh) -> None:
    said = lsh("add", lsh.new_name(), "--json", "--", "rm -rf $NOWHERE/cache")
    assert len(warnings(said.stderr)) == 1
    assert said.json()["state"] == "manual"


def test_nothing_is_run_by_looking(lsh: Lsh) -> None:
    mark = f"/tmp/run-{lsh.user}"
    lsh.add("--", f"touch {mark}; echo $(touch {mark}) `touch {mark}`; : <(touch {mark})")
    lsh.refused("add", "bad", "--", f"touch {mark}; rm -rf /")
    assert not lsh.machine.exists(mark)


def test_a_script_that_others_can_change_is_not_for_root(machine: Machine) -> None:
    lsh = Lsh(machine, "system")
    machine.add_user("bob")
    machine.write("/opt/open.sh", "#!/bin/sh\n", mode=0o777)
    machine.write("/opt/bobs.sh", "#!/bin/sh\n", mode=0o755)
    machine.run("chown", "bob", "/opt/bobs.sh")
    machine.write("/opt/fine.sh", "#!/bin/sh\n", mode=0o755)
    machine.run("sh", "-c", "mkdir -p /opt/open && chmod 777 /opt/open && cp /opt/fine.sh /opt/open/x.sh")
    assert "everybody may change /opt/open.sh" in lsh.refused("add", "x", "--", "/opt/open.sh")
    assert "everybody may change /opt/open.sh" in lsh.refused("add", "x", "--", "cd /; sudo sh /opt/open.sh --now")
    assert "belongs to bob" in lsh.refused("add", "x", "--", "/opt/bobs.sh")
    assert "everybody may replace" in lsh.refused("add", "x", "--no-shell", "--", "/opt/open/x.sh")
    for options in (["--", "/opt/fine.sh"], ["--run-as", "bob", "--", "/opt/bobs.sh"], ["--", "ls /opt/open.sh"]):
        assert warnings(lsh("add", lsh.new_name(), *options).stderr) == []
    bobs = Lsh(machine, "user")
    assert warnings(bobs("add", bobs.new_name(), "--", "/opt/bobs.sh").stderr) == []
    assert "everybody may change" in bobs.refused("add", "x", "--", "/opt/open.sh")
    for each in (lsh, bobs):
        each.clean()
    machine.run("rm", "-rf", "/opt/open.sh", "/opt/bobs.sh", "/opt/fine.sh", "/opt/open")


# As the real one answers, for these two commands.
SHELLCHECK = """#!/bin/sh
echo "$@" >/tmp/shellcheck-asked
case $(cat) in
*slow*) exec sleep 60 ;;
*broken*) echo nonsense; exit 3 ;;
*'rm $1'*) echo '[{"line":1,"column":4,"level":"warning","code":2086,"message":"Double quote"}]'; exit 1 ;;
*) echo '[]' ;;
esac
"""


def test_shellcheck_is_asked_where_it_is_installed(lsh: Lsh) -> None:
    machine = lsh.machine
    machine.write("/usr/local/bin/shellcheck", SHELLCHECK, mode=0o755)
    try:
        said = lsh("add", lsh.new_name(), "--json", "--", "rm $1")
        assert warnings(said.stderr) == ["lshctl: warning: shellcheck: SC2086: Double quote (column 4)"]
        assert said.json()["state"] == "manual"
        asked = machine.read("/tmp/shellcheck-asked")
        assert "--shell=sh" in asked and "$1" not in asked
        for command in ("echo fine", "echo broken", "echo slow"):
            assert lsh("add", lsh.new_name(), "--", command).stderr == ""
        assert lsh("add", lsh.new_name(), "--no-shell", "--", "echo", "rm $1").stderr == ""
    finally:
        machine.run("rm", "-f", "/usr/local/bin/shellcheck", "/tmp/shellcheck-asked")


def test_a_line_of_a_crontab_is_taken_and_told(lsh: Lsh) -> None:
    """It ran before: refused, it would run no more."""
    path, name = f"/tmp/{lsh.new_name()}/crontab", lsh.new_name()
    lsh.machine.write(path, f"# job: {name}\n0 2 * * * {BAD}\n0 3 * * * echo fine\n", user=lsh.user)
    said = lsh("import", "crontab", path)
    assert "where $NOWHERE is empty, this deletes /; it is taken all the same" in said.stderr
    assert said.stderr.count("taken all the same") == 1
    assert "unchanged" in lsh("import", "crontab", path).stdout
    assert warnings(lsh("set", name, "--timeout", "1h").stderr) == []
    lsh("refresh")
    lsh.refused("set", name, "--", f"{BAD} x")
