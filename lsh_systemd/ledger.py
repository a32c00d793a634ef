"""The ledger as its readers want it: the store, with what the agent has not collected yet."""

import contextlib
import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

from lsh_systemd import alertfile, config, retention, storefile
from lsh_systemd.collector import Collector
from lsh_systemd.elapses import triggers
from lsh_systemd.errors import LshError
from lsh_systemd.jobs import Jobs
from lsh_systemd.journal import Journal
from lsh_systemd.scope import Scope, state_dir
from lsh_systemd.store import Store, StoreDamaged
from lsh_systemd.text import escape_controls
from lsh_systemd.trust import is_believed
from lsh_systemd.unit import id_of_unit

_TRIES = 3
# Under this the store remembers the damaged file that it has taken the place of, until all is saved from that.
_TO_SAVE = "to_save"
# Tables that have no numbered rows, and that the journal cannot tell of.
_SMALL_TABLES = ("gaps", "alert_mutes", "alert_open", "alert_targets", "missed_checks")
# Of a file that nothing can be read of, what ended in this time before is taken for news.
_NEWS_USEC = 600_000_000
T = TypeVar("T")


def path(scope: Scope) -> Path:
    return state_dir(scope) / "lsh.db"


def collector(scope: Scope, store: Store, jobs: Jobs) -> Collector:
    """A collector that knows which units are jobs and whose word to take for their runs."""

    # Each asks the disk; a collector lives for a moment only.
    @cache
    def known(unit: str) -> bool:
        return jobs.find(id_of_unit(unit)) is not None

    @cache
    def trusted(unit: str, uid: int) -> bool:
        return is_believed(scope, jobs.find(id_of_unit(unit)), uid)

    journal = Journal(scope)
    return Collector(
        journal=journal,
        store=store,
        known=known,
        trusted=trusted,
        triggers=lambda unit, pairs: triggers(jobs.find(id_of_unit(unit)), pairs),
        output_limit=config.load(scope).output_bytes,
        # <4>: a warning, as the journal reads what the agent says
        on_gap=lambda gap: print(f"{'<4>' if 'INVOCATION_ID' in os.environ else ''}{gap.words()}", file=sys.stderr),
    )


def current(scope: Scope, jobs: Jobs) -> Store:
    """The store, brought up to date with the journal, whether or not the agent runs.

    Who may not write it (another user asking for the system's runs) gets one made from the journal, in memory: all
    that the journal still has.
    """
    file = path(scope)
    try:
        return mended(file, lambda: _current(scope, jobs))
    except LshError:
        if scope is Scope.USER or _is_writable(file):
            raise
        store = Store(None)
        collector(scope, store, jobs).collect()
        return store


def _current(scope: Scope, jobs: Jobs) -> Store:
    file = path(scope)

    def mend(damage: StoreDamaged) -> None:
        _replace(file, damage)
        _current(scope, jobs).close()

    store = Store(file, mend=mend)
    if not _collected_by_child(scope, jobs):
        collect(scope, store, jobs)  # and raise the child's error, if it was one
    return store


def collect(scope: Scope, store: Store, jobs: Jobs) -> None:
    """Bring the store up to date with the journal, and save what a damaged one before it still has."""
    collector(scope, store, jobs).collect()
    if store.state(_TO_SAVE):
        _save(scope, store, jobs)


def checked(scope: Scope, jobs: Jobs, store: Store) -> Store:
    """The store, once it has been looked through; a new one where that has found damage."""
    verdict = store.check(full=True)
    if verdict == "ok":
        return store
    store.close()
    _replace(path(scope), store.condemn(verdict))
    return current(scope, jobs)


def mended(file: Path, action: Callable[[], T]) -> T:
    """Do it; where it finds the store damaged, set that aside and do it again with a new one, made from the journal."""
    try:
        return action()
    except StoreDamaged as damage:
        _replace(file, damage)
        return action()


def _replace(file: Path, damage: StoreDamaged) -> None:
    aside = storefile.set_aside(file, damage.inode)
    if aside is None:
        return  # another process has been quicker
    store = Store(file)
    with store.transaction():
        store.set_state(_TO_SAVE, aside.name)
    store.close()
    _tell(f"{damage.message}. It is kept as {aside}; a new one is made from the journal.")


def _save(scope: Scope, store: Store, jobs: Jobs) -> None:
    """Take what can still be read of the damaged file, too, now that all that the journal has is there."""
    saved = 0
    with store.transaction():
        name = store.state(_TO_SAVE)
        if not name:
            return  # another process has been quicker
        aside = path(scope).with_name(name)
        for table, columns in store.tables().items():
            saved += sum(store.adopt(table, row) for row in storefile.rows(aside, table, columns))
        for table in _SMALL_TABLES:
            for row in storefile.small_table(aside, table):
                store.adopt(table, row)
        _save_alerts(scope, store, aside)
        store.set_state(_TO_SAVE, None)
    retention.prune(store, jobs, retention.limits(config.load(scope)))  # the journal may reach farther than the ledger
    count, _ = store.summary()
    _tell(f"the new store has {count} runs, {saved} of them read from {aside}")


def _save_alerts(scope: Scope, store: Store, aside: Path) -> None:
    """Since when there are rules, and what has ended that the old file had not had yet: that is news."""
    state = {row["key"]: row["value"] for row in storefile.small_table(aside, "state")}
    if not state and alertfile.exists(scope):  # nothing can be read: rather tell twice than never
        state["alerts"] = str(time.time_ns() // 1000 - _NEWS_USEC)
    for key, value in state.items():
        if key == "alerts" or key.startswith("digest:"):
            store.set_state(key, value)
    if "alerts" in state:
        known = [row["ended_usec"] or 0 for row in storefile.rows(aside, "runs", ["ended_usec"])]
        news = (
            "INSERT OR IGNORE INTO alert_news (run_id) SELECT id FROM runs WHERE result IS NOT NULL AND ended_usec > ?"
        )
        store.query(news, (max(known, default=int(state["alerts"])),))


def _tell(text: str) -> None:
    print(f"lshctl: {escape_controls(text, keep='')}", file=sys.stderr, flush=True)


def _collected_by_child(scope: Scope, jobs: Jobs) -> bool:
    """Collect in a process of its own; whether that went well.

    journald truncates a journal file as it rotates it, and libsystemd, which has it mapped, dies of SIGBUS (seen). The
    store's transaction keeps that from doing harm; the next try reads the rotated file.
    """
    for _ in range(_TRIES):
        child = os.fork()
        if child == 0:
            status = 1
            with contextlib.suppress(BaseException):
                gc.disable()  # it ends soon; looking through a batch's many objects for cycles costs a tenth
                collect(scope, Store(path(scope)), jobs)
                status = 0
            os._exit(status)
        try:
            _, ended = os.waitpid(child, 0)
        except KeyboardInterrupt:  # it may have been for us alone; and nothing is said while the child still speaks
            os.kill(child, signal.SIGINT)
            os.waitpid(child, 0)
            raise
        if not os.WIFSIGNALED(ended):
            return os.waitstatus_to_exitcode(ended) == 0
    return False


def _is_writable(file: Path) -> bool:
    """Whether the caller should have been able to open the store."""
    # Not Path.exists: before Python 3.12 it raises where a folder on the way may not be searched.
    nearest = next(parent for parent in (file, *file.parents) if os.path.exists(parent))  # noqa: PTH110
    return os.access(nearest, os.W_OK)
