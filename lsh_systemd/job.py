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

from lsh_systemd import bounds, credentials, cron, hooks, queueing, retry, sandbox, sharing
from lsh_systemd.bounds import NEUTRAL_PRIORITY
from lsh_systemd.errors import BadInput
from lsh_systemd.span import Months, check_span
from lsh_systemd.text import (
    check_argument,
    check_encodable,
    check_env,
    check_line,
    check_path,
    check_user,
    visible,
)
from lsh_systemd.timetable import Anchored
from lsh_systemd.zones import check_zone

PREFIX = "lsh-"
LONGEST_ID = 200
# Names of our own daemons' units (lsh-agent.service, …).
RESERVED_IDS = frozenset(
    "after agent alert api ask catch-up claim collect failed fleet prune queue record refresh succeeded sync tell-end "
    "tell-start tick".split()
)
DEFAULT_SHELL = "/bin/sh"

# The letters of systemd's calendar grammar (systemd.time(7)) and no others: neither a specifier nor a new line.
_CALENDAR = re.compile(r"[A-Za-z0-9 *~./:,+_-]{1,400}")
# argv[0] without a shell: systemd reads @ - : + ! | before it as modifiers.
_PROGRAM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_SHELL = re.compile(r"/[A-Za-z0-9_./+-]*[A-Za-z0-9_+-]")
_EXCEPTION = re.compile(r"[A-Za-z0-9 *~.:,/-]{1,400}")
EXCEPTION_HINT = (
    "write days as in OnCalendar=, and perhaps a time: 'Sat,Sun', '*-12-24..31', 'Mon 09:00-17:00'; or a .ics file"
)
CATCH_UP = ("none", "once", "all")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job. At most one kind of schedule is set; with none, the job runs only when it is started.

    ``command`` is a line for ``shell``, or, as a tuple, an argument vector that runs without a shell.
    ``stdin`` is what the command reads on its standard input, nothing where it is None.
    ``anchor``, ``not_before`` and ``not_after`` (the last time that counts) are naive: by the clock of ``timezone``, or
    the machine's. ``schedule_from`` remembers what ``schedule`` was read from (``${BACKUP_SCHEDULE}``).
    ``priority`` runs from 0 to 10, 5 is neutral. Raises BadInput for anything that no unit file could carry.
    """

    name: str
    command: str | tuple[str, ...]
    shell: str = DEFAULT_SHELL
    stdin: str | None = None
    schedule: tuple[str, ...] = ()
    schedule_from: tuple[str, ...] = ()
    seconds: bool = False
    calendar: tuple[str, ...] = ()
    every: timedelta | Months | None = None
    anchor: datetime | None = None
    at: datetime | None = None
    on_boot: bool = False
    timezone: str | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None
    except_calendar: tuple[str, ...] = ()
    jitter: timedelta | None = None
    catch_up: str = "none"
    catch_up_spread: timedelta | None = None
    description: str = ""
    category: str = ""
    tags: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    env_file: tuple[str, ...] = ()
    working_dir: str | None = None
    run_as: str | None = None
    timeout: timedelta | None = None
    grace: timedelta | None = None
    stuck_after: timedelta | None = None
    # retry: how often and when to try again
    retries: int = 0
    retry_delay: timedelta = timedelta(seconds=1)
    retry_max_delay: timedelta = timedelta(seconds=30)
    retry_on: tuple[str, ...] = ()
    no_retry_exit: tuple[int, ...] = ()
    # queue: what happens when it is due while it, or too much else, runs
    overlap: str = "queue"
    groups: tuple[str, ...] = ()
    # bounds: what it may use
    priority: int = NEUTRAL_PRIORITY
    nice: int | None = None
    memory_high: int | None = None
    memory_max: int | None = None
    swap_max: int | None = None
    cpu_quota: int | None = None
    cpu_weight: int | None = None
    io_weight: int | None = None
    io_max: tuple[str, ...] = ()
    tasks_max: int | None = None
    file_size_max: int | None = None
    open_files_max: int | None = None
    # sandbox: what it may touch
    sandbox: str = "none"
    write_path: tuple[str, ...] = ()
    network: str = "host"
    dynamic_user: bool = False
    secrets: tuple[str, ...] = ()
    # hooks: what it waits for, and what follows
    condition: str | None = None
    after: tuple[str, ...] = ()
    when_path: tuple[str, ...] = ()
    when_socket: tuple[str, ...] = ()
    on_success: tuple[str, ...] = ()
    on_failure: tuple[str, ...] = ()
    # sharing: which host of a fleet runs it, and whether the fleet's queue may ask for it
    once_in_fleet: bool = False
    fleet_unreachable: str = "skip"
    from_fleet: bool = False
    params: tuple[str, ...] = ()
    # a monitor outside that is told of each run: its URL, perhaps with {secret:NAME}
    ping: str | None = None
    allow_dangerous: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "env", dict(self.env))
        self._check_words()
        self._check_command()
        self._check_when()
        self._check_where()
        bounds.check(self)
        retry.check(self)
        queueing.check(self)
        sandbox.check(self)
        credentials.check(self)
        hooks.check(self)
        sharing.check(self)

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
    def activators(self) -> tuple[str, ...]:
        """The units that start the job by themselves: its timer, and what watches paths, sockets and other jobs."""
        return (*((self.timer,) if self.has_timer else ()), *hooks.activators(self))

    @property
    def interval(self) -> timedelta | None:
        """--every without an anchor: from start to start, whatever the calendar says."""
        return self.every if self.anchor is None and isinstance(self.every, timedelta) else None

    @property
    def by_calendar(self) -> bool:
        """Whether OnCalendar= lines are what makes it run."""
        return bool(self.schedule or self.calendar or self.at or self.anchor)

    @property
    def persistent(self) -> bool:
        """Whether systemd's Persistent= makes up for missed times."""
        return self.catch_up == "once" and self.catch_up_spread is None

    @property
    def caught_up_by_us(self) -> bool:
        """Whether lsh-catch-up.service makes up for missed times."""
        return self.catch_up != "none" and not self.persistent

    @property
    def has_instances(self) -> bool:
        """Whether it may have runs beside its own unit's: lsh-JOB@N.service."""
        return self.overlap == "parallel" or self.from_fleet

    @property
    def queue_rank(self) -> int:
        """Its place among what waits for a cap: the smaller, the earlier."""
        return 10 - self.priority

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
            if not self.by_calendar:
                raise BadInput("a time zone needs --schedule, --calendar, --at or --from")
        for expression in self.schedule:
            check_line("schedule", expression, longest=400)
            cron.parse(expression, seconds=self.seconds, key=self.id)
        for text in self.schedule_from:
            check_line("schedule", text, longest=400)
        for calendar in self.calendar:
            if not _CALENDAR.fullmatch(calendar) or not calendar.strip():
                raise BadInput(f"{visible(calendar)} is not a calendar expression", hint="see systemd.time(7)")
        if self.at is not None and self.at.tzinfo is None:
            raise ValueError("at must be an aware datetime")
        if self.at is not None:
            object.__setattr__(self, "at", self.at.astimezone(UTC))
        self._check_every()
        if self.jitter is not None:
            check_span("--jitter", self.jitter, least=timedelta(seconds=1))
            if not self.has_timer:
                raise BadInput("--jitter needs a schedule")
        self._check_limits()
        self._check_catch_up()

    def _check_every(self) -> None:
        if self.anchor is not None:
            if self.every is None:
                raise BadInput("--from needs --every", hint="--every '2 weeks' --from 2027-01-04")
            Anchored(self.anchor, self.every)
            if isinstance(self.every, timedelta):
                check_span("--every", self.every, least=timedelta(days=1))
        elif isinstance(self.every, Months):
            raise BadInput("--every in months needs --from", hint="--every '3 months' --from 2027-01-31")
        elif self.every is not None:
            check_span("--every", self.every, least=timedelta(seconds=1))

    def _check_limits(self) -> None:
        for moment in (self.anchor, self.not_before, self.not_after):
            if moment is not None and moment.tzinfo is not None:
                raise ValueError("limits are naive datetimes")
        if self.not_before is None and self.not_after is None and not self.except_calendar:
            return
        if not (self.schedule or self.calendar or self.anchor):
            raise BadInput("--not-before, --not-after and --except-calendar need --schedule, --calendar or --from")
        if self.not_before and self.not_after and self.not_after < self.not_before:
            raise BadInput("--not-after is earlier than --not-before")
        for exception in self.except_calendar:
            if exception.startswith("/"):
                check_path("calendar file", exception)
            elif not _EXCEPTION.fullmatch(exception) or not exception.strip():
                raise BadInput(f"{visible(exception)} is neither days nor a file", hint=EXCEPTION_HINT)

    def _check_catch_up(self) -> None:
        if self.catch_up not in CATCH_UP:
            raise BadInput(f"catch-up {visible(self.catch_up)} is not one of {', '.join(CATCH_UP)}")
        if self.catch_up != "none" and not self.by_calendar:
            raise BadInput(
                "--catch-up and --persistent need --schedule, --calendar, --at or --from: nothing else has fixed times"
            )
        if self.catch_up_spread is not None:
            check_span("--catch-up-spread", self.catch_up_spread, least=timedelta(seconds=1))
            if self.catch_up == "none":
                raise BadInput("--catch-up-spread needs --catch-up once or all")

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
