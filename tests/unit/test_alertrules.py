"""Rules on the numbers that runs tell of themselves; what a rule is said to tell of; rules that follow a rename."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lsh_systemd import alertfile, notify, unit
from lsh_systemd.alertrule import Rule, beyond_of, from_plain, to_plain, told_of
from lsh_systemd.alerts import Alerts
from lsh_systemd.errors import BadInput
from lsh_systemd.job import Job
from lsh_systemd.jobs import Found, Jobs
from lsh_systemd.manager import Manager
from lsh_systemd.missed import Missed
from lsh_systemd.run import Run
from lsh_systemd.scope import Scope, unit_dir
from lsh_systemd.store import Store
from lsh_systemd.stuck import Going
from lsh_systemd.unitdir import UnitPair

RULE = Rule(name="ops", to=("json://x",))
RUN = Run(id="a" * 32, job="j", unit="lsh-j.service", result="success")


@pytest.mark.parametrize(
    ("bounds", "metrics", "words"),
    [
        (["items<100"], '{"items": 3}', "items is 3, below 100"),
        (["items<100"], '{"items": 100}', None),
        (["items<=100"], '{"items": 100}', "items is 100, 100 or less"),
        ([" errors > 0 "], '{"errors": 0.5}', "errors is 0.5, above 0"),
        (["errors>=2"], '{"errors": 2}', "errors is 2, 2 or more"),
        (["errors>=2"], '{"errors": 1}', None),
        (["loss>-1e3"], '{"loss": -2}', "loss is -2, above -1000.0"),
        (["items<100"], "{}", None),  # what is not told is not below
        (["a<1", "b>1", "c<1"], '{"a": 0, "b": 2, "c": 1}', "a is 0, below 1; b is 2, above 1"),
        ([], '{"items": 3}', None),
    ],
)
def test_a_number_beyond_its_bound(bounds: list[str], metrics: str, words: str | None) -> None:
    assert beyond_of(replace(RULE, metrics=tuple(bounds)), replace(RUN, metrics=metrics), None) == words


@pytest.mark.parametrize(
    ("result", "attempt", "told"),
    [
        ("success", 1, True),
        ("exit-code", 2, True),
        ("exit-code", 1, False),  # it is tried again
        ("missed", 1, False),  # how often is a number of ours
        (None, 1, False),
    ],
)
def test_of_which_runs_a_number_is_looked_at(result: str | None, attempt: int, told: bool) -> None:
    run = replace(RUN, result=result, attempt=attempt, metrics='{"missed": 3}')
    job = Job(name="j", command="true", retries=1)
    assert (beyond_of(replace(RULE, metrics=("missed>0",)), run, job) is not None) is told


@pytest.mark.parametrize("bound", ["items", "items<", "<3", "items=3", "items<>3", "1<x<3", "items<many", "message<3"])
def test_what_is_no_bound(bound: str) -> None:
    with pytest.raises(BadInput):
        replace(RULE, metrics=(bound,))


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ({}, ["failure", "missed", "stuck", "recovery"]),
        ({"on": [], "metrics": "items<100"}, ["items<100"]),
        ({"on": "oom", "slower_than": "1h", "p95_times": 2}, ["oom", "slower than 1h", "slower than 2 × p95"]),
        ({"on": [], "success_rate": 0.995, "digest": "daily"}, ["success below 99.5% of 20", "daily report"]),
    ],
)
def test_what_a_rule_tells_of(plain: dict[str, Any], words: list[str]) -> None:
    rule = from_plain({"name": "a", "to": "json://x", **plain})
    assert told_of(rule) == words
    assert from_plain(to_plain(rule)) == rule


def test_a_recovery_alone_would_never_come() -> None:
    with pytest.raises(BadInput, match="recovery"):
        replace(RULE, on=("recovery",), slower_than=timedelta(hours=1))


def test_rules_that_name_a_job_follow_its_new_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that names no such job is left as it is, with what was written by hand."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    alertfile.rename(Scope.USER, "old", "new")
    assert not alertfile.exists(Scope.USER)
    rules = [replace(RULE, jobs=("old", "x", "new")), replace(RULE, name="b", jobs=("ol*",)), replace(RULE, name="c")]
    alertfile.save(Scope.USER, rules)
    alertfile.rename(Scope.USER, "old", "new")
    assert [rule.jobs for rule in alertfile.load(Scope.USER)] == [("new", "x"), ("ol*",), ()]
    file = alertfile.path(Scope.USER)
    file.write_text(file.read_text() + "# by hand")
    alertfile.rename(Scope.USER, "old", "new")
    assert file.read_text().endswith("# by hand")


def test_what_waits_to_be_told_and_what_is_muted_follow_too() -> None:
    store = Store(None)
    alerts = Alerts(Scope.USER, store=store, jobs=Jobs(Scope.USER), rules=[RULE])
    add: dict[str, Any] = {
        "rule": "ops",
        "targets": 1,
        "event": "failure",
        "run_id": "a" * 32,
        "title": "t",
        "body": "b",
    }
    alerts.outbox.add(job="old", now_usec=1, **add)
    alerts.outbox.mute("job", "old", None)
    store.rename("old", "new")
    assert alerts.due(2) == []
    assert [(each.job, each.state) for each in alerts.outbox.history(0)] == [("new", "muted")]


def test_a_stuck_run_is_told_once_and_its_end_is_a_recovery() -> None:
    job = Job(name="j", command="true", stuck_after=timedelta(hours=1))
    pair = UnitPair(service="", timer="", enabled=True)
    jobs = Jobs(Scope.USER)
    found = Found(id="j", job=job, pair=pair, dir=jobs.lasting, transient=False, changed=False)
    going = [Going(found=found, run_id="a" * 32, seconds=3600.4, limit=job.stuck_after)]
    alerts = Alerts(Scope.USER, store=Store(None), jobs=jobs, rules=[RULE, replace(RULE, name="b", on=("failure",))])
    alerts.step(0)
    for _ in range(2):
        alerts.stuck(going, 10)  # the journal has not told of its start
        alerts.store.put([replace(RUN, result=None, host="h", started_usec=1)])
    (due,) = alerts.due(10)
    assert [(each.rule, each.event, each.run_id) for each in due.alerts] == [("ops", "stuck", "a" * 32)]
    assert due.alerts[0].title.endswith("j is stuck: it has run for 1h")
    assert "lshctl --user stop j" in due.alerts[0].body
    alerts.store.put([replace(RUN, started_usec=1, ended_usec=20)])
    alerts.stuck([replace(going[0], run_id="b" * 32)], 30)
    alerts.step(40)
    assert [each.event for each in alerts.due(40)[0].alerts] == ["stuck", "stuck", "recovery"]
    alerts.store.put([replace(RUN, id="c" * 32, result="success", started_usec=50, ended_usec=60)])
    alerts.stuck([replace(going[0], run_id="c" * 32)], 60)  # it has ended since
    assert len(alerts.due(60)[0].alerts) == 3


def test_what_waits_when_the_last_rule_goes_is_not_told_by_a_later_one() -> None:
    alerts = Alerts(Scope.USER, store=Store(None), jobs=Jobs(Scope.USER), rules=[RULE])
    alerts.step(0)
    alerts.store.put([replace(RUN, result="timeout", started_usec=5, ended_usec=6)])
    alerts.step(10)
    assert len(alerts.due(10)) == 1
    alerts.outbox.turn_off()
    alerts.step(20)
    assert alerts.due(20) == []
    assert [each.state for each in alerts.outbox.history(0)] == ["given-up"]


def ended_by(rule: Rule, *runs: Run) -> list[str]:
    """The events that the last of these runs is by the rule."""
    alerts = Alerts(Scope.USER, store=Store(None), jobs=Jobs(Scope.USER), rules=[rule])
    alerts.step(0)
    alerts.store.put(runs)
    alerts.step(10**6)
    return [each.event for due in alerts.due(10**6) for each in due.alerts if each.run_id == runs[-1].id]


def test_failures_and_skipped_runs_do_not_hide_what_is_usual() -> None:
    def run(number: int, result: str, seconds: int = 1) -> Run:
        times: dict[str, Any] = {"started_usec": number, "ended_usec": number, "duration_usec": seconds * 10**6}
        return replace(RUN, id=f"{number:032x}", result=result, **times)

    usual = [run(number, "success") for number in range(1, 11)]
    slow = replace(RULE, on=(), p95_times=2)
    assert ended_by(slow, *usual, *(run(n, "timeout") for n in range(100, 400)), run(999, "success", 3)) == ["slow"]
    rare = replace(RULE, on=(), success_rate=0.9, window=10)
    failures = [run(number, "timeout") for number in range(11, 14)]
    skipped = [run(number, "skipped") for number in range(100, 400)]
    assert ended_by(rare, *usual, *failures, *skipped, run(999, "success")) == []  # told at the second of them
    assert ended_by(rare, *usual, *skipped, run(998, "timeout"), run(999, "timeout")) == ["success-rate"]


@pytest.mark.parametrize(
    "told", ["s3cret/word", "s3cret%2Fword", "t0k3n-in-query", "json://u:s3cret%2Fword@h/?t=t0k3n-in-query"]
)
def test_an_error_repeats_nothing_secret_of_the_url(told: str) -> None:
    shown = notify.without("json://u:s3cret%2Fword@h/?t=t0k3n-in-query&x=1", f"refused: {told}\x1b[2J")
    assert "s3cret" not in shown and "t0k3n" not in shown and "\x1b" not in shown
    assert shown.startswith("refused: ")


def test_a_systemd_that_does_not_answer_keeps_nothing_from_being_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CONFIG_HOME", "DATA_HOME", "RUNTIME_DIR"):
        monkeypatch.setenv(f"XDG_{name}", str(tmp_path / name))
    folder = unit_dir(Scope.USER)
    (folder / "timers.target.wants").mkdir(parents=True)
    job = Job(name="j", command="true", schedule=("0 3 * * *",))
    files = unit.render(job, scope=Scope.USER, recorder="/bin/true", now=datetime.now(UTC), local_zone="UTC")
    for file, text in files.items():
        (folder / file).write_text(text)
    (folder / "timers.target.wants/lsh-j.timer").symlink_to(folder / "lsh-j.timer")
    monkeypatch.setenv("PATH", str(tmp_path))  # without systemd-analyze
    minute = 60_000_000
    assert Missed(Scope.USER, Manager(Scope.USER)).look(Store(None), Jobs(Scope.USER), [RULE], 5) == 5 + minute
