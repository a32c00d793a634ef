"""What the journal dropped before it was read. Pure."""

from dataclasses import dataclass

from lsh_systemd.run import rfc3339


@dataclass(frozen=True)
class Gap:
    """From the entry ``cursor``, the last that was read, to the next one that was left, in µs since 1970; ``entries``
    of whatever service, None where they cannot be counted."""

    cursor: str
    from_usec: int
    to_usec: int
    entries: int | None

    def words(self) -> str:
        """What to tell of it, in a sentence."""
        count = "entries" if self.entries is None else f"{self.entries} entries"
        between = f"between {rfc3339(self.from_usec)} and {rfc3339(self.to_usec)}"
        return f"the journal dropped {count} {between} before they were read: runs of that time may be missing"
