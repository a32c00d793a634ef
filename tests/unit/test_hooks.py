"""Hooks: which text is a job and which a command, who follows whom, and the ways that lead back."""

from typing import Any

import pytest

from lsh_systemd.cli.graph import tree
from lsh_systemd.errors import BadInput
from lsh_systemd.follow import Edge, cycle, edges
from lsh_systemd.hooks import files, helpers, renamed, waits_for
from lsh_systemd.job import Job
from lsh_systemd.jobfile import from_plain


def job(name: str = "x", **fields: Any) -> Job:
    return from_plain({"name": name, "command": "true", **fields})


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("backup", "job:backup"),
        ("Daily_Backup", "job:daily-backup"),
        ("job:Daily Backup", "job:daily-backup"),
        ("mail bob", "command:mail bob"),
        ("/bin/true", "command:/bin/true"),
        ("command:reboot", "command:reboot"),
        ("a;b", "command:a;b"),
        ("command:command:x", "command:command:x"),
    ],
)
def test_a_hook_is_a_job_or_a_command(given: str, kept: str) -> None:
    assert job(on_success=[given]).on_success == (kept,)
    assert job(on_failure=[kept]).on_failure == (kept,)


@pytest.mark.parametrize("given", ["", " ", "command:", "job:", "job: ", "a\0b c", "x" * 200_000 + " "])
def test_no_hook(given: str) -> None:
    with pytest.raises(BadInput):
        job(on_failure=[given])


@pytest.mark.parametrize("address", ["8080", "127.0.0.1:80", "[::1]:65535", "/run/x.sock", "@x"])
def test_sockets(address: str) -> None:
    assert waits_for(job(when_socket=[address])) == [f"socket {address}"]


@pytest.mark.parametrize(
    "address", ["", "0", "65536", "x", "::1:80", "1.2.3.4", "@", "@a b", "8080\n", "/a\nb", "%t/x"]
)
def test_no_sockets(address: str) -> None:
    with pytest.raises(BadInput):
        job(when_socket=[address])


def test_each_needs_its_own_files_and_no_others() -> None:
    assert (files(job()), helpers(job())) == ({}, ())
    assert list(files(job(after=["a"]))) == ["lsh-x.after.path"]
    assert list(files(job(when_path=["/a"], on_failure=["a b"]))) == ["lsh-x.path", "lsh-x.failure@.service"]
    assert helpers(job(on_failure=["a b"])) == ("lsh-failed@.service",)
    assert helpers(job(retries=1)) == ("lsh-failed@.service",)
    assert "lsh-after@.service" in helpers(job(after=["a"]))


def test_the_way_back_is_the_shortest() -> None:
    jobs = [job("a"), job("b", after=["a"]), job("c", after=["b"], on_failure=["d"]), job("d", on_success=["a"])]
    found = edges(jobs)
    assert Edge(first="c", then="d", kind="on-failure") in found
    assert cycle(found, "a") == ["a", "b", "c", "d", "a"]
    assert cycle(found, "c") == ["c", "d", "a", "b", "c"]
    assert cycle(edges([*jobs[:3], job("d"), job("e", after=["c", "d"])]), "e") == []
    assert cycle(edges([job("b", after=["a"], on_success=["a"])]), "a") == ["a", "b", "a"]


def test_a_new_name_is_taken_over_everywhere() -> None:
    before = job(after=["a", "b"], on_success=["a"], on_failure=["job:a", "command:a"])
    after = renamed(before, "a", "new")
    assert (after.after, after.on_success, after.on_failure) == (("new", "b"), ("job:new",), ("job:new", "command:a"))


def test_a_diamond_drawn() -> None:
    jobs = [job("b", after=["a"]), job("c", after=["a"]), job("d", after=["b", "c"]), job("e", after=["d"])]
    assert tree(edges(jobs)) == [
        "a",
        "├─ b (after)",
        "│  └─ d (after)",
        "│     └─ e (after)",
        "└─ c (after)",
        "   └─ d (after) …",
    ]
