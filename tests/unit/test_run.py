"""How journal entries become runs."""

from typing import Any

import pytest

from lsh_systemd import audit
from lsh_systemd.audit import Actor
from lsh_systemd.fold import Fold
from lsh_systemd.run import (
    FAILURE_RESULT,
    FINISHED,
    MARK,
    PROCESS_EXIT,
    RECORD,
    STARTING,
    UNSURE,
    Output,
    Run,
    rfc3339,
)
from lsh_systemd.scope import Scope
from lsh_systemd.writers import Writers

UNIT = "lsh-backup.service"
FIRST, SECOND = "a" * 32, "b" * 32
SECOND_USEC = 1_000_000


def starting(run_id: str, at: int, **fields: str) -> dict[str, str]:
    return {
        "MESSAGE_ID": STARTING,
        "UNIT": UNIT,
        "INVOCATION_ID": run_id,
        "_PID": "1",
        "_UID": "0",
        "_BOOT_ID": "boot",
        "_HOSTNAME": "host",
        "_SOURCE_REALTIME_TIMESTAMP": str(at),
        "__MONOTONIC_TIMESTAMP": str(at // 2),
    } | fields


def record(run_id: str, at: int, result: str = "success", **fields: str) -> dict[str, str]:
    return {
        "MESSAGE_ID": RECORD,
        "LSH_SCOPE": "system",
        "LSH_UNIT": UNIT,
        "LSH_INVOCATION_ID": run_id,
        "LSH_RESULT": result,
        "LSH_EXIT_CODE": "exited",
        "LSH_EXIT_STATUS": "0",
        "LSH_CPU_USEC": "2500",
        "_PID": "70",
        "_UID": "0",
        "_BOOT_ID": "boot",
        "_HOSTNAME": "host",
        "_SOURCE_REALTIME_TIMESTAMP": str(at),
        "__MONOTONIC_TIMESTAMP": str(at // 2),
    } | fields


def manager(kind: str, run_id: str, at: int, **fields: str) -> dict[str, str]:
    return starting(run_id, at) | {"MESSAGE_ID": kind} | fields


def fold(*entries: dict[str, str], last: Run | None = None, known: bool = True) -> list[Run]:
    folding = Fold(
        Scope.SYSTEM,
        uid=0,
        last=lambda unit: last,
        known=lambda unit: known,
        trusted=lambda unit, uid: uid == 0,
    )
    folding.feed(entries)
    return list(folding.changed.values())


def test_a_record_alone_makes_a_whole_run() -> None:
    (run,) = fold(record(FIRST, 7 * SECOND_USEC, LSH_STARTED="5.250000"))
    assert run.to_json() == {
        "id": FIRST,
        "job": "backup",
        "host": "host",
        "trigger": "manual",
        "triggered_by": None,
        "attempt": 1,
        "first_id": None,
        "due_at": None,
        "reason": None,
        "started_at": "1970-01-01T00:00:05.250000Z",
        "ended_at": "1970-01-01T00:00:07.000000Z",
        "duration_seconds": 1.75,
        "result": "success",
        "exit_status": 0,
        "signal": None,
        "cpu_seconds": 0.0025,
        "memory_peak_bytes": None,
        "io_read_bytes": None,
        "io_write_bytes": None,
        "message": None,
        "metrics": {},
        "progress": None,
        "output": "",
        "output_bytes": 0,
    }


def test_the_start_of_systemd_s_own_message_is_the_more_exact_one() -> None:
    monotonic = {"__MONOTONIC_TIMESTAMP": str(6 * SECOND_USEC + 5000)}
    (run,) = fold(starting(FIRST, 4 * SECOND_USEC), record(FIRST, 8 * SECOND_USEC, LSH_STARTED="3.9", **monotonic))
    assert (run.started_usec, run.duration_usec) == (4 * SECOND_USEC, 4 * SECOND_USEC)


def test_the_duration_is_right_where_the_clock_was_set_in_between() -> None:
    (run,) = fold(
        starting(FIRST, 4000 * SECOND_USEC), record(FIRST, 8 * SECOND_USEC, __MONOTONIC_TIMESTAMP="2003000000")
    )
    assert run.duration_usec == 3 * SECOND_USEC


def test_a_start_without_an_end_is_running() -> None:
    (run,) = fold(starting(FIRST, 5))
    assert run.running and run.trigger is None


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("exited", "7", (7, None)),
        ("killed", "KILL", (None, "KILL")),
        ("dumped", "SEGV", (None, "SEGV")),
        ("", "", (None, None)),
    ],
)
def test_exit_status_or_signal(code: str, status: str, expected: tuple[Any, Any]) -> None:
    (run,) = fold(record(FIRST, 9, "exit-code", LSH_EXIT_CODE=code, LSH_EXIT_STATUS=status))
    assert (run.exit_status, run.signal) == expected


