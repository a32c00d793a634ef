"""A timer's OnCalendar= lines elapse, on the real systemd, at exactly the instants at which Debian cron starts the job.

``cronsim`` says when that is; where it errs, the rule by its definition decides (``by_definition``). The fixed part
goes through every change of the clock of five years in all kinds of zones. `make torture SECONDS=600` goes on with
random expressions for that long. A failure is reported as the smallest expression that still fails.
"""

import itertools
import os
import random
import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim

from lsh_systemd.cron import Cron, CronError, parse
from lsh_systemd.instants import upcoming
from lsh_systemd.schedule import calendar_lines
from lsh_systemd.zones import Transition, transitions
from tests.tools import needs

pytestmark = needs("systemd-analyze")

NOW = datetime(2026, 11, 22, tzinfo=UTC)
# A zone for each way of changing the clock that there is from 2026 to 2031; and Apia, which skipped a day in 2011.
ZONES = {
    **dict.fromkeys(
        "Africa/Cairo Africa/Casablanca America/Adak America/Havana America/New_York America/Nuuk America/Santiago "
        "America/St_Johns Antarctica/Troll Asia/Beirut Asia/Gaza Asia/Jerusalem Atlantic/Azores Australia/Adelaide "
        "Australia/Lord_Howe Australia/Sydney Europe/Berlin Europe/Chisinau Europe/Dublin Europe/London "
        "Pacific/Auckland Pacific/Chatham Pacific/Easter Pacific/Norfolk".split(),
        NOW,
    ),
    "Pacific/Apia": datetime(2011, 1, 1, tzinfo=UTC),
}
EACH_WINDOW = 9  # expressions in each window of the fixed part


class Window:
    """The hours around a change of the clock."""

    def __init__(self, change: Transition) -> None:
        self.change = change
        self.zone = change.zone
        self.start = change.at - timedelta(hours=6)
        self.end = change.at + timedelta(hours=14)

    def cut(self, instants: Iterable[datetime]) -> list[datetime]:
        return [at for at in takewhile(lambda at: at < self.end, instants) if at > self.start]


def windows(zone: str) -> list[Window]:
    return [Window(change) for change in transitions(zone, ZONES[zone].year, ZONES[zone].year + 5)]


def lines_of(cron: Cron, zone: str) -> tuple[str, ...]:
    """The lines of a job in local time on a machine in this zone (systemd calculates those a hundred times faster)."""
    return calendar_lines(cron, zone=None, local_zone=zone, now=ZONES[zone])


# What cron does


def by_definition(expression: str, window: Window) -> list[datetime]:
    """A wildcard job runs at every minute of real time whose wall clock matches. A fixed-time job runs at its
    wall-clock times: where they come twice at the first, where they do not come at all at the end of the gap."""
    fields = CronSim(expression, window.start)  # only as a parser here

    def matches(wall: datetime) -> bool:
        right = wall.month in fields.months and wall.hour in fields.hours and wall.minute in fields.minutes
        return right and fields.match_day(wall.date())

    zone, minute = ZoneInfo(window.zone), timedelta(minutes=1)
    instants = set()
    if any(field.startswith("*") for field in expression.split()[:2]):
        at = window.start + minute
        while at < window.end:
            if matches(at.astimezone(zone)):
                instants.add(at)
            at += minute
        return sorted(instants)
    wall = window.start.astimezone(zone).replace(tzinfo=None) - timedelta(days=1)
    while (at := wall.replace(tzinfo=zone).astimezone(UTC)) < window.end + timedelta(hours=25):
        if matches(wall):
            real = wall
            while (at := real.replace(tzinfo=zone).astimezone(UTC)).astimezone(zone).replace(tzinfo=None) != real:
                real += minute
            instants.add(at)
        wall += minute
    return window.cut(sorted(instants))


def cronsim_errs(expression: str, window: Window) -> bool:
    """cronsim goes through a wildcard job hour by hour and day by day, and goes astray where a clock changes by other
    than one whole hour, at other than a whole hour, or over midnight (it may even hang there)."""
    start, end = window.change.wall
    odd = end - start != timedelta(hours=1) or start.minute != 0 or end.day != start.day or start.hour == 0
    return odd and any(field.startswith("*") for field in expression.split()[:2])


def cron_runs(expression: str, window: Window) -> list[datetime]:
    if cronsim_errs(expression, window):
        return by_definition(expression, window)
    local = window.start.astimezone(ZoneInfo(window.zone))
    # the times that a gap swallows all come out at its end
    return sorted(set(window.cut(at.astimezone(UTC) for at in CronSim(expression, local))))


