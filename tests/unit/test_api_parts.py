"""What the HTTP API is made of: figures, addresses, events, answers that are given again."""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lsh_systemd.api import metrics
from lsh_systemd.api.feed import turn_off, turn_on
from lsh_systemd.api.livelogs import MOST, Followers, Following, frame
from lsh_systemd.api.metrics import BUCKETS, _runs, collected_seconds
from lsh_systemd.api.once import begin, doing
from lsh_systemd.api.problems import Conflict
from lsh_systemd.api.recent import Recent
from lsh_systemd.api.server import for_socket, parsed
from lsh_systemd.api.shapes import next_page
from lsh_systemd.errors import BadInput
from lsh_systemd.run import Run
from lsh_systemd.store import Store

PACKAGING = Path(__file__).resolve().parents[2] / "packaging"
ALERT_RULES, GRAFANA = PACKAGING / "prometheus/lsh-alerts.yml", PACKAGING / "grafana/lsh-systemd.json"
FIGURE = re.compile(r"\blsh_[a-z_]+\b")

# --- figures and addresses


durations_of_jobs = st.dictionaries(
    st.tuples(st.sampled_from("ab"), st.sampled_from(["success", "timeout"])), st.lists(st.integers(0, 10**12))
)


@given(durations_of_jobs)
def test_histograms_count_what_there_is(durations: dict[tuple[str, str], list[int]]) -> None:
    table = [
        (
            job,
            result,
            len(usec),
            len(usec),
            float(sum(usec)),
            tuple(sum(each <= 1e6 * edge for each in usec) for edge in BUCKETS),
        )
        for (job, result), usec in durations.items()
    ]
    _, histogram = _runs(table)
    for job in {job for job, _ in durations}:
        samples = [each for each in histogram.samples if each.labels["job"] == job]
        buckets = [each.value for each in samples if each.name.endswith("_bucket")]
        together = [usec for (name, _), each in durations.items() if name == job for usec in each]
        assert buckets == sorted(buckets)
        assert buckets[-1] == len(together) == next(each.value for each in samples if each.name.endswith("_count"))


@pytest.mark.parametrize(
    ("cursor", "seconds"),
    [(None, None), ("", None), ("s=1;i=2;b=3;m=4;t=5f5e100;x=6", 100.0), ("t=zz", None), ("s=1", None)],
)
def test_how_far_the_journal_has_been_read(cursor: str | None, seconds: float | None) -> None:
    assert collected_seconds(cursor) == seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:3030", ("127.0.0.1", 3030)),
        ("[::1]:80", ("::1", 80)),
        ("8080", ("127.0.0.1", 8080)),
        ("localhost:1", ("localhost", 1)),
        ("x", None),
        ("x:0", None),
        ("x:65536", None),
        ("x:", None),
        ("127.0.0.1:3030\n", None),
    ],
)
def test_addresses(text: str, expected: tuple[str, int] | None) -> None:
    if expected:
        assert parsed(text) == expected
    else:
        with pytest.raises(BadInput):
            parsed(text)


def test_the_alert_rules_are_as_prometheus_has_them() -> None:
    """`promtool check rules` says the same, and more; see tests/system/test_sync.py for the names in them."""
    told = yaml.safe_load(ALERT_RULES.read_text())
    (group,) = told["groups"]
    assert set(told) == {"groups"} and set(group) == {"name", "rules"} and len(group["rules"]) > 5
    for rule in group["rules"]:
        assert set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}, rule
        assert re.fullmatch(r"Lsh[A-Za-z]+", rule["alert"]) and re.fullmatch(r"[0-9]+[smhd]", rule.get("for", "5m"))
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert FIGURE.search(rule["expr"]) or rule["alert"] == "LshDown"
        labels = set(re.findall(r"\{\{ \$(\w+)", rule["annotations"]["summary"]))
        assert labels <= {"labels", "value"}
    assert len({rule["alert"] for rule in group["rules"]}) == len(group["rules"])


def test_the_dashboard_is_as_grafana_has_them() -> None:
    panels = json.loads(GRAFANA.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken) and max(x for x, _ in taken) == 23  # none lies over another
    for panel in panels:
        for target in panel["targets"]:
            assert FIGURE.search(target["expr"]) and '{instance=~"$instance"' in target["expr"]