def test_systemd_s_word_counts_where_the_record_is_missing() -> None:
    failed = fold(
        starting(FIRST, 2),
        manager(PROCESS_EXIT, FIRST, 4, EXIT_CODE="exited", EXIT_STATUS="3"),
        manager(FAILURE_RESULT, FIRST, 4, UNIT_RESULT="exit-code"),
    )
    finished = fold(starting(FIRST, 2), manager(FINISHED, FIRST, 4, JOB_RESULT="done"))
    assert [(run.result, run.exit_status) for run in failed + finished] == [("exit-code", 3), ("success", 0)]


def test_systemd_has_the_last_word_on_failure_and_success() -> None:
    """A job's variables can overlay those that its record is made from: SERVICE_RESULT=success in an env file."""
    lie = record(FIRST, 4, "success", LSH_EXIT_STATUS="7")
    (run,) = fold(starting(FIRST, 2), lie, manager(FAILURE_RESULT, FIRST, 5, UNIT_RESULT="exit-code"))
    assert (run.result, run.exit_status, run.ended_usec) == ("exit-code", 7, 4)
    (run,) = fold(starting(FIRST, 2), record(FIRST, 4, "oom-kill"), manager(FINISHED, FIRST, 5, JOB_RESULT="done"))
    assert run.result == "success"


def believing_bob(*entries: dict[str, str]) -> list[Run]:
    folding = Fold(Scope.SYSTEM, uid=0, last=lambda u: None, known=lambda u: True, trusted=lambda u, uid: True)
    folding.feed(entries)
    return list(folding.changed.values())


def test_a_record_of_the_job_s_own_user_measures_but_does_not_judge() -> None:
    told = record(FIRST, 4, "success", _UID="1000", LSH_EXIT_STATUS="0")
    (run,) = believing_bob(
        starting(FIRST, 2),
        manager(PROCESS_EXIT, FIRST, 3, EXIT_CODE="exited", EXIT_STATUS="9"),
        told,
        manager(FAILURE_RESULT, FIRST, 5, UNIT_RESULT="exit-code"),
    )
    assert (run.result, run.exit_status, run.cpu_usec) == ("exit-code", 9, 2500)
    assert believing_bob(told) == []  # a run that systemd has not told of
    # With another run's id it neither takes that one's place, nor ends the one that goes on.
    for result in ("skipped", "success"):
        (run,) = believing_bob(starting(FIRST, 3), record(SECOND, 4, result, _UID="1000"))
        assert run.id == FIRST and run.running


@pytest.mark.parametrize("started", ["900000000000.5", "9" * 23 + ".5", "-1", "1e9", "\u0661", ""])
def test_an_impossible_start_is_none(started: str) -> None:
    (run,) = fold(record(FIRST, 7 * SECOND_USEC, LSH_STARTED=started, LSH_CPU_USEC="9" * 18, LSH_MEMORY_PEAK="9" * 30))
    assert (run.started_usec, run.memory_peak_bytes) == (None, None)
    assert run.to_json()["started_at"] is None


def test_a_signal_is_a_signal_s_name() -> None:
    (run,) = fold(record(FIRST, 4, "signal", LSH_EXIT_CODE="killed", LSH_EXIT_STATUS="\x1b]0;pwned\x07"))
    assert run.signal is None


