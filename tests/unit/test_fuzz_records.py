"""What runs, other hosts and other programs tell, nearly right: it is read, passed over or refused."""

import json
import zlib
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lsh_systemd import (
    alertfile,
    caps,
    config,
    envtext,
    failure,
    fleetqueue,
    hints,
    mirrored,
    rows,
    said,
    seal,
    sharing,
)
from lsh_systemd.alertrule import to_plain, told_of
from lsh_systemd.api.keys import Keys
from lsh_systemd.fold import Fold
from lsh_systemd.heldruns import Held, HeldRuns
from lsh_systemd.jobfile import from_plain
from lsh_systemd.journal import _entry
from lsh_systemd.queue import Queue
from lsh_systemd.run import CHANGED, FAILURE_RESULT, FINISHED, MARK, PROCESS_EXIT, RECORD, STARTING, Run
from lsh_systemd.scope import Scope
from lsh_systemd.store import Store
from lsh_systemd.teamsecrets import _version
from tests.fuzz import anything, bounded, law, mangled, nearly, nearly_bytes, value_or_error

RUN = "a" * 32
UNIT = "lsh-backup.service"
FIELDS = {
    "MESSAGE_ID": STARTING,
    "UNIT": UNIT,
    "INVOCATION_ID": RUN,
    "UNIT_RESULT": "exit-code",
    "JOB_RESULT": "done",
    "EXIT_CODE": "exited",
    "EXIT_STATUS": "7",
    "_PID": "1",
    "_UID": "0",
    "_BOOT_ID": "b" * 32,
    "_HOSTNAME": "host",
    "_SOURCE_REALTIME_TIMESTAMP": "1795329711402521",
    "LSH_SCOPE": "system",
    "LSH_UNIT": UNIT,
    "LSH_INVOCATION_ID": RUN,
    "LSH_RESULT": "success",
    "LSH_EXIT_CODE": "exited",
    "LSH_EXIT_STATUS": "0",
    "LSH_STARTED": "1795329711.402521",
    "LSH_ENDED": "1795329712.402521",
    "LSH_TRIGGER": "manual",
    "LSH_TRIGGER_UNIT": "lsh-backup.timer",
    "LSH_TRIGGER_USEC": "1795329711402521",
    "LSH_CPU_USEC": "2500",
    "LSH_MEMORY_PEAK": "4096",
    "LSH_ATTEMPT": "2",
    "LSH_FIRST": RUN,
    "LSH_DUE": "1795329711402521",
    "LSH_BY": "bob",
    "LSH_REASON": "busy",
    "LSH_SAID": "items=3\x1emessage=done\x1eprogress=1/2",
    "LSH_CHANGE": "c" * 32,
    "LSH_JOB": "backup",
    "LSH_VERB": "change",
    "LSH_ACTOR": "bob",
    "LSH_VIA": "cli",
    "LSH_DIFF": '{"timeout": ["1h", "2h"]}',
}
KINDS = [STARTING, RECORD, MARK, CHANGED, FINISHED, FAILURE_RESULT, PROCESS_EXIT, "x"]
_hostile = st.one_of(
    nearly_bytes(*set(FIELDS.values())), st.just([b"two", b"values"]), st.sampled_from([b"", b"x" * 70_000])
)
entries = st.builds(
    lambda kind, result, over, gone: {
        name: value
        for name, value in {
            **{n: v.encode() for n, v in FIELDS.items()},
            "MESSAGE_ID": kind.encode(),
            **result,
            **over,
        }.items()
        if name not in gone
    },
    st.sampled_from(KINDS),
    st.sampled_from([{}, {"LSH_RESULT": b"skipped"}, {"LSH_INVOCATION_ID": b"d" * 32}]),
    st.dictionaries(st.sampled_from(sorted(FIELDS)), _hostile, max_size=3),
    st.sets(st.sampled_from(sorted(FIELDS)), max_size=2),
)


class Reader:
    """As much of libsystemd's reader as an entry is made with."""

    def _get_monotonic(self) -> tuple[int, str]:
        return 5_000_000, "b" * 32


