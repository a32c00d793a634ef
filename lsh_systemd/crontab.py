"""The text of crontabs, read as Debian's cron 3.0pl1 and anacron 2.3 read it, and the way back. Pure.

What this module takes for cron's rules was seen on both (packages 3.0pl1-162 and -212), not only read in crontab(5):
blanks at the end of a variable's value go even within quotes, and ``\\\\`` becomes ``\\`` in a command.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from lsh_systemd import cron
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.text import check_argument, check_env, check_user, visible

# What cron gives a job besides HOME and LOGNAME.
CRON_ENV: Mapping[str, str] = {"SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}

_MACRO = re.compile(r"@(\S*)[ \t]*")
_PERIODS = {"1": "@daily", "7": "@weekly", "@daily": "@daily", "@weekly": "@weekly", "@monthly": "@monthly"}
_ANACRON = re.compile(r"(\S+)[ \t]+(\S+)[ \t]+(\S+)[ \t]+(\S.*)")
_ANACRON_VARIABLE = re.compile(r"[ \t]*([A-Za-z_][A-Za-z0-9_]*)[ \t]*=(.*)")
_EMPTY_VARIABLE = re.compile(r"\s*[A-Za-z_]\w*\s*=\s*")
_NUMBER = "[0-9]{1,4}|[a-z]{3}"
_PLAIN_ITEM = re.compile(rf"(?:\*|({_NUMBER})(?:-({_NUMBER}))?)(?:/[0-9]+)?", re.IGNORECASE)
# Lines of a comment that are no words about the next line: the head of a table, a drawing, a rule, something for an
# editor, what --take-over leaves behind.
_NO_WORDS = re.compile(
    r"[^\w]*|[|.*+=#-].*|m\s+h\s+dom\b.*|-\*-.*|vim?:.*|lsh-\S+\.\w+ has this now: .*", re.IGNORECASE
)


class Form(StrEnum):
    """The three kinds of file: a user's crontab, /etc/crontab and /etc/cron.d (a user column), /etc/anacrontab."""

    USER = "user"
    SYSTEM = "system"
    ANACRON = "anacron"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One job of a crontab. ``env`` is what the file sets up to this line; ``user`` the column, where there is one;
    ``delay`` and ``identifier`` are anacron's. ``comment`` is the paragraph directly above, a line each."""

    line: int
    schedule: str
    command: str
    stdin: str | None = None
    user: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    comment: tuple[str, ...] = ()
    delay: timedelta | None = None
    identifier: str | None = None


@dataclass(frozen=True, kw_only=True)
class BadLine:
    """A line that cannot be taken, and why."""

    line: int
    text: str
    reason: str
    hint: str | None = None


@dataclass(frozen=True, kw_only=True)
class Note:
    """Something about a line that its reader should know; None: about the whole file."""

    line: int | None
    text: str


@dataclass(frozen=True, kw_only=True)
class Crontab:
    entries: tuple[Entry, ...]
    bad: tuple[BadLine, ...]
    notes: tuple[Note, ...]


def parse(text: str, form: Form) -> Crontab:
    """All that the file says, the lines that cannot be taken among it. Lines count from 1."""
    env: dict[str, str] = {}
    comment: list[str] = []
    entries: list[Entry] = []
    bad: list[BadLine] = []
    notes: list[Note] = []
    # Not splitlines(): for cron, only a newline ends a line.
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.lstrip(" \t")
        if not stripped or stripped.startswith("#"):
            comment = [*comment, stripped[1:]] if stripped else []
            continue
        try:
            if line.endswith("\r"):
                raise BadInput("it ends in a carriage return, which cron would pass on", hint="dos2unix mends the file")
            variable = _variable(line, form)
            if variable:
                check_env(*variable)
                env = {**env, variable[0]: variable[1]}
                notes += _notes_on_variable(number, variable, form)
            else:
                entry = _entry(number, stripped, form, env, paragraph(comment))
                entries.append(entry)
                notes += _notes_on_entry(entry, form)
        except LshError as error:
            bad.append(BadLine(line=number, text=line, reason=error.message, hint=error.hint))
        comment = []
    if form is not Form.ANACRON and text and not text.endswith("\n"):
        notes.append(Note(line=None, text="it does not end in a newline: Debian's cron would not take it"))
    return Crontab(entries=tuple(entries), bad=tuple(bad), notes=tuple(notes))


