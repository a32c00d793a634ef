"""Tools that a test cannot do without."""

import os
import shutil

import pytest


def needs(tool: str) -> pytest.MarkDecorator:
    """Pass a test over, aloud, where its tool is missing; never in CI: there it has to fail."""
    missing = shutil.which(tool) is None and os.environ.get("CI") != "true"
    return pytest.mark.skipif(missing, reason=f"{tool} is not installed: `make setup` does it")
