"""The journal, read. The only module that knows systemd.journal."""

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

from lsh_systemd.errors import LshError
from lsh_systemd.gap import Gap
from lsh_systemd.run import MARK, MESSAGE_IDS, OUR_MESSAGE_IDS, Cause, Entry, Run
from lsh_systemd.scope import Scope

# How long after its run's record a line may still come in: systemd gives a job's output a buffer of 8 MiB, and journald
# empties it in turn with its other sources, 48 KiB at a time, while the record goes through at once.
LATE_USEC = 120_000_000
# How long to wait for the record of a run that is over: journald may be busy with a burst of output or a rotation.
PATIENCE_SECONDS = 30
# A line may overtake systemd's message that its run starts: they come through different sockets.
_EARLY_USEC = 1_000_000
# Of so many units at most, their output is searched for by name: each one more makes every step of the search longer.
_FEW = 16
# How often an entry is read that seems to be incomplete.
_READS, _PAUSE_SECONDS = 5, 0.02
_STREAMS = Path("/run/systemd/journal/streams")
_JOURNALS = (Path("/var/log/journal"), Path("/run/log/journal"))
# journald's own words for each line cost more than we need: only these are converted.
_WANTED = frozenset(
    "MESSAGE_ID UNIT USER_UNIT INVOCATION_ID USER_INVOCATION_ID UNIT_RESULT JOB_RESULT EXIT_CODE EXIT_STATUS "
    "SYSLOG_IDENTIFIER _PID _UID _BOOT_ID _HOSTNAME _LINE_BREAK _SYSTEMD_INVOCATION_ID "
    "_SOURCE_REALTIME_TIMESTAMP".split()
)


# What a process of its own does to send entries, each ended by a NUL.
_SENDER = """
import socket, sys
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for entry in sys.stdin.buffer.read().split(b"\\0")[:-1]:
    journal.sendto(entry, "/run/systemd/journal/socket")
"""


class JournalUnavailable(LshError):
    """There is no journal to read, or the caller may not read it."""


