"""What a project's own interpreter runs: ``python -P -m lsh_systemd.pythonrun list|run FOLDER MODULE [ID]``.

`list` prints the jobs that the module, imported from the folder, defines, as JSON; `run` is what their units call. Of
the standard library alone.
"""

import asyncio
import contextlib
import faulthandler
import importlib
import inspect
import json
import logging
import os
import signal
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lsh_systemd import pythonjobs, said, sayings
from lsh_systemd.errors import LshError
from lsh_systemd.pythonjobs import Context, Definition, Outcome
from lsh_systemd.said import Said


def main(arguments: list[str]) -> int:
    verb, folder, module, *rest = arguments
    sys.path.insert(0, folder)
    if verb == "list":
        return _list(module)
    began = datetime.now(UTC)
    # A run that its timeout ends leaves the stack traces of its threads; then SIGTERM does what it does.
    faulthandler.register(signal.SIGTERM, chain=True)
    importlib.import_module(module)
    definition = pythonjobs.defined(module).get(rest[0])
    if definition is None:
        print(f"{module} defines no job {rest[0]} any more: lshctl apply --python {module} --prune", file=sys.stderr)
        return 1
    return _run(definition, began)


def _list(module: str) -> int:
    with contextlib.redirect_stdout(sys.stderr):  # what modules print as they are imported
        importlib.import_module(module)
        jobs = json.dumps([each.to_json() for each in pythonjobs.defined(module).values()])
    print(jobs)
    return 0


def _run(definition: Definition, began: datetime) -> int:
    """Make the run; its exit status."""
    logging.basicConfig(level=_level(), format="%(levelname)s %(name)s: %(message)s")
    context = Context(
        job=definition.id,
        run_id=os.environ.get("INVOCATION_ID", ""),
        attempt=_attempt(),
        deadline=began + definition.timeout if definition.timeout else None,
        logger=logging.getLogger(f"lsh.{definition.id}"),
        say=_say,
    )
    try:
        outcome = pythonjobs.outcome_of(_call(definition, context))
        numbers = pythonjobs.numbers_of(outcome.metrics)
    except Exception as error:
        traceback.print_exc()
        outcome, numbers = Outcome(success=False, message=f"{type(error).__name__}: {error}"), Said()
    told = " ".join((outcome.message or "").encode("utf-8", "replace").decode().split())
    _say(Said(metrics=numbers.metrics, message=said.message_of(told).message if told else None))
    return 0 if outcome.success else 1


def _call(definition: Definition, context: Context) -> Any:
    returned = definition.function(context)
    return asyncio.run(returned) if inspect.iscoroutine(returned) else returned


def _attempt() -> int:
    """Which attempt this is: a retry finds its number beside the file of what runs say."""
    with contextlib.suppress(OSError, ValueError):
        return int(Path(os.environ.get("LSH_METRICS", "/")).with_name("attempt").read_text())
    return 1


def _say(what: Said) -> None:
    if path := os.environ.get("LSH_METRICS"):
        with contextlib.suppress(LshError):  # a run is not to fail for what it cannot tell
            sayings.say(Path(path), what)


def _level() -> str:
    level = os.environ.get("LSH_LOG_LEVEL", "").upper()
    return level if level in logging.getLevelNamesMapping() else "INFO"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
