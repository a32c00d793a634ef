"""The rules of who is told of what, as `lshctl alerts` keeps them: alerts.toml beside lsh.toml. Its URLs may hold
passwords: it is for its owner alone."""

import contextlib
import fcntl
import os
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from lsh_systemd.alertrule import SLACK_RULE, Rule, from_plain, renamed, to_plain
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.scope import Scope, config_dir
from lsh_systemd.text import visible

_YES = frozenset({"1", "true", "yes", "on"})


def path(scope: Scope) -> Path:
    return config_dir(scope) / "alerts.toml"


def environment_path(scope: Scope) -> Path:
    """Where variables for the sending of alerts may stand: SLACK_WEBHOOK_URL."""
    return config_dir(scope) / "environment"


def exists(scope: Scope) -> bool:
    return path(scope).exists()


def load(scope: Scope) -> list[Rule]:
    """The rules, in their order; none where there is no such file. Raises BadInput for a file that says something
    else."""
    file = path(scope)
    try:
        data = tomllib.loads(file.read_text())
    except FileNotFoundError:
        return []
    except OSError as error:
        hint = "it is its owner's: try sudo" if isinstance(error, PermissionError) else None
        raise LshError(f"cannot read {file}: {error.strerror}", hint=hint) from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"cannot read {file}: {error}") from None
    tables = data.pop("rule", [])
    if data or not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        stranger = next(iter(data), "rule")
        raise BadInput(f"{file}: {visible(stranger)} is nothing that belongs there", hint="it has [[rule]] tables only")
    try:
        rules = [from_plain(each) for each in tables]
    except BadInput as error:
        raise BadInput(f"{file}: {error.message}", hint=error.hint) from None
    names = [rule.name for rule in rules]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadInput(f"{file}: there are two rules {twice}")
    return rules


@contextlib.contextmanager
def locked(scope: Scope) -> Iterator[None]:
    """While it lasts, nobody else changes the rules through lshctl."""
    folder = config_dir(scope)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _unwritable(folder, error) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def rename(scope: Scope, old: str, new: str) -> None:
    """Let the rules that name a job go on being about it under its new id."""
    if not exists(scope):
        return
    with locked(scope):
        rules = load(scope)
        after = [renamed(rule, old, new) for rule in rules]
        if after != rules:
            save(scope, after)


def save(scope: Scope, rules: Sequence[Rule]) -> None:
    """Write the rules, whole or not at all, readable for their owner alone."""
    import tomli_w

    text = "# Made by lshctl alerts. Its URLs may hold passwords; '{secret:NAME}' stands for one of lshctl secrets.\n"
    text += tomli_w.dumps({"rule": [to_plain(rule) for rule in rules]})
    file, temporary = path(scope), ""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".alerts.", dir=file.parent)  # 0600
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(descriptor)
        Path(temporary).replace(file)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise _unwritable(file, error) from None


def _unwritable(path: Path, error: OSError) -> LshError:
    return LshError(f"cannot write {path}: {error.strerror}", hint="try sudo, or lshctl --user alerts")


def slack_rule(scope: Scope) -> Rule | None:
    """The rule that SLACK_WEBHOOK_URL and ENABLE_SLACK_ALERTS make, in our environment or the scope's file: the usual
    events, of all jobs."""
    known = {**_environment(scope), **os.environ}
    url = known.get("SLACK_WEBHOOK_URL", "")
    if not url or known.get("ENABLE_SLACK_ALERTS", "").strip().lower() not in _YES:
        return None
    return Rule(name=SLACK_RULE, to=(url,))


def slack_is_lasting(scope: Scope) -> bool:
    """Whether the scope's file has what makes the rule: our own environment may be but a shell's."""
    return "SLACK_WEBHOOK_URL" in _environment(scope)


def _environment(scope: Scope) -> dict[str, str]:
    """The variables of the file that systemd reads as lsh-alert.service's EnvironmentFile=."""
    try:
        lines = environment_path(scope).read_text(errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.strip().partition("=") for line in lines if not line.lstrip().startswith(("#", ";")))
    return {name.strip(): value.strip().strip("\"'") for name, mark, value in pairs if mark}
