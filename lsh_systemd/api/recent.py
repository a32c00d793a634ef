"""Answers that have just been made, for those who ask the same: ten browsers cost what one does."""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")
_SECONDS = 1.0
_MOST = 200


class _Entry(Generic[T]):
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.until = 0.0
        self.value: T | None = None
        self.sign: object = None


class Recent(Generic[T]):
    """Values for a second, as old as what the agent has collected may be, or for so many; made by one thread, others
    wait for it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, seconds: float = _SECONDS) -> None:
        self._clock, self._seconds, self._lock = clock, seconds, threading.Lock()
        self._entries: dict[Hashable, _Entry[T]] = {}

    def get(self, key: Hashable, make: Callable[[], T], sign: object = None) -> T:
        """What was made of late, under the same ``sign``, or is made now. ``make`` may raise; then nothing is kept."""
        with self._lock:
            if len(self._entries) >= _MOST and key not in self._entries:
                self._entries.clear()
            entry = self._entries.setdefault(key, _Entry())
        with entry.lock:
            if entry.value is None or entry.sign != sign or self._clock() >= entry.until:
                entry.value = None
                entry.sign = sign
                began = self._clock()
                value = make()
                entry.until = began + self._seconds
                entry.value = value
                return value
            return entry.value

    def there(self, key: Hashable, sign: object = None) -> T | None:
        """The same where it has been made; None where it would have to be."""
        entry = self._entries.get(key)
        # Another thread may be making it: the value is the last that it sets, and the first that it takes away.
        if entry is None or (value := entry.value) is None or entry.sign != sign or self._clock() >= entry.until:
            return None
        return value

    def forget(self) -> None:
        """Something has been changed here: what is asked from now on is looked up. (What is being made goes to those
        who wait for it already.)"""
        with self._lock:
            self._entries.clear()
