"""The ledger of runs in SQLite (WAL): one file a scope, written by the agent and by lshctl alike."""

from lsh_systemd.store.care import Care, Ended
from lsh_systemd.store.database import MIGRATIONS, SCHEMA_VERSION, StoreDamaged, StoreUnavailable
from lsh_systemd.store.notes import Notes

__all__ = ["MIGRATIONS", "SCHEMA_VERSION", "Ended", "Store", "StoreDamaged", "StoreUnavailable"]


class Store(Care, Notes):
    """All of it."""
