"""What the days of a report held, drawn in a line of text: a character for each. Pure.

``buckets`` are those of ``Reporter.buckets``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Bucket = Mapping[str, Any]


@dataclass(frozen=True)
class Marks:
    """What stands for a day: by outcome, and by height, the lowest first."""

    success: str
    mixed: str
    failure: str
    idle: str
    heights: str


BLOCKS = Marks(success="█", mixed="▒", failure="x", idle="·", heights="▁▂▃▄▅▆▇█")
ASCII = Marks(success="#", mixed="%", failure="x", idle=".", heights="_.-=+*%#")


def marks(encoding: str | None) -> Marks:
    """Blocks where this encoding has them, else ASCII."""
    try:
        (BLOCKS.success + BLOCKS.mixed + BLOCKS.idle + BLOCKS.heights).encode(encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return ASCII
    return BLOCKS


def outcomes(buckets: Sequence[Bucket], using: Marks) -> str:
    """Whether the runs of each day succeeded: all, some, none; or there was none that counts."""
    return "".join(
        using.idle if rate is None else using.success if rate == 1 else using.mixed if rate else using.failure
        for rate in (bucket["success_rate"] for bucket in buckets)
    )


def durations(buckets: Sequence[Bucket], using: Marks) -> str:
    """The mean duration of each day, the longest being the highest; a blank where there is none."""
    known = [bucket["duration_mean"] for bucket in buckets if bucket["duration_mean"] is not None]
    highest, steps = max(known, default=0) or 1, len(using.heights)
    return "".join(
        " " if mean is None else using.heights[min(steps - 1, int(mean / highest * steps))]
        for mean in (bucket["duration_mean"] for bucket in buckets)
    )
