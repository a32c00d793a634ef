"""When somebody is to be told of what, and where: a rule of alerts.toml, and what it makes of a run. Pure."""

import json
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import quote

from lsh_systemd.errors import BadInput
from lsh_systemd.job import Job
from lsh_systemd.retry import will_retry
from lsh_systemd.rollup import nearest_rank
from lsh_systemd.run import Run
from lsh_systemd.said import metrics_of
from lsh_systemd.span import check_span, format_span, parse_span
from lsh_systemd.text import check_line, visible

# What --on takes. A failure is any end but success and skipped, once no retry is to come; the next three are kinds of
# it. Stuck is a run that goes on for longer than its job's --stuck-after.
EVENTS = ("failure", "timeout", "oom", "lost", "missed", "stuck", "recovery")
USUAL_EVENTS = ("failure", "missed", "stuck", "recovery")
DIGESTS = ("daily", "weekly")
# Slack's own, made from SLACK_WEBHOOK_URL.
SLACK_RULE = "slack"

# "items_processed<100": what the sign stands for, and how it reads.
_BOUND = re.compile(r"([^<>=]*)(<=|>=|<|>)([^<>=]*)")
_BEYOND = {
    "<": (operator.lt, "below {}"),
    "<=": (operator.le, "{} or less"),
    ">": (operator.gt, "above {}"),
    ">=": (operator.ge, "{} or more"),
}
_KINDS = {"timeout": "timeout", "oom-kill": "oom", "lost": "lost", "missed": "missed"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_SECRET = re.compile(r"\{secret:([^{}]*)\}")
_CLOCK = r"([01][0-9]|2[0-3]):([0-5][0-9])"
_QUIET = re.compile(rf"{_CLOCK}-{_CLOCK}")
# Of fewer runs there is no telling what is usual.
LEAST_RUNS = 5
# How many successes before this one say what is usual.
USUAL_RUNS = 100
# After a failed delivery: 1 min, 2, 4, … 1 h; what is older than a day is given up.
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=1)
GIVE_UP_AFTER = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """``to`` are apprise's URLs, with ``{secret:NAME}`` where a secret goes. ``jobs`` are globs of ids; of jobs, tags
    and groups, what is given must all be met. ``p95_times``: so many times the usual p95; ``success_rate``, 0 to 1, of
    the last ``window`` runs. ``metrics``: bounds of numbers that runs tell of themselves, "items<100". ``grace``: how
    late a run may come before it is missed. ``gather``: how long the first alert waits for others; ``at_most_every``:
    the least time between two messages. ``quiet``: "22:00-07:00", by the machine's clock. ``digest``: a report each day
    or Monday, at ``digest_at``. Raises BadInput for what makes no sense.
    """

    name: str
    to: tuple[str, ...]
    on: tuple[str, ...] = USUAL_EVENTS
    jobs: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    slower_than: timedelta | None = None
    p95_times: float | None = None
    success_rate: float | None = None
    window: int = 20
    metrics: tuple[str, ...] = ()
    grace: timedelta = timedelta(minutes=5)
    gather: timedelta = timedelta(seconds=5)
    at_most_every: timedelta = timedelta(minutes=1)
    quiet: str | None = None
    digest: str | None = None
    digest_at: str = "07:00"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise BadInput(
                f"{visible(self.name)} is not the name of a rule", hint="letters, digits, _ . and -; 100 at most"
            )
        if not self.to:
            raise BadInput(
                f"the rule {self.name} has nowhere to send to", hint="--to URL, see lshctl alerts add --help"
            )
        for url in self.to:
            check_line("URL", url, longest=4000)
            if not (url.startswith("{secret:") or re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", url)):
                raise BadInput("a URL of --to has no scheme", hint="json://HOST/PATH, slack://…, or '{secret:NAME}'")
        for event in self.on:
            if event not in EVENTS:
                raise BadInput(f"{visible(event)} is no event", hint=f"there are {', '.join(EVENTS)}")
        if {*self.on} == {"recovery"}:
            raise BadInput(
                "a recovery follows what was told: with nothing else, there is none", hint="--on failure,recovery"
            )
        self._check_numbers()
        if self.quiet is not None and not _QUIET.fullmatch(self.quiet):
            raise BadInput(f"{visible(self.quiet)} are no quiet hours", hint="--quiet 22:00-07:00")
        if self.quiet is not None and len({*self.quiet.split("-")}) == 1:
            raise BadInput("quiet hours that end when they begin would never end", hint="--quiet 22:00-07:00")
        if self.digest is not None and self.digest not in DIGESTS:
            raise BadInput(f"{visible(self.digest)} is no digest", hint="--digest daily, or weekly")
        if not re.fullmatch(_CLOCK, self.digest_at):
            raise BadInput(f"{visible(self.digest_at)} is no time of day", hint="--digest-at 07:00")
        if not told_of(self):
            raise BadInput(f"the rule {self.name} has nothing to tell of", hint=f"--on {','.join(USUAL_EVENTS)}")

    def _check_numbers(self) -> None:
        if self.slower_than is not None:
            check_span("--slower-than", self.slower_than, least=timedelta(milliseconds=1))
        if self.p95_times is not None and not 1 <= self.p95_times <= 1000:
            raise BadInput("the factor of the p95 must be between 1 and 1000", hint="--slower-than-p95 2")
        if self.success_rate is not None and not 0 < self.success_rate <= 1:
            raise BadInput("a success rate is between 0 % and 100 %", hint="--success-rate-below 90%")
        if not LEAST_RUNS <= self.window <= 10_000:
            raise BadInput(f"a rate is of {LEAST_RUNS} to 10000 runs", hint="--of 20")
        for bound in self.metrics:
            _bound(bound)
        if self.grace < timedelta(seconds=1):
            raise BadInput("the grace must be 1s or more", hint="--grace 5min")
        for span in (self.grace, self.gather, self.at_most_every):
            if span > timedelta(days=366):
                raise BadInput(f"{format_span(span)} is longer than a year")

    def covers(self, job_id: str, job: Job | None) -> bool:
        """Whether the rule is about this job; one that is gone has neither tags nor groups."""
        tags, groups = (job.tags, job.groups) if job else ((), ())
        return (
            (not self.jobs or any(fnmatchcase(job_id, glob) for glob in self.jobs))
            and (not self.tags or bool({*self.tags} & {*tags}))
            and (not self.groups or bool({*self.groups} & {*groups}))
        )


def told_of(rule: Rule) -> list[str]:
    """What the rule tells of: its events, and what it measures in words."""
    return [
        *rule.on,
        *([f"slower than {format_span(rule.slower_than)}"] if rule.slower_than else []),
        *([f"slower than {rule.p95_times:g} × p95"] if rule.p95_times else []),
        *([] if rule.success_rate is None else [f"success below {rule.success_rate * 100:g}% of {rule.window}"]),
        *rule.metrics,
        *([f"{rule.digest} report"] if rule.digest else []),
    ]


def renamed(rule: Rule, old: str, new: str) -> Rule:
    """The rule about a job that has got another id, where it names that job. What it says by a glob stays."""
    return replace(rule, jobs=tuple(dict.fromkeys(new if glob == old else glob for glob in rule.jobs)))


def failure_of(rule: Rule, run: Run, job: Job | None) -> str | None:
    """The event that the run's end is by this rule; None where it is none, or a retry is to come."""
    if run.result in (None, "success", "skipped") or (job and will_retry(job, run)):
        return None
    kind = _KINDS.get(run.result or "", "failure")
    if kind in rule.on:
        return kind
    return "failure" if "failure" in rule.on and kind != "missed" else None


def slowness_of(rule: Rule, run: Run, before: Sequence[Run]) -> str | None:
    """Why the run was slow, in words; ``before``: the job's successes before it. None where it was not."""
    if run.duration_usec is None or run.result != "success":
        return None
    if rule.slower_than and run.duration_usec > rule.slower_than / timedelta(microseconds=1):
        return f"longer than {format_span(rule.slower_than)}"
    if rule.p95_times:
        usual = [each.duration_usec / 1e6 for each in before if each.duration_usec is not None]
        p95 = sorted(usual)[nearest_rank(95, len(usual))] if len(usual) >= LEAST_RUNS else None
        if p95 is not None and run.duration_usec / 1e6 > p95 * rule.p95_times:
            return f"more than {rule.p95_times:g} times the usual (95 % of its runs take {p95:.3g} s or less)"
    return None


def beyond_of(rule: Rule, run: Run, job: Job | None) -> str | None:
    """Which of the numbers that the run has told of itself are beyond the rule's bounds, in words; None where none is.
    A number that it has not told is not. An attempt that is to be tried again is not looked at."""
    if not rule.metrics or run.result in (None, "skipped", "missed"):
        return None
    if run.result != "success" and job and will_retry(job, run):
        return None
    told = json.loads(run.metrics)
    found = []
    for name, sign, number in map(_bound, rule.metrics):
        is_beyond, words = _BEYOND[sign]
        if name in told and is_beyond(told[name], number):
            found.append(f"{name} is {told[name]}, {words.format(number)}")
    return "; ".join(found) or None


def _bound(text: str) -> tuple[str, str, int | float]:
    """ "items<100" → ("items", "<", 100). Raises BadInput."""
    parts = _BOUND.fullmatch(text)
    if parts is None:
        raise BadInput(f"{visible(text)} is no bound of a number", hint="in quotes: --metric 'items_processed<100'")
    name, sign, number = (part.strip() for part in parts.groups())
    ((name, value),) = metrics_of([f"{name}={number}"]).metrics.items()
    return name, sign, value


def rate_below(rule: Rule, last: Iterable[Run]) -> float | None:
    """The success rate of the last runs, the newest first, where it is below the rule's; None where it is not."""
    counted = [run for run in last if run.result not in (None, "skipped")][: rule.window]
    if rule.success_rate is None or len(counted) < min(rule.window, LEAST_RUNS):
        return None
    rate = sum(run.result == "success" for run in counted) / len(counted)
    return rate if rate < rule.success_rate else None


def pause_after(tries: int) -> timedelta:
    """How long to wait after so many failed deliveries in a row."""
    return min(_FIRST_PAUSE * (1 << min(tries - 1, 20)), _LONGEST_PAUSE)


def quiet_until(rule: Rule, now: datetime) -> datetime:
    """The end of the quiet hours that it is in; ``now`` itself (local, naive or aware) where it is in none."""
    if rule.quiet is None:
        return now
    hour, minute, end_hour, end_minute = map(int, re.split("[:-]", rule.quiet))
    clock, first, last = (now.hour, now.minute), (hour, minute), (end_hour, end_minute)
    inside = first <= clock < last if first < last else clock >= first or clock < last
    if not inside:
        return now
    end = now.replace(hour=end_hour, minute=end_minute, second=0, microsecond=0)
    return end if end > now else end + timedelta(days=1)


def next_digest(rule: Rule, now: datetime) -> datetime:
    """When the next digest after ``now`` (local) is due."""
    hour, minute = map(int, rule.digest_at.split(":"))
    at = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    while at <= now or (rule.digest == "weekly" and at.weekday() != 0):
        at += timedelta(days=1)
    return at


def secrets_in(url: str) -> list[str]:
    """The names of the secrets that the URL asks for."""
    return _SECRET.findall(url)


def with_secrets(url: str, values: Mapping[str, str]) -> str:
    """The URL with the secrets in it: as they are where one is the whole URL, else encoded for a part of it."""
    whole = _SECRET.fullmatch(url)
    return values[whole[1]] if whole else _SECRET.sub(lambda match: quote(values[match[1]], safe=""), url)


def shown(url: str) -> str:
    """What may be shown of a URL: what stands behind its scheme may be a password."""
    return url if _SECRET.fullmatch(url) else url.partition("://")[0] + "://…"


def to_plain(rule: Rule) -> dict[str, Any]:
    """The rule as alerts.toml has it: what differs from the defaults."""
    plain: dict[str, Any] = {}
    for each in fields(Rule):
        value = getattr(rule, each.name)
        if each.default is MISSING or value != each.default:
            plain[each.name] = (
                format_span(value) if isinstance(value, timedelta) else [*value] if isinstance(value, tuple) else value
            )
    return plain


def from_plain(plain: Mapping[str, Any]) -> Rule:
    """The rule that the data describes. Raises BadInput for an unknown setting, a wrong type or a wrong value."""
    known = {each.name for each in fields(Rule)}
    for name in plain:
        if name not in known:
            raise BadInput(
                f"{visible(str(name))} is no setting of a rule", hint="there are " + ", ".join(sorted(known))
            )
    for name in ("name", "to"):
        if name not in plain:
            raise BadInput(f"a rule has no {name}")
    return Rule(**{name: _value(name, value) for name, value in plain.items()})


def _value(name: str, value: Any) -> Any:
    if name in ("to", "on", "jobs", "tags", "groups", "metrics"):
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list | tuple) or not all(isinstance(each, str) for each in values):
            raise BadInput(f"{name} must be text or a list of texts")
        return tuple(values)
    if name in ("p95_times", "success_rate", "window"):
        if isinstance(value, bool) or not isinstance(value, int if name == "window" else int | float):
            raise BadInput(f"{name} must be a number")
        return value
    if not isinstance(value, str):
        raise BadInput(f"{name} must be text")
    return parse_span(value) if name in ("slower_than", "grace", "gather", "at_most_every") else value
