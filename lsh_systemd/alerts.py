"""From runs that have ended to alerts that are due: each run is looked at once, by every rule."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lsh_systemd import alertfile, digest
from lsh_systemd.alertrule import (
    SLACK_RULE,
    USUAL_RUNS,
    Rule,
    beyond_of,
    failure_of,
    next_digest,
    quiet_until,
    rate_below,
    slowness_of,
)
from lsh_systemd.alerttext import body_of, title_of
from lsh_systemd.errors import LshError
from lsh_systemd.job import Job
from lsh_systemd.jobs import Jobs
from lsh_systemd.outbox import Alert, Outbox, Target
from lsh_systemd.run import Run
from lsh_systemd.scope import Scope
from lsh_systemd.span import format_span
from lsh_systemd.store import Store
from lsh_systemd.stuck import Going

_BATCH = 200
_USEC = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Due:
    """A message to one URL of a rule; ``at_usec`` is when it may be sent."""

    rule: Rule
    target: int
    alerts: tuple[Alert, ...]
    state: Target
    at_usec: int


def rules_of(scope: Scope) -> list[Rule]:
    """The rules that there are: those of alerts.toml, and Slack's from the environment. Raises BadInput."""
    rules = alertfile.load(scope)
    slack = alertfile.slack_rule(scope)
    return [*rules, *([slack] if slack and all(rule.name != SLACK_RULE for rule in rules) else [])]


