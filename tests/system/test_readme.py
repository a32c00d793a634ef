"""The README's blocks of code: each is typed as it stands on a booted machine, or stands below with the reason."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.lsh import Lsh
from tests.system.machine import Machine
from tests.system.test_docs import commands
from tests.system.uml import only_on

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = [commands(block).strip("\n") for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", README, re.MULTILINE)]
# What a block begins with → why it is not typed here.
ELSEWHERE = {
    "make demo": "CI calls both",
    "(umask 077; openssl": "it wants a Supabase project: tests/supabase/test_team_cli.py",
    "apt install lsh-systemd-supabase": "it wants a Supabase project: tests/system/test_sync.py, test_package.py",
    "lshctl fleet hosts": "it wants a Supabase project: tests/supabase/test_fleet.py",
    "export SUPABASE_DB_URL": "it wants a Supabase project: tests/supabase/test_migrate.py",
    "UPDATE auth.users": "it is SQL for a Supabase project: tests/supabase/test_schema.py",
    "- lsh.systemd.lsh_job": "it is a task of Ansible's: tests/system/test_ansible.py",
    "ssh root@web1": "it wants another machine: tests/system/test_package.py calls the script",
    "lshctl -H root@web1": "it wants another machine: tests/system/test_ssh.py",
    "lshctl api enable": "machines share their host's ports: tests/system/test_api.py takes others",
}
# Lines of blocks that are typed all the same, and what they would want.
LINES_ELSEWHERE = {
    "lshctl queue promote JOB": "a run that waits: tests/system/test_queue.py",
    "lshctl alerts test ops": "Slack: tests/system/test_alerts.py",
    "lshctl fleet join": "a Supabase project: tests/system/test_sharing.py",
    "lshctl fleet enqueue": "the same",
    "lshctl fleet queue": "the same",
    "lshctl import crontab --dry-run": "cron: tests/system/test_import.py",
    "sudo lshctl import crontab --take-over": "the same",
    "sudo lshctl import crontab --user bob": "the same",
}
# What the README takes for granted: folders, users, a password store, jobs that others name.
BEFORE = r"""
sudo() { "$@"; }
pass() { echo hunter2; }
SLACK=https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ
id postgres >/dev/null 2>&1 || useradd --system postgres
mkdir -p /data /backups /srv/a /srv/b /srv/tmp /srv/jobs.d /srv/shop/shop /srv/work
cd /srv/work
for job in backup page-me; do lshctl add "$job" -- true; done >/dev/null
for secret in smtp restic-password; do echo x | lshctl secrets set $secret; done >/dev/null
echo 'vars: {}' >common.yaml
echo 'jobs: {}' >/srv/jobs.d/jobs.yaml
echo 'templates: {mine: {job: {command: "true"}}}' >my-templates.yaml
"""
AFTER = "rm -rf /srv/work /srv/shop /srv/jobs.d /etc/lsh/templates.d /etc/lsh/lsh.toml"
# What a block begins with → where it goes, and what is typed then. {} is the block; without an entry it is typed.
SETTINGS = {
    "lshctl metric": "cat >say <<'END'\n{}\nEND\nlshctl add told -- '. /srv/work/say'; lshctl start told --wait",
    "$ lshctl audit": "lshctl add 'Daily Backup' -- true\n{}",
    "# jobs.yaml": "cat >jobs.yaml <<'END'\n{}\nEND",
    "templates:": "cat >my-templates.yaml <<'END'\n{}\nEND\nlshctl templates add my-templates.yaml",
    "# shop/tasks.py": "cat >/srv/shop/shop/tasks.py <<'END'\n{}\nEND\n",
    "from lsh_systemd": "python3 - <<'END'\n{}\nEND",
    "[api]": "cat >/etc/lsh/lsh.toml <<'END'\n{}\nEND\nlshctl prune --dry-run",
}


def typed(block: str) -> str:
    """What a person would type of the block, as a script."""
    if block.startswith("$ "):  # a session: its commands, with the lines that they go on in
        block = "\n".join(found[0][2:] for found in re.finditer(r"^\$ (?:.*\\\n)*.*$", block, re.MULTILINE))
    lines = [line for line in block.splitlines() if not line.startswith(tuple(LINES_ELSEWHERE))]
    # Exit status 3: there is something to do.
    return "\n".join(
        f"{line.partition(' #')[0]} || [ $? -eq 3 ]"
        if re.match(r"lshctl (diff|apply) .*(dry-run|jobs\.d)", line)
        else line
        for line in lines
    )


def script(block: str) -> str:
    setting = next((setting for start, setting in SETTINGS.items() if block.startswith(start)), "{}")
    text, rest = typed(block), ""
    if block.startswith(("# jobs.yaml", "# shop/tasks.py")):  # a file, and what is done with it
        text, rest = re.split(r"\n\n(?=lshctl |cd )", block, maxsplit=1)
    return setting.replace("{}", text) + "\n" + typed(rest)


@pytest.mark.parametrize("start", [*ELSEWHERE, *SETTINGS])
def test_the_tables_are_about_the_readme(start: str) -> None:
    assert sum(block.startswith(start) for block in BLOCKS) == 1


@only_on("bookworm")
def test_every_block_works_as_it_stands(new_machine: Callable[..., Machine], suite: str) -> None:
    machine = new_machine(suite)  # limits, secrets and rules stay as the blocks have set them
    lsh = Lsh(machine, "system")
    machine.add_user("bob")
    here = [block for block in BLOCKS if not block.startswith(tuple(ELSEWHERE))]
    assert len(here) > 12
    failed = []
    for block in here:
        try:
            done = machine.run("bash", "-euo", "pipefail", "-c", BEFORE + script(block), input="hunter2", check=False)
        finally:
            lsh.clean()
            machine.run("sh", "-c", AFTER)
        if done.returncode:
            failed.append("\n".join([block.splitlines()[0], *(done.stdout + done.stderr).splitlines()[-8:]]))
    assert not failed, "\n\n".join(failed)
