"""Jobs as an enemy, or an unlucky user, would ask for them: plain data, of which only some is a valid job."""

import re
from typing import Any

from hypothesis import strategies as st

# Every character that means something to systemd, to a shell, to a terminal or to a reader of either.
PRINTABLE = [
    *"% %n %% %h $ $HOME ${A} $$ ' \" \\ \\n \\x41 \\\\ ; # = [Service] [X-Lsh] ExecStartPre=/bin/false".split(),
    *"~ * ? { } ` @ + - ! | & < > ( ) : , é ß 漢字 😀 👩‍👩‍👧 e\u0301 a b c 0 /".split(),
    *(" ", "  ", "\u00a0", " ; ", ' "', "\u3000"),
]
UNPRINTABLE = [
    "\n", "\t", "\r", "\0", "\x1b[31m", "\x7f", "\x85", "\u2028", "\u2029", "\u202e", "\u2066", "\u200f", "\ud800",
    "\udcff", "\nExecStartPre=/bin/false\n", "\\\n", "\n[Service]\nUser=root\n", "\r\nNice=-20",
]  # fmt: skip

printable = st.lists(st.sampled_from(PRINTABLE), max_size=8).map("".join)
anything = st.lists(st.sampled_from(PRINTABLE + UNPRINTABLE), max_size=8).map("".join)
huge = st.builds(lambda head, tail: head + "x" * 65536 + tail, printable, anything)
words = st.one_of(printable, printable, anything, st.text(max_size=10))
# What may hold any character, and any number of them.
blobs = st.one_of(words, words, words, words, huge)
paths = words.map(lambda word: f"/{word}")
names = st.one_of(st.sampled_from(["A", "_B9", "LONG_NAME"]), words)
_secrets = st.lists(st.sampled_from(["a", "db.pass-1", "key:TOKEN", "a:_C"]), max_size=3, unique=True)
secrets = st.one_of(_secrets, _secrets, _secrets, st.lists(words, max_size=2))


def _sensible(plain: dict[str, Any]) -> dict[str, Any]:
    """Without what is refused whatever the words are: too few examples would be left."""
    if plain.get("run_as"):
        plain.pop("dynamic_user", None)
    if plain.get("sandbox", "none") == "none" and not plain.get("dynamic_user"):
        plain.pop("write_path", None)
    if plain.get("anchor"):
        plain.setdefault("every", "7d")
        if plain["every"] in ("1s", "90s"):
            plain["every"] = "3 months"
    else:
        for name in ("not_before", "except_calendar", "catch_up"):
            plain.pop(name, None)
        if plain.get("every") == "3 months":
            plain["every"] = "7d"
    if not plain.get("every"):
        plain.pop("overlap", None)
    if plain.get("overlap") == "parallel":
        plain.pop("retries", None)
    if not plain.get("retries"):
        plain.pop("retry_on", None)
        plain.pop("no_retry_exit", None)
    if plain.get("from_fleet"):
        for name in ("retries", "retry_on", "no_retry_exit"):
            plain.pop(name, None)
    else:
        plain.pop("params", None)
    return plain


_params = printable.map(lambda text: f"P={re.escape(text)}")
_retry_on = st.sampled_from(["timeout", "signal:9", "exit-code"])
_overlaps = st.sampled_from(["queue", "skip", "parallel", "replace"])
_exceptions = st.sampled_from(["Mon", "09:00-17:00"])
hooks = st.lists(st.one_of(st.just("job:other job"), blobs.map(lambda word: f"echo {word}")), max_size=2)

plain_jobs: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "name": words.map(lambda word: f"h {word} h"),
        "command": st.one_of(blobs, st.tuples(st.sampled_from(["/bin/echo", "echo"]), blobs, words).map(list)),
    },
    optional={
        "description": words,
        "category": words,
        "tags": st.lists(words, max_size=3),
        "env": st.dictionaries(names, blobs, max_size=3),
        "env_file": st.lists(paths, max_size=2),
        "working_dir": paths,
        "run_as": st.one_of(st.sampled_from(["root", "nobody", "0"]), words),
        "timeout": st.sampled_from(["1ms", "90s", "1h 30min", "36500d"]),
        "priority": st.integers(0, 10),
        "nice": st.integers(-20, 19),
        "memory_max": st.integers(4096, 2**60),
        "cpu_quota": st.integers(1, 1_000_000),
        "memory_high": st.integers(4096, 2**16),
        "swap_max": st.integers(0, 2**60),
        "cpu_weight": st.integers(1, 10_000),
        "io_weight": st.integers(1, 10_000),
        "io_max": st.lists(
            st.one_of(
                st.builds("/{}:read={},write=5M".format, printable, st.integers(1, 2**60)),
                st.builds("{}:write=10M".format, st.sampled_from(["/", "/var", "/srv/a b"])),
            ),
            max_size=2,
        ),
        "tasks_max": st.integers(2, 2**22),
        "file_size_max": st.integers(1, 2**60),
        "open_files_max": st.integers(16, 2**30),
        "sandbox": st.sampled_from(["none", "standard", "strict"]),
        "write_path": st.lists(
            st.one_of(printable.map("/srv/{}".format), paths, st.sampled_from(["/home/bob/a b", "/tmp/x"])), max_size=2
        ),
        "network": st.sampled_from(["host", "none"]),
        "dynamic_user": st.booleans(),
        "jitter": st.sampled_from(["1s", "5min"]),
        "every": st.sampled_from(["1s", "90s", "7d", "3 months"]),
        "anchor": st.sampled_from(["2027-01-04T09:00:00", "2020-02-29T00:00:00"]),
        "not_before": st.sampled_from(["2027-01-04T09:00:00"]),
        "except_calendar": st.lists(st.one_of(_exceptions, _exceptions, _exceptions, paths, words), max_size=2),
        "retries": st.integers(0, 5),
        "retry_on": st.lists(st.one_of(_retry_on, _retry_on, _retry_on, words), max_size=2),
        "no_retry_exit": st.lists(st.integers(1, 256), max_size=2),
        "overlap": st.one_of(_overlaps, _overlaps, _overlaps, words),
        "groups": st.lists(st.one_of(printable.map("g {} g".format), words), max_size=2),
        "grace": st.sampled_from(["5s"]),
        "schedule_from": st.lists(words, max_size=1),
        "secrets": secrets,
        "catch_up": st.sampled_from(["none", "once", "all"]),
        "condition": blobs.map(lambda word: f"test {word}"),
        "after": st.lists(words.map(lambda word: f"h {word} other"), max_size=2),
        "when_path": st.lists(paths, max_size=2),
        "when_socket": st.lists(st.sampled_from(["8080", "[::1]:1", "@x", "/run/x", "/run/%t x"]), max_size=2),
        "on_success": hooks,
        "on_failure": hooks,
        "from_fleet": st.booleans(),
        "params": st.lists(st.one_of(_params, _params, _params, _params, words), max_size=1),
        "applied": st.sampled_from(["web", "a.b-C_9"]),
    },
).map(_sensible)
