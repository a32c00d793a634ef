"""A job: what is to run, when, and within which bounds. A frozen value, valid from birth."""

import hashlib
import posixpath
import re
import shlex
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property

from lsh_systemd import cron
from lsh_systemd.errors import BadInput
from lsh_systemd.text import (
    check_argument,
    check_encodable,
    check_env,
    check_line,
    check_path,
    check_user,
    visible,
)
from lsh_systemd.zones import check_zone

PREFIX = "lsh-"
LONGEST_ID = 200
# Names of our own daemons' units (lsh-agent.service, …).
RESERVED_IDS = frozenset({"agent", "api", "alert", "collect", "prune", "record", "refresh", "sync"})
NEUTRAL_PRIORITY = 5
DEFAULT_SHELL = "/bin/sh"

# The letters of systemd's calendar grammar (systemd.time(7)) and no others: neither a specifier nor a new line.
_CALENDAR = re.compile(r"[A-Za-z0-9 *~./:,+_-]{1,400}")
# argv[0] without a shell: systemd reads @ - : + ! | before it as modifiers.
_PROGRAM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_SHELL = re.compile(r"/[A-Za-z0-9_./+-]*[A-Za-z0-9_+-]")
_LONGEST = timedelta(days=36500)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job. At most one kind of schedule is set; with none, the job runs only when it is started.

    ``command`` is a line for ``shell``, or, as a tuple, an argument vector that runs without a shell.
    ``stdin`` is what the command reads on its standard input, nothing where it is None.
    ``priority`` runs from 0 to 10, 5 is neutral. Raises BadInput for anything that no unit file could carry.
    """

    name: str
    command: str | tuple[str, ...]
    shell: str = DEFAULT_SHELL
    stdin: str | None = None
    schedule: tuple[str, ...] = ()
    seconds: bool = False
    calendar: tuple[str, ...] = ()
    every: timedelta | None = None
    at: datetime | None = None
    on_boot: bool = False
    timezone: str | None = None
    jitter: timedelta | None = None
    persistent: bool = False
    description: str = ""
    category: str = ""
    tags: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    env_file: tuple[str, ...] = ()
    working_dir: str | None = None
    run_as: str | None = None
    timeout: timedelta | None = None
    priority: int = NEUTRAL_PRIORITY
    nice: int | None = None
    memory_max: int | None = None
    cpu_quota: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "env", dict(self.env))
        self._check_words()
        self._check_command()
        self._check_when()
        self._check_where()
        self._check_bounds()

    @cached_property
    def id(self) -> str:
        """The slug of the name: what the unit files are called."""
        return job_id(self.name)

    @property
    def unit(self) -> str:
        return f"{PREFIX}{self.id}.service"

    @property
    def timer(self) -> str:
        return f"{PREFIX}{self.id}.timer"

    @property
    def has_timer(self) -> bool:
        return bool(self.schedule or self.calendar or self.every or self.at or self.on_boot)

    @property
    def command_line(self) -> str:
        """The command as a person would type it."""
        return self.command if isinstance(self.command, str) else shlex.join(self.command)

    def _check_words(self) -> None:
        check_line("name", self.name, longest=200)
        if self.name != self.name.strip():
            raise BadInput("the name begins or ends with a blank")
        if len(self.id) > LONGEST_ID:
            raise BadInput("the name is too long", hint="a unit file's name has at most 255 characters")
        if self.id in RESERVED_IDS:
            raise BadInput(
                f"the name {visible(self.name)} is taken by a unit of lsh-systemd itself", hint="choose another name"
            )
        check_line("description", self.description, longest=1000)
        object.__setattr__(self, "description", self.description.strip())  # as systemd would
        check_line("category", self.category, longest=100)
        for tag in self.tags:
            check_line("tag", tag, longest=100)
            if not tag.strip():
                raise BadInput("a tag is empty")

    def _check_command(self) -> None:
        if self.stdin is not None:
            check_encodable("standard input", self.stdin)
        if not _SHELL.fullmatch(self.shell):
            raise BadInput(f"the shell {visible(self.shell)} is not the absolute path of a program")
        check_path("shell", self.shell)
        if isinstance(self.command, str):
            if not self.command.strip():
                raise BadInput("the command is empty", hint="lshctl add NAME [options] -- COMMAND")
            check_argument("command", self.command)
            return
        if self.shell != DEFAULT_SHELL:
            raise BadInput("--shell and --no-shell exclude each other")
        if not self.command:
            raise BadInput("the command is empty", hint="lshctl add NAME [options] -- COMMAND")
        for word in self.command:
            check_argument("command", word)
        program = self.command[0]
        if program.startswith("/"):
            check_path("program", program)
        elif not _PROGRAM.fullmatch(program):
            raise BadInput(f"{visible(program)} cannot be run without a shell", hint="give the program's absolute path")

    def _check_when(self) -> None:
        kinds = {
            "--schedule": self.schedule,
            "--calendar": self.calendar,
            "--every": self.every,
            "--at": self.at,
            "--on-boot": self.on_boot,
        }
        given = [option for option, value in kinds.items() if value]
        if len(given) > 1:
            raise BadInput(f"{' and '.join(given)} exclude each other", hint="make a job for each")
        if self.timezone is not None:
            check_zone(self.timezone)
            if not (self.schedule or self.calendar or self.at):
                raise BadInput("a time zone needs --schedule, --calendar or --at")
        for expression in self.schedule:
            check_line("schedule", expression, longest=400)
            cron.parse(expression, seconds=self.seconds, key=self.id)
        for calendar in self.calendar:
            if not _CALENDAR.fullmatch(calendar) or not calendar.strip():
                raise BadInput(f"{visible(calendar)} is not a calendar expression", hint="see systemd.time(7)")
        if self.at is not None and self.at.tzinfo is None:
            raise ValueError("at must be an aware datetime")
        if self.at is not None:
            object.__setattr__(self, "at", self.at.astimezone(UTC))
        if self.every is not None:
            _check_span("--every", self.every, least=timedelta(seconds=1))
        if self.jitter is not None:
            _check_span("--jitter", self.jitter, least=timedelta(seconds=1))
            if not self.has_timer:
                raise BadInput("--jitter needs a schedule")
        if self.persistent and not (self.schedule or self.calendar or self.at):
            raise BadInput("--persistent needs --schedule, --calendar or --at: systemd keeps no other dates")

    def _check_where(self) -> None:
        for name, value in self.env.items():
            check_env(name, value)
        for path in self.env_file:
            check_path("environment file", path, glob=False)
        if self.working_dir is not None:
            check_path("working directory", self.working_dir)
            object.__setattr__(self, "working_dir", posixpath.normpath(self.working_dir).replace("//", "/"))
        if self.run_as is not None:
            check_user(self.run_as)

    def _check_bounds(self) -> None:
        _check_number("priority", self.priority, 0, 10)
        _check_number("nice", self.nice, -20, 19)
        _check_number("memory limit", self.memory_max, 4096, 2**60)
        _check_number("CPU quota", self.cpu_quota, 1, 1_000_000)
        if self.timeout is not None:
            _check_span("--timeout", self.timeout, least=timedelta(milliseconds=1))


def job_id(name: str) -> str:
    """The slug of a name ("Daily Backup" → "daily-backup"); safe as a file's name, whatever the name was.

    A name without a single Latin letter or digit gets one from its hash.
    """
    folded = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", folded).strip("-")
    if slug:
        return slug
    if not name.strip():
        raise BadInput("the name is empty")
    return "job-" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _check_number(what: str, value: int | None, least: int, most: int) -> None:
    if value is not None and not least <= value <= most:
        raise BadInput(f"the {what} {value} is not between {least} and {most}")


def _check_span(option: str, value: timedelta, *, least: timedelta) -> None:
    if not least <= value <= _LONGEST:
        raise BadInput(f"{option} must be between {least.total_seconds():g} s and 100 years")