def split_percent(text: str) -> tuple[str, str | None]:
    """A crontab's command field → the command and its standard input, as do_command.c does it: an unescaped ``%`` is a
    newline, and what follows the first one is the input; None where there is none."""
    command, at = [], 0
    while at < len(text) and text[at] != "%":
        if text[at] == "\\" and text[at + 1 : at + 2] in ("%", "\\"):
            at += 1
        command.append(text[at])
        at += 1
    if at == len(text):
        return "".join(command), None
    data = re.sub(r"\\?%", lambda found: "\n" if found[0] == "%" else "%", text[at + 1 :])
    return "".join(command), data if data.endswith("\n") or not data else f"{data}\n"


def join_percent(command: str, stdin: str | None) -> str:
    """The way back. Raises BadInput for what no crontab can hold."""
    if "\n" in command:
        raise BadInput("its command has several lines")
    text = command.replace("\\", "\\\\").replace("%", "\\%")
    if stdin:
        # cron adds the last newline by itself, unless one is there
        data = stdin[:-1] if re.search(r"[^\n]\n\Z", stdin) else stdin
        text += "%" + data.replace("%", "\\%").replace("\n", "%")
    if split_percent(text) != (command, stdin or None):
        raise BadInput("its standard input does not end in a newline, or has a backslash at the end of a line")
    return text


def variable_line(name: str, value: str) -> str:
    """``NAME="value"`` as cron reads it. Raises BadInput for what no crontab can hold."""
    mark = next((mark for mark in ('"', "'", "") if not mark or mark not in value), "")
    line = f"{name}={mark}{value}{mark}"
    if re.fullmatch(r"[A-Za-z0-9_/:.,@+-]+", value):
        line = f"{name}={value}"
    if "\n" in value or _variable(line, Form.USER) != (name, value):
        raise BadInput(f"cron cannot hold the value of {name}")
    return line


def is_plain(schedule: str) -> bool:
    """Whether every cron reads this as we do: no L, W, #, H and no range that runs over the end of its field."""
    return schedule.startswith("@") or all(_is_plain_field(text, at) for at, text in enumerate(schedule.split()))


def plain(schedule: str, *, key: str) -> str | None:
    """The same instants in an expression that every cron reads, or None where there is no such."""
    parsed = cron.parse(schedule, key=key)
    if is_plain(schedule):
        return schedule
    days, weekdays = parsed.days, parsed.weekdays
    if days.nearest or days.last or days.last_weekday or weekdays.nth:
        return None
    sunday_first = {(day + 1) % 7 for day in weekdays.numbers}
    values = (parsed.minutes, parsed.hours, days.numbers, parsed.months, sunday_first)
    return " ".join(
        text if _is_plain_field(text, at) else ",".join(map(str, sorted(numbers)))
        for at, (text, numbers) in enumerate(zip(schedule.split(), values, strict=True))
    )


def paragraph(comment: list[str]) -> tuple[str, ...]:
    """The last paragraph of a comment's lines, less what is no words: tables, drawings, lines that were jobs once."""
    words: list[str] = []
    for line in comment:
        text = " ".join(line.split())
        words = [] if _NO_WORDS.fullmatch(text) or _was_a_job(text) else [*words, text]
    return tuple(words)


def _was_a_job(text: str) -> bool:
    try:
        cron.parse(" ".join(text.split()[:5]))
    except BadInput:
        return text.startswith(("@reboot ", *(f"{macro} " for macro in cron.MACROS)))
    return True


def _is_plain_field(text: str, at: int) -> bool:
    names = {3: ("", *cron.MONTHS), 4: cron.WEEKDAYS}.get(at, ())

    def number(word: str) -> int:
        return names.index(word.lower()) if word.lower() in names else int(word)

    for item in text.split(","):
        found = _PLAIN_ITEM.fullmatch(item)
        if not found or (found[2] and number(found[1]) > number(found[2])):
            return False
    return True


def _entry(number: int, line: str, form: Form, env: dict[str, str], comment: tuple[str, ...]) -> Entry:
    if form is Form.ANACRON:
        return _anacron_entry(number, line, env, comment)
    schedule, rest = _schedule(line)
    user = None
    if form is Form.SYSTEM:
        user, _, rest = rest.replace("\t", " ", 1).partition(" ") if "\t" in rest.split(" ")[0] else rest.partition(" ")
        if not user:
            raise BadInput("the user and the command are missing")
        check_user(user)
    rest = rest.lstrip(" \t")
    if not rest:
        raise BadInput("the command is missing")
    command, stdin = split_percent(rest)
    if not command.strip():
        raise BadInput("the command is missing: it ends at the first %", hint="write \\% for a percent sign")
    check_argument("command", command)
    return Entry(
        line=number, schedule=schedule, command=command, stdin=stdin or None, user=user, env=env, comment=comment
    )


