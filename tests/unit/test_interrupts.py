"""A Ctrl-C waits where it must, and only there."""

import os
import signal
import threading

import pytest

from lsh_systemd import interrupts


def test_it_counts_at_the_end_and_then_as_before() -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt), interrupts.later() as came:
        os.kill(os.getpid(), signal.SIGINT)
        reached.append(bool(came))
    assert reached == [True]
    with interrupts.later() as came:
        pass
    assert came == []
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_who_ignores_it_goes_on_doing_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts.later() as came:
            os.kill(os.getpid(), signal.SIGINT)
        assert came == []
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_is_left_alone() -> None:
    seen = []

    def work() -> None:
        with interrupts.later() as came:
            seen.append((came, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [([], signal.default_int_handler)]
