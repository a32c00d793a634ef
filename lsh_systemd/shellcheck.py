"""What shellcheck says of a command, where it is installed."""

import json
import shutil
import subprocess

_DIALECTS = frozenset({"sh", "bash", "dash", "ksh"})
_SECONDS = 5
# Variables of the environment; files that are not there; a first line that no command has; exit after cd; quotes
# around $(date +%F).
_NOT_FOR_COMMANDS = "SC2154,SC1090,SC1091,SC2148,SC2164,SC2034,SC2046"
_MOST = 5


def remarks(command: str, shell: str) -> list[str]:
    """Errors and warnings, a line each; none where it is not installed, does not know the shell, or takes too long."""
    dialect = shell.rpartition("/")[2]
    program = shutil.which("shellcheck")
    if program is None or dialect not in _DIALECTS:
        return []
    argv = [program, f"--shell={dialect}", "--severity=warning", f"--exclude={_NOT_FOR_COMMANDS}", "--format=json", "-"]
    try:
        done = subprocess.run(argv, input=command.encode(), capture_output=True, timeout=_SECONDS, check=False)
        told = json.loads(done.stdout)
        return [f"SC{each['code']}: {each['message']} (column {each['column']})" for each in told[:_MOST]]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
        return []  # a shellcheck that does not work is no reason to refuse a job
