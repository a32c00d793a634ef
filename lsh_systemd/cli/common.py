"""What all commands share: the scope, the parts they work with, and how errors become words."""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.scope import Scope
from lsh_systemd.text import escape_controls, escape_in_json
from lsh_systemd.underway import UnderWay

if TYPE_CHECKING:
    from lsh_systemd.audit import Actor
    from lsh_systemd.batch import Batch
    from lsh_systemd.control import Control
    from lsh_systemd.job import Job
    from lsh_systemd.jobs import Jobs
    from lsh_systemd.manager import Manager
    from lsh_systemd.store import Store

F = TypeVar("F", bound=Callable[..., Any])

# What pip cannot bring: it is bound to the distribution's libraries.
_OF_DISTRIBUTION = ("gi", "pydbus", "systemd")
_OF_DISTRIBUTION_HINT = (
    "apt install python3-gi python3-pydbus python3-systemd (or your distribution's PyGObject, pydbus, python-systemd), "
    "and a venv that sees them: pipx install --system-site-packages lsh-systemd"
)


class App:
    """The parts a command works with, each made when first asked for."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    @cached_property
    def manager(self) -> "Manager":
        from lsh_systemd.manager import Manager

        return Manager(self.scope)

    @cached_property
    def jobs(self) -> "Jobs":
        from lsh_systemd.jobs import Jobs

        return Jobs(self.scope)

    @cached_property
    def control(self) -> "Control":
        from lsh_systemd.control import Control
        from lsh_systemd.journal import Journal

        return Control(self.scope, manager=self.manager, jobs=self.jobs, journal=Journal(self.scope), actor=self.actor)

    @cached_property
    def batch(self) -> "Batch":
        """Control, for many jobs at a time."""
        from lsh_systemd.batch import Batch
        from lsh_systemd.journal import Journal

        return Batch(self.scope, manager=self.manager, jobs=self.jobs, journal=Journal(self.scope), actor=self.actor)

    @cached_property
    def actor(self) -> "Actor":
        """The person who calls lshctl."""
        from lsh_systemd.trust import person

        return person()

    @cached_property
    def store(self) -> "Store":
        """The ledger, up to date."""
        from lsh_systemd import ledger

        return ledger.current(self.scope, self.jobs)

    def collect(self) -> "Store | None":
        """Bring the ledger up to date where that can be; else say so, and go on without it."""
        try:
            return self.store
        except LshError as error:
            click.echo(f"lshctl: the ledger is left as it is: {escape_controls(error.message, keep='')}", err=True)
            return None


class OneLineErrors(click.Command):
    """Turns errors into one or two lines and an exit status: 2 for bad input, 1 for a failure, 130 for Ctrl-C."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        # Arguments are bytes: what is no UTF-8 arrives as lone surrogates, and must be printable in an error.
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name) or open(os.devnull, "w")  # noqa: SIM115, PTH123  (closed by our caller)
            stream.reconfigure(errors="backslashreplace")
            setattr(sys, name, stream)
        # As other commands: who reads through `| head` ends us. Python would make an error of it.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        if "LSH_OVER_SSH" in os.environ:
            from lsh_systemd.ssh import end_with_caller

            end_with_caller()
        if os.environ.get("NO_COLOR"):
            kwargs.setdefault("color", False)
        try:
            return super().main(*args, **kwargs)
        except LshError as error:
            fail(error)
            sys.exit(error.exit_status)
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in _OF_DISTRIBUTION:
                raise
            fail(LshError(f"the Python package {package} is missing", hint=_OF_DISTRIBUTION_HINT))
            sys.exit(1)
        except OSError as error:  # the output's disk is full, the current folder is gone
            fail(LshError(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")))
            os._exit(1)  # not sys.exit: it would try to write the rest of the output again

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            with _usage_in_short():
                return super().make_context(*args, **kwargs)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            sys.exit(130)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _usage_in_short():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)


@contextlib.contextmanager
def _usage_in_short() -> Iterator[None]:
    """A wrong command line, too, is told in two lines; click would take four."""
    try:
        yield
    except click.UsageError as error:
        if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # click 8.2 and later
            raise
        message = error.format_message().removesuffix(".")
        hint = f"{error.ctx.command_path} --help" if error.ctx else None
        if isinstance(error, click.NoSuchOption) and error.option_name in ("-H", "--host"):
            hint = "another machine goes before the command: lshctl -H HOST COMMAND"
        raise BadInput(message[:1].lower() + message[1:], hint=hint) from None


def fail(error: LshError) -> None:
    """Say what went wrong and what to do next, on standard error."""
    click.echo(f"{click.style('lshctl:', fg='red')} {escape_controls(error.message, keep='')}", err=True)
    if error.hint:
        click.echo(f"  {escape_controls(error.hint, keep='')}", err=True)


def say(kind: str, message: str, colour: str) -> None:
    """A line of its own on standard error: what was left out, what is to be noted."""
    click.echo(click.style(f"{kind}: ", fg=colour) + escape_controls(message, keep=""), err=True)


def warn_of_limits(app: App, job: "Job") -> None:
    """Say, on standard error, which of the job's limits and protections do not hold on this machine."""
    from lsh_systemd.held import not_held

    for line in not_held(app.control, job):
        click.echo(f"{click.style('lshctl:', fg='yellow')} {escape_controls(line, keep='')}", err=True)


def _app(scope: str) -> App:
    """The App of a scope in which nothing is left half done, as far as its caller may mend that."""
    app = App(Scope(scope))
    if any(UnderWay(app.scope).left()):
        from lsh_systemd import midway

        carry_over = lambda old, new: midway.carry_over(app.control, app.store, old, new)  # noqa: E731
        for line in midway.finish(app.control, carry_over):
            click.echo(f"lshctl: {line}", err=True)
    return app


def bar_unless(*, as_json: bool) -> contextlib.AbstractContextManager[None]:
    """What shows at a terminal how long work comes on; with --json, nothing is said beside the data."""
    if as_json or not sys.stderr.isatty():
        return contextlib.nullcontext()
    from lsh_systemd.cli import bar

    return bar.shown()


def with_app(function: F) -> F:
    """Give the command --system and --user, and the App of that scope as its first argument."""
    import functools

    @click.option("--user", "own_scope", flag_value="user", help="Jobs of your own.")
    @click.option("--system", "own_scope", flag_value="system", help="Jobs of the machine.")
    @click.pass_context
    @functools.wraps(function)
    def wrapped(ctx: click.Context, /, own_scope: str | None, **options: Any) -> Any:
        scope = own_scope or ctx.find_root().obj or ("system" if os.getuid() == 0 else "user")
        with bar_unless(as_json=bool(options.get("as_json"))):
            return function(_app(scope), **options)

    return wrapped  # type: ignore[return-value]


def with_app_of(function: F) -> F:
    """The same for a command whose own --user means something else: the scope stands before it (lshctl --user …)."""
    import functools

    @click.pass_context
    @functools.wraps(function)
    def wrapped(ctx: click.Context, /, **options: Any) -> Any:
        return function(_app(ctx.find_root().obj or ("system" if os.getuid() == 0 else "user")), **options)

    return wrapped  # type: ignore[return-value]


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")


def complete_jobs(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """The ids of the jobs that begin so, for the shell's completion."""
    from lsh_systemd.jobs import Jobs

    root = ctx.find_root().params
    if root.get("hosts") or root.get("url"):
        return []  # another machine's jobs
    scope = ctx.params.get("own_scope") or root.get("scope") or ("system" if os.getuid() == 0 else "user")
    return [job for job in Jobs(Scope(scope)).ids() if job.startswith(incomplete)]


job_argument = click.argument("name", metavar="JOB", shell_complete=complete_jobs)


def print_json(data: Any) -> None:
    click.echo(escape_in_json(json.dumps(data, indent=2, ensure_ascii=False)))
