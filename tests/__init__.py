"""A package, so that `tests.system.machine` means this folder whatever else is installed."""
