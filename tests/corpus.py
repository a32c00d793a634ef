"""Tables of what others make of cron expressions, beside what we do: tests/unit/corpora/*.tsv.

A row: their expression; how it is written here; zone; after; what they make of it; what we make of it; why it differs.
``=`` says "the same" (written as theirs, made as theirs); where both are, the reason is ``same``, elsewhere one or more
of the codes that the head of the file explains (``#: code explanation``). What is made of an expression is told as

    refused | accepted | never                     it is no expression | it is one | and it has no run after ``after``
    2021-03-28T04:00+03:00 2021-03-29T03:00+03:00  its first runs (without an offset: UTC)
    not 2012-07-09T15:40                           its first run is another one
    minute=0,30 day=L weekday=1,5#2                its fields (weekdays count from Sunday = 0, as in cron)
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

from lsh_systemd.cron import LAST, Cron, CronError, parse
from lsh_systemd.instants import upcoming

FOLDER = Path(__file__).parent / "unit/corpora"
SAME = "="


@dataclass(frozen=True, kw_only=True)
class Row:
    line: int
    expression: str
    written: str
    zone: str
    after: str
    theirs: str
    ours: str
    reasons: tuple[str, ...]

    @property
    def id(self) -> str:
        return f"{self.line}: {self.expression}"


class Corpus:
    """A file of such rows."""

    def __init__(self, name: str) -> None:
        self.rows: list[Row] = []
        self.reasons: dict[str, str] = {}
        for number, line in enumerate((FOLDER / name).read_text(encoding="utf-8").splitlines(), 1):
            if found := re.fullmatch(r"#: (\S+) +(.+)", line):
                self.reasons[found[1]] = found[2]
            elif line and not line.startswith("#"):
                self.rows.append(_row(number, line))

    def complain(self, row: Row) -> str:
        """What the row says that is not so; empty where all is as it says."""
        as_theirs, as_written = row.ours == SAME, row.written == SAME
        if as_theirs and as_written:
            return self._not_explained(row) or _differs(row, row.expression, row.theirs)
        expression = row.expression if as_written else row.written
        return (
            self._not_explained(row)
            or _differs(row, expression, row.theirs if as_theirs else row.ours)
            or ("" if as_theirs or _differs(row, expression, row.theirs) else "it is as theirs: write =")
            or ("both are the same: write =" if not as_written and _mean_the_same(row) else "")
        )

    def _not_explained(self, row: Row) -> str:
        if row.ours == row.written == SAME:
            return "" if row.reasons == ("same",) else "the reason of a row that does not differ is 'same'"
        unknown = [code for code in row.reasons if code not in self.reasons]
        return f"no such reason: {unknown}" if unknown else ""

    def unused(self) -> set[str]:
        """The reasons that the head of the file explains and no row gives."""
        return {*self.reasons} - {code for row in self.rows for code in row.reasons}


def _row(number: int, line: str) -> Row:
    expression, written, zone, after, theirs, ours, reasons = (cell.strip(" ") for cell in line.split("\t"))
    return Row(
        line=number,
        expression=expression.replace("\\t", "\t"),
        written=written,
        zone=zone,
        after=after,
        theirs=theirs,
        ours=ours,
        reasons=tuple(reasons.split(",")),
    )


def _differs(row: Row, expression: str, claim: str) -> str:
    """What becomes of the expression, told as the claim tells it; empty where the claim is true."""
    clock = ZoneInfo(row.zone)
    true = outcome(
        expression, claim, clock, _instant(row.after, clock) if row.after else datetime(2020, 1, 1, tzinfo=UTC)
    )
    return "" if true == _plain(claim, clock) else f"{expression!r} makes {true!r}"


def _mean_the_same(row: Row) -> bool:
    """Whether there was no need to write the expression otherwise."""
    try:
        return replace(_parse(row.expression), expression=row.written) == _parse(row.written)
    except CronError:
        return False


def _parse(expression: str) -> Cron:
    # six or seven fields want --seconds
    return parse(expression, seconds=len(expression.split()) > 5)


def outcome(expression: str, like: str, clock: ZoneInfo, after: datetime) -> str:
    """What we make of an expression, in the form that the claim ``like`` has."""
    try:
        cron = _parse(expression)
    except CronError:
        return "refused"
    if like in ("refused", "accepted"):
        return "accepted"
    if "=" in like:
        return " ".join(f"{name}={_field(cron, name)}" for name in re.findall(r"(\w+)=", like))
    count = 1 if like == "never" or like.startswith("not ") else len(like.split())
    found = " ".join(_text(at, clock) for at in islice(upcoming(cron, clock.key, after), count)) or "never"
    unlike = like.startswith("not ") and found != _plain(like.removeprefix("not "), clock)
    return _plain(like, clock) if unlike else found


def _plain(claim: str, clock: ZoneInfo) -> str:
    """The claim with its instants all written in one way."""
    return re.sub(r"\d{4}-\d\d-\d\dT\S+", lambda found: _text(_instant(found[0], clock), clock), claim)


def _instant(text: str, clock: ZoneInfo) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=clock)


def _text(at: datetime, clock: ZoneInfo) -> str:
    return at.astimezone(clock).isoformat()


def _field(cron: Cron, name: str) -> str:
    if name == "day":
        days = cron.days
        words = ["L"] * days.last + ["LW"] * days.last_weekday + [f"{day}W" for day in sorted(days.nearest)]
        return ",".join([*_ranges(days.numbers), *words])
    if name == "weekday":
        numbers = {(day + 1) % 7 for day in cron.weekdays.numbers}
        nth = [f"{(day + 1) % 7}L" if n == LAST else f"{(day + 1) % 7}#{n}" for day, n in sorted(cron.weekdays.nth)]
        return ",".join([*_ranges(frozenset(numbers)), *nth])
    return ",".join(_ranges(getattr(cron, f"{name}s")))


def _ranges(values: frozenset[int]) -> Iterator[str]:
    numbers = sorted(values)
    while numbers:
        length = next((i for i, n in enumerate(numbers) if n != numbers[0] + i), len(numbers))
        length = length if length > 2 else 1
        yield f"{numbers[0]}" if length == 1 else f"{numbers[0]}-{numbers[length - 1]}"
        numbers = numbers[length:]