def test_the_same_entries_again_change_nothing() -> None:
    entries = [starting(FIRST, 2), record(FIRST, 4)]
    once = fold(*entries)
    assert fold(*entries, last=once[0]) == []


def test_a_new_start_ends_a_run_whose_record_was_lost() -> None:
    runs = {run.id: run.result for run in fold(starting(FIRST, 2), starting(SECOND, 5), record(SECOND, 6))}
    assert runs == {FIRST: "lost", SECOND: "success"}


@pytest.mark.parametrize(
    "change",
    [
        {"_UID": "1000"},
        {"LSH_SCOPE": "user"},
        {"LSH_UNIT": "lsh-../x.service"},
        {"LSH_UNIT": "sshd.service"},
        {"LSH_INVOCATION_ID": "A" * 32},
        {"LSH_RESULT": "splendid"},
        {"LSH_UNIT": "lsh-\x1b[31m.service"},
    ],
)
def test_a_forged_or_malformed_record_is_no_run(change: dict[str, str]) -> None:
    assert fold(record(FIRST, 4) | change) == []


def test_a_foreign_unit_s_messages_are_no_runs() -> None:
    assert fold(starting(FIRST, 2), manager(FINISHED, FIRST, 3), known=False) == []
    assert fold(starting(FIRST, 2, _PID="99")) == []


def trigger(usec: int) -> dict[str, str]:
    return {"LSH_TRIGGER_UNIT": "lsh-backup.timer", "LSH_TRIGGER_USEC": str(usec)}


def test_an_old_trigger_says_nothing_a_new_one_is_the_timer_s() -> None:
    before = Run(id="c" * 32, job="backup", unit=UNIT, boot_id="boot", trigger_usec=50, result="success")
    (stale,) = fold(starting(FIRST, 60), record(FIRST, 61, **trigger(50)), last=before)
    (fresh,) = fold(starting(FIRST, 60), record(FIRST, 61, **trigger(59)), last=before)
    assert (stale.trigger, fresh.trigger) == (UNSURE, "timer")


def test_the_mark_of_lshctl_tells_even_after_the_record() -> None:
    mark = record(FIRST, 62) | {"MESSAGE_ID": MARK, "LSH_TRIGGER": "manual"}
    for entries in (
        [starting(FIRST, 60), mark, record(FIRST, 63, **trigger(5))],
        [record(FIRST, 61, **trigger(5)), mark],
    ):
        (run,) = fold(*entries)
        assert run.trigger == "manual"


def test_a_line_without_invocation_id_belongs_by_its_pid() -> None:
    runs = [
        Run(id=FIRST, job="x", unit=UNIT, boot_id="boot", started_usec=10, ended_usec=20, pid=100),
        Run(id=SECOND, job="x", unit=UNIT, boot_id="boot", started_usec=20, ended_usec=30, pid=110),
    ]
    line = {"_BOOT_ID": "boot", "__REALTIME_TIMESTAMP": "25"}
    writers = Writers(runs)
    assert writers.of(line | {"_PID": "99"}) == runs[0]  # late, but by its PID the first one's
    assert writers.of(line | {"_PID": "105"}) == runs[1]
    assert writers.of(line | {"_PID": "7", "_SYSTEMD_INVOCATION_ID": SECOND}) == runs[1]
    assert writers.of(line | {"_PID": "7", "_SYSTEMD_INVOCATION_ID": "f" * 32}) is None
    assert writers.of(line | {"_PID": "105", "_BOOT_ID": "other"}) is None


def test_output_is_whole_up_to_the_limit() -> None:
    output = Output(100)
    for line, ended_by in ((b"a", None), (b"\xff\xfe", "nul"), (b"b", "line-max"), (b"c", "eof")):
        output.add(line, ended_by)
    assert (output.bytes(), output.size) == (b"a\n\xff\xfe\0bc", 7)