@law(150)
@given(st.lists(entries, max_size=5))
def test_the_journal(told: list[dict[str, Any]]) -> None:
    store = Store(None)
    fold = Fold(Scope.SYSTEM, uid=0, last=lambda unit: None, known=lambda unit: True, trusted=lambda unit, uid: True)
    with bounded():
        fold.feed(_entry(Reader(), 1795329711402521, each) for each in told)
        for run in fold.changed.values():
            json.dumps(run.to_json()).encode()
            failure.failure(run)
            assert rows.run_of(dict(zip(rows.COLUMNS, rows.row_of(run), strict=True))) == run
        for change in fold.changes.values():
            json.dumps(change.to_json()).encode()
        with store.transaction():
            store.put(fold.changed.values())
            store.put_changes(fold.changes.values())
    store.close()


@law(300)
@given(
    nearly(
        "items=3\nmessage=done\nprogress=40/100\nrate=1.5e3\n", words=["message=", "progress=", "=", "\x1e", "1e400"]
    )
)
def test_what_a_run_says_of_itself(text: str) -> None:
    with bounded():
        found = said.parse(text)
        assert len(found.metrics) <= said.MAX_METRICS and len(found.message or "") <= said.MAX_MESSAGE
        json.loads(json.dumps(dict(found.metrics), allow_nan=False))
        assert said.parse(said.lines(found)) == found
        said.progress_json(found.progress, found.message)
    for parse in (said.message_of, said.progress_of, lambda word: said.metrics_of([word])):
        value_or_error(parse, text)


STRICT = from_plain({"name": "x", "command": "true", "sandbox": "strict", "network": "none", "memory_max": 2**20})


LAST_WORDS = "sh: 1: cannot create /etc/x: Read-only file system\nmv: '/home/a b': No such file or directory\n" * 3
PIECES = ["Read-only file system", "/etc/x: ", "'", "a" * 5000, "/" * 5000, "No such file or directory"]


@law(100)
@given(nearly(LAST_WORDS, words=PIECES))
def test_what_a_run_writes(text: str) -> None:
    output = text.encode(errors="replace")
    with bounded():
        run = Run(
            id=RUN,
            job="x",
            unit="lsh-x.service",
            host="h",
            boot_id="b",
            result="exit-code",
            exit_status=1,
            output=output,
        )
        failure.failure(run)
        hints.hints(STRICT, run)
        mirrored.output_row(RUN, zlib.compress(output), "zlib", host="h")


RULES = """[[rule]]
name = "all"
to = ["mailto://x@y", "json://host/{secret:a}"]
on = ["failed", "p95"]
jobs = ["a*"]
tags = "x"
p95_times = 2.5
success_rate = 90
window = 20
metrics = ["items<100"]
slower_than = "1h 30min"
gather = "5min"
quiet = "22:00-06:00"
timezone = "Europe/Berlin"
digest = "Mon 08:00"
at_most_every = "1h"
"""
SETTINGS = """output_bytes = 65536
keep_days = 365
[supabase]
url = "https://x.supabase.co"
key_file = "/etc/x"
[api]
idle_seconds = 300
cors_origins = ["https://x"]
trust_proxy = true
sandbox = "strict"
run_as = ["www"]
[fleet]
slots = 4
tags = ["a"]
"""
LIMITS = """global = 3
user = 2
[groups]
db = 1
"a b" = 4
"""
FILES = {"alerts": (alertfile, RULES), "lsh": (config, SETTINGS), "limits": (caps, LIMITS)}


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "HOME"):
            patch.setenv(name, str(folder))
        yield folder


@law(150)
@given(st.sampled_from(sorted(FILES)).flatmap(lambda name: st.tuples(st.just(name), nearly_bytes(FILES[name][1]))))
def test_settings_alert_rules_and_limits(given: tuple[str, bytes]) -> None:
    name, data = given
    module = FILES[name][0]
    path = module.path(Scope.USER)  # type: ignore[attr-defined]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    found = value_or_error(module.load, Scope.USER)  # type: ignore[attr-defined]
    for rule in found if isinstance(found, list) else ():
        told_of(rule)
        json.dumps(to_plain(rule), allow_nan=False)


@law(300)
@given(
    nearly_bytes(
        "# x\nexport A=b\nB='c d'\nC=\"e\\nf\" \nD=g # h\n\n", words=["export ", "='", '="', "\\", "\r\n", "A="]
    )
)
def test_environment_files(data: bytes) -> None:
    found = value_or_error(envtext.variables, data, "x")
    if found is not None:
        assert found and all(isinstance(each, str) for each in found.values())


