"""The ledger copied to a file and back, while the agent and others use it."""

import contextlib
import tempfile
import time
from pathlib import Path

from lsh_systemd import ledger, storefile
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.jobs import Jobs
from lsh_systemd.scope import Scope
from lsh_systemd.store import SCHEMA_VERSION, Store, StoreDamaged

# What every ledger has had since the first schema, and hardly anything else has.
_COLUMNS = ("id", "job", "unit", "boot_id", "trigger_usec", "started_usec", "output_bytes")


def backup(scope: Scope, target: Path, *, replace: bool) -> int:
    """Copy the ledger as it is now into a file (mode 0600), whole or not at all; the number of runs in it. Raises
    BadInput for a file that is there, unless it is to be replaced; the ledger's own files never are."""
    live = ledger.path(scope)
    if storefile.is_of(live, target):
        raise _is_live(target)
    store = Store(live)
    try:
        storefile.copy(live, target, in_use=True, replace=replace)
        return store.summary()[0]
    finally:
        store.close()


def check(scope: Scope, source: Path) -> None:
    """Raise BadInput for a file that is no sound ledger, or the ledger itself."""
    if storefile.is_of(ledger.path(scope), source):
        raise _is_live(source)
    storefile.check(source, newest=SCHEMA_VERSION, columns=_COLUMNS)


def restore(scope: Scope, jobs: Jobs, source: Path) -> tuple[int, Path | None]:
    """Make a backup the ledger, and collect what the journal has had since; the number of runs, and where the ledger
    that was is kept. Raises BadInput, with nothing changed, for a file that is no sound ledger."""
    check(scope, source)
    live = ledger.path(scope)
    try:
        live.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        with tempfile.TemporaryDirectory(prefix=".restore.", dir=live.parent) as folder:
            staged = Path(folder) / "lsh.db"
            storefile.copy(source, staged, in_use=False)
            _still(staged)
            aside = _keep(live)
            Store(live).close()
            storefile.pour(staged, live)
    except OSError as error:
        raise LshError(f"cannot write to {live.parent}: {error.strerror}") from None
    try:
        return ledger.current(scope, jobs).summary()[0], aside
    except LshError as error:
        text = f"the backup is in place, but what came since is not collected: {error.message}"
        raise LshError(text, hint=error.hint) from None


def _still(staged: Path) -> None:
    """Bring the file to today's schema; what happened since the backup is no news, and was told of, or will not be."""
    store = Store(staged)
    with contextlib.closing(store), store.transaction():
        if store.state("alerts"):
            store.set_state("alerts", str(time.time_ns() // 1000))
        store.query("DELETE FROM alert_news")
        store.query("UPDATE alerts SET state = 'given-up', error = 'restored from a backup' WHERE state = 'waiting'")


def _keep(live: Path) -> Path | None:
    """A copy of the ledger that is to be replaced, or itself where it is damaged; None where there is none."""
    if not live.exists():
        return None
    try:
        store = Store(live)
        with contextlib.closing(store):
            if (verdict := store.check()) != "ok":
                raise store.condemn(verdict)
    except StoreDamaged as damage:
        return storefile.set_aside(live, damage.inode)
    aside = storefile.aside_name(live, "before-restore")
    storefile.copy(live, aside, in_use=True)
    return aside


def _is_live(file: Path) -> BadInput:
    return BadInput(f"{file} is the ledger itself", hint="name another file")
