"""Messages out: the only module that knows apprise. It is loaded by those alone who send, or check a URL."""

import contextlib
import http.client
import json
import logging
import re
import signal
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from types import FrameType
from typing import Any

from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.text import escape_controls

_SECONDS = 15
# For one message in all.
_MOST_SECONDS = 60
INSTALL = "apt install python3-apprise (Debian 13 or newer), or pip install apprise where lshctl is"


class NotSent(LshError):
    """It could not be delivered now; another try may do."""


def is_there() -> bool:
    return find_spec("apprise") is not None


def check(url: str) -> None:
    """Raise BadInput for a URL that apprise does not understand, LshError where apprise is missing."""
    _service(url)


def send(url: str, title: str, body: str) -> None:
    """Deliver a message of plain text. Raises NotSent, or BadInput where no other try could do better."""
    apprise = _apprise()
    service = _service(url)
    if "overflow=" not in url:  # Discord and others refuse what is too long for them
        service.overflow_mode = apprise.OverflowMode.TRUNCATE
    # Not the service alone: it is Apprise that escapes the text for those that take HTML.
    sender = apprise.Apprise()
    sender.add(service)
    try:
        with _bounded(), apprise.LogCapture(level=logging.WARNING, fmt="%(message)s") as log:
            done = bool(sender.notify(title=title, body=body, body_format=apprise.NotifyFormat.TEXT))
            said = log.getvalue().strip().splitlines()
    except NotSent:
        raise
    except Exception as error:  # a plugin's own: the other messages must not wait for its mending
        raise NotSent(f"{type(error).__name__} in apprise") from None
    if not done:
        raise NotSent(without(url, said[-1]) if said else "it was refused")


def send_to_slack(webhook: str, title: str, body: str) -> None:
    """Post to a Slack webhook as it is: what SLACK_WEBHOOK_URL names. Raises NotSent or BadInput."""
    # In Slack's own markup these three begin links and mentions.
    text = f"*{title}*\n```{body}```".replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    data = json.dumps({"text": text}).encode()
    if not webhook.startswith(("https://", "http://")):
        raise BadInput("SLACK_WEBHOOK_URL is no http(s) URL")
    try:
        request = urllib.request.Request(webhook, data=data, headers={"Content-Type": "application/json"})
        with _bounded(), urllib.request.urlopen(request, timeout=_SECONDS):
            return
    except urllib.error.HTTPError as error:
        raise NotSent(f"Slack answered {error.code}") from None
    except urllib.error.URLError as error:
        raise NotSent(without(webhook, f"cannot reach Slack: {error.reason}")) from None
    except (OSError, ValueError, http.client.HTTPException) as error:  # whose text may have the URL in it
        raise NotSent(f"cannot reach Slack: {type(error).__name__}") from None


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """A server that sends a byte now and then runs into no time-out of a read, and would hold up all others."""

    def over(number: int, frame: FrameType | None) -> None:
        raise NotSent(f"it took more than {_MOST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(_MOST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def without(url: str, text: str) -> str:
    """A text that may be shown: one line, with nothing of the URL that could be a password."""
    parts = {url, *re.split(r"[/:@?&=,]", url)}
    for part in sorted(parts | set(map(urllib.parse.unquote, parts)), key=len, reverse=True):
        if len(part) >= 6:
            text = text.replace(part, "…")
    return escape_controls(text, keep="")[:300]


def _service(url: str) -> Any:
    apprise = _apprise()
    service = apprise.Apprise.instantiate(url, suppress_exceptions=True)
    if service is None:
        raise BadInput(
            "apprise does not understand the URL",
            hint="https://github.com/caronc/apprise/wiki has one for each service",
        )
    return service


def _apprise() -> Any:
    try:
        import apprise
    except ImportError:
        raise LshError("apprise is not installed, which sends alerts", hint=INSTALL) from None
    return apprise
