"""Checks on text that comes from outside, before it may become part of a unit file, a path or a screen."""

import re
import unicodedata
import warnings

from lsh_systemd.errors import BadInput

# One exec argument: the kernel's MAX_ARG_STRLEN (32 pages) less its NUL.
MAX_ARGUMENT_BYTES = 128 * 1024 - 1
# A file's path: PATH_MAX less its NUL.
MAX_PATH_BYTES = 4095

# Marks that reorder what a reader sees (Unicode TR 9): a name that uses them can pass for another one.
_REORDERING = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A)), "\u200e", "\u200f", "\u061c"}
# What JSON leaves as it is, and escape_controls would not.
_BARE_IN_JSON = re.compile(f"[\x7f-\x9f\u2028\u2029\ud800-\udfff{''.join(_REORDERING)}]")
_NO_USER = 2**32 - 1  # as a uid, "none"
_USER = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.-]{0,30}\$?|[0-9]{1,10}")
# What systemd, or the unit, tells a service and its recorder (systemd.exec(5)): overlaid, records would lie.
_SYSTEMDS_OWN = frozenset(
    "SERVICE_RESULT EXIT_CODE EXIT_STATUS INVOCATION_ID MAINPID MANAGERPID SYSTEMD_EXEC_PID JOURNAL_STREAM "
    "NOTIFY_SOCKET WATCHDOG_PID WATCHDOG_USEC CREDENTIALS_DIRECTORY MONITOR_SERVICE_RESULT "
    "LSH_METRICS".split()
)
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_encodable(what: str, value: str) -> None:
    """Refuse what no UTF-8 file can hold: lone surrogates (bytes that were no UTF-8) and NUL."""
    if "\0" in value:
        raise BadInput(f"the {what} contains a NUL byte")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadInput(f"the {what} is not valid UTF-8") from None


def check_line(what: str, value: str, *, longest: int) -> None:
    """Refuse anything but one line of visible text of at most ``longest`` characters."""
    check_encodable(what, value)
    if len(value) > longest:
        raise BadInput(f"the {what} has {len(value)} characters", hint=f"{longest} is the most")
    for character in value:
        if character in _REORDERING or unicodedata.category(character) in {"Cc", "Zl", "Zp"}:
            raise BadInput(
                f"the {what} contains the invisible character U+{ord(character):04X}", hint="use one line of plain text"
            )


def check_argument(what: str, value: str) -> None:
    """Refuse what the kernel cannot pass as one argument of a command."""
    check_encodable(what, value)
    if len(value.encode()) > MAX_ARGUMENT_BYTES:
        raise BadInput(
            f"the {what} is longer than {MAX_ARGUMENT_BYTES} bytes",
            hint="Linux allows no longer argument: put it into a script file and run that",
        )


def check_pattern(what: str, pattern: str) -> None:
    """Refuse what is no regular expression, or will mean something else in another Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        try:
            re.compile(pattern)
        except (re.error, FutureWarning, RecursionError, OverflowError) as error:
            raise BadInput(f"the {what} is no regular expression: {str(error)[:200]}") from None


def check_path(what: str, value: str, *, glob: bool = True) -> None:
    """Refuse what is no absolute path that a directive can hold literally.

    systemd strips blanks around a value and joins a line that ends in a backslash with the next one;
    neither can be escaped in a path. Where it expands wildcards (``glob=False``), those are refused too.
    """
    check_line(what, value, longest=MAX_PATH_BYTES)
    if not value.startswith("/"):
        raise BadInput(f"the {what} {visible(value)} is not an absolute path")
    if ".." in value.split("/"):
        raise BadInput(f"the {what} {visible(value)} contains '..'", hint="write the path that it leads to")
    if value != value.strip() or value.endswith("\\"):
        raise BadInput(f"the {what} {visible(value)} ends in a blank or a backslash, which a unit file cannot hold")
    if not glob and any(character in value for character in "*?[\\"):
        raise BadInput(f"the {what} {visible(value)} contains a wildcard (* ? [ \\)")


def check_user(value: str) -> None:
    """Refuse what systemd would not take as a user's name or number."""
    if not _USER.fullmatch(value) or (value.isdecimal() and int(value) >= _NO_USER):
        raise BadInput(f"{visible(value)} is not a user name")


def check_env(name: str, value: str) -> None:
    """Refuse a variable that systemd's Environment= would ignore, or that would overlay one of systemd's own."""
    if name in _SYSTEMDS_OWN or name.startswith(("TRIGGER_", "LISTEN_")):
        raise BadInput(f"{name} is set by systemd for each run", hint="choose another name")
    if not _ENV_NAME.fullmatch(name):
        raise BadInput(f"{visible(name)} is not a variable name", hint="use letters, digits and _, no digit first")
    check_argument(f"value of {name}", value)
    if any(unicodedata.category(c) == "Cc" and ord(c) < 0x80 and c not in "\t\n" for c in value):
        raise BadInput(f"the value of {name} contains a control character, which systemd does not pass on")


def visible(value: str, *, longest: int = 200) -> str:
    """The text in quotes, safe to print: nothing in it can move a cursor, change a colour or turn the line around."""
    if len(value) > longest:
        value = value[:longest] + "…"
    return "'" + escape_controls(value, keep="") + "'"


def escape_in_json(text: str) -> str:
    """The same JSON, of which nothing can move a cursor or turn a line around on a terminal either."""
    return _BARE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def escape_controls(value: str, *, keep: str = "\n\t") -> str:
    """Show control, reordering and undecodable characters as ``\\xNN`` or ``\\uNNNN``; keep those in ``keep``."""

    def shown(character: str) -> str:
        if character in keep or not (
            character in _REORDERING or unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
        ):
            return character
        return f"\\x{ord(character):02x}" if ord(character) < 0x100 else f"\\u{ord(character):04x}"

    return "".join(map(shown, value))
