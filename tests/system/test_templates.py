"""lshctl add --template: what is asked for is never more than a value; those that lshctl brings do their work."""

import json
from collections.abc import Iterator

import pytest

from tests.system.lsh import Lsh
from tests.system.test_apply import path


def added(lsh: Lsh, template: str, *values: str) -> str:
    name = lsh.new_name()
    lsh("add", name, "--template", template, *(word for value in values for word in ("--set", value)))
    return name


def ends(lsh: Lsh, template: str, *values: str) -> tuple[str, str]:
    """How a job of that template ends, and its output."""
    run = lsh.run(added(lsh, template, *values), check=False)
    return run["result"], run["output"]


def test_a_template_becomes_a_job_and_no_value_a_command(lsh: Lsh) -> None:
    folder, n = lsh.new_path(), lsh.new_name()
    lsh.machine.write(f"{folder}/in/it's $(touch canary).log", "", user=lsh.user)
    lsh.machine.run("touch", "-d", "2020-01-01", f"{folder}/in/it's $(touch canary).log", user=lsh.user)
    lsh.machine.write(f"{folder}/; touch canary; #/x.log", "", user=lsh.user)
    shown = lsh("add", "--template", "log-cleanup", "--dry-run").stdout
    assert "find /var/log -name" in shown and "OnCalendar=Sun *-*-* 03:00:00" in shown
    said = lsh.refused("add", "--template", "log-cleanup", "--set", "days=; touch canary", n)
    assert "days is a whole number" in said
    for at, place in enumerate((f"{folder}/in", f"{folder}/; touch canary; #")):
        lsh("add", f"{n}-{at}", "--template", "log-cleanup", "--set", f"folder={place}", "--working-dir", folder)
        assert lsh.run(f"{n}-{at}")["result"] == "success"
    assert lsh.machine.run("find", folder, "-type", "f").stdout == f"{folder}/; touch canary; #/x.log\n"
    mine = path(lsh, "templates: {mine: {parameters: {v: {}}, job: {command: 'echo {{ v }}'}}}", name=f"{n}.yaml")
    lsh("templates", "add", mine)
    try:
        lsh("add", n, "--template", "mine", "--set", "v=$HOME;id")
        assert lsh.run(n)["output"] == "$HOME;id\n"
    finally:
        kept = "/etc/lsh" if lsh.scope == "system" else "/home/bob/.config/lsh"
        lsh.machine.run("rm", f"{kept}/templates.d/{n}.yaml")


def test_shipped_templates_do_their_work(lsh: Lsh) -> None:
    folder = lsh.new_path()
    for name, text in {"in/one": "1\n", "in/two words": "2\n", "old/session": "x", "new/session": "x"}.items():
        lsh.machine.write(f"{folder}/{name}", text, user=lsh.user)
    lsh.machine.run("mkdir", f"{folder}/done", user=lsh.user)
    lsh.machine.run("touch", "-d", "2020-01-01", f"{folder}/old/session", user=lsh.user)
    lsh.machine.run("sh", "-c", 'sha256sum "$0"/new/* >"$0/sums"', folder, user=lsh.user)

    where = (f"folder={folder}/in", f"done={folder}/done")
    assert ends(lsh, "import-files", *where, "program=/bin/cat") == ("success", "1\n2\n")
    assert (
        lsh.machine.run("ls", f"{folder}/in", f"{folder}/done").stdout
        == f"{folder}/done:\none\ntwo words\n\n{folder}/in:\n"
    )
    assert ends(lsh, "session-cleanup", f"folder={folder}", "minutes=60000")[0] == "success"
    assert lsh.machine.run("find", folder, "-name", "session").stdout == f"{folder}/new/session\n"
    assert ends(lsh, "file-integrity", f"manifest={folder}/sums") == ("success", "")
    lsh.machine.write(f"{folder}/new/session", "y", user=lsh.user)
    result, output = ends(lsh, "file-integrity", f"manifest={folder}/sums")
    assert result == "exit-code" and f"{folder}/new/session: FAILED" in output
    assert ends(lsh, "disk-space", "percent=100")[0] == "success"


@pytest.fixture
def secret(lsh: Lsh) -> Iterator[str]:
    name = f"{lsh.new_name()}-pass"
    lsh("secrets", "set", name, input="correct horse")
    yield name
    lsh.clean()
    lsh("secrets", "remove", name)


@pytest.mark.parametrize("scope", ["system"], indirect=True)
def test_templates_call_the_real_tools(lsh: Lsh, secret: str) -> None:
    folder = lsh.new_path()
    lsh.machine.write(f"{folder}/in/two words", "2\n")
    env = {"RESTIC_REPOSITORY": f"{folder}/restic", "RESTIC_PASSWORD": "correct horse"}
    env |= {"BORG_REPO": f"{folder}/borg", "BORG_PASSPHRASE": "correct horse", "BORG_BASE_DIR": f"{folder}/base"}

    def call(*argv: str) -> str:
        return lsh.machine.run(*argv, env=env).stdout

    call("restic", "init", "--no-cache")
    common = (f"paths={folder}/in", f"secret={secret}")
    backup = added(lsh, "restic-backup", f"repository={folder}/restic", f"cache={folder}/cache", *common)
    assert [lsh.run(backup)["result"] for _ in range(3)] == ["success"] * 3
    kept = json.loads(call("restic", "snapshots", "--json", "--no-cache"))
    assert len(kept) in (1, 2)  # of a day the last; of all, where restic is newer, the first, too
    assert call("restic", "dump", "--no-cache", "latest", f"{folder}/in/two words") == "2\n"
    call("borg", "init", "--encryption=repokey")
    result, said = ends(lsh, "borg-backup", f"repository={folder}/borg", f"base={folder}/base", *common)
    assert result == "success", said
    (archive,) = call("borg", "list", "--short").split()
    assert f"{folder}/in/two words".lstrip("/") in call("borg", "list", "--short", f"::{archive}")
    lsh("secrets", "rotate", secret, input="wrong horse")
    assert lsh.run(backup, check=False)["result"] == "exit-code"

    for template, source in (("data-sync", "source"), ("log-shipping", "folder")):
        assert ends(lsh, template, f"{source}={folder}/in", f"target={folder}/{template}")[0] == "success"
        assert call("cat", f"{folder}/{template}/two words") == "2\n"
    lsh.machine.write(f"{folder}/app/log", "a line\n")
    lsh.machine.write(f"{folder}/rotate.conf", f"{folder}/app/log {{\n    size 1\n    rotate 2\n}}\n")
    assert ends(lsh, "log-rotation", f"config={folder}/rotate.conf") == ("success", "")
    assert call("ls", f"{folder}/app") == "log.1\n"
    assert ends(lsh, "journal-cleanup", "keep=30d", "size=2G")[0] == "success"
    assert ends(lsh, "fstrim")[0] == "success"
