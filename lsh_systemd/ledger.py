"""The ledger as its readers want it: the store, with what the agent has not collected yet."""

import contextlib
import os
import sys
from functools import cache
from pathlib import Path

from lsh_systemd import config
from lsh_systemd.collector import Collector
from lsh_systemd.elapses import triggers
from lsh_systemd.errors import LshError
from lsh_systemd.jobs import Jobs
from lsh_systemd.journal import Journal
from lsh_systemd.scope import Scope, state_dir
from lsh_systemd.store import Store
from lsh_systemd.trust import is_believed
from lsh_systemd.unit import id_of_unit

_TRIES = 3


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
    try:
        store = Store(path(scope))
    except LshError:
        if scope is Scope.USER or _is_writable(path(scope)):
            raise
        store = Store(None)
        collector(scope, store, jobs).collect()
        return store
    if not _collected_by_child(scope, jobs):
        collector(scope, store, jobs).collect()  # and raise the child's error, if it was one
    return store


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
                collector(scope, Store(path(scope)), jobs).collect()
                status = 0
            os._exit(status)
        _, ended = os.waitpid(child, 0)
        if not os.WIFSIGNALED(ended):
            return os.waitstatus_to_exitcode(ended) == 0
    return False


def _is_writable(file: Path) -> bool:
    """Whether the caller should have been able to open the store."""
    # Not Path.exists: before Python 3.12 it raises where a folder on the way may not be searched.
    nearest = next(parent for parent in (file, *file.parents) if os.path.exists(parent))  # noqa: PTH110
    return os.access(nearest, os.W_OK)
