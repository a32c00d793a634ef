"""What a report says in words, in drawings and in files: hostile text stays text."""

import csv
import io
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import lsh_systemd.cli.forms as forms
from lsh_systemd import plots
from lsh_systemd.cli.sheet import lines
from lsh_systemd.cli.table import number
from lsh_systemd.failure import failure, masked
from lsh_systemd.figures import Figures
from lsh_systemd.insights import Streak, insights
from lsh_systemd.report import Reporter
from lsh_systemd.rollup import DAY_USEC
from lsh_systemd.run import Run
from lsh_systemd.store import Store

HOSTILE = "<script>alert('x')</script> | `a` [b](javascript:c) & \x1b[31m\u202e\r\n# = \"q\""
BEGIN = 20_000 * DAY_USEC


def run(number: int, job: str = "x", result: str = "success", **fields: Any) -> Run:
    """The number is the hour in which it began."""
    usual = {"started_usec": BEGIN + number * DAY_USEC // 24, "duration_usec": 2_000_000}
    return Run(id=f"{number:032x}", job=job, unit=f"lsh-{job}.service", result=result, **(usual | fields))


def reporter(*runs: Run, **options: Any) -> Reporter:
    store = Store(None)
    with store.transaction():
        store.put(runs)
    return Reporter(Figures(store.query), **options)


def written(form: str, told: dict[str, Any], on: Reporter) -> str:
    import click

    @click.command()
    def command() -> None:
        forms.write(form, told, on, "Europe/Berlin")

    result = CliRunner().invoke(command, catch_exceptions=False)
    return result.output


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("no space left on device", "no space left on device"),
        ("pid 4711: 10.0.0.1:5432 refused after 3.5s", "pid #: # refused after #s"),
        ("run 9c2f0f5b-7a1e-4d7c-8f5f-3f0f2a6b1c3d", "run #"),
        ("commit 3f2a9bc, blob 0xDEADbeef", "commit #, blob #"),
        ("/tmp/tmp.aZ3kQ9xY1bLm gone at 2026-11-22T06:41:51Z", "/tmp/tmp.# gone at #-#-#T#Z"),
        ("  two\n lines\t", "two lines"),
        ("deadbeef accede", "deadbeef accede"),
        ("x" * 300, "x" * 200),
    ],
)
def test_numbers_and_ids_are_masked(said: str, expected: str) -> None:
    assert masked(said) == expected


@given(st.text(), st.integers(0, 10**9), st.integers(0, 10**9))
def test_messages_that_differ_in_a_number_are_the_same(text: str, one: int, other: int) -> None:
    words = "".join(character for character in text if not character.isalnum())
    assert masked(f"{words} {one} {words}") == masked(f"{words} {other} {words}")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (run(1, output=b"first\nlast 1\n\n"), None),
        (run(1, result="exit-code", output=b"first\nlast 1\n \n"), "last #"),
        (run(1, result="exit-code", output=b"first\nlast", message="mine 2"), "mine #"),
        (run(1, result="exit-code"), None),
        (run(1, result="exit-code", output=b"\xff\0\n"), "\ufffd\0"),
        (run(1, result="lost", output=b"working"), None),
        (run(1, result="skipped", reason="it was running"), None),
        (run(1, result="missed", reason="the machine was off for 3 days"), "the machine was off for # days"),
    ],
)
def test_what_a_failed_run_last_said(told: Run, expected: str | None) -> None:
    assert failure(told) == expected


