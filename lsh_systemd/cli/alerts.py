"""lshctl alerts."""

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from lsh_systemd.cli.common import App, dry_run_option, json_option, print_json, with_app
from lsh_systemd.cli.table import local_time, print_table
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.run import rfc3339
from lsh_systemd.text import escape_controls, visible

if TYPE_CHECKING:
    from lsh_systemd.alertrule import Rule
    from lsh_systemd.delivery import Delivery
    from lsh_systemd.outbox import Outbox

_PAGE = 20


@click.group("alerts")
def alerts_command() -> None:
    """Have failures, missed runs and the like told: by mail, Slack, webhooks and others.

    A rule says of which jobs and events, and where to: URLs of apprise (https://github.com/caronc/apprise/wiki names a
    hundred services). The agent sends: lshctl agent enable.

    \b
    printf %s "$WEBHOOK" | lshctl secrets set slack-url
    lshctl alerts add ops --to '{secret:slack-url}'
    lshctl alerts add db --tag db --on failure,recovery --to 'mailto://user:{secret:smtp}@example.org?to=ops@example.org'
    lshctl alerts test ops
    """


@alerts_command.command("add")
@click.argument("name", metavar="RULE")
@click.option(
    "--to", multiple=True, metavar="URL", help="Where to: apprise's URL, with {secret:NAME}; may be repeated."
)
@click.option(
    "--on",
    "events",
    multiple=True,
    metavar="EVENTS",
    help="failure (once no retry is to come), timeout, oom, lost, missed, recovery; the usual ones are "
    "failure,missed,recovery.",
)
@click.option("--job", "jobs", multiple=True, metavar="GLOB", help="Of these jobs: backup-*; may be repeated.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Of jobs with this tag; may be repeated.")
@click.option("--group", "groups", multiple=True, metavar="NAME", help="Of jobs in this group; may be repeated.")
@click.option("--slower-than", metavar="SPAN", help="Also when a run takes longer.")
@click.option(
    "--slower-than-p95",
    "p95_times",
    type=float,
    metavar="N",
    help="Also when a run takes N times as long as 95 % of the job's runs do.",
)
@click.option(
    "--success-rate-below", "success_rate", metavar="PERCENT", help="Also when fewer runs succeed; told once."
)
@click.option("--of", "window", type=int, metavar="N", help="… of the last N runs of a job; 20 where not said.")
@click.option("--grace", metavar="SPAN", help="How late a run may begin before it is missed; 5min where not said.")
@click.option(
    "--gather", metavar="SPAN", help="Wait so long for others to tell in the same message; 5s where not said."
)
@click.option(
    "--at-most-every",
    metavar="SPAN",
    help="Between two messages to a URL; what comes meanwhile is told together. 1min where not said.",
)
@click.option("--quiet", metavar="FROM-TO", help="Hours in which all waits for their end: 22:00-07:00.")
@click.option(
    "--digest", metavar="daily|weekly", help="Send a report each day, or each Monday; no events without --on."
)
@click.option("--digest-at", metavar="HH:MM", help="When; 07:00 where not said.")
@click.option("--replace", is_flag=True, help="Instead of the rule of that name.")
@dry_run_option
@with_app
def add_command(app: App, name: str, events: tuple[str, ...], replace: bool, dry_run: bool, **options: Any) -> None:
    """Add a rule.

    \b
    lshctl alerts add ops --to 'json://alerts.example.org/hook'
    lshctl alerts add slow --job 'backup-*' --slower-than-p95 2 --on missed --to '{secret:slack-url}'
    lshctl alerts add report --digest weekly --to 'mailtos://me:{secret:smtp}@example.org'
    """  # fmt: skip
    from lsh_systemd import alertfile, daemons

    rule = _rule(name, events, options)
    rules = alertfile.load(app.scope)
    others = [each for each in rules if each.name != name]
    if len(others) < len(rules) and not replace:
        raise BadInput(f"there is a rule {name} already", hint="--replace puts this one in its place")
    _check_urls(app, rule)
    if dry_run:
        click.echo(f"Would add the rule {name}.")
        return
    alertfile.save(app.scope, [*others, rule])
    _outbox(app).turn_on(time.time_ns() // 1000)
    daemons.provide(app.manager, [daemons.ALERT])
    click.echo(f"Added the rule {name}; lshctl alerts test {name} tries it.")
    _warn_without_agent(app)


def _rule(name: str, events: tuple[str, ...], options: dict[str, Any]) -> "Rule":
    from lsh_systemd.alertrule import from_plain

    plain: dict[str, Any] = {k: list(value) if isinstance(value, tuple) else value for k, value in options.items()}
    plain = {key: value for key, value in plain.items() if value not in (None, [])}
    if "success_rate" in plain:
        plain["success_rate"] = _percent(plain["success_rate"])
    if events or "digest" in plain:
        plain["on"] = [word for each in events for word in each.split(",")]
    return from_plain({"name": name, "to": [], **plain})


def _percent(text: str) -> float:
    try:
        return float(text.strip().removesuffix("%")) / 100
    except ValueError:
        raise BadInput(f"{visible(text)} is no percentage", hint="--success-rate-below 90%") from None


def _check_urls(app: App, rule: "Rule") -> None:
    """Raise an error for a URL that could never be sent to."""
    from lsh_systemd import notify
    from lsh_systemd.alertrule import secrets_in
    from lsh_systemd.credentials import check_name

    delivery = _delivery(app, [rule])
    for url in rule.to:
        for secret in secrets_in(url):
            check_name(secret)
            if delivery.vault.find(secret) is None:
                raise BadInput(f"there is no secret {secret}", hint=f"lshctl --{app.scope} secrets set {secret}")
        notify.check(delivery.filled(url))


@alerts_command.command("remove")
@click.argument("names", metavar="RULE...", nargs=-1, required=True)
@dry_run_option
@with_app
def remove_command(app: App, names: tuple[str, ...], dry_run: bool) -> None:
    """Remove rules; what they had still to tell is not told."""
    from lsh_systemd import alertfile

    rules = alertfile.load(app.scope)
    for name in names:
        _check_rule(rules, name)
    if dry_run:
        click.echo(f"Would remove {', '.join(names)}.")
        return
    left = [rule for rule in rules if rule.name not in names]
    alertfile.save(app.scope, left)
    outbox = _outbox(app)
    for name in names:
        outbox.forget_rule(name)
    if not left and alertfile.slack_rule(app.scope) is None:
        outbox.turn_off()
    click.echo(f"Removed {', '.join(names)}.")


@alerts_command.command("list")
@json_option
@with_app
def list_command(app: App, as_json: bool) -> None:
    """Show the rules, and how it stands with their URLs."""
    rows = _rows(app)
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo("There are no rules: lshctl alerts add --help.")
        return
    print_table(
        ["RULE", "ON", "JOBS", "STATE", "TO"],
        [
            [row["name"], ",".join(row["on"]) or "-", _about(row), _state(row, target), target["url"]]
            for row in rows
            for target in row["targets"]
        ],
    )
    _warn_without_agent(app)


def _rows(app: App) -> list[dict[str, Any]]:
    """What ``alerts list --json`` promises of each rule: its settings as alerts.toml has them, and its URLs without
    what may be a password."""
    from lsh_systemd.alertrule import shown, to_plain
    from lsh_systemd.alerts import rules_of

    outbox, now = _outbox(app), time.time_ns() // 1000
    states, waiting, mutes = outbox.targets(), outbox.waiting(), outbox.mutes(now)
    given_up = outbox.given_up()
    rows = []
    for rule in rules_of(app.scope):
        targets = []
        for number, url in enumerate(rule.to):
            state = states.get((rule.name, number))
            targets.append(
                {
                    "url": shown(url),
                    "sent_at": rfc3339(state.sent_usec or None) if state else None,
                    "waiting": len(waiting.get((rule.name, number), [])),
                    "given_up": given_up.get((rule.name, number), 0),
                    "failures": state.tries if state else 0,
                    "error": state.error if state else None,
                    "next_try_at": rfc3339(state.next_usec or None) if state else None,
                }
            )
        muted = ("rule", rule.name) in mutes
        until = mutes.get(("rule", rule.name))
        plain = {key: value for key, value in to_plain(rule).items() if key != "to"}
        rows.append({**plain, "on": [*rule.on], "targets": targets, "muted": muted, "muted_until": rfc3339(until)})
    return rows


def _about(row: dict[str, Any]) -> str:
    kinds = [("", row.get("jobs")), ("tag ", row.get("tags")), ("group ", row.get("groups"))]
    return "; ".join(mark + ", ".join(names) for mark, names in kinds if names) or "all"


def _state(row: dict[str, Any], target: dict[str, Any]) -> str:
    words = []
    if row["muted"]:
        words.append("muted" + (f" until {row['muted_until']}" if row["muted_until"] else ""))
    if target["failures"]:
        words.append(f"failing ({target['failures']}): {target['error']}")
    words += [
        f"{target[key]} {text}" for key, text in (("waiting", "waiting"), ("given_up", "given up")) if target[key]
    ]
    return "; ".join(words) or "ok"


@alerts_command.command("test")
@click.argument("name", metavar="RULE")
@with_app
def test_command(app: App, name: str) -> None:
    """Send a message to all URLs of a rule, now; where that works, what has waited for another try follows."""
    import socket

    from lsh_systemd.alertrule import shown
    from lsh_systemd.alerts import rules_of

    rules = rules_of(app.scope)
    rule = _check_rule(rules, name)
    delivery = _delivery(app, rules)
    title = f"[{socket.gethostname()}] lshctl alerts test {name}"
    problems = []
    for url in rule.to:
        try:
            delivery.send(url, title, f"The rule {name} of lsh-systemd reaches you here.")
        except LshError as error:
            problems.append((url, error))
        else:
            click.echo(f"Sent to {shown(url)}.")
    _send_waiting(app, rule, [url for url, _ in problems])
    if problems:
        url, first = problems[0]
        raise LshError(f"{shown(url)}: {first.message}", hint=first.hint)


def _send_waiting(app: App, rule: "Rule", failing: list[str]) -> None:
    """What waits for another try need not wait any longer where a test has come through."""
    from lsh_systemd import daemons
    from lsh_systemd.outbox import Target

    outbox = _outbox(app)
    states = outbox.targets()
    for number, url in enumerate(rule.to):
        state = states.get((rule.name, number))
        if state and state.tries and url not in failing:
            outbox.set_target(rule.name, number, Target(sent_usec=state.sent_usec))
            daemons.provide(app.manager, [daemons.ALERT])
            app.manager.start(daemons.ALERT)


@alerts_command.command("mute")
@click.argument("name", metavar="[RULE]", required=False)
@click.option("--job", metavar="JOB", help="A job, in all rules.")
@click.option("--for", "span", metavar="SPAN", help="For so long; without it, until unmute.")
@dry_run_option
@with_app
def mute_command(app: App, name: str | None, job: str | None, span: str | None, dry_run: bool) -> None:
    """Keep a rule, or a job, silent: what happens meanwhile is noted, and not told.

    \b
    lshctl alerts mute ops --for 2h
    lshctl alerts mute --job nightly
    """
    from lsh_systemd.span import check_span, parse_span

    kind, what = _muted(app, name, job)
    until = None
    if span is not None:
        check_span("--for", parse_span(span), least=timedelta(seconds=1))
        until = time.time_ns() // 1000 + parse_span(span) // timedelta(microseconds=1)
    if not dry_run:
        _outbox(app).mute(kind, what, until)
    ends = f"until {local_time(until)}" if until else "until unmuted"
    click.echo(f"{'Would mute' if dry_run else 'Muted'} the {kind} {what} {ends}.")


@alerts_command.command("unmute")
@click.argument("name", metavar="[RULE]", required=False)
@click.option("--job", metavar="JOB", help="A job, in all rules.")
@dry_run_option
@with_app
def unmute_command(app: App, name: str | None, job: str | None, dry_run: bool) -> None:
    """Let a rule, or a job, be told of again."""
    kind, what = _muted(app, name, job)
    if (kind, what) not in _outbox(app).mutes(time.time_ns() // 1000):
        raise BadInput(f"the {kind} {what} is not muted", hint="lshctl alerts list")
    if not dry_run:
        _outbox(app).unmute(kind, what)
    click.echo(f"{'Would unmute' if dry_run else 'Unmuted'} the {kind} {what}.")


def _muted(app: App, name: str | None, job: str | None) -> tuple[str, str]:
    from lsh_systemd.alerts import rules_of

    if (name is None) == (job is None):
        raise BadInput("name either a rule or a job", hint="lshctl alerts mute RULE, or --job JOB")
    if name is not None:
        return "rule", _check_rule(rules_of(app.scope), name).name
    return "job", app.jobs.get(job or "").id


@alerts_command.command("history")
@click.option(
    "--limit", type=click.IntRange(min=0, max=2**53), default=_PAGE, help=f"At most so many ({_PAGE}); 0 is all."
)
@json_option
@with_app
def history_command(app: App, limit: int, as_json: bool) -> None:
    """Show what has been told, or waits to be; the newest first."""
    found = _outbox(app).history(limit)
    if as_json:
        print_json([each.to_json() for each in found])
        return
    if not found:
        click.echo("There have been no alerts yet.")
        return
    rows = [[each.rule, local_time(each.created_usec), each.event, each.state, each.title] for each in found]
    print_table(["RULE", "AT", "EVENT", "STATE", "TOLD"], rows)
    for each in found:
        if each.error:
            click.echo(escape_controls(f"{each.rule}: {each.error}", keep=""))
            break


@alerts_command.command("deliver", hidden=True)
@with_app
def deliver_command(app: App) -> None:
    """Send what is due: what lsh-alert.service calls."""
    from lsh_systemd.alerts import rules_of

    if rules := rules_of(app.scope):
        _delivery(app, rules).run()


def _delivery(app: App, rules: "list[Rule]") -> "Delivery":
    from lsh_systemd import secrecy
    from lsh_systemd.alerts import Alerts
    from lsh_systemd.delivery import Delivery

    alerts = Alerts(app.scope, store=_outbox(app).store, jobs=app.jobs, rules=rules)
    return Delivery(alerts, vault=secrecy.vault(app.scope, app.manager))


def _outbox(app: App) -> "Outbox":
    from lsh_systemd import ledger
    from lsh_systemd.outbox import Outbox
    from lsh_systemd.store import Store

    return Outbox(Store(ledger.path(app.scope)))


def _check_rule(rules: "list[Rule]", name: str) -> "Rule":
    rule = next((each for each in rules if each.name == name), None)
    if rule is None:
        raise BadInput(f"there is no rule {visible(name)}", hint="lshctl alerts list")
    return rule


def _warn_without_agent(app: App) -> None:
    from lsh_systemd import daemons
    from lsh_systemd.manager import UNIT

    if app.manager.get(daemons.AGENT, UNIT, "ActiveState") != "active":
        click.echo(f"The agent, which sends, is off: lshctl --{app.scope} agent enable.", err=True)
