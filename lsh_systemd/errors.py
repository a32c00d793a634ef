"""Every error that a person may see: what is wrong, why, and the next step.

Only the faces (CLI, API) turn these into words on a screen; everything else raises them.
"""

import errno


class LshError(Exception):
    """It failed. ``hint`` is the next step for the reader; ``exit_status`` what a command returns."""

    exit_status = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class NoSpace(LshError):
    """The disk is full, or the quota is; what was begun has been taken back."""


def refused(message: str, error: OSError, *, hint: str | None = None) -> LshError:
    """What the file system's no comes to; the message says why."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(message, hint="df -h and df -i tell which disk has no room")
    return LshError(message, hint=hint)


class BadInput(LshError):
    """The caller asked for something that cannot be; nothing was changed."""

    exit_status = 2