class Page(HTMLParser):
    """The elements of a page, its text, and what any of them would load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile() -> tuple[dict[str, Any], Reporter]:
    metrics = json.dumps({"<b>rows\u202e": 3, "=1+1": 4})
    runs = [run(n, result="exit-code" if n % 3 else "success", message=HOSTILE, metrics=metrics) for n in range(30)]
    on = reporter(*runs, run(31, "y"), since_usec=BEGIN, until_usec=BEGIN + 2 * DAY_USEC)
    return {"overall": on.overall(), "jobs": on.jobs(), "buckets": on.buckets("day", "Europe/Berlin")}, on


def test_the_page_holds_nothing_but_what_we_wrote() -> None:
    page = Page(written("html", *hostile()))
    assert "script" not in page.tags and "b" not in page.tags
    assert not {name for name in page.attributes if name.startswith("on")} | page.attributes & {"src", "href"}
    assert "<script>alert('x')</script> | `a`" in page.text and "<b>rows\\u202e" in page.text
    assert "\x1b" not in page.text and "\u202e" not in page.text
    assert {"svg", "rect", "table"} <= page.tags


def test_markdown_holds_no_markup_of_a_run() -> None:
    text = written("markdown", *hostile())
    assert "<" not in text.replace("&lt;", "")
    assert not re.search(r"(?<!\\)[`\[]", text) and "\x1b" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows[:3]} == {13}


def test_csv_is_no_spreadsheet_s_formula() -> None:
    told, on = hostile()
    rows = list(csv.DictReader(io.StringIO(written("csv", {"jobs": told["jobs"]}, on))))
    assert [row["job"] for row in rows] == ["x", "y"]
    assert (rows[0]["runs"], json.loads(rows[0]["failures_by_result"])) == ("30", {"exit-code": 20})
    assert rows[0]["before_runs"] == "0" and "metrics" not in rows[0]
    assert len(list(csv.reader(io.StringIO(written("csv", told, on))))) == 1 + len(told["buckets"])
    with_formula = [{"a": "=cmd|'x'!A0", "b": "-1", "c": -1, "d": 'a,"b"'}]
    result = written_csv(with_formula)
    assert result == [["a", "b", "c", "d"], ["'=cmd|'x'!A0", "'-1", "-1", 'a,"b"']]


def written_csv(rows: list[dict[str, Any]]) -> list[list[str]]:
    import click

    result = CliRunner().invoke(click.command()(lambda: forms.print_csv(rows, list(rows[0]))), catch_exceptions=False)
    return list(csv.reader(io.StringIO(result.output)))


@pytest.mark.parametrize("form", ["html", "markdown", "csv"])
def test_no_runs_make_a_report_too(form: str) -> None:
    on = reporter()
    assert written(form, {"overall": on.overall(), "jobs": on.jobs(), "buckets": on.buckets("day", "UTC")}, on)


def test_names_of_metrics_that_never_come_again_do_not_fill_a_report() -> None:
    on = reporter(*(run(n, metrics=f'{{"rows": 1, "at {n}": 1}}') for n in range(200)))
    metrics = on.jobs()[0]["metrics"]
    assert len(metrics) == 50 and metrics["rows"]["runs"] == 200


@pytest.mark.parametrize("until", [0, 1, 86_400_000_000])
def test_a_report_on_the_beginning_of_time(until: int) -> None:
    """Thirty days before its end lie before 1970, as where a machine has no clock."""
    on = Reporter(Figures(Store(None).query), until_usec=until, since_usec=-1)
    assert len(on.last_days("UTC")) <= 2
    assert written("html", {"overall": on.overall(), "jobs": on.jobs(["j"]), "buckets": on.buckets("day", "UTC")}, on)


def test_a_run_of_1970_makes_no_endless_report() -> None:
    on = reporter(run(1, started_usec=5), run(2))
    assert 10_000 <= len(on.buckets("hour", "UTC")) <= 10_001


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1234567, "1234567"), (1234567.5, "1234568"), (76.75, "76.75"), (-0.5, "-0.5"), (0.0, "0"), (1e20, "1e+20")],
)
def test_numbers_are_written_as_people_do(value: float, shown: str) -> None:
    assert number(value) == shown


def test_a_sheet_leaves_out_what_nobody_knows() -> None:
    labels = [label for label, _ in lines(reporter().jobs(["x"])[0])]
    assert labels == ["job", "runs", "success"]


@pytest.mark.parametrize(
    ("rates", "means", "expected"),
    [
        ([1, 0.5, 0, None], [8.0, 1.0, 4.0, None], ("#%x.", "#.+ ")),
        ([], [], ("", "")),
        ([None], [0.0], (".", "_")),
    ],
)
def test_days_are_drawn(rates: list[float | None], means: list[float | None], expected: tuple[str, str]) -> None:
    buckets = [{"success_rate": rate, "duration_mean": mean} for rate, mean in zip(rates, means, strict=True)]
    assert (plots.outcomes(buckets, plots.ASCII), plots.durations(buckets, plots.ASCII)) == expected
    assert plots.marks("latin-1") is plots.ASCII and plots.marks("utf-8") is plots.BLOCKS


def kinds(*runs: Run, active: bool = True, streaks: dict[str, Streak] | None = None) -> list[str]:
    """What stands out on the second of two days."""
    on = reporter(*runs, since_usec=BEGIN + DAY_USEC, until_usec=BEGIN + 2 * DAY_USEC)
    reports = on.jobs()
    names = [each["job"] for each in reports]
    found = insights(reports, streaks or {name: Streak(0, 0.0) for name in names}, frozenset(names if active else []))
    assert [each.weight for each in found] == sorted((each.weight for each in found), reverse=True)
    return [each.kind for each in found]


DAY = range(24, 48)


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([], []),
        ([run(n) for n in range(48)], []),
        ([run(n, result="success" if n < 40 else "exit-code") for n in range(48)], ["worse", "failures"]),
        ([run(n, duration_usec=2_000_000 if n < 24 else 6_000_000) for n in range(48)], ["slower"]),
        ([run(n, duration_usec=200 if n < 24 else 600) for n in range(48)], []),
        ([run(n, attempt=1 + n % 2) for n in DAY], ["retries"]),
        ([run(n, due_usec=BEGIN + (n - 1) * DAY_USEC // 24) for n in DAY], ["waits"]),
        ([run(n, metrics=f'{{"rows": {10 if n < 36 else 100}}}') for n in DAY], ["metric"]),
        ([run(n, result="success" if n % 8 else "oom-kill") for n in range(48)], ["oom-kill", "failures"]),
        ([run(n, result="success" if n % 24 else "missed") for n in range(48)], ["missed", "failures"]),
    ],
)
def test_what_stands_out(runs: list[Run], expected: list[str]) -> None:
    assert kinds(*runs) == expected


def test_streaks_and_silence_stand_out() -> None:
    runs = [run(n) for n in range(48)]
    assert kinds(*runs, streaks={"x": Streak(3, 0.0)}) == ["failing"]
    assert kinds(*runs, streaks={"x": Streak(0, 3 * 3600 + 1.0)}) == ["silent"]
    assert kinds(*runs, streaks={"x": Streak(0, 3 * 3600 - 1.0)}) == []
    assert kinds(*runs, streaks={"x": Streak(0, 1e9)}, active=False) == []


def test_a_streak_is_counted_from_the_last_success() -> None:
    results = ["exit-code", "success", "timeout", "skipped", "exit-code"]
    on = reporter(*(run(n, result=result) for n, result in enumerate(results)), run(9, "y", "lost"))
    assert {job: each.failures for job, each in on.streaks(["x", "y", "z"]).items()} == {"x": 2, "y": 1}
