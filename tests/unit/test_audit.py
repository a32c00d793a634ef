"""What is told of a change: the difference, without what is secret, and never more than there is room for."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsh_systemd import audit
from lsh_systemd.audit import Actor, Change
from lsh_systemd.job import Job
from lsh_systemd.jobfile import from_plain
from lsh_systemd.store import Store

BOB = Actor(name="bob", uid=1000)
AN_ID = "0123456789abcdef" * 2


def job(**plain: Any) -> Job:
    return from_plain({"name": "x", "command": "true", **plain})


def sent(verb: str, changed: audit.Difference, actor: Actor = BOB, **fields: Any) -> Change | None:
    """The change as the journal gives it back: `logger --journald` takes a line for each field."""
    told = audit.fields(actor, verb, "x", changed, scope="system", change_id=AN_ID, **fields)
    assert all("\n" not in value for name, value in told.items() if name != "MESSAGE")
    return audit.from_entry(told, 7)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (job(), job(), {}),
        (job(), job(timeout="5m"), {"timeout": (None, "5min")}),
        (job(env={"A": "1", "B": "2"}), job(env={"B": "3", "C": "4"}),
         {"env.A": ("***", None), "env.B": ("***", "***"), "env.C": (None, "***")}),
        (job(stdin="a"), job(stdin="b"), {"stdin": ("***", "***")}),
        (job(tags=["a"]), job(tags=["a", "b"]), {"tags": (["a"], ["a", "b"])}),
        (None, job(), {"name": (None, "x"), "command": (None, "true")}),
        (job(), None, {"name": ("x", None), "command": ("true", None)}),
        (job(command="a" * 1000), job(), {"command": ('"' + "a" * 299 + "…", "true")}),
    ],
)  # fmt: skip
def test_the_difference(old: Job | None, new: Job | None, expected: dict[str, Any]) -> None:
    assert audit.difference(old, new) == expected


values = st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), max_size=400).map("s3cr3t{}".format)
jobs = st.builds(
    job,
    env=st.dictionaries(st.sampled_from("ABC"), values),
    stdin=values,
    command=st.sampled_from(["true", "x\ny", "é\u2028" * 999]),
    tags=st.lists(st.sampled_from("abc"), unique=True),
)


@given(jobs, jobs)
def test_no_secret_is_told_and_the_rest_comes_back(old: Job, new: Job) -> None:
    changed = audit.difference(old, new)
    assert "s3cr3t" not in json.dumps(changed)
    assert ("stdin" in changed) == (old.stdin != new.stdin)
    change = sent("set", changed)
    assert change is not None and len(change.difference) < 20_000
    told = change.to_json()["difference"]
    assert {name: (before, after) for name, (before, after) in told.items()} == changed


def test_of_very_much_the_names_are_left() -> None:
    many = {f"env.{number}_{'x' * 200}": (None, "***") for number in range(5000)}
    change = sent("add", many)
    assert change is not None and len(change.difference) < 20_000
    assert json.loads(change.difference)["…"] == [None, "4800 more"]


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5)))
def test_no_entry_breaks_it(fields: dict[str, str]) -> None:
    whole = audit.fields(BOB, "set", "x", {}, scope="system", change_id=AN_ID)
    for name in [*whole]:
        for value in fields.values():
            change = audit.from_entry(whole | {name: value}, 1)
            assert change is None or isinstance(change.to_json()["difference"], dict)


def test_a_job_is_followed_back_through_its_names() -> None:
    """a → b → c, then another a."""

    def change(at: int, job: str, verb: str = "set", before: str | None = None) -> Change:
        return Change(
            id=f"{at:032x}",
            at_usec=at,
            job=job,
            verb=verb,
            actor="bob",
            uid=1,
            via="cli",
            difference="{}",
            before=before,
        )

    store = Store(None)
    told = [
        change(1, "a", "add"), change(2, "a"), change(3, "b", "rename", "a"), change(4, "b"),
        change(5, "c", "rename", "b"), change(6, "a", "add"), change(7, "c"), change(8, "a", "rename", "c"),
    ]  # fmt: skip
    with store.transaction():
        store.put_changes(told)
        store.put_changes(told[:3])

    def at(**wanted: Any) -> list[int]:
        return [each.at_usec for each in store.changes(**wanted)]

    assert store.changes() == told[::-1]
    assert at(job="b") == [5, 4, 3, 2, 1]
    assert at(job="c") == [8, 7, 5, 4, 3, 2, 1]
    assert at(job="a") == [8, 7, 6, 5, 4, 3, 2, 1]
    assert at(job="a", since_usec=4, limit=2) == [8, 7]
    assert at(job="nobody") == []