def test_what_is_shipped_for_prometheus_asks_for_figures_that_there_are() -> None:
    source = Path(metrics.__file__).read_text()
    names = {name for file in (ALERT_RULES, GRAFANA) for name in FIGURE.findall(file.read_text())}
    assert {"lsh_sync_sent_timestamp_seconds", "lsh_sync_waiting", "lsh_runs_total"} <= names
    for name in names:
        assert f'"{re.sub("_(total|bucket)$", "", name)}"' in source, name


# --- events, and answers that are given again


def events_of(store: Store) -> list[tuple[str, str]]:
    return [tuple(row) for row in store.query("SELECT event, about FROM events ORDER BY id")]


def test_events_are_kept_once_each_and_in_order() -> None:
    store = Store(None)

    def put(run_id: str, result: str | None) -> None:
        with store.transaction():
            store.put([Run(id=run_id, job="a", unit="lsh-a.service", started_usec=1, ended_usec=2, result=result)])

    put("before", "success")
    assert events_of(store) == []  # nobody has listened yet
    turn_on(store)
    turn_on(store)
    for result in (None, None, "exit-code", "exit-code", "timeout"):
        put("1", result)
    put("2", "success")
    put("3", "skipped")
    put("4", "missed")
    put("5", "lost")
    assert events_of(store) == [
        ("started", "1"), ("failed", "1"), ("started", "2"), ("finished", "2"), ("skipped", "3"), ("missed", "4"),
        ("started", "5"), ("failed", "5"),
    ]  # fmt: skip
    with store.transaction():
        store.query("INSERT INTO events (id, at_usec, event, job, about) VALUES (10004, 0, 'queued', 'a', 'x')")
        store.query("INSERT INTO events (id, at_usec, event, job, about) VALUES (10100, 0, 'queued', 'a', 'y')")
    assert events_of(store) == [("queued", "x"), ("queued", "y")]
    turn_off(store)
    put("6", "success")
    assert events_of(store) == []


def test_each_listener_to_logs_is_counted_and_let_go() -> None:
    """As many at once as there may be, whether they begin together, break off or fail."""
    followers = Followers()

    async def run() -> list[int]:
        until = asyncio.Event()
        said: list[int] = []

        async def listen(number: int) -> None:
            async def lines() -> AsyncIterator[bytes]:
                yield b": listening\n\n"
                await until.wait()
                if number % 2:
                    raise OSError("the connection is gone")

            async def send(message: Any) -> None:
                if message["type"] == "http.response.start":
                    said.append(message["status"])

            async def receive() -> Any:
                await asyncio.Event().wait()

            await Following(followers, lines())({"type": "http"}, receive, send)

        tasks = [asyncio.create_task(listen(number)) for number in range(50)]
        while len(said) < 50:
            await asyncio.sleep(0)
        assert followers.count == MOST
        until.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        return said

    said = asyncio.run(run())
    assert (said.count(200), said.count(503), followers.count) == (MOST, 50 - MOST, 0)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"after": "a"}, "</jobs?after=a>"),
        ({"status": None, "limit": 5, "after": "b"}, "</jobs?limit=5&after=b>"),
        ({"q": '>; rel="x"', "failed": True}, "</jobs?q=%3E%3B+rel%3D%22x%22&failed=true>"),
        ({"host": ["a", "b&c"]}, "</jobs?host=a&host=b%26c>"),
    ],
)
def test_what_leads_to_the_next_page(given: dict[str, Any], expected: str) -> None:
    assert next_page("/jobs", **given) == {"Link": expected + '; rel="next"'}