# What systemd does


def systemd_analyze(lines: Sequence[str], after: datetime, count: int, zone: str) -> list[list[datetime]] | None:
    """For each line its next ``count`` instants on a machine in this zone; None where systemd fails on one of them."""
    command = ["systemd-analyze", "calendar", f"--base-time={after:%Y-%m-%d %H:%M:%S} UTC", f"--iterations={count}"]
    done = subprocess.run(
        [*command, *lines], env={**os.environ, "LC_ALL": "C", "TZ": zone}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        return None
    blocks = done.stdout.rstrip("\n").split("\n\n")
    assert len(blocks) == len(lines), done.stdout
    return [[*map(_utc, re.findall(r": \w{3} ([-0-9]{10} [:0-9]{8}) UTC$", block, re.MULTILINE))] for block in blocks]


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def union(lines: Sequence[str], window: Window, count: int) -> list[datetime]:
    """The instants of all the lines together within the window; ``count`` is at least how many there should be."""
    found = systemd_analyze(lines, window.start, count, window.zone)
    if found is None:  # a line that systemd cannot calculate over the gap: see what a timer makes of it
        return as_timer(lines, window)
    return window.cut(sorted({at for instants in found for at in instants}))


def as_timer(lines: Sequence[str], window: Window) -> list[datetime]:
    """As a running timer does it: at each instant calculate all lines anew, leaving out one that fails; the first."""
    instants: list[datetime] = []
    at = window.start
    while at < window.end:
        found = systemd_analyze(lines, at, 1, window.zone)
        each = found or [one[0] for line in lines if (one := systemd_analyze([line], at, 1, window.zone))]
        coming = [instants[0] for instants in each if instants]
        if not coming:
            break
        at = min(coming)
        instants.append(at)
    return window.cut(instants)


# The comparison


def difference(expression: str, window: Window) -> str:
    """What is wrong with the lines of this expression in this window; empty where nothing is."""
    want = cron_runs(expression, window)
    cron = parse(expression)
    lines = lines_of(cron, window.zone)
    got = union(lines, window, len(want) + 3)
    return _complain(expression, window, lines, want, got)


def _complain(expression: str, window: Window, lines: Sequence[str], want: list[datetime], got: list[datetime]) -> str:
    said = window.cut(upcoming(parse(expression), window.zone, window.start))
    if want == got == said:
        return ""
    missing, extra = sorted({*want} - {*got}), sorted({*got} - {*want})
    return (
        f"{expression!r} in {window.zone} around {window.change.at}: systemd misses {_few(missing)}, has too many: "
        f"{_few(extra)}; lines {lines}; upcoming() {'is right' if said == want else 'is wrong too'}"
    )


def _few(instants: list[datetime]) -> str:
    more = f" … ({len(instants)})" if len(instants) > 4 else ""
    return ", ".join(f"{at:%m-%d %H:%M}" for at in instants[:4]) + more


def differences(expressions: Sequence[str], window: Window) -> list[str]:
    """As ``difference``, with one systemd-analyze for the expressions that run about equally often."""
    wanted = {expression: cron_runs(expression, window) for expression in expressions}
    wrong = []
    for low, high in ((0, 4), (4, 20), (20, 100), (100, 10_000)):
        lines = {e: lines_of(parse(e), window.zone) for e in expressions if low <= len(wanted[e]) < high}
        if not lines:
            continue
        count = max(len(wanted[expression]) for expression in lines) + 3
        found = systemd_analyze([line for each in lines.values() for line in each], window.start, count, window.zone)
        rest = iter(found or [])
        for expression, each in lines.items():
            if found is None:
                got = union(each, window, count)
            else:
                got = window.cut(sorted({at for _ in each for at in next(rest)}))
            if _complain(expression, window, each, wanted[expression], got):
                wrong.append(expression)
    return wrong


def shrink(expression: str, window: Window) -> str:
    """The complaint about the smallest expression made from this one that still fails."""
    for smaller in _smaller(expression):
        if difference(smaller, window):
            return shrink(smaller, window)
    return difference(expression, window) or f"{expression!r} fails only together with others"


def _smaller(expression: str) -> Iterator[str]:
    fields = expression.split()
    for i, field in enumerate(fields):
        items = field.split(",")
        simpler = [",".join(items[:j] + items[j + 1 :]) for j in range(len(items)) if len(items) > 1]
        simpler += [field.partition("/")[0]] if "/" in field else re.findall("[0-9]+", field) if "-" in field else []
        simpler += ["*"] if field != "*" and i > 1 else []
        for text in simpler:
            yield " ".join([*fields[:i], text, *fields[i + 1 :]])


# Expressions


def expression(rng: random.Random, window: Window) -> str:
    """An expression that has something to do near the change of the clock more often than not."""
    start, end = window.change.wall
    near = [start + timedelta(minutes=m) for m in range(-120, 180, 15)]
    while True:
        fields = [
            _field(rng, 0, 59, [0, 1, 59, start.minute, end.minute, 30, 45]),
            _field(rng, 0, 23, [wall.hour for wall in near]),
            "*" if rng.random() < 0.7 else _field(rng, 1, 31, [start.day, end.day, 1, 28, 31]),
            "*" if rng.random() < 0.8 else _field(rng, 1, 12, [start.month]),
            "*" if rng.random() < 0.6 else _field(rng, 0, 6, [start.isoweekday() % 7, end.isoweekday() % 7]),
        ]
        if rng.random() < 0.05:
            fields[2] = "L"
        if rng.random() < 0.05:
            fields[4] = rng.choice(["0L", "6L", "0#1", "0#2", "5L"])
        text = " ".join(fields)
        try:
            cron = parse(text)
        except CronError:  # 30 February
            continue
        if rng.random() < 0.05 or window.cut(upcoming(cron, window.zone, window.start)):
            return text


def _field(rng: random.Random, low: int, high: int, near: list[int]) -> str:
    def value() -> int:
        return rng.choice(near) if rng.random() < 0.6 else rng.randint(low, high)

    kind = rng.random()
    if kind < 0.3:
        return "*"
    if kind < 0.4:
        return f"*/{rng.randint(1, max(2, (high - low) // 2))}"
    if kind < 0.6:
        return f"{value()}"
    if kind < 0.75:
        first, last = sorted((value(), value()))
        # cronsim reads 5-5/2 as 5-59/2; cron does not
        return f"{first}-{last}" + (f"/{rng.randint(1, 5)}" if first < last and rng.random() < 0.4 else "")
    return ",".join(f"{value()}" for _ in range(rng.randint(2, 4)))


# The tests


@pytest.mark.parametrize("zone", ZONES)
def test_union_is_what_cron_does(zone: str) -> None:
    rng = random.Random(zone)
    for window in windows(zone):
        for wrong in differences([expression(rng, window) for _ in range(EACH_WINDOW)], window):
            pytest.fail(shrink(wrong, window))


@pytest.mark.parametrize("zone", ["Africa/Casablanca", "Europe/Berlin", "Europe/Dublin", "Pacific/Chatham"])
def test_a_running_timer_does_the_same(zone: str) -> None:
    """Each elapse makes systemd calculate all lines anew from there, in the middle of a repeated hour too."""
    rng = random.Random(zone)
    for window in windows(zone)[:4]:
        for text in [text for _ in range(12) if len(cron_runs(text := expression(rng, window), window)) < 20]:
            lines = lines_of(parse(text), zone)
            assert as_timer(lines, window) == cron_runs(text, window), (text, lines, window.change)


@pytest.mark.parametrize("zone", ["Africa/Casablanca", "America/New_York", "Australia/Lord_Howe", "CET", "EST5EDT"])
def test_zone_in_the_line(zone: str) -> None:
    """The lines of a job with a zone of its own, on a machine in another; CET means something else to one in Berlin."""
    changes = transitions(zone, NOW.year, NOW.year + 5)
    rng = random.Random(zone)
    for window in [Window(change) for change in changes[:6]]:
        for text in [expression(rng, window) for _ in range(3)]:
            want = cron_runs(text, window)
            lines = calendar_lines(parse(text), zone=zone, now=NOW)
            found = systemd_analyze(lines, window.start, min(len(want), 300) + 1, "Europe/Berlin")
            assert found is not None
            got = window.cut(sorted({at for instants in found for at in instants}))
            assert got[:300] == want[:300], (text, lines, window.change)


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "Asia/Kathmandu", "America/Phoenix", "Etc/GMT+5", "UTC"])
def test_zones_without_a_change_need_no_more_lines(zone: str) -> None:
    for text in ("30 2 * * *", "*/15 * * * *", "* 2 * * 0"):
        assert len(calendar_lines(parse(text), zone=zone, now=NOW)) == 1


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Europe/Dublin", "Australia/Lord_Howe"])
def test_seconds_change_nothing_in_the_rule(zone: str) -> None:
    """cronsim gives up cron's care for changes of the clock where there is a field for seconds. We do not: a backup is
    not lost because its time is written 02:30:15."""
    rng = random.Random(zone)
    for window in windows(zone)[:6]:
        for text in [expression(rng, window) for _ in range(6)]:
            five, six = parse(text), parse(f"{text} 15", seconds=True)
            early = Window(window.change)
            early.start -= timedelta(seconds=1)
            plain = early.cut(upcoming(five, zone, early.start))
            want = [at if _made_up(five, at, window) else at.replace(second=15) for at in plain]
            assert window.cut(upcoming(six, zone, window.start)) == want
            assert union(lines_of(six, zone), window, len(want) + 3) == want, text


