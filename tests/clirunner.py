"""click's runner for tests, which keeps what is said on standard error apart, whichever click is installed."""

import inspect
from typing import Any

from click import testing

# Debian 12's click (8.1) mixes both unless told not to; 8.2 and later cannot be told.
_APART = {"mix_stderr": False} if "mix_stderr" in inspect.signature(testing.CliRunner).parameters else {}


class CliRunner(testing.CliRunner):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options, **_APART)
