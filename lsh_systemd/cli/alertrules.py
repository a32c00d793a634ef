"""lshctl alerts add and remove; and what all commands on alerts share."""

import time
from typing import TYPE_CHECKING, Any

import click

from lsh_systemd.cli.common import App, dry_run_option, with_app
from lsh_systemd.errors import BadInput
from lsh_systemd.text import visible

if TYPE_CHECKING:
    from lsh_systemd.alertrule import Rule
    from lsh_systemd.delivery import Delivery
    from lsh_systemd.outbox import Outbox


@click.command("add")
@click.argument("name", metavar="RULE")
@click.option(
    "--to", multiple=True, metavar="URL", help="Where to: apprise's URL, with {secret:NAME}; may be repeated."
)
@click.option(
    "--on",
    "events",
    multiple=True,
    metavar="EVENTS",
    help="failure (once no retry is to come), timeout, oom, lost, missed, stuck, recovery; the usual ones are "
    "failure,missed,stuck,recovery; none leaves it to the options below.",
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
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="BOUND",
    help="Also when a number that a run tells of itself is beyond it: 'items_processed<100', with < <= > >=; may be "
    "repeated.",
)
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
    _check_free(app, name, replace=replace)
    _check_urls(app, rule)
    if dry_run:
        click.echo(f"Would add the rule {name}.")
        return
    with alertfile.locked(app.scope):
        before = _check_free(app, name, replace=replace)
        others = [each for each in alertfile.load(app.scope) if each.name != name]
        alertfile.save(app.scope, [*others, rule])
    outbox = outbox_of(app)
    for target, url in enumerate(before.to if before else ()):
        if url not in rule.to[target : target + 1]:
            outbox.forget_target(name, target)
    outbox.turn_on(time.time_ns() // 1000)
    daemons.provide(app.manager, [daemons.ALERT])
    app.control.note("alerts add", "", {"rule": (before and name, name)})
    click.echo(f"Added the rule {name}; lshctl alerts test {name} tries it.")
    chooses = rule.jobs or rule.tags or rule.groups
    if chooses and not any(rule.covers(found.id, found.job) for found in app.jobs.all()):
        click.echo("There is no job that it is about, as yet.", err=True)
    warn_without_agent(app)


def _check_free(app: App, name: str, *, replace: bool) -> "Rule | None":
    """The rule of that name which is to be replaced; None where there is none. Raises BadInput for one that is not."""
    from lsh_systemd import alertfile

    found = next((each for each in alertfile.load(app.scope) if each.name == name), None)
    if found and not replace:
        raise BadInput(f"there is a rule {name} already", hint="--replace puts this one in its place")
    return found


def _rule(name: str, events: tuple[str, ...], options: dict[str, Any]) -> "Rule":
    from lsh_systemd.alertrule import from_plain

    plain: dict[str, Any] = {k: list(value) if isinstance(value, tuple) else value for k, value in options.items()}
    plain = {key: value for key, value in plain.items() if value not in (None, [])}
    if "success_rate" in plain:
        plain["success_rate"] = _percent(plain["success_rate"])
    if events or "digest" in plain:
        words = [word.strip() for each in events for word in each.split(",")]
        plain["on"] = [] if words == ["none"] else words
    plain["jobs"] = [_glob(each) for each in plain.get("jobs", [])]
    return from_plain({"name": name, "to": [], **plain})


def _glob(text: str) -> str:
    """A glob of ids; a job may also be called by its name."""
    from lsh_systemd.job import job_id

    return text.lower() if any(mark in text for mark in "*?[") else job_id(text)


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

    sender = delivery_of(app, [rule])
    for url in rule.to:
        for secret in secrets_in(url):
            check_name(secret)
            if sender.vault.find(secret) is None:
                raise BadInput(f"there is no secret {secret}", hint=f"lshctl --{app.scope} secrets set {secret}")
        notify.check(sender.filled(url))


@click.command("remove")
@click.argument("names", metavar="RULE...", nargs=-1, required=True)
@dry_run_option
@with_app
def remove_command(app: App, names: tuple[str, ...], dry_run: bool) -> None:
    """Remove rules; what they had still to tell is not told."""
    from lsh_systemd import alertfile

    rules, slack = alertfile.load(app.scope), alertfile.slack_rule(app.scope)
    for name in names:
        if slack and name == slack.name and name not in [rule.name for rule in rules]:
            where = alertfile.environment_path(app.scope)
            raise BadInput(
                f"the rule {name} is what SLACK_WEBHOOK_URL makes", hint=f"ENABLE_SLACK_ALERTS=false in {where}"
            )
        check_rule(rules, name)
    if dry_run:
        click.echo(f"Would remove {', '.join(names)}.")
        return
    with alertfile.locked(app.scope):
        left = [rule for rule in alertfile.load(app.scope) if rule.name not in names]
        alertfile.save(app.scope, left)
    kept = outbox_of(app)
    for name in names:
        kept.forget_rule(name)
        app.control.note("alerts remove", "", {"rule": (name, None)})
    if not left and slack is None:
        kept.turn_off()
    click.echo(f"Removed {', '.join(names)}.")


def delivery_of(app: App, rules: "list[Rule]") -> "Delivery":
    from lsh_systemd import secrecy
    from lsh_systemd.alerts import Alerts
    from lsh_systemd.delivery import Delivery

    alerts = Alerts(app.scope, store=outbox_of(app).store, jobs=app.jobs, rules=rules)
    return Delivery(alerts, vault=secrecy.vault(app.scope, app.manager))


def outbox_of(app: App) -> "Outbox":
    from lsh_systemd import ledger
    from lsh_systemd.outbox import Outbox
    from lsh_systemd.store import Store

    return Outbox(Store(ledger.path(app.scope)))


def check_rule(rules: "list[Rule]", name: str) -> "Rule":
    rule = next((each for each in rules if each.name == name), None)
    if rule is None:
        raise BadInput(f"there is no rule {visible(name)}", hint="lshctl alerts list")
    return rule


def warn_without_agent(app: App) -> None:
    from lsh_systemd import daemons
    from lsh_systemd.manager import UNIT

    if app.manager.get(daemons.AGENT, UNIT, "ActiveState") != "active":
        click.echo(f"The agent, which sends, is off: lshctl --{app.scope} agent enable.", err=True)
