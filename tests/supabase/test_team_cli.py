"""lshctl secrets push, pull, diff and list --env as they are called: their words, their JSON, their exit statuses."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.supabase.stack import PROJECT, Stack

KEY = "correct horse battery staple"
VALUE = "hunter2-hunter2"


class Here:
    """A user's home with .env in the current folder."""

    def __init__(self, home: Path, stack: Stack) -> None:
        self.home = home
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SUPABASE", "XDG", "LSH"))},
            "HOME": str(home),
            "PYTHONPATH": str(PROJECT),
            "SUPABASE_URL": stack.url,
            "SUPABASE_SECRET_KEY": stack.secret_key,
            "LSH_SECRETS_KEY": KEY,
        }

    def __call__(self, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lsh_systemd.cli", "--user", "secrets", *argv]
        options = {"cwd": self.home, "env": self.env | env, "stdin": subprocess.DEVNULL}
        return subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload,no-any-return]

    def told(self, *argv: str, **env: str) -> str:
        done = self(*argv, **env)
        assert done.returncode == 0, done
        return done.stdout

    def refused(self, status: int, *argv: str, **env: str) -> str:
        done = self(*argv, **env)
        assert (done.returncode, done.stdout) == (status, ""), done
        assert done.stderr.startswith("lshctl: ") and len(done.stderr.splitlines()) <= 2, done
        assert VALUE not in done.stderr and KEY not in done.stderr
        return done.stderr

    def typed(self, *argv: str, words: list[str]) -> tuple[str, int]:
        """What a terminal shows, and the exit status, when these words are typed in answer to questions."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(self.home)
            argv = (sys.executable, "-m", "lsh_systemd.cli", "--user", "secrets", *argv)
            os.execve(sys.executable, argv, {**self.env, "LSH_SECRETS_KEY": ""})
        shown = b""
        while True:
            try:
                shown += (more := os.read(terminal, 1000))
            except OSError:  # its other end is closed
                break
            if more.endswith(b": ") and words:
                os.write(terminal, words.pop(0).encode() + b"\n")
        os.close(terminal)
        return shown.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def here(project: Stack, tmp_path: Path) -> Iterator[Here]:
    project.sql("DELETE FROM secrets")
    home = tmp_path / "home"
    home.mkdir()
    (home / ".env").write_text(f"DB_PASSWORD={VALUE}\n")
    yield Here(home, project)


def test_the_words_and_the_json(here: Here) -> None:
    assert here.told("push", "--env", "prod", "--dry-run") == "Would push '.env' as version 1 of prod.\n"
    assert here.told("push", "--env", "prod") == "Pushed '.env' as version 1 of prod.\n"
    assert json.loads(here.told("push", "--env", "prod", "--json")) == {"env": "prod", "version": 1, "changed": False}
    (here.home / ".env").write_text(f"DB_PASSWORD={VALUE}\x1b[31m\nNEW=1\n")
    assert here.told("diff", "--env", "prod").split() == "VARIABLE IN THE FILE DB_PASSWORD changed NEW added".split()
    shown = here.told("diff", "--env", "prod", "--show")
    assert rf"{VALUE}\x1b[31m" in shown and "\x1b" not in shown
    told = json.loads(here.told("diff", "--env", "prod", "--json"))
    assert told["changes"] == [{"name": "DB_PASSWORD", "change": "changed"}, {"name": "NEW", "change": "added"}]
    told = json.loads(here.told("diff", "--env", "prod", "--json", "--show"))
    assert told["changes"][1] == {"name": "NEW", "change": "added", "team": None, "file": "1"}
    here.told("push", "--env", "prod")
    told = json.loads(here.told("list", "--env", "prod", "--json"))
    assert (told["env"], told["variables"]) == ("prod", ["DB_PASSWORD", "NEW"])
    assert [each["version"] for each in told["versions"]] == [2, 1]
    assert all(set(each) == {"env", "version", "pushed_at", "pushed_by", "host"} for each in told["versions"])
    assert told["versions"][0]["pushed_at"].endswith("Z")
    without = here("list", "--env", "prod", LSH_SECRETS_KEY="")
    assert (without.returncode, without.stdout.splitlines()[0].split()) == (0, ["VERSION", "PUSHED", "BY", "HOST"])
    assert "DB_PASSWORD" not in without.stdout + without.stderr
    wrote = here.told("pull", "--env", "prod", "--version", "1", "--file", "old", "--json")
    assert json.loads(wrote) == {"env": "prod", "version": 1, "changed": True}
    assert (here.home / "old").read_text() == f"DB_PASSWORD={VALUE}\n"
    assert here.told("pull", "--env", "prod") == "'.env' is version 2 of prod already.\n"


def test_list_shows_what_is_left(here: Here, project: Stack) -> None:
    here.told("push", "--env", "prod")
    (here.home / ".env").write_text("A=1\n")
    here.told("push", "--env", "prod")
    project.sql("DELETE FROM secrets WHERE version = 2")
    done = here("list", "--env", "prod", "--json")
    assert "version 2 of prod has been there, and now the newest is 1" in done.stderr
    assert [each["version"] for each in json.loads(done.stdout)["versions"]] == [1]
    project.sql("DELETE FROM secrets")
    done = here("list", "--env", "prod", "--json")
    assert "now the newest is none" in done.stderr
    assert json.loads(done.stdout) == {"env": "prod", "variables": [], "versions": []}


def test_refusals_take_two_lines_and_change_nothing(here: Here, project: Stack) -> None:
    assert "there is no environment prod" in here.refused(2, "pull", "--env", "prod")
    assert "is not the name of an environment" in here.refused(2, "push", "--env", "../x")
    assert "missing option '--env'" in here.refused(2, "push")
    assert "nowhere to be found" in here.refused(2, "push", "--env", "prod", LSH_SECRETS_KEY="")
    assert "shorter than 12" in here.refused(2, "push", "--env", "prod", LSH_SECRETS_KEY="hunter2")
    assert "cannot read 'nope'" in here.refused(2, "push", "--env", "prod", "--file", "nope")
    (here.home / "bad").write_text(f"{VALUE}\n")
    assert "line 1 of 'bad' is not NAME=VALUE" in here.refused(2, "push", "--env", "prod", "--file", "bad")
    assert "cannot" in here.refused(1, "push", "--env", "prod", SUPABASE_SECRET_KEY="sb_secret_no")
    assert "cannot" in here.refused(1, "push", "--env", "prod", SUPABASE_URL="http://127.0.0.1:9")
    assert "--key-file needs --env" in here.refused(2, "list", "--key-file", "x")
    assert project.sql("SELECT count(*) FROM secrets") == "0"
    assert sorted(path.name for path in here.home.iterdir()) == [".env", "bad"]


def test_a_passphrase_is_asked_for_and_not_shown(here: Here, project: Stack) -> None:
    shown, status = here.typed("push", "--env", "prod", words=[KEY, "something else"])
    assert (status, "the two are not the same" in shown) == (2, True)
    shown, status = here.typed("push", "--env", "prod", words=[KEY, KEY])
    assert (status, "Pushed '.env' as version 1 of prod." in shown) == (0, True), shown
    shown, status = here.typed("pull", "--env", "prod", "--file", "new", words=["something else"])
    assert (status, "sealed with another key" in shown) == (1, True), shown
    shown, status = here.typed("pull", "--env", "prod", "--file", "new", words=[KEY])
    assert (status, KEY not in shown) == (0, True), shown
    assert (here.home / "new").read_text() == f"DB_PASSWORD={VALUE}\n"
