"""A run: one execution of a job; and what the journal tells of it. Pure.

What tells of a run, the most trusted first:

1. The record that ``libexec/record`` leaves when a run ends (MESSAGE_ID ``RECORD``), with the fields LSH_SCOPE,
   LSH_UNIT, LSH_INVOCATION_ID, LSH_RESULT (systemd's $SERVICE_RESULT), LSH_EXIT_CODE (exited, killed, dumped),
   LSH_EXIT_STATUS (a number or a signal's name), LSH_STARTED, LSH_ENDED (seconds since 1970), LSH_TRIGGER_UNIT,
   LSH_TRIGGER_USEC, LSH_CPU_USEC, LSH_MEMORY_PEAK, LSH_IO_READ, LSH_IO_WRITTEN (bytes), LSH_PID and LSH_SAID,
   what the run said of itself: the lines of ``said``, with U+001E for a newline. A field whose value is not known is
   empty.
   Where it does not come from root (a job of the machine with --run-as), only its measurements count.
2. The mark that ``lshctl start`` leaves (MESSAGE_ID ``MARK``): LSH_SCOPE, LSH_UNIT, LSH_INVOCATION_ID, LSH_TRIGGER
   and, of a start that a person asked for, LSH_BY; of a catch-up run, LSH_DUE: the scheduled time that it makes up
   for, in µs since 1970 (of one that had to wait in the queue, since when it did); of a retry, LSH_ATTEMPT and
   LSH_FIRST, the id of the first attempt's run. A start that was due and not made leaves a record with LSH_RESULT
   skipped and LSH_REASON.
3. systemd's own messages (sd-messages.h): "starting" for a run that goes on or died with the machine; "failure
   result" and "finished", which follow the record: they tell the end where it could not be written (a missing
   EnvironmentFile=, no logger), and theirs is the last word on success or failure, as a job's variables can overlay
   those that the record is made from.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lsh_systemd.said import progress_json

RECORD = "9e64b68f3c514f9c89ec19a513dc5268"
MARK = "4b1f6c0a3c0e4d0f9f3c5f0d7d2b8e61"
STARTING = "7d4958e842da4a758f6c1cdc7b36dcc5"
FINISHED = "39f53479d3a045ac8e11786248231fbf"
FAILURE_RESULT = "d9b373ed55a64feb8242e02dbe79a49c"
PROCESS_EXIT = "98e322203f7a4ed290d09fe03c09fe15"
# A change of a job: see ``audit``.
CHANGED = "5cf0c3a1f3a74c5c9f1b6a8a4c1f2e77"
# Those whose sender is told by its uid; all others come from the manager itself.
OUR_MESSAGE_IDS = (RECORD, MARK, CHANGED)
MESSAGE_IDS = (*OUR_MESSAGE_IDS, STARTING, FINISHED, FAILURE_RESULT, PROCESS_EXIT)

# A trigger that the environment cannot tell: the collector asks the timer's schedule.
UNSURE = "?"

# The last µs of the year 9999: what Python's datetime and RFC 3339 can hold.
LAST_USEC = 253_402_300_799_999_999

Entry = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One execution. ``id`` is systemd's invocation ID; times are µs since 1970; None is "not known"."""

    id: str
    job: str
    unit: str
    host: str = ""
    boot_id: str = ""
    trigger: str | None = None
    trigger_usec: int | None = None
    attempt: int = 1
    started_usec: int | None = None
    started_monotonic_usec: int | None = None
    ended_usec: int | None = None
    duration_usec: int | None = None
    result: str | None = None
    exit_status: int | None = None
    signal: str | None = None
    cpu_usec: int | None = None
    memory_peak_bytes: int | None = None
    io_read_bytes: int | None = None
    io_write_bytes: int | None = None
    pid: int | None = None
    output: bytes = b""
    output_bytes: int = 0
    due_usec: int | None = None
    first_id: str | None = None
    reason: str | None = None
    triggered_by: str | None = None
    message: str | None = None
    metrics: str = "{}"  # a JSON object: name → number
    progress: str | None = None  # as "40/100"

    @property
    def running(self) -> bool:
        return self.result is None

    @property
    def failed(self) -> bool:
        return self.result not in (None, "success", "skipped", "lost")

    def but(self, **fields: Any) -> "Run":
        """The run with other values in some fields: dataclasses.replace, in a tenth of its time, which was most of what
        collecting took."""
        run = object.__new__(Run)
        run.__dict__.update(self.__dict__, **fields)
        return run

    def to_json(self) -> dict[str, Any]:
        """The run in the shape that ``runs --json`` promises."""
        return {
            "id": self.id,
            "job": self.job,
            "host": self.host,
            "trigger": self.trigger,
            "triggered_by": self.triggered_by,
            "attempt": self.attempt,
            "first_id": self.first_id,
            "due_at": rfc3339(self.due_usec),
            "started_at": rfc3339(self.started_usec),
            "ended_at": rfc3339(self.ended_usec),
            "duration_seconds": None if self.duration_usec is None else self.duration_usec / 1e6,
            "result": self.result,
            "reason": self.reason,
            "exit_status": self.exit_status,
            "signal": self.signal,
            "cpu_seconds": None if self.cpu_usec is None else self.cpu_usec / 1e6,
            "memory_peak_bytes": self.memory_peak_bytes,
            "io_read_bytes": self.io_read_bytes,
            "io_write_bytes": self.io_write_bytes,
            "message": self.message,
            "metrics": json.loads(self.metrics),
            "progress": progress_json(self.progress, self.message),
            "output": self.output.decode("utf-8", "replace"),
            "output_bytes": self.output_bytes,
        }


@dataclass(frozen=True)
class Cause:
    """What starts a run; ``due_usec``: the scheduled time that it makes up for, or since when it waited in the queue;
    of a retry, its attempt and the first attempt's run; ``by``: the person who asked for it."""

    trigger: str = "manual"
    due_usec: int | None = None
    attempt: int = 1
    first_id: str | None = None
    by: str | None = None


class Output:
    """What a run wrote, whole up to ``limit`` bytes, else its head and its tail with a line between them."""

    def __init__(self, limit: int) -> None:
        self._half = max(1, limit // 2)
        self._head, self._tail = bytearray(), bytearray()
        self.size = 0

    def add(self, line: bytes, line_break: str | None) -> int:
        """Append a journal entry's MESSAGE, with its _LINE_BREAK. Returns by how many bytes more is held."""
        line = as_written(line, line_break)
        held = len(self._head) + len(self._tail)
        self.size += len(line)
        room = self._half - len(self._head)
        self._head += line[:room]
        self._tail += line[room:] if room > 0 else line
        if len(self._tail) > 2 * self._half:
            del self._tail[: -self._half]
        return len(self._head) + len(self._tail) - held

    def bytes(self) -> bytes:
        left_out = self.size - 2 * self._half
        if left_out <= 0:
            return bytes(self._head + self._tail)
        return bytes(self._head) + f"\n[… {left_out} bytes left out …]\n".encode() + bytes(self._tail[-self._half :])


def as_written(line: bytes, line_break: str | None) -> bytes:
    """The bytes that the job wrote: journald tells in _LINE_BREAK= where it was no newline that ended the line."""
    return line + {"nul": b"\0", "eof": b"", "line-max": b"", "pid-change": b""}.get(line_break or "", b"\n")


def rfc3339(usec: int | None) -> str | None:
    """1795329711402521 → "2026-11-22T06:41:51.402521Z"; None for no time, or one beyond the year 9999."""
    if usec is None or not 0 <= usec <= LAST_USEC:
        return None
    seconds, micros = divmod(usec, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{micros:06d}Z"