def _made_up(cron: Cron, at: datetime, window: Window) -> bool:
    """At the end of a gap, and there for the sake of the gap only."""
    return at == window.change.at and window.change.gap and not cron.match(at.astimezone(ZoneInfo(window.zone)))


def test_where_cronsim_errs() -> None:
    """Lord Howe puts its clock back by half an hour: * 7 * * * has only 30 of its 60 minutes in cronsim that day."""
    zone = "Australia/Lord_Howe"
    window = next(window for window in windows(zone) if not window.change.gap)
    sim = CronSim("* 7 * * *", window.start.astimezone(ZoneInfo(zone)))
    assert len(window.cut(at.astimezone(UTC) for at in sim)) == 30
    assert len(by_definition("* 7 * * *", window)) == 60
    assert difference("* 7 * * *", window) == ""


DATES = """
0 0 L * * | 0 0 LW * * | 0 0 1W * * | 0 0 15W * * | 0 0 28W * * | 0 0 29W * * | 0 0 30W * * | 0 0 31W * *
0 0 * * 5L | 0 0 * * 0L | 0 0 * * mon#1 | 0 0 * * 5#5 | 0 0 * * 1#2,5L | 0 0 * * 1,5L | 0 0 1,15W,L * *
0 0 LW 2 * | 0 0 28W 2 * | 0 0 29W 2 * | 0 0 31W * */2 | 0 0 15W * */3 | 0 0 LW * */2 | 0 0 L * */2 | 0 0 L 2 *
0 0 1 * 1 | 0 0 13 * 5 | 0 0 */2 * 1 | 0 0 */2 * 5L | 0 0 */2 * 5#2 | 0 0 1-7 * */2 | 0 0 L,28 2 5L | 0 0 29 2 */3
0 0 1-31 * 1 | 0 0 * * 0-7 | 0 0 28-3 * * | 0 0 * 11-2 * | 0 0 * * fri-mon | 0 0 31 * * | 0 0 29 2 * | 0 0 */9 * *
0 0 * */5 * | 0 0 1 */7 1L | 0 */7 * 1 * | */35 */11 1 1,12 * | 15 */5 * * 6 | 59 */23 31 12 * | */7 23 * * *
"""


