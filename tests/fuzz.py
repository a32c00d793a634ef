"""What the fuzz tests share: texts that are nearly right, and the law: a parser gives a value or says what is wrong.

`LSH_FUZZ=N make test` tries N times as many examples.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from lsh_systemd.errors import LshError
from tests.hostile import PRINTABLE, UNPRINTABLE

T = TypeVar("T")
# Of a few milliseconds' work: what takes so long has a loop in it that the text's length does not bound.
CPU_SECONDS = 20.0

NUMBERS = "0 -1 1 2 59 60 1e9 1e999 -0 nan inf 4294967296 18446744073709551616 0x10 ٣ ² 1_000".split()
MARKS = [
    *"\"'`{}[]()<>,:;=*/-+%$\\#|&!~@?.^_ \n\t",
    "\0",
    "\r\n",
    "\ufeff",
    "'''",
    '"""',
    "---\n",
    "- ",
    ": ",
    "{{ ",
    " }}",
]
_bits = st.one_of(
    st.sampled_from(MARKS + NUMBERS),
    st.sampled_from(PRINTABLE + UNPRINTABLE),
    st.text(max_size=6),
    st.builds(lambda bit, times: bit * times, st.sampled_from([*"([{*a0 \n", "ab", "a,", "{{"]), st.integers(2, 3000)),
)


def law(examples: int) -> settings:
    """So many examples a call of `make test`, and as often as LSH_FUZZ says."""
    times = int(os.environ.get("LSH_FUZZ", "1"))
    return settings(
        max_examples=examples * times, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
    )


def nearly(*seeds: str, words: Sequence[str] = ()) -> st.SearchStrategy[str]:
    """Texts that are one of the seeds but for a few edits: pieces cut out, doubled, or put in (``words``: of what)."""
    bits = st.one_of(st.sampled_from(words), _bits) if words else _bits
    edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), st.integers(0, 2), bits), max_size=6)
    return st.builds(_edited, st.sampled_from(seeds), edits)


def nearly_bytes(*seeds: str, words: Sequence[str] = ()) -> st.SearchStrategy[bytes]:
    """The same as files have them: half characters among them, and bytes that are none."""
    raw = st.sampled_from([b"", b"\xff", b"\xfe\xff", b"\xed\xa0\x80", b"\xc3", b"\0" * 9])
    texts = nearly(*seeds, words=words).map(lambda text: text.encode("utf-8", "surrogatepass"))
    cut = st.builds(
        lambda data, at, bit: data[: (n := round(at * len(data)))] + bit + data[n:], texts, st.floats(0, 1), raw
    )
    return st.one_of(texts, texts, cut)


def _edited(text: str, edits: Sequence[tuple[float, int, int, str]]) -> str:
    for where, length, times, bit in edits:
        at = round(where * len(text))
        text = text[:at] + bit + text[at : at + length] * times + text[at + length :]
    return text


# Whatever JSON, TOML or YAML may hand on.
anything: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from([2**63, -(2**63) - 1, 10**400, 1e308]),
        st.sampled_from(PRINTABLE + UNPRINTABLE), st.text(max_size=8),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)  # fmt: skip


def mangled(plain: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The table with some values replaced by anything, some taken out, some added."""
    return st.builds(
        lambda over, less, more: {name: each for name, each in {**plain, **over, **more}.items() if name not in less},
        st.dictionaries(st.sampled_from(sorted(plain)), anything, max_size=3),
        st.sets(st.sampled_from(sorted(plain)), max_size=2),
        st.dictionaries(st.text(max_size=5), anything, max_size=1),
    )


def value_or_error(parse: Callable[..., T], *args: Any, **named: Any) -> T | None:
    """What the parser makes of it; None where it says what is wrong. Any other exception fails, as does taking long."""
    with bounded():
        try:
            return parse(*args, **named)
        except LshError as error:
            assert isinstance(error.message, str) and len(error.message) < 5000, error.message[:500]
            return None


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    def late(*_: object) -> None:
        raise AssertionError(f"it took more than {CPU_SECONDS:g} s of CPU")

    before = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
