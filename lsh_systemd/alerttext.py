"""What an alert says: a title and a few lines of plain text. Pure. What a job has written is shown, never obeyed."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from lsh_systemd.run import Run
from lsh_systemd.scope import Scope
from lsh_systemd.text import escape_controls

_LINES, _CHARACTERS = 15, 1500
# Of a message about many: how many are told in full, and how many are named.
_IN_FULL, _NAMED = 3, 25
_NO_BREAK = "\u2060"  # WORD JOINER: invisible, and between two characters it keeps them from being a mention
_MENTION = re.compile(r"@(?=everyone|here|channel|all|room)|<(?=[!@#])", re.IGNORECASE)


def title_of(event: str, run: Run, reason: str | None = None) -> str:
    """One line: "[host] backup failed: timeout"."""
    words = {
        "recovery": "has recovered",
        "slow": f"was slow: {reason}",
        "stuck": f"is stuck: {reason}",
        "success-rate": reason or "",
        "metric": f"tells of a number: {reason}",
        "missed": "did not run when it should have",
        "lost": "was lost: the machine went down, or its record is missing",
    }
    return f"[{run.host or '?'}] {run.job} " + words.get(event, f"failed: {_ending(run)}")


def body_of(run: Run, *, scope: Scope) -> str:
    """How the run went, the command to look closer, and the last lines that it wrote."""
    lines = []
    if run.result == "missed":
        lines += [run.reason or "", f"lshctl --{scope} show {run.job}"]
    elif run.running:
        lines += [f"{run.job} goes on, started by {run.trigger or 'something unknown'} {_utc(run.started_usec)}"]
        lines += [f"lshctl --{scope} logs {run.job}", f"to end it: lshctl --{scope} stop {run.job}"]
    else:
        attempt = f", attempt {run.attempt}" if run.attempt > 1 else ""
        lines.append(f"{run.job}: {_ending(run)}{attempt}, started by {run.trigger or 'something unknown'}")
        took = f", took {run.duration_usec / 1e6:.3g} s" if run.duration_usec is not None else ""
        lines.append(f"started {_utc(run.started_usec)}{took}")
        if run.message:
            lines.append(f"it says: {run.message}")
        # Last what a service that takes but short messages may cut off.
        lines.append(f"lshctl --{scope} runs --id {run.id[:12]}")
        if last := _last_lines(run.output):
            lines += ["last lines:", *(f"  {line}" for line in last)]
    return harmless("\n".join(lines))


def together(messages: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Several alerts (title, body) as one message."""
    if len(messages) == 1:
        return messages[0]
    host = messages[0][0].partition("] ")[0] + "]"
    lines = [f"{body}\n" for _, body in messages[:_IN_FULL]]
    lines += [f"- {title}" for title, _ in messages[_IN_FULL:][:_NAMED]]
    if (more := len(messages) - _IN_FULL - _NAMED) > 0:
        lines.append(f"and {more} more: lshctl alerts history")
    named = "; ".join(title.partition("] ")[2] for title, _ in messages[:2])
    return f"{host} {len(messages)} alerts: {named}" + ("; …" if len(messages) > 2 else ""), "\n".join(lines)


def harmless(text: str) -> str:
    """Without control characters, and without what a chat would take for a mention of everybody."""
    return _MENTION.sub(lambda match: match[0] + _NO_BREAK, escape_controls(text))


def _ending(run: Run) -> str:
    how = f" (exit status {run.exit_status})" if run.exit_status else f" (signal {run.signal})" if run.signal else ""
    return f"{run.result}{how}"


def _last_lines(output: bytes) -> list[str]:
    text = output[-4 * _CHARACTERS :].decode("utf-8", "replace")[-_CHARACTERS:]
    return [line for line in text.splitlines() if line.strip()][-_LINES:]


def _utc(usec: int | None) -> str:
    return "at a time unknown" if usec is None else f"{datetime.fromtimestamp(usec / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"