@pytest.mark.parametrize("text", [text.strip() for line in DATES.split("\n") for text in line.split("|") if text])
def test_dates(text: str) -> None:
    """Years of dates in UTC: what the lines say on systemd is what the expression matches."""
    cron = parse(text)
    start, count = datetime(2027, 1, 1, tzinfo=UTC) - timedelta(seconds=1), 140
    want = [at for at in islice(upcoming(cron, "UTC", start), count) if at.year < 2070]
    lines = calendar_lines(cron, zone="UTC", now=NOW)
    found = systemd_analyze(lines, start, count, "UTC")
    assert found is not None
    got = sorted({at for instants in found for at in instants})[:count]
    assert [at for at in got if at.year < 2070] == want, lines


if "LSH_TORTURE_SECONDS" in os.environ:

    def test_torture() -> None:
        """Each round has a seed of its own, so that a failure can be repeated at once."""
        first = int(os.environ.get("LSH_TORTURE_SEED") or time.time_ns() // 1000)
        print(f"\nrandom expressions from seed {first} on", flush=True)
        around = [window for zone in ZONES for window in windows(zone)]
        began, checked = time.monotonic(), 0
        for seed in itertools.count(first):
            rng = random.Random(seed)
            window = rng.choice(around)
            for wrong in differences([expression(rng, window) for _ in range(20)], window):
                again = f"make torture SECONDS=1 SEED={seed}"
                pytest.fail(f"{shrink(wrong, window)}\nFound as {wrong!r}. Again: {again}", pytrace=False)
            checked += 20
            if time.monotonic() - began > float(os.environ["LSH_TORTURE_SECONDS"]):
                break
        print(f"{checked} expressions as cron has them, to seed {seed}")