def _schedule(line: str) -> tuple[str, str]:
    """The time of a line, checked, and the rest of the line."""
    if found := _MACRO.match(line):
        macro = f"@{found[1]}"
        if macro != "@reboot" and macro not in cron.MACROS:
            raise BadInput(f"{macro} is no time that cron knows", hint="cron knows @reboot, " + ", ".join(cron.MACROS))
        return macro, line[found.end() :]
    if line.startswith("-"):
        raise BadInput("Debian's cron knows no - before the time", hint="elsewhere it means: no line in the log")
    words = re.split(r"[ \t]+", line, maxsplit=5)
    schedule = " ".join(words[:5])
    try:
        cron.parse(schedule)
    except BadInput as error:
        if len([word for word in words if word]) < 5:
            message = "neither a variable nor five fields of time and a command"
            hint = f'an empty value wants quotes: {line.strip()}""' if _EMPTY_VARIABLE.fullmatch(line) else None
            raise BadInput(message, hint=hint) from None
        raise BadInput(error.message, hint=error.hint) from None
    return schedule, words[5] if len(words) > 5 else ""


def _anacron_entry(number: int, line: str, env: dict[str, str], comment: tuple[str, ...]) -> Entry:
    found = _ANACRON.fullmatch(line.rstrip())
    if not found:
        raise BadInput("not of the form: period delay job-identifier command")
    period, delay, identifier, command = found.groups()
    if command.endswith("\\"):
        raise BadInput("it goes on in the next line", hint="write it on one line")
    if period not in _PERIODS:
        raise BadInput(
            f"a period of {visible(period)} has no equal here", hint="1, 7, @daily, @weekly and @monthly have"
        )
    if not re.fullmatch("[0-9]{1,6}", delay):
        raise BadInput(f"the delay {visible(delay)} is no number of minutes")
    check_argument("command", command)
    return Entry(
        line=number,
        schedule=_PERIODS[period],
        command=command,
        user="root",
        env=env,
        comment=comment,
        delay=timedelta(minutes=int(delay)),
        identifier=identifier,
    )


def _notes_on_variable(number: int, variable: tuple[str, str], form: Form) -> Iterator[Note]:
    name, value = variable
    if name == "MAILTO" and value:
        yield Note(line=number, text=f"no mail goes to {value}: lshctl logs shows what the jobs write")
    elif name == "CRON_TZ" and form is not Form.ANACRON:
        yield Note(line=number, text="here it is the time zone of the schedules; Debian's own cron ignores it")
    elif name == "LOGNAME" and form is not Form.ANACRON:
        yield Note(line=number, text="cron ignores it: LOGNAME is always the user")
    elif name in ("RANDOM_DELAY", "START_HOURS_RANGE"):
        yield Note(line=number, text=f"{name} is only passed on to the jobs; lshctl set JOB --jitter spreads them")


def _notes_on_entry(entry: Entry, form: Form) -> Iterator[Note]:
    if not is_plain(entry.schedule):
        yield Note(line=entry.line, text=f'not plain cron; lshctl explain "{entry.schedule}" tells how it is read here')
    if "/run/systemd/system" in entry.command:
        yield Note(line=entry.line, text="it looks whether systemd runs: its package may have a timer of its own")
    if form is Form.ANACRON:
        yield Note(line=entry.line, text=f"as {entry.schedule}, made up when missed; its delay becomes a jitter")


def _variable(line: str, form: Form) -> tuple[str, str] | None:
    """The name and value that a line sets, or None where it is no such line. cron's load_env, state by state."""
    if form is Form.ANACRON:
        found = _ANACRON_VARIABLE.fullmatch(line)
        return (found[1], found[2].rstrip()) if found else None
    name, rest = _name(line.lstrip(" \t"))
    if not name or not rest.startswith("="):
        return None
    rest = rest[1:].lstrip(" \t\v\f\r")
    if not rest:
        return None  # an empty value wants quotes
    if rest[0] in "\"'":
        value, end, after = rest[1:].partition(rest[0])
        if not end or after.strip():
            return None
    else:
        value = rest
    return name, value.rstrip(" \t\v\f\r")


def _name(line: str) -> tuple[str, str]:
    """A variable's name at the head of a line, and what follows it and its blanks."""
    if line[:1] in ('"', "'"):
        name, end, rest = line[1:].partition(line[0])
        return ("", "") if not end or "=" in name else (name, rest.lstrip(" \t"))
    found = re.match(r"([^\s=]*)\s*", line)
    assert found
    return found[1], line[found.end() :]
