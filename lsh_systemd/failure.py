"""What a failed run last said, told so that failures that differ in numbers and ids only are the same. Pure."""

import re

from lsh_systemd.run import Run

_LONGEST = 200
# As much of the end of an output as is looked at, and of one line: it may be megabytes without a newline.
_TAIL = 2000
_MASKED = re.compile(
    r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"  # a UUID
    r"|0x[0-9a-fA-F]+"
    r"|\b(?=[a-zA-Z]*[0-9])[0-9a-zA-Z]{12,}\b"  # ids, digests, names of temporary files
    r"|\b(?=[a-f]*[0-9])[0-9a-f]{7,}\b"
    r"|[0-9]+(?:[.,:][0-9]+)*"  # numbers, times, versions, IPv4 addresses
)


def failure(run: Run) -> str | None:
    """The run's message, or the last line of its output, masked; None for a run that did not fail or said nothing.

    What a run wrote before the machine died says nothing about that.
    """
    if run.result in (None, "success", "skipped"):
        return None
    line = "" if run.result in ("lost", "missed") else _last_line(run.output)
    return masked(run.reason or run.message or line) or None


def masked(text: str) -> str:
    """ "job 17 of 2026-11-22 refused by 10.0.0.1" → "job # of #-#-# refused by #"; 200 characters at most."""
    return _MASKED.sub("#", " ".join(text[-_TAIL:].split()))[:_LONGEST]


def _last_line(output: bytes) -> str:
    lines = output[-_TAIL:].decode("utf-8", "replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "")
