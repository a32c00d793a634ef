"""When a run that failed is tried again: the policy, pure. ``libexec/retry`` carries it out."""

import re
import signal
from datetime import timedelta
from typing import TYPE_CHECKING

from lsh_systemd.errors import BadInput
from lsh_systemd.span import check_span
from lsh_systemd.text import visible

if TYPE_CHECKING:
    from lsh_systemd.job import Job
    from lsh_systemd.run import Run

MOST = 100
RESULTS = ("exit-code", "signal", "core-dump", "timeout", "oom-kill", "watchdog", "resources")
_SIGNAL = re.compile(r"signal:(?:SIG)?([A-Z0-9+-]+)", re.IGNORECASE)


def check(job: "Job") -> None:
    """Raise BadInput for a policy that makes no sense."""
    if not 0 <= job.retries <= MOST:
        raise BadInput(f"{job.retries} retries are not between 0 and {MOST}")
    check_span("--retry-delay", job.retry_delay, least=timedelta(milliseconds=1))
    check_span("--retry-max-delay", job.retry_max_delay, least=timedelta(milliseconds=1))
    for token in job.retry_on:
        _token(token)
    for status in job.no_retry_exit:
        if not 1 <= status <= 255:
            raise BadInput(f"the exit status {status} is not between 1 and 255")
    if (job.retry_on or job.no_retry_exit) and not job.retries:
        raise BadInput("--retry-on and --no-retry-exit need --retries", hint="--retries 3")


def delays(job: "Job") -> list[timedelta]:
    """How long to wait before each retry: twice as long each time, up to the longest."""
    longest = max(job.retry_max_delay, job.retry_delay)
    return [min(job.retry_delay * 2 ** min(number, 60), longest) for number in range(job.retries)]


def will_retry(job: "Job", run: "Run") -> bool:
    """Whether the run, which has failed, is to be tried again: libexec/retry decides by the same rules."""
    if run.result not in RESULTS or run.attempt > job.retries or run.exit_status in job.no_retry_exit:
        return False
    tokens = set(map(_token, job.retry_on))
    kinds = {run.result, f"signal:{run.signal}", *(["signal"] if run.result == "core-dump" else [])}
    return not tokens or bool(tokens & kinds)


def section(job: "Job") -> str:
    """The policy as libexec/retry reads it: delays in µs, the results to retry on (none: any), the exit statuses not
    to."""
    lines = ["[X-Retry]", "Delays=" + " ".join(str(each // timedelta(microseconds=1)) for each in delays(job))]
    lines.append("On=" + " ".join(map(_token, job.retry_on)))
    lines.append("Not=" + " ".join(map(str, job.no_retry_exit)))
    return "\n".join(lines)


def _token(token: str) -> str:
    """One of RESULTS, or signal:NAME. Raises BadInput."""
    if token in RESULTS:
        return token
    match = _SIGNAL.fullmatch(token)
    if match:
        try:
            number = int(match[1]) if match[1].isdecimal() else signal.Signals[f"SIG{match[1].upper()}"]
            return f"signal:{signal.Signals(number).name.removeprefix('SIG')}"
        except (KeyError, ValueError):
            pass
    raise BadInput(
        f"{visible(token)} is nothing to retry on", hint=f"there are {', '.join(RESULTS)} and signal:NAME (signal:TERM)"
    )