class Journal:
    """The entries that tell of the runs of one scope."""

    def __init__(self, scope: Scope, *, uid: int | None = None) -> None:
        self.scope = scope
        self.uid = os.getuid() if uid is None else uid

    def events(self, cursor: str | None, boots: Sequence[str]) -> Iterator[tuple[str, int, Entry]]:
        """Records and systemd's messages, as (cursor, time in µs, entry), in the journal's order: those of ``cursor``'s
        boot that come after it, then all of ``boots``.

        Not simply all after the cursor: after a power cut the clock may be behind, and the journal have lost the entry
        that the cursor stands for and have begun to count anew, so that the new boot would seem to lie before it.
        """
        rest = [(_parts(cursor)["b"], cursor)] if cursor else []
        for boot_id, after in [*rest, *((boot_id, None) for boot_id in boots)]:
            reader = self._open()
            reader.add_match(_BOOT_ID=boot_id)
            reader.add_conjunction()
            self._match_events(reader)
            found = _first_after(reader, after)
            while found:
                realtime = reader._get_realtime()
                yield reader._get_cursor(), realtime, _entry(reader, realtime)
                found = reader._next()

    def boots(self, *, besides: Collection[str] = ()) -> list[str]:
        """The ids of the boots that the journal has entries of, the oldest first."""
        reader, starts = self._open(), {}
        for boot_id in {each.hex for each in reader.query_unique("_BOOT_ID")} - set(besides):
            reader.flush_matches()
            reader.add_match(_BOOT_ID=boot_id)
            reader.seek_head()
            if reader._next():
                starts[boot_id] = reader._get_realtime()
        return sorted(starts, key=starts.__getitem__)

    def gap(self, cursor: str) -> Gap | None:
        """What the journal has dropped (it keeps to its size) of what came after ``cursor``; None for nothing."""
        reader = self._open()
        reader.seek_cursor(cursor)
        if not reader._next() or reader.test_cursor(cursor):
            return None
        place, following = _parts(cursor), _parts(reader._get_cursor())
        entries = None
        if place["s"] == following["s"]:
            entries = int(following["i"], 16) - int(place["i"], 16) - 1
            if entries <= 0:
                return None
        elif place["b"] in self.boots():
            return None  # its end was lost with the machine, not dropped
        return Gap(cursor, int(place["t"], 16), int(following["t"], 16), entries)

    def tail(self, boot_id: str | None = None) -> str | None:
        """The cursor of the newest entry (of a boot) that the caller may read; None where there is none."""
        reader = self._open()
        if boot_id:
            reader.add_match(_BOOT_ID=boot_id)
        reader.seek_tail()
        return reader._get_cursor() if reader._previous() else None

    def newest_boot_id(self) -> str | None:
        """The boot of the newest entry that the caller may read; None where there is none."""
        reader = self._open()
        reader.seek_tail()
        return str(reader._get("_BOOT_ID"), "ascii") if reader._previous() else None

    def follow(self, unit: str, cursor: str | None, *, pause: float) -> Iterator[tuple[Entry, bytes] | None]:
        """The unit's output and events after ``cursor``, as they come; None when some time brought none."""
        reader = self._open()
        self._match_output(reader, [unit])
        reader.add_disjunction()
        self._match_events(reader, unit)
        found = _first_after(reader, cursor)
        while True:
            if not found:
                yield None
            while found:
                data = _data(reader)
                yield _entry(reader, reader._get_realtime(), data), data.get("MESSAGE", b"")
                found = reader._next()
            reader.wait(pause)  # other units' entries end the wait too
            found = reader._next()

    def changes(self, seconds: Callable[[], float]) -> Iterator[bool]:
        """For ever: sleep until there is a new event (True), or for so many seconds (False). What is new counts from
        this call on, not from the first sleep."""
        reader = self._open()
        self._match_events(reader)
        reader.seek_tail()
        reader._previous()
        return _changes(reader, seconds)

    def output(self, runs: Iterable[Run]) -> Iterator[tuple[Entry, bytes]]:
        """All that the units of these ended runs wrote, from the first run's start on, as (entry, MESSAGE)."""
        by_boot = sorted((run for run in runs if run.ended_usec), key=lambda run: run.boot_id)
        for boot_id, group in groupby(by_boot, key=lambda run: run.boot_id):
            yield from self._boot_output(boot_id, list(group))

    def _boot_output(self, boot_id: str, runs: list[Run]) -> Iterator[tuple[Entry, bytes]]:
        reader = self._open()
        reader.add_match(_BOOT_ID=boot_id)
        units = {run.unit for run in runs}
        self._match_output(reader, units if len(units) <= _FEW else ())
        # Found by the monotonic clock where it is known: nobody can set that one.
        starts = [run.started_monotonic_usec for run in runs]
        if None in starts:
            reader.seek_realtime((min(run.started_usec or run.ended_usec or 0 for run in runs) - LATE_USEC) / 1e6)
        else:
            reader.seek_monotonic((min(each for each in starts if each is not None) - _EARLY_USEC) / 1e6, boot_id)
        ends = [
            None
            if run.started_monotonic_usec is None or run.duration_usec is None
            else run.started_monotonic_usec + run.duration_usec
            for run in runs
        ]
        last = max((run.ended_usec or 0) for run in runs) + LATE_USEC
        last_monotonic = None if None in ends else max(each for each in ends if each is not None) + LATE_USEC
        name, wanted = "_SYSTEMD_UNIT", {unit.encode() for unit in units}
        if self.scope is Scope.USER:
            name, wanted = "SYSLOG_IDENTIFIER", {unit.removesuffix(".service").encode() for unit in units}
        while reader._next():
            realtime = reader._get_realtime()
            if realtime > last if last_monotonic is None else reader._get_monotonic()[0] > last_monotonic:
                return
            data = _data(reader)
            if data.get(name) in wanted:
                yield _entry(reader, realtime, data), data.get("MESSAGE", b"")

    def mark(self, run_id: str, unit: str, cause: Cause) -> None:
        """Note in the journal what started the run, and for which scheduled time: systemd does not tell."""
        told = {
            "MESSAGE": f"run started: {cause.trigger}",
            "MESSAGE_ID": MARK,
            "PRIORITY": "7",
            "SYSLOG_IDENTIFIER": unit.removesuffix(".service"),
            "LSH_SCOPE": str(self.scope),
            "LSH_UNIT": unit,
            "LSH_INVOCATION_ID": run_id,
            "LSH_TRIGGER": cause.trigger,
            "LSH_BY": cause.by,
            "LSH_DUE": None if cause.due_usec is None else str(cause.due_usec),
        }
        retry = {"LSH_ATTEMPT": str(cause.attempt), "LSH_FIRST": cause.first_id} if cause.first_id else {}
        self.tell({name: value for name, value in (told | retry).items() if value is not None})

    def tell(self, fields: Mapping[str, str]) -> None:
        """Leave an entry with these fields, none longer than a line, MESSAGE among them.

        Not from this process: journald would add its command line, which may hold what is secret (--env).
        """
        import subprocess

        entry = _entry_text(fields)
        with contextlib.suppress(OSError):  # no logger, or no journald: what it tells of is done all the same
            subprocess.run(["logger", "--journald"], input=entry.encode("utf-8", "replace"), capture_output=True)

    def tell_all(self, entries: Sequence[Mapping[str, str]]) -> None:
        """The same for many entries: one process sends them all, as logger takes one at a time."""
        import subprocess
        import sys

        told = "".join(f"{_entry_text(fields)}\0" for fields in entries)
        with contextlib.suppress(OSError):
            subprocess.run(
                [sys.executable, "-ISc", _SENDER], input=told.encode("utf-8", "replace"), capture_output=True
            )

    def has_open_stream(self, run: Run, told_usec: float) -> bool | None:
        """Whether journald is still reading what the ended run wrote; None where that cannot be told (no root).

        journald keeps a file for each standard output that is open, or closed but not yet read to its end (seen on 252
        and 262). A stream younger than ``told_usec``, when the journal told of the end, belongs to the next run: one
        younger than the end itself may be this one's, as journald is not always quick to begin to read.
        """
        mine = f"IDENTIFIER={run.unit.removesuffix('.service')}\n"
        unsure = False
        for path in _STREAMS.glob("*:*"):
            try:
                if not (run.started_usec or 0) - 1e6 <= path.stat().st_mtime_ns / 1e3 <= told_usec:
                    continue
                text = path.read_text(errors="replace")
            except FileNotFoundError:
                continue
            except OSError:
                unsure = True
                continue
            if mine in text and (f"UNIT={run.unit}\n" in text) == (self.scope is Scope.SYSTEM):
                return True
        return None if unsure else False

    def _match_events(self, reader: Any, unit: str | None = None) -> None:
        user = self.scope is Scope.USER
        for message_id in MESSAGE_IDS:
            match = {"MESSAGE_ID": message_id}
            if user:
                match["_UID"] = str(self.uid)
            elif message_id not in OUR_MESSAGE_IDS:  # a record may come from the job's own user: see Fold's ``trusted``
                match["_PID"] = "1"
            if unit:
                match["LSH_UNIT" if message_id in OUR_MESSAGE_IDS else "USER_UNIT" if user else "UNIT"] = unit
            reader.add_match(**match)
            reader.add_disjunction()

    def _match_output(self, reader: Any, units: Iterable[str]) -> None:
        """The output of these units, or of all. systemd tells journald a system unit's name; of a user's that exits at
        once only the identifier is left."""
        reader.add_match(_TRANSPORT="stdout")
        if self.scope is Scope.USER:
            reader.add_match(_UID=str(self.uid))
        for unit in units:
            if self.scope is Scope.USER:
                reader.add_match(SYSLOG_IDENTIFIER=unit.removesuffix(".service"))
            else:
                reader.add_match(_SYSTEMD_UNIT=unit)

    def _open(self) -> Any:
        from systemd import journal

        if self.scope is Scope.SYSTEM and not _may_read_system_journal():
            raise JournalUnavailable(
                "you may not read the journal of the machine",
                hint="sudo lshctl …, or join the group systemd-journal and log in anew",
            )
        try:
            return journal.Reader(flags=journal.LOCAL_ONLY)
        except OSError as error:
            raise JournalUnavailable(
                f"cannot read the journal: {error.strerror}", hint="lshctl doctor tells more"
            ) from None