def test_what_was_just_told_is_told_again() -> None:
    now, made = [0.0], iter(range(10))
    recent: Recent[int] = Recent(lambda: now[0])

    def failing() -> int:
        raise ValueError

    assert [recent.get("a", lambda: next(made)) for _ in range(3)] == [0, 0, 0]
    assert recent.get("b", lambda: next(made)) == 1
    now[0] = 1.0
    with pytest.raises(ValueError):
        recent.get("a", failing)
    assert recent.get("a", lambda: next(made)) == 2
    recent.forget()
    assert recent.get("a", lambda: next(made)) == 3
    with ThreadPoolExecutor(8) as pool:  # made once, however many ask
        recent.forget()
        assert set(pool.map(lambda _: recent.get("a", lambda: next(made)), range(50))) == {4}
    # Under another sign it is made anew, however young it is.
    assert (recent.get("a", lambda: next(made), "x"), recent.get("a", lambda: next(made), "x")) == (5, 5)
    assert (recent.there("a", "x"), recent.there("a", "y"), recent.there("b", "x")) == (5, None, None)
    assert recent.get("a", lambda: next(made), "y") == 6
    now[0] = 2.0
    assert recent.there("a", "y") is None


@pytest.mark.parametrize(
    ("entry", "told", "mark"),
    [
        ({"MESSAGE": "a\nb", "__CURSOR": "s=1;i=2", "__REALTIME_TIMESTAMP": "1000000"}, "a\nb", "id: s=1;i=2\n"),
        ({"MESSAGE": [255, 10, 65], "__CURSOR": "x\ndata: y"}, "\\xff\nA", ""),
        ({}, None, ""),
    ],
)
def test_a_line_is_one_event(entry: dict[str, Any], told: str | None, mark: str) -> None:
    text = frame(entry).decode()
    assert text.startswith(mark + "event: line\ndata: {") and text.endswith("}\n\n")
    assert text.count("\n") == 3 + mark.count("\n")
    assert json.loads(text.split("data: ", 1)[1])["message"] == told


def test_a_request_is_done_once_for_its_key() -> None:
    store = Store(None)
    assert begin(store, "k", "asked") is None
    with pytest.raises(Conflict):
        begin(store, "k", "asked")
    with pytest.raises(BadInput, match="another request"):
        begin(store, "k", "asked otherwise")
    assert begin(store, "other", "asked") is None
    with store.transaction():
        store.query("UPDATE api_answers SET status = 201, body = ? WHERE key = 'k'", (b"{}",))
    told = begin(store, "k", "asked")
    assert told and (told.status, told.body) == (201, b"{}")
    with store.transaction():
        store.query("UPDATE api_answers SET at_usec = at_usec - 86400000001")
    assert begin(store, "k", "asked otherwise") is None  # a day later
    doing.remove("k")
    doing.remove("other")


def test_a_request_whose_server_died_is_taken_up_again() -> None:
    store = Store(None)
    assert begin(store, "cut-off", "asked") is None

    def noted(process: str) -> None:
        with store.transaction():
            store.query("UPDATE api_answers SET body = ?", (process.encode(),))

    own = bytes(store.query("SELECT body FROM api_answers")[0][0]).decode()
    pid, began, boot = own.split()
    with subprocess.Popen(["sleep", "60"]) as other:
        fields = Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()
        theirs = f"{other.pid} {fields[19]} {boot}"
        noted(theirs)  # another server, which goes on
        with pytest.raises(Conflict):
            begin(store, "cut-off", "asked")
        other.kill()
    for gone in (theirs, f"{pid} {int(began) - 1} {boot}", f"{pid} {began} of-an-earlier-boot", ""):
        doing.remove("cut-off")
        noted(gone)
        before = begin(store, "cut-off", "asked")
        assert before and before.status is None, gone
        with pytest.raises(Conflict):
            begin(store, "cut-off", "asked")
    doing.remove("cut-off")  # what was done here, and could not be noted: a full disk
    assert begin(store, "cut-off", "asked") == before
    doing.remove("cut-off")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8080", "127.0.0.1:8080"),  # systemd would take it for all addresses
        (":8080", "127.0.0.1:8080"),
        ("localhost:80", "127.0.0.1:80"),
        ("0.0.0.0:80", "0.0.0.0:80"),
        ("[::1]:80", "[::1]:80"),
        ("example.org:80", None),
        ("127.0.0.1\nExecStartPre=x:80", None),
        ("/run/x.sock", None),
        ("%i:80", None),
    ],
)
def test_addresses_for_systemd(text: str, expected: str | None) -> None:
    if expected:
        assert for_socket(text) == expected
    else:
        with pytest.raises(BadInput):
            for_socket(text)
