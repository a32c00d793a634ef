"""A weekly job keeps the team's secrets in a real Supabase, with its keys from credentials."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from lsh_systemd.audit import Actor
from lsh_systemd.remote import Remote, Target
from lsh_systemd.scope import Scope
from lsh_systemd.teamfiles import Notes
from lsh_systemd.teamsecrets import Team
from tests.supabase.project import migrated
from tests.supabase.stack import Stack
from tests.system.booted import eventually
from tests.system.lsh import Lsh
from tests.system.uml import only_on

pytestmark = only_on("bookworm")
KEY = "wC2cM0c0yZ5kq0Q2v5cQqA9b1nq1m2n3"
VALUE = "hunter2-hunter2"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Machines share this host's network: what listens on its loopback listens on theirs."""
    with migrated() as stack:
        yield stack


@pytest.mark.parametrize("scope", ["system"], indirect=True)
def test_a_weekly_job_pushes_an_environment_file(
    lsh: Lsh, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env, home = f"prod-{lsh.scope}", "/root" if lsh.user == "root" else "/home/bob"
    config = "/etc/lsh" if lsh.user == "root" else "/home/bob/.config/lsh"
    lsh.machine.write(f"{config}/lsh.toml", f'[supabase]\nurl = "{stack.url}"\n', user=lsh.user)
    lsh.machine.write(f"{home}/app/.env", f"DB_PASSWORD={VALUE}\n", user=lsh.user)
    lsh("secrets", "set", "supabase-key", input=stack.secret_key)
    lsh("secrets", "set", "lsh-secrets-key", input=f"{KEY}\n")
    weekly = ("--schedule", "0 2 * * 0", "--secret", "lsh-secrets-key", "--secret", "supabase-key")
    again = ("--retries", "3", "--no-retry-exit", "2")
    where = ("--working-dir", f"{home}/app", "--", f"lsh push --env {env}")
    job = lsh.add(*weekly, *again, *where, name=f"rotate-secrets-{lsh.scope}")
    told = next(each for each in lsh.json("list") if each["id"] == job)
    due = datetime.fromisoformat(told["next"]).astimezone()
    assert (due.isoweekday(), due.hour, due.minute) == (7, 2, 0)

    run = lsh.run(job)
    assert (run["result"], run["output"]) == ("success", f"Pushed '.env' as version 1 of {env}.\n")
    assert lsh.run(job)["output"] == f"'.env' is version 1 of {env} already.\n"
    lsh.machine.write(f"{home}/app/.env", f"DB_PASSWORD={VALUE}2\nNEW=1\n", user=lsh.user)
    stack.stop("postgrest")
    try:
        run = lsh.run(job, check=False)
    finally:
        stack.start("postgrest")
    assert run["result"] == "exit-code"
    assert "cannot read secrets" in run["output"]
    retry = eventually(
        lambda: [run for run in lsh.runs(job) if run["result"] == "success" and run["attempt"] > 1], timeout=40
    )
    assert retry[0]["output"] == f"Pushed '.env' as version 2 of {env}.\n"
    host = lsh.machine.run("hostname").stdout.strip()
    told = stack.sql(f"SELECT version, pushed_by, host FROM secrets WHERE env = '{env}' ORDER BY version")
    assert told == f"1|{lsh.user}|{host}\n2|{lsh.user}|{host}"

    # By hand, where the scope's own secret is the key; and what another machine makes of it.
    by_hand = {"SUPABASE_URL": stack.url, "SUPABASE_SECRET_KEY": stack.secret_key}
    listed = lsh("secrets", "list", "--env", env, "--json", env=by_hand).json()
    assert listed["variables"] == ["DB_PASSWORD", "NEW"]
    old = ("--env", env, "--version", "1", "--file", f"{home}/old")
    lsh.machine.run("lsh", "pull", *old, user=lsh.user, env=by_hand)
    assert lsh.machine.run("stat", "-c", "%a %U", f"{home}/old").stdout == f"600 {lsh.user}\n"
    assert lsh.machine.read(f"{home}/old") == f"DB_PASSWORD={VALUE}\n"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    remote = Remote(Target(url=stack.url, key=stack.secret_key))
    alice = Team(remote, Notes(Scope.USER, stack.url), lambda new: KEY.encode())
    alice.pull(env, tmp_path / ".env")
    assert (tmp_path / ".env").read_text() == f"DB_PASSWORD={VALUE}2\nNEW=1\n"

    (tmp_path / ".env").write_text(f"DB_PASSWORD={VALUE}3\n")
    alice.push(env, tmp_path / ".env", Actor(name="alice", uid=1000), "laptop")
    lsh.machine.write(f"{home}/app/.env", f"DB_PASSWORD={VALUE}4\n", user=lsh.user)
    run = lsh.run(job, check=False)
    assert (run["result"], run["exit_status"]) == ("exit-code", 2)
    assert f"version 3 of {env} was pushed by 'alice', and '.env' came from version 2" in run["output"]

    assert next(each["difference"] for each in lsh.json("audit") if each["verb"] == "secrets push") == {env: [1, 2]}
    units = lsh.read(f"lsh-{job}.service") + lsh.systemctl("show", f"lsh-{job}.service").stdout
    everything = units + lsh.machine.journal_text() + stack.sql("SELECT * FROM secrets") + str(lsh.json("audit"))
    for secret in (VALUE, KEY, stack.secret_key, "DB_PASSWORD"):
        assert secret not in everything