def _changes(reader: Any, seconds: Callable[[], float]) -> Iterator[bool]:
    until = time.monotonic() + seconds()
    while True:
        found = bool(reader._next())
        if not found:
            # Every line of every service ends the wait: most are none of ours.
            reader.wait(max(0.0, until - time.monotonic()))
            found = bool(reader._next())
        while reader._next():
            pass
        if found or time.monotonic() >= until:
            yield found
            until = time.monotonic() + seconds()


def _may_read_system_journal() -> bool:
    """Without the right to, sd_journal_open does not fail: it shows what little there is for the caller."""
    if os.geteuid() == 0:
        return True
    files = [path for root in _JOURNALS for path in root.glob("*/system.journal")]
    return any(os.access(path, os.R_OK) for path in files)


@lru_cache(maxsize=1000)
def _wanted(names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of an entry's fields that are converted. Few entries differ in which fields they have."""
    return tuple(name for name in names if name in _WANTED or name.startswith("LSH_"))


def boot_of(cursor: str) -> str:
    """The id of the boot that a cursor's entry is from."""
    return _parts(cursor)["b"]


def _parts(cursor: str) -> dict[str, str]:
    """A cursor's fields: s, i its journal's id and the number in it, b the boot, m, t the times (hexadecimal)."""
    return dict(part.split("=", 1) for part in cursor.split(";"))


def _first_after(reader: Any, cursor: str | None) -> bool:
    """Place the reader on the first entry after the cursor; whether there is one."""
    if cursor is None:
        reader.seek_head()
        return bool(reader._next())
    reader.seek_cursor(cursor)
    found = bool(reader._next())
    # The entry itself may be gone (vacuumed) or not match: then the seek has landed on the next one, which is new.
    return bool(reader._next()) if found and reader.test_cursor(cursor) else found


def _data(reader: Any) -> dict[str, Any]:
    """All fields of the reader's current entry, as bytes (in a list where one is there twice).

    libsystemd leaves out, silently, what it cannot read just then (seen on 252 of an entry as it was being written):
    an entry without a message is read again.
    """
    for _ in range(_READS):
        data: dict[str, Any] = reader._get_all()
        if "MESSAGE" in data:
            break
        time.sleep(_PAUSE_SECONDS)
    return data


def _entry(reader: Any, realtime: int, data: dict[str, Any] | None = None) -> Entry:
    """The fields of the reader's current entry (``data``, if they have been read) that a fold may ask for, as text."""
    if data is None:
        data = _data(reader)
    entry = {
        name: str(data[name], "utf-8", "replace")
        for name in _wanted(tuple(data))
        if type(data[name]) is bytes  # of a field that is there twice, it is a list
    }
    entry["__REALTIME_TIMESTAMP"] = str(realtime)
    entry["__MONOTONIC_TIMESTAMP"] = str(reader._get_monotonic()[0])
    return entry


def _entry_text(fields: Mapping[str, str]) -> str:
    return "".join(f"{name}={' '.join(value.splitlines())}\n" for name, value in fields.items())
