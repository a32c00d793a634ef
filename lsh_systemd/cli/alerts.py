"""lshctl alerts, but for add and remove."""

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from lsh_systemd.cli.alertrules import (
    add_command,
    check_rule,
    delivery_of,
    outbox_of,
    remove_command,
    warn_without_agent,
)
from lsh_systemd.cli.common import App, complete_jobs, dry_run_option, json_option, print_json, with_app
from lsh_systemd.cli.table import local_time, print_table
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.run import rfc3339
from lsh_systemd.text import escape_controls

if TYPE_CHECKING:
    from lsh_systemd.alertrule import Rule

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


alerts_command.add_command(add_command)
alerts_command.add_command(remove_command)


@alerts_command.command("list")
@json_option
@with_app
def list_command(app: App, as_json: bool) -> None:
    """Show the rules, and how it stands with their URLs."""
    from lsh_systemd.alertrule import SLACK_RULE

    rows = _rows(app)
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo("There are no rules: lshctl alerts add --help.")
        return
    print_table(
        ["RULE", "TELLS OF", "JOBS", "STATE", "TO"],
        [
            [row["name"], ", ".join(row["tells_of"]), _about(row), _state(row, target), target["url"]]
            for row in rows
            for target in row["targets"]
        ],
    )
    for job in rows[0]["muted_jobs"]:
        click.echo(f"Muted: the job {job}.")
    if any(row["name"] == SLACK_RULE for row in rows):
        _warn_of_shell(app)
    warn_without_agent(app)


def _warn_of_shell(app: App) -> None:
    """The agent has not the environment of the shell that asks."""
    from lsh_systemd import alertfile

    if alertfile.slack_rule(app.scope) and not alertfile.slack_is_lasting(app.scope):
        where = alertfile.environment_path(app.scope)
        click.echo(f"SLACK_WEBHOOK_URL is in your shell's environment; the agent needs it in {where}.", err=True)


def _rows(app: App) -> list[dict[str, Any]]:
    """What ``alerts list --json`` promises of each rule: its settings as alerts.toml has them, what it tells of in
    words, its URLs without what may be a password, and what is muted."""
    from lsh_systemd.alertrule import shown, to_plain, told_of
    from lsh_systemd.alerts import rules_of

    outbox, now = outbox_of(app), time.time_ns() // 1000
    states, waiting, mutes = outbox.targets(), outbox.waiting(), outbox.mutes(now)
    given_up = outbox.given_up()
    muted_jobs = sorted(name for kind, name in mutes if kind == "job")
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
        row = {**plain, "on": [*rule.on], "tells_of": told_of(rule), "targets": targets}
        rows.append({**row, "muted": muted, "muted_until": rfc3339(until), "muted_jobs": muted_jobs})
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
    rule = check_rule(rules, name)
    delivery = delivery_of(app, rules)
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
        more = f"; and {len(problems) - 1} more" if problems[1:] else ""
        raise LshError(f"{shown(url)}: {first.message}{more}", hint=first.hint)


def _send_waiting(app: App, rule: "Rule", failing: list[str]) -> None:
    """What waits for another try need not wait any longer where a test has come through."""
    from lsh_systemd import daemons
    from lsh_systemd.outbox import Target

    outbox = outbox_of(app)
    states = outbox.targets()
    for number, url in enumerate(rule.to):
        state = states.get((rule.name, number))
        if state and state.tries and url not in failing:
            outbox.set_target(rule.name, number, Target(sent_usec=state.sent_usec))
            daemons.provide(app.manager, [daemons.ALERT])
            app.manager.start(daemons.ALERT)


@alerts_command.command("mute")
@click.argument("name", metavar="[RULE]", required=False)
@click.option("--job", metavar="JOB", shell_complete=complete_jobs, help="A job, in all rules.")
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
    ends = f"until {local_time(until)}" if until else "until unmuted"
    if not dry_run:
        outbox_of(app).mute(kind, what, until)
        app.control.note("alerts mute", what if kind == "job" else "", {kind: (what, f"muted {ends}")})
    click.echo(f"{'Would mute' if dry_run else 'Muted'} the {kind} {what} {ends}.")


@alerts_command.command("unmute")
@click.argument("name", metavar="[RULE]", required=False)
@click.option("--job", metavar="JOB", shell_complete=complete_jobs, help="A job, in all rules.")
@dry_run_option
@with_app
def unmute_command(app: App, name: str | None, job: str | None, dry_run: bool) -> None:
    """Let a rule, or a job, be told of again."""
    kind, what = _muted(app, name, job)
    if (kind, what) not in outbox_of(app).mutes(time.time_ns() // 1000):
        raise BadInput(f"the {kind} {what} is not muted", hint="lshctl alerts list")
    if not dry_run:
        outbox_of(app).unmute(kind, what)
        app.control.note("alerts unmute", what if kind == "job" else "", {kind: ("muted", what)})
    click.echo(f"{'Would unmute' if dry_run else 'Unmuted'} the {kind} {what}.")


def _muted(app: App, name: str | None, job: str | None) -> tuple[str, str]:
    from lsh_systemd.alerts import rules_of

    if (name is None) == (job is None):
        raise BadInput("name either a rule or a job", hint="lshctl alerts mute RULE, or --job JOB")
    if name is not None:
        return "rule", check_rule(rules_of(app.scope), name).name
    return "job", app.jobs.get(job or "").id


@alerts_command.command("history")
@click.option(
    "--limit", type=click.IntRange(min=0, max=2**53), default=_PAGE, help=f"At most so many ({_PAGE}); 0 is all."
)
@json_option
@with_app
def history_command(app: App, limit: int, as_json: bool) -> None:
    """Show what has been told, or waits to be; the newest first."""
    found = outbox_of(app).history(limit)
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
        delivery_of(app, rules).run()
