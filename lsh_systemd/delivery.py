"""Alerts that are due, out: one message to each URL, whatever there is to tell it. Done in a process of its own, which
ends with it: apprise is large, and the agent is not to need the network."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from lsh_systemd import alertfile, notify
from lsh_systemd.alertrule import GIVE_UP_AFTER, pause_after, secrets_in, with_secrets
from lsh_systemd.alerts import Alerts, Due
from lsh_systemd.alerttext import together
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.outbox import Target
from lsh_systemd.scope import state_dir
from lsh_systemd.vault import Vault

_USEC = timedelta(microseconds=1)


class Delivery:
    """Sends what a scope's alerts have waiting."""

    def __init__(self, alerts: Alerts, *, vault: Vault) -> None:
        self.alerts, self.vault = alerts, vault

    def run(self) -> int:
        """Send all that is due now; how many messages have been taken."""
        sent = 0
        with self._alone():
            while True:
                now = time.time_ns() // 1000
                self.alerts.step(now)
                ready = [each for each in self.alerts.due(now) if each.at_usec <= now]
                if not ready:
                    self.alerts.outbox.purge(now)
                    return sent
                # Last those that have failed before: they may take their time to do so again.
                sent += sum(map(self._deliver, sorted(ready, key=lambda each: each.state.tries)))

    def send(self, rule_url: str, title: str, body: str) -> None:
        """One message to one URL as a rule has it. Raises NotSent where another try may do, else BadInput."""
        slack = alertfile.slack_rule(self.alerts.scope)
        if slack and rule_url in slack.to:
            notify.send_to_slack(rule_url, title, body)
            return
        notify.send(self.filled(rule_url), title, body)

    def filled(self, url: str) -> str:
        """The URL with its secrets. Raises NotSent where there is no such secret (yet)."""
        try:
            values = {name: self.vault.value(name).decode().rstrip("\n") for name in secrets_in(url)}
        except UnicodeDecodeError:
            raise notify.NotSent("a secret in the URL is no text") from None
        except LshError as error:
            raise notify.NotSent(error.message) from None
        return with_secrets(url, values)

    def _deliver(self, due: Due) -> bool:
        title, body = together([(each.title, each.body) for each in due.alerts])
        name, outbox = due.rule.name, self.alerts.outbox
        # Should this process die of it, others come first the next time.
        tries, now = due.state.tries + 1, time.time_ns() // 1000
        again = now + pause_after(tries) // _USEC
        begun = replace(due.state, tries=tries, next_usec=again, error="sending it did not come to an end")
        outbox.set_target(name, due.target, begun)
        try:
            self.send(due.rule.to[due.target], title, body)
        except BadInput as error:
            with outbox.store.transaction():
                outbox.settle(due.alerts, "given-up", error=error.message)
                outbox.set_target(name, due.target, replace(due.state, tries=tries, error=error.message))
            return False
        except LshError as error:
            old = [each for each in due.alerts if now - each.created_usec > GIVE_UP_AFTER // _USEC]
            with outbox.store.transaction():
                outbox.settle(old, "given-up", error=error.message)
                outbox.set_target(name, due.target, replace(begun, error=error.message))
            return False
        with outbox.store.transaction():
            outbox.settle(due.alerts, "sent")
            outbox.set_target(name, due.target, Target(sent_usec=time.time_ns() // 1000))
        return True

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Two that deliver at once would tell everything twice."""
        path = state_dir(self.alerts.scope) / "alerts.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