@pytest.mark.parametrize("lines", [1, 20, 21, 500])
def test_longer_output_keeps_head_and_tail(lines: int) -> None:
    output, whole = Output(100), b"".join(b"%04d\n" % number for number in range(lines))
    for number in range(lines):
        output.add(b"%04d" % number, None)
    assert output.size == len(whole)
    if len(whole) <= 100:
        assert output.bytes() == whole
    else:
        marker = f"\n[… {len(whole) - 100} bytes left out …]\n".encode()
        assert output.bytes() == whole[:50] + marker + whole[-50:]


def test_times_keep_their_microseconds() -> None:
    assert rfc3339(1795329711402521) == "2026-11-22T06:41:51.402521Z"
    assert rfc3339(None) is None


def mark(run_id: str, at: int, **fields: str) -> dict[str, str]:
    return record(run_id, at) | {"MESSAGE_ID": MARK, "LSH_TRIGGER": "manual", "LSH_BY": "alice"} | fields


def test_who_started_it_is_told_by_root_alone() -> None:
    (run,) = fold(starting(FIRST, 5), mark(FIRST, 6))
    assert run.triggered_by == "alice"
    folding = Fold(Scope.SYSTEM, uid=0, last=lambda u: None, known=lambda u: True, trusted=lambda u, uid: True)
    folding.feed([starting(FIRST, 5), mark(FIRST, 6, _UID="1000")])
    assert folding.changed[FIRST].trigger == "manual" and folding.changed[FIRST].triggered_by is None


def test_a_mark_waits_for_its_run() -> None:
    """Of a unit for one run, whose file is gone, "starting" does not count: the mark comes before the record."""
    (run,) = fold(starting(FIRST, 5), mark(FIRST, 6), record(FIRST, 7), known=False)
    assert (run.result, run.triggered_by) == ("success", "alice")
    (run,) = fold(mark(FIRST, 6, LSH_UNIT="lsh-other.service"), record(FIRST, 7))
    assert run.triggered_by is None


@pytest.mark.parametrize("control", ["\x1b[2J", "", "x" * 101])
def test_nobody_has_such_a_name(control: str) -> None:
    (run,) = fold(starting(FIRST, 5), mark(FIRST, 6, LSH_BY=control))
    assert run.triggered_by is None


def test_what_a_run_said_comes_with_its_record() -> None:
    (run,) = fold(starting(FIRST, 5), record(FIRST, 6, LSH_SAID="a=1\x1ea=2\x1emessage=done\x1eprogress=1/2\x1e\ufffd"))
    assert (run.metrics, run.message, run.progress) == ('{"a": 2}', "done", "1/2")
    assert fold(starting(FIRST, 5), record(FIRST, 6, LSH_SAID="a=1", _UID="1000"))[0].metrics == "{}"


@pytest.mark.parametrize(("scope", "uid", "counts"), [("system", "0", 1), ("system", "1000", 0), ("user", "0", 0)])
def test_whose_change_counts(scope: str, uid: str, counts: int) -> None:
    told = audit.fields(Actor(name="bob", uid=1), "set", "x", {}, scope=scope, change_id=FIRST)
    folding = Fold(Scope.SYSTEM, uid=0, last=lambda u: None, known=lambda u: True, trusted=lambda u, uid: True)
    folding.feed([told | {"_UID": uid, "_SOURCE_REALTIME_TIMESTAMP": "9"}] * 2)
    assert [change.at_usec for change in folding.changes.values()] == [9] * counts


def test_a_run_from_the_future_does_not_hide_the_one_that_ends() -> None:
    """The clock was set back: the unit's newest run by its start is one from before that."""
    future = Run(id=FIRST, job="backup", unit=UNIT, boot_id="boot", started_usec=9 * SECOND_USEC, result="success")
    (going,) = fold(starting(SECOND, 2 * SECOND_USEC))
    folding = Fold(
        Scope.SYSTEM,
        uid=0,
        last=lambda u: future,
        known=lambda u: True,
        trusted=lambda u, uid: True,
        find=lambda run_id: going if run_id == SECOND else None,
    )
    folding.feed([record(SECOND, 3 * SECOND_USEC)])
    (run,) = folding.changed.values()
    assert (run.id, run.result, run.started_usec) == (SECOND, "success", going.started_usec)
