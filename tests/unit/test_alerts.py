"""Rules of alerts: what they take and refuse, what they make of a run, and when they are silent."""

import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsh_systemd import alertfile, alerttext, notify
from lsh_systemd.alertrule import (
    GIVE_UP_AFTER,
    Rule,
    failure_of,
    from_plain,
    next_digest,
    pause_after,
    quiet_until,
    rate_below,
    shown,
    slowness_of,
    to_plain,
    with_secrets,
)
from lsh_systemd.alerts import Alerts
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.job import Job
from lsh_systemd.jobs import Found, Jobs
from lsh_systemd.missed import unanswered
from lsh_systemd.outbox import Target
from lsh_systemd.retry import RESULTS, will_retry
from lsh_systemd.run import Run
from lsh_systemd.scope import Scope
from lsh_systemd.store import Store
from lsh_systemd.unitdir import UnitPair

RULE = Rule(name="ops", to=("json://x",))
RUN = Run(id="a" * 32, job="j", unit="lsh-j.service", host="h", result="success", started_usec=10, ended_usec=20)
MINUTE = 60_000_000


def run(result: str | None, seconds: float = 1, **fields: Any) -> Run:
    return replace(RUN, result=result, duration_usec=round(seconds * 1e6), **fields)


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ({"to": "json://x"}, "no name"),
        ({"name": "a"}, "no to"),
        ({"name": "a b", "to": "json://x"}, "name of a rule"),
        ({"name": "a", "to": []}, "nowhere"),
        ({"name": "a", "to": "no url"}, "scheme"),
        ({"name": "a", "to": "json://x\ny"}, "invisible"),
        ({"name": "a", "to": 7}, "list of texts"),
        ({"name": "a", "to": "json://x", "on": ["disaster"]}, "no event"),
        ({"name": "a", "to": "json://x", "on": []}, "nothing to tell"),
        ({"name": "a", "to": "json://x", "quiet": "22-7"}, "quiet hours"),
        ({"name": "a", "to": "json://x", "digest": "hourly"}, "no digest"),
        ({"name": "a", "to": "json://x", "digest": "daily", "digest_at": "24:00"}, "time of day"),
        ({"name": "a", "to": "json://x", "p95_times": 0.5}, "between 1 and 1000"),
        ({"name": "a", "to": "json://x", "success_rate": 2}, "success rate"),
        ({"name": "a", "to": "json://x", "window": True}, "number"),
        ({"name": "a", "to": "json://x", "grace": "0"}, "1s or more"),
        ({"name": "a", "to": "json://x", "gather": "2 years"}, "year"),
        ({"name": "a", "to": "json://x", "colour": "red"}, "no setting"),
    ],
)
def test_a_rule_that_makes_no_sense(plain: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        from_plain(plain)


def test_a_rule_comes_back_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    rules = [
        RULE,
        Rule(
            name="b", to=("slack://{secret:x}", "json://y"), on=(), jobs=("a-*",), tags=("t",), groups=("g",),
            slower_than=timedelta(hours=1), p95_times=1.5, success_rate=0.9, window=7, grace=timedelta(seconds=1),
            gather=timedelta(), at_most_every=timedelta(hours=2), quiet="22:00-07:00", digest="weekly",
            digest_at="08:30",
        ),
    ]  # fmt: skip
    assert [from_plain(to_plain(rule)) for rule in rules] == rules
    alertfile.save(Scope.USER, rules)
    assert alertfile.load(Scope.USER) == rules
    assert alertfile.path(Scope.USER).stat().st_mode & 0o777 == 0o600
    for text, words in [("rule = 1", "rule"), ("x = 1", "x"), ("[[rule]]\nname = 'a'", "no to"), ("[", "cannot read")]:
        alertfile.path(Scope.USER).write_text(text)
        with pytest.raises(BadInput, match=words):
            alertfile.load(Scope.USER)


@pytest.mark.parametrize(
    ("rule", "covered"),
    [
        ({}, True),
        ({"jobs": ("back*",)}, True),
        ({"jobs": ("x", "backup")}, True),
        ({"jobs": ("x",)}, False),
        ({"tags": ("db", "web")}, True),
        ({"groups": ("g",)}, True),
        ({"tags": ("db",), "groups": ("other",)}, False),
    ],
)
def test_which_jobs_it_is_about(rule: dict[str, Any], covered: bool) -> None:
    job = Job(name="backup", command="true", tags=("db",), groups=("g",))
    assert replace(RULE, **rule).covers("backup", job) is covered


@pytest.mark.parametrize(
    ("on", "result", "event"),
    [
        (("failure",), "exit-code", "failure"),
        (("failure", "timeout"), "timeout", "timeout"),
        (("timeout",), "exit-code", None),
        (("oom",), "oom-kill", "oom"),
        (("failure",), "lost", "failure"),
        (("failure",), "missed", None),
        (("missed",), "missed", "missed"),
        (("failure",), "success", None),
        (("failure",), "skipped", None),
        (("failure",), None, None),
    ],
)
def test_what_a_failure_is(on: tuple[str, ...], result: str | None, event: str | None) -> None:
    assert failure_of(replace(RULE, on=on), run(result), None) == event


@pytest.mark.parametrize(
    ("options", "ended", "again"),
    [
        ({"retries": 2}, {"attempt": 2}, True),
        ({"retries": 2}, {"attempt": 3}, False),
        ({}, {}, False),
        ({"retries": 1}, {"result": "lost"}, False),
        ({"retries": 1, "no_retry_exit": (64,)}, {"exit_status": 64}, False),
        ({"retries": 1, "retry_on": ("timeout",)}, {}, False),
        ({"retries": 1, "retry_on": ("timeout",)}, {"result": "timeout"}, True),
        ({"retries": 1, "retry_on": ("signal",)}, {"result": "core-dump"}, True),
        ({"retries": 1, "retry_on": ("signal:SIGTERM",)}, {"result": "signal", "signal": "TERM"}, True),
        ({"retries": 1, "retry_on": ("signal:TERM",)}, {"result": "signal", "signal": "KILL"}, False),
    ],
)
def test_a_retry_is_waited_for(options: dict[str, Any], ended: dict[str, Any], again: bool) -> None:
    job = Job(name="j", command="true", **options)
    failed = run(ended.pop("result", "exit-code"), **ended)
    assert will_retry(job, failed) is again
    assert failure_of(replace(RULE, on=("failure",)), failed, job) == (None if again else "failure")


def test_every_result_may_be_retried_on() -> None:
    assert all(will_retry(Job(name="j", command="x", retries=1), run(result)) for result in RESULTS)


def test_slow_runs() -> None:
    usual = [run("success", 1)] * 19 + [run("success", 2)]
    fixed, by_p95 = replace(RULE, slower_than=timedelta(seconds=3)), replace(RULE, p95_times=2)
    assert slowness_of(fixed, run("success", 3.5), []) == "longer than 3s"
    assert slowness_of(fixed, run("success", 3), []) is None
    assert "2 times" in (slowness_of(by_p95, run("success", 2.1), usual) or "")
    assert slowness_of(by_p95, run("success", 1.9), usual) is None
    assert slowness_of(by_p95, run("success", 99), usual[:4]) is None  # of so few there is no telling
    assert slowness_of(by_p95, run("timeout", 99), usual) is None  # a failure is told as such


def test_success_rate() -> None:
    rule = replace(RULE, success_rate=0.8, window=5)
    good, bad, skipped = run("success"), run("exit-code"), run("skipped")
    assert rate_below(rule, [bad, bad, good, skipped, good, good]) == pytest.approx(0.6)
    assert rate_below(rule, [bad, good, good, good, good, bad, bad]) is None
    assert rate_below(rule, [bad] * 4) is None


@pytest.mark.parametrize(
    ("quiet", "now", "until"),
    [
        ("22:00-07:00", "2027-01-01T23:30", "2027-01-02T07:00"),
        ("22:00-07:00", "2027-01-02T06:59", "2027-01-02T07:00"),
        ("22:00-07:00", "2027-01-02T07:00", "2027-01-02T07:00"),
        ("22:00-07:00", "2027-01-02T21:59", "2027-01-02T21:59"),
        ("12:00-13:30", "2027-01-02T12:00", "2027-01-02T13:30"),
        ("12:00-13:30", "2027-01-02T11:59", "2027-01-02T11:59"),
    ],
)
def test_quiet_hours(quiet: str, now: str, until: str) -> None:
    moment = datetime.fromisoformat(now)  # naive on purpose
    assert quiet_until(replace(RULE, quiet=quiet), moment) == datetime.fromisoformat(until)


def test_digests_come_at_their_time() -> None:
    friday = datetime(2027, 1, 1, 7)  # noqa: DTZ001
    daily, weekly = replace(RULE, digest="daily"), replace(RULE, digest="weekly", digest_at="06:00")
    assert next_digest(daily, friday) == datetime(2027, 1, 2, 7)  # noqa: DTZ001
    assert next_digest(daily, friday.replace(hour=6)) == friday
    assert next_digest(weekly, friday) == datetime(2027, 1, 4, 6)  # noqa: DTZ001


def test_pauses_grow_and_end() -> None:
    pauses = [pause_after(tries) for tries in range(1, 60)]
    assert pauses[:3] == [timedelta(minutes=1), timedelta(minutes=2), timedelta(minutes=4)]
    assert pauses == sorted(pauses) and pauses[-1] == timedelta(hours=1) < GIVE_UP_AFTER


@given(st.text(min_size=1))
def test_a_secret_cannot_leave_its_place_in_a_url(value: str) -> None:
    filled = with_secrets("json://user:{secret:x}@host/path", {"x": value})
    assert filled.startswith("json://user:") and filled.endswith("@host/path")
    inside = filled.removeprefix("json://user:").removesuffix("@host/path")
    assert not {*inside} & {*":/@?#&"} and unquote(inside) == value
    assert with_secrets("{secret:x}", {"x": value}) == value


def test_what_is_shown_of_a_url() -> None:
    assert shown("mailto://me:password@host") == "mailto://…"
    assert shown("{secret:slack}") == "{secret:slack}"


@given(st.binary(max_size=5000), st.text(max_size=50))
def test_messages_are_short_and_harmless(output: bytes, said: str) -> None:
    body = alerttext.body_of(run("exit-code", output=output, message=said), scope=Scope.SYSTEM)
    assert "@everyone" not in body and "\x1b" not in body and len(body) < 10_000
    assert "\nlshctl --system runs --id aaaaaaaaaaaa" in body


def test_many_alerts_are_one_message() -> None:
    title, body = alerttext.together([(f"[h] job-{n} failed", f"body {n}") for n in range(40)])
    assert title == "[h] 40 alerts: job-0 failed; job-1 failed; …"
    assert "body 2" in body and "body 3" not in body and "- [h] job-27 failed" in body and "and 12 more" in body
    assert alerttext.together([("t", "b")]) == ("t", "b")


def test_what_answers_for_an_expected_time() -> None:
    times = [n * MINUTE for n in range(1, 6)]

    def after(*runs: tuple[float, float | None, str]) -> list[int]:
        made = [
            run("success", started_usec=round(at * MINUTE), ended_usec=end and round(end * MINUTE), trigger=trigger)
            for at, end, trigger in runs
        ]
        return [each // MINUTE for each in unanswered(times, made, 9 * MINUTE)]

    assert after() == [1, 2, 3, 4, 5]
    assert after((0.5, 0.6, "timer")) == [1, 2, 3, 4, 5]
    assert after((1, 1.1, "timer"), (3.5, 3.6, "timer")) == [2, 4, 5]
    assert after((1, 3.5, "timer")) == [4, 5]
    assert after((2, None, "timer")) == [1]
    assert after((4.5, 4.6, "catch-up")) == [5]
    assert after((4.5, 4.6, "queue"), (5, 5.1, "timer")) == []
    assert [each // MINUTE for each in unanswered(times, [run("missed", started_usec=MINUTE)], 9 * MINUTE)] == [
        1,
        2,
        3,
        4,
        5,
    ]


class _NoJobs(Jobs):
    def __init__(self) -> None:
        super().__init__(Scope.USER)

    def find(self, name: str) -> Found | None:
        return None

    def all(self) -> list[Found]:
        return []


def test_news_are_noted_with_the_run_and_told_once() -> None:
    """However often a run is written again; nothing is noted while there are no rules."""
    store = Store(None)
    store.put([replace(RUN, id="0" * 32, result="timeout")])
    alerts = Alerts(Scope.USER, store=store, jobs=_NoJobs(), rules=[replace(RULE, gather=timedelta())])
    alerts.step(5)
    assert alerts.due(100) == []
    failed = replace(RUN, result="exit-code", exit_status=3)
    store.put([replace(failed, result=None)])
    assert store.query("SELECT * FROM alert_news") == []
    for _ in range(2):
        store.put([failed])
        assert len(store.query("SELECT * FROM alert_news")) <= 1
        alerts.step(100)
    (due,) = alerts.due(100)
    assert [each.title for each in due.alerts] == ["[h] j failed: exit-code (exit status 3)"]
    store.put([replace(failed, result="lost")])  # looked at again, and known
    store.put([replace(RUN, id="b" * 32, started_usec=30)])
    alerts.step(100)
    ((one,),) = [alerts.due(100)]
    assert [each.event for each in one.alerts] == ["failure", "recovery"]
    store.put([replace(failed, id="c" * 32, started_usec=1, ended_usec=2)])  # before there were rules
    alerts.step(100)
    assert len(alerts.due(100)[0].alerts) == 2
    alerts.outbox.mute("job", "j", None)
    assert alerts.due(100) == []
    assert {each.state for each in alerts.outbox.history(0)} == {"muted"}
    alerts.outbox.turn_off()
    store.put([replace(failed, id="d" * 32)])
    assert store.query("SELECT * FROM alert_news") == []


def _alerts(rule: Rule, *runs: Run) -> Alerts:
    """Alerts that have taken these runs in at 100 s (µs since 1970)."""
    alerts = Alerts(Scope.USER, store=Store(None), jobs=_NoJobs(), rules=[rule])
    alerts.step(0)
    alerts.store.put(runs)
    alerts.step(100_000_000)
    return alerts


@pytest.mark.parametrize(
    ("rule", "target", "due"),
    [
        ({}, Target(), 105),  # gathering
        ({"gather": timedelta()}, Target(), 100),
        ({}, Target(sent_usec=90_000_000), 150),  # a minute from the last message
        ({"at_most_every": timedelta(hours=1)}, Target(sent_usec=90_000_000), 3690),
        ({}, Target(tries=3, next_usec=300_000_000), 300),
        ({}, Target(sent_usec=2**60), 160),  # the clock was set back since
        ({}, Target(tries=9, next_usec=2**60), 3700),
    ],
)
def test_when_a_message_is_due(rule: dict[str, Any], target: Target, due: int) -> None:
    alerts = _alerts(replace(RULE, **rule), run("exit-code"))
    alerts.outbox.set_target("ops", 0, target)
    assert [each.at_usec // 1_000_000 for each in alerts.due(100_000_000)] == [due]


def test_a_low_success_rate_is_told_once_until_it_has_been_better() -> None:
    rule = replace(RULE, on=(), success_rate=0.8, window=5)
    results = ["success"] * 5 + ["exit-code"] * 5 + ["success"] * 5 + ["exit-code"] * 2
    runs = [run(result, id=f"{n:032x}", started_usec=n + 1) for n, result in enumerate(results)]
    (due,) = _alerts(rule, *runs).due(0)
    assert [(each.event, int(each.run_id or "", 16)) for each in due.alerts] == [
        ("success-rate", 6),
        ("success-rate", 16),
    ]


def test_a_digest_is_one_however_many_were_missed() -> None:
    rule = replace(RULE, on=(), digest="daily", gather=timedelta())
    alerts = _alerts(rule, run("exit-code"))
    day = 86_400_000_000
    assert alerts.due(0) == [] and 0 < (alerts.next_digest() or 0) <= 100_000_000 + day
    alerts.store.put([run("exit-code", started_usec=9 * day, ended_usec=9 * day), run("success", id="b" * 32)])
    for _ in range(2):
        alerts.step(9 * day + day // 2)
    ((told,),) = [due.alerts for due in alerts.due(10 * day)]
    assert told.title.endswith("daily report: 1 jobs, 1 runs, 1 failures")
    assert "j: 1 runs, 0.0% successful" in told.body and told.body.endswith("1 exit-code")
    assert 9 * day + day // 2 < (alerts.next_digest() or 0) <= 10 * day + day // 2


def test_a_last_attempt_that_is_known_late_is_told() -> None:
    """The journal may tell of the end first, and then which attempt it was."""
    job = Job(name="j", command="true", retries=1)

    class OneJob(_NoJobs):
        def find(self, name: str) -> Found | None:
            pair = UnitPair(service="", timer="", enabled=True)
            return Found(id=name, job=job, pair=pair, dir=self.lasting, transient=False, changed=False)

    alerts = Alerts(Scope.USER, store=Store(None), jobs=OneJob(), rules=[RULE])
    alerts.step(0)
    for attempt, told in ((1, 0), (2, 1)):
        alerts.store.put([run("exit-code", attempt=attempt)])
        alerts.step(10)
        assert len(alerts.due(10)) == told


def test_without_apprise_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    assert not notify.is_there()
    with pytest.raises(LshError, match="not installed") as caught:
        notify.check("json://x")
    assert "python3-apprise" in (caught.value.hint or "")


def test_a_clock_that_was_set_back_does_not_hide_what_comes() -> None:
    alerts = Alerts(Scope.USER, store=Store(None), jobs=_NoJobs(), rules=[RULE])
    alerts.step(2**50)
    alerts.step(5)
    alerts.store.put([run("exit-code")])
    alerts.step(100)
    assert len(alerts.due(100)) == 1


def test_what_belongs_to_a_rule_that_is_gone_is_given_up() -> None:
    alerts = _alerts(RULE, run("exit-code"))
    alerts.rules = [replace(RULE, name="other")]
    assert alerts.due(0) == []
    assert [(each.state, each.error) for each in alerts.outbox.history(0)] == [("given-up", "its rule is gone")]
    alerts.outbox.forget_rule("ops")
    assert alerts.outbox.history(0) == []
