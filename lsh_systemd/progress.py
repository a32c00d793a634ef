"""How far long work has come: whoever does it tells, and a face that shows it listens."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
# What is being done ("starting"), how much of it is done, and how much there is of it.
Listener = Callable[[str, float, float], None]

# Of this thread alone: a server's other threads have nobody who looks on.
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def tell(what: str, done: float, total: float) -> None:
    """Tell the listener, if there is one. Units are the teller's own; at the end ``done`` is ``total``."""
    if listener := _listener.get():
        listener(what, done, total)


def each(what: str, things: Sequence[T]) -> Iterator[T]:
    """The things, one by one; told as they are taken."""
    for number, thing in enumerate(things):
        tell(what, number, len(things))
        yield thing
    tell(what, len(things), len(things))


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