class Alerts:
    """The alerts of one scope, as its rules make them."""

    def __init__(self, scope: Scope, *, store: Store, jobs: Jobs, rules: Sequence[Rule]) -> None:
        self.scope, self.jobs, self.rules = scope, jobs, rules
        self.store, self.outbox = store, Outbox(store)

    def step(self, now_usec: int) -> None:
        """Take in what is new."""
        since = self.outbox.turn_on(now_usec)
        while self._take_news(since, now_usec):
            pass
        for rule in self.rules:
            if rule.digest:
                self._digest(rule, now_usec)

    def stuck(self, going: Iterable[Going], now_usec: int) -> None:
        """Take in, once each, the runs that are stuck."""
        for each in going:
            rules = [
                rule
                for rule in self.rules
                if "stuck" in rule.on
                and rule.covers(each.found.id, each.found.job)
                and not self.outbox.has(rule.name, "stuck", each.run_id)
            ]
            if not rules:
                continue
            # (one that the journal has not told of yet has begun all the same)
            began = Run(id=each.run_id, job=each.found.id, unit=each.found.service, host=os.uname().nodename)
            run = next(iter(self.store.run(each.run_id)), began)
            with self.store.transaction():
                for rule in rules if run.running else ():
                    self.outbox.open(rule.name, run.job, "failing")
                    self._add(rule, "stuck", run, f"it has run for {format_span(each.lasting)}", now_usec)

    def next_digest(self) -> int | None:
        """When the next report of a rule is due (µs); None where none has one."""
        due = [self.outbox.digest_due(rule.name) for rule in self.rules if rule.digest]
        return min((each for each in due if each is not None), default=None)

    def due(self, now_usec: int) -> list[Due]:
        """What waits to be sent, now or later. What is muted, or belongs to a rule that is gone, waits no longer."""
        mutes = self.outbox.mutes(now_usec)
        states = self.outbox.targets()
        rules = {rule.name: rule for rule in self.rules}
        found = []
        for (name, target), alerts in self.outbox.waiting().items():
            rule = rules.get(name)
            if rule is None or target >= len(rule.to):
                with self.store.transaction():
                    self.outbox.give_up(alerts)
                continue
            silent = [each for each in alerts if ("rule", name) in mutes or ("job", each.job) in mutes]
            if silent:
                with self.store.transaction():
                    self.outbox.settle(silent, "muted")
            gone = {each.id for each in silent}
            left = tuple(each for each in alerts if each.id not in gone)
            if left:
                state = states.get((name, target), Target())
                at = _due_at(rule, left[0].created_usec, state, now_usec)
                found.append(Due(rule=rule, target=target, alerts=left, state=state, at_usec=at))
        return found

    def _digest(self, rule: Rule, now_usec: int) -> None:
        """Write the rule's report where it is due: one, however many were missed."""
        following = round(next_digest(rule, _local(now_usec)).timestamp() * 1e6)
        due = self.outbox.digest_due(rule.name)
        if due == following:
            return
        with self.store.transaction():
            if due is not None and due <= now_usec:
                title, body = digest.text(rule, self.store, self.jobs, host=os.uname().nodename, until_usec=now_usec)
                self.outbox.add(
                    rule=rule.name,
                    targets=len(rule.to),
                    event="digest",
                    job="",
                    run_id=None,
                    title=title,
                    body=body,
                    now_usec=now_usec,
                )
            self.outbox.set_digest_due(rule.name, following)

    def _take_news(self, since: int, now_usec: int) -> bool:
        """Look at a batch of ended runs; whether there were any. All of it is one transaction."""
        with self.store.transaction():
            news = self.outbox.news(_BATCH)
            for _, run in news:
                if run and (run.ended_usec or run.started_usec or now_usec) >= since:
                    self._judge(run, now_usec)
            self.outbox.forget_news(each for each, _ in news)
        return bool(news)

    def _judge(self, run: Run, now_usec: int) -> None:
        try:
            found = self.jobs.find(run.job)
        except LshError:  # a unit file that cannot be read must not keep all others from being told of
            found = None
        job = found.job if found else None
        for rule in self.rules:
            if not rule.covers(run.job, job):
                continue
            for event, reason in self._events(rule, run, job):
                self._add(rule, event, run, reason, now_usec)

    def _add(self, rule: Rule, event: str, run: Run, reason: str | None, now_usec: int) -> None:
        self.outbox.add(
            rule=rule.name,
            targets=len(rule.to),
            event=event,
            job=run.job,
            run_id=run.id,
            title=title_of(event, run, reason),
            body=body_of(run, scope=self.scope),
            now_usec=now_usec,
        )

    def _events(self, rule: Rule, run: Run, job: Job | None) -> Iterator[tuple[str, str | None]]:
        """What the run's end is by the rule, as (event, reason); what the rule has to remember of it is noted."""
        if event := failure_of(rule, run, job):
            self.outbox.open(rule.name, run.job, "failing")
            yield event, None
        elif run.result == "success":
            if self.outbox.is_open(rule.name, run.job, "failing"):
                self.outbox.close(rule.name, run.job, "failing")
                if "recovery" in rule.on:
                    yield "recovery", None
            if (rule.slower_than or rule.p95_times) and (slow := slowness_of(rule, run, self._successes(run))):
                yield "slow", slow
        if beyond := beyond_of(rule, run, job):
            yield "metric", beyond
        if rule.success_rate is not None and run.result != "skipped":
            yield from self._rate(rule, run)

    def _rate(self, rule: Rule, run: Run) -> Iterator[tuple[str, str]]:
        """Told once when the rate falls below the rule's, and again only after it has been above."""
        rate = rate_below(rule, [run, *self._before(run, rule.window)])
        if rate is None:
            self.outbox.close(rule.name, run.job, "success-rate")
        elif not self.outbox.is_open(rule.name, run.job, "success-rate"):
            self.outbox.open(rule.name, run.job, "success-rate")
            yield "success-rate", f"succeeds too rarely: {rate:.0%} of its last runs"

    def _successes(self, run: Run) -> list[Run]:
        """The job's successes before this one that say what is usual."""
        until = run.started_usec
        return self.store.runs(job=run.job, until_usec=until, result="success", limit=USUAL_RUNS, output=False)

    def _before(self, run: Run, count: int) -> list[Run]:
        """The job's ended runs before this one that were not skipped, the newest first."""
        limit = 2 * count
        while True:
            runs = self.store.runs(job=run.job, until_usec=run.started_usec, limit=limit, output=False)
            counted = [each for each in runs if each.id != run.id and each.result not in (None, "skipped")]
            if len(counted) >= count or len(runs) < limit:
                return counted[:count]
            limit *= 4  # most of its runs are skipped


def _due_at(rule: Rule, created: int, state: Target, now_usec: int) -> int:
    """When a message may go out. A clock that was set back must not hold it for longer than the rule itself would."""
    at = max(
        min(created, now_usec) + rule.gather // _USEC,
        min(state.sent_usec, now_usec) + rule.at_most_every // _USEC if state.sent_usec else 0,
        min(state.next_usec, now_usec + 3_600_000_000),
        now_usec if rule.quiet else 0,
    )
    return max(at, round(quiet_until(rule, _local(at)).timestamp() * 1e6)) if rule.quiet else at


def _local(usec: int) -> datetime:
    return datetime.fromtimestamp(usec / 1e6, UTC).astimezone()
