"""A run ↔ its row in the ledger's table. Pure."""

import re
import zlib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from lsh_systemd.run import Run

# How the output is kept: None, as it is, or "zlib".
CODEC = "output_codec"
FIELDS = tuple(field.name for field in fields(Run))
COLUMNS = (*FIELDS, CODEC)
# Less gains nothing: of a log, 128 bytes become 85, and 64 KiB become 9 (in 0.6 ms; 0.06 ms back).
_PLAIN_BYTES = 128
_RUN_ID = re.compile(r"[0-9a-f]{32}")


def row_of(run: Run) -> list[Any]:
    """The values of ``COLUMNS``; the output compressed where that pays."""
    packed = zlib.compress(run.output) if len(run.output) > _PLAIN_BYTES else run.output
    smaller = len(packed) < len(run.output)
    values = {name: getattr(run, name) for name in FIELDS} | ({"output": packed} if smaller else {})
    return [*values.values(), "zlib" if smaller else None]


def run_of(row: Mapping[str, Any]) -> Run:
    """Raises ValueError for output that is not what was stored. A row of an earlier version may lack columns."""
    values = {name: row[name] for name in FIELDS if name in row}
    if row.get(CODEC):
        try:
            values["output"] = zlib.decompress(values["output"])
        except zlib.error as error:
            raise ValueError(f"output of run {values['id']}: {error}") from None
    return Run(**values)


def sound_run(row: Mapping[str, Any]) -> Run | None:
    """The run of a row from a damaged file; None where what stands there cannot be one."""
    try:
        run = run_of(row)
        run.to_json()
        return run if _RUN_ID.fullmatch(run.id) and isinstance(run.job, str) and isinstance(run.unit, str) else None
    except (ValueError, TypeError, AttributeError):
        return None