ROW = {
    "id": "8f14e45f-ceea-467f-a0e6-c1b0c3e2d1aa",
    "hostname": "web1",
    "job": "backup",
    "unit": UNIT,
    "result": "success",
    "trigger": "timer",
    "metrics": {"a": 1},
    "started_at": "2026-11-22T01:00:00+00:00",
    "ended_at": "2026-11-22T01:00:01.5+00:00",
    "boot_id": None,
    "first_id": None,
    "duration_usec": 5,
    "attempt": 1,
}
WHOLE = {
    **dict.fromkeys((*mirrored._RUN_NUMBERS, *mirrored._RUN_TEXTS)),
    **dict.fromkeys(mirrored._RUN_TIMES.values()),
    **ROW,
}
QUEUED = {"id": 7, "token": 3, "job": "backup", "params": {"P": "x"}, "user": "bob", "attempt": 1,
          "created_at": "2026-11-22T01:00:00+00:00", "created_by": None}  # fmt: skip
VERSION = {
    "version": 3,
    "pushed_at": "2026-11-22T01:00:00+00:00",
    "pushed_by": "bob",
    "host": "x",
    "sealed": "TFNIMQ==",
}


@law(300)
@given(mangled(WHOLE))
@example(WHOLE)
def test_runs_from_supabase(row: dict[str, Any]) -> None:
    run = value_or_error(mirrored.run_of_row, row)
    if run is not None:
        json.dumps(run.to_json())


@law(200)
@given(st.one_of(mangled(VERSION), anything))
@example(VERSION)
def test_versions_of_secrets_from_supabase(row: Any) -> None:
    value_or_error(_version, "prod", row)


@law(300)
@given(st.one_of(mangled(QUEUED), anything))
@example(QUEUED)
@example(QUEUED | {"token": "../../../etc/cron.d/x"})
@example(QUEUED | {"job": "../x"})
@example(QUEUED | {"params": {"P": "x\n[Service]"}})
def test_queued_runs_from_supabase(row: Any) -> None:
    held = value_or_error(fleetqueue.taken, row, boot_id="b")
    if held is None:
        return
    keeper = HeldRuns(Scope.USER)
    keeper.path.mkdir(exist_ok=True, parents=True)
    keeper.keep(held)
    assert [each.name for each in keeper.path.iterdir()] == [str(held.token)]
    assert keeper.all() == [held]
    keeper.forget(held, "x")
    job = from_plain({"name": "backup", "command": "true", "from_fleet": True, "params": ["P"]})
    params = value_or_error(sharing.check_params, job, held.params)
    if params is not None:
        assert sharing.environment_file(params).count("\n") == len(params)


@law(100)
@given(nearly_bytes(json.dumps(QUEUED | {"boot_id": "b"}), json.dumps([asdict(Held(**QUEUED, boot_id="b"))])))
@example(b"[" * 100_000)
@example(b'{"id": 1e999}')
def test_files_of_ours_that_something_has_spoilt(home: Any, data: bytes) -> None:
    from lsh_systemd.api import seed5

    keeper = HeldRuns(Scope.USER)
    keeper.path.mkdir(exist_ok=True, parents=True)
    (keeper.path / "1").write_bytes(data)
    value_or_error(keeper.all)
    (keeper.path / "1").unlink()
    queue = Queue(Scope.USER)
    queue.path.mkdir(exist_ok=True, parents=True)
    (queue.path / "05:1:backup").write_bytes(data)
    for entry in queue.entries():
        value_or_error(queue.read, entry)
    (home / "lsh").mkdir(exist_ok=True)
    keys = Keys(Scope.USER)
    keys.path.parent.mkdir(exist_ok=True)
    keys.path.write_bytes(data)
    value_or_error(keys.all)
    seed5.paused_file(Scope.USER).write_bytes(data)
    value_or_error(seed5._paused, seed5.paused_file(Scope.USER))


SEALED = seal.seal(b"k" * 32, b"A=b\n", "x")


@law(15)
@given(nearly(SEALED))
def test_seals(text: str) -> None:
    found = value_or_error(seal.unseal, b"k" * 32, text, "x")
    assert found in (None, b"A=b\n")
