"""What of the HTTP API is pure: who may enter, what may be made, and the shapes. See tests/system/test_api.py."""

import base64
import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError

import pytest
from click.testing import CliRunner
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from lsh_systemd import config
from lsh_systemd.api import metrics, policy
from lsh_systemd.api.access import OPEN, ROLES, WEBHOOK, Caller, Failures, find, make
from lsh_systemd.api.app import ROUTES
from lsh_systemd.api.app import make as make_app
from lsh_systemd.api.feed import turn_off, turn_on
from lsh_systemd.api.keys import Keys
from lsh_systemd.api.livelogs import frame
from lsh_systemd.api.metrics import BUCKETS, _runs, collected_seconds
from lsh_systemd.api.once import begin
from lsh_systemd.api.problems import Conflict
from lsh_systemd.api.recent import Recent
from lsh_systemd.api.server import for_socket, parsed
from lsh_systemd.api.shapes import changed, masked, plain_of, when
from lsh_systemd.api.wire import BODY_BYTES, Wire
from lsh_systemd.cli import main
from lsh_systemd.cli.http import Http, of_answer
from lsh_systemd.config import Api
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.jobfile import from_plain
from lsh_systemd.run import Run
from lsh_systemd.scope import Scope
from lsh_systemd.store import Store

NOW = datetime(2027, 1, 15, 12, tzinfo=UTC)
OWN_KEY = "a-key-that-a-person-made-up"
HOOK = "a-secret-of-the-webhook-s"


# --- keys


def test_a_key_opens_until_it_expires_and_is_kept_as_a_digest() -> None:
    key, text = make("ci", "operator", jobs=["tag:db", "tag:db"], expires_at=NOW + timedelta(days=1), now=NOW)
    assert find(text, [key], NOW) == Caller(id=key.id, name="ci", role="operator", jobs=("tag:db",))
    assert find(text, [key], NOW + timedelta(days=1)) is None
    assert find(text[:-1] + ("A" if text[-1] != "A" else "B"), [key], NOW) is None
    assert find(text, [], NOW) is None
    assert text not in repr(key) and text[-20:] not in repr(key)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"name": " "}, "needs a name"),
        ({"name": "a\nb"}, "U+000A"),
        ({"role": "root"}, "not a role"),
        ({"jobs": ["a b"]}, "selects no jobs"),
        ({"expires_at": NOW}, "expired already"),
    ],
)
def test_what_can_be_no_key(arguments: dict[str, Any], expected: str) -> None:
    with pytest.raises(BadInput, match=re.escape(expected)):
        make(**({"name": "ci", "role": "viewer", "now": NOW} | arguments))


@pytest.mark.parametrize(
    ("jobs", "seen"),
    [
        ((), True),
        (("tag:db",), True),
        (("tag:d*",), False),
        (("category:night",), True),
        (("category:db",), False),
        (("back*",), True),
        (("backup", "x"), True),
        (("BACKUP",), False),
        (("x", "y"), False),
    ],
)
def test_selectors(jobs: tuple[str, ...], seen: bool) -> None:
    caller = Caller(id="1", name="x", role="viewer", jobs=jobs)
    assert caller.covers("backup", "night", ("db", "prod")) is seen


def test_the_file_of_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    keys = Keys(Scope.USER)
    assert keys.all() == []
    one, text = make("one", "viewer", now=NOW)
    two, _ = make("two", "admin", jobs=["tag:x"], now=NOW)
    keys.add(one)
    keys.add(two)
    assert keys.all() == [one, two]
    assert keys.path.stat().st_mode & 0o777 == 0o600
    assert text not in keys.path.read_text()
    assert Keys(Scope.USER).revoke("one") == one
    assert keys.all() == [two]  # seen by who had read it before
    with pytest.raises(BadInput, match="no key is called"):
        keys.revoke("one")
    keys.add(make("two", "viewer", now=NOW)[0])
    with pytest.raises(BadInput, match="several keys are called"):
        keys.revoke("two")


def test_failures_are_counted_by_address() -> None:
    failures = Failures(burst=3, seconds=10, addresses=2)
    for _ in range(3):
        assert failures.wait("a", 0.0) == 0
        failures.count("a", 0.0)
    assert failures.wait("a", 0.0) == 10
    assert failures.wait("b", 0.0) == 0
    assert failures.wait("a", 10.0) == 0
    failures.count("a", 10.0)
    assert failures.wait("a", 10.0) == 10
    for _ in range(1000):  # a flood locks out for no longer
        failures.count("a", 10.0)
    assert failures.wait("a", 10.0) == 10
    for address in ("b", "c"):
        failures.count(address, 10.0)
    assert failures.wait("a", 10.0) == 0  # forgotten: there is room for two


# --- the gate


class Client(NamedTuple):
    http: TestClient
    keys: dict[str, str]
    app: FastAPI

    def forget_failures(self, **options: Any) -> None:
        self.app.state.gate._failures = Failures(**options)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The application before a scope without systemd and without jobs, and a key for each role."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "HOME"):
            patch.setenv(name, str(home))
        patch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={home}/no-bus")
        patch.setenv("LSH_API_KEY", OWN_KEY)
        patch.setenv("CRON_WEBHOOK_SECRET", HOOK)
        texts = {}
        for role in ROLES:
            key, texts[role] = make(role, role, now=NOW)
            Keys(Scope.USER).add(key)
        app = make_app(Scope.USER)
        yield Client(TestClient(Wire(app), raise_server_exceptions=False), texts, app)


def routes() -> list[tuple[str, str, str]]:
    """Each route there is, as (method, path, role)."""
    return [
        (method, prefix + re.sub(r"{\w+}", "x", route.path), route.role)
        for router, prefix in ROUTES
        for route in router.routes
        for method in sorted(route.methods)
    ]


@pytest.mark.parametrize(("method", "path", "role"), routes())
def test_each_route_lets_in_its_role_and_nobody_else(client: Client, method: str, path: str, role: str) -> None:
    http, keys, _ = client
    if path.endswith(("/events", "/live")):
        path += "?after=x"  # is refused, behind the gate: a stream has no end

    def status(key: str | None) -> int:
        headers = {"X-API-Key": key} if key else {}
        return http.request(method, path, headers=headers, content=b"{}", follow_redirects=False).status_code

    least = "operator" if role == WEBHOOK else role
    refused = (401, 403, 429)
    assert (status(None) == 401) is (role != OPEN)
    for each in ROLES:
        may = role == OPEN or ROLES.index(each) >= ROLES.index(least)
        assert (status(keys[each]) not in refused) is may, each


def test_every_route_has_been_walked(client: Client) -> None:
    http, keys, _ = client
    document = http.get("/openapi.json", headers={"X-API-Key": keys["viewer"]}).json()
    told = {
        (method.upper(), re.sub(r"{\w+}", "x", path)) for path, each in document["paths"].items() for method in each
    }
    walked = {(method, path) for method, path, _ in routes()}
    assert told and told <= walked
    for path in ("/jobs", "/jobs/{job_id}/stop"):
        assert "Idempotency-Key" in [each["name"] for each in document["paths"][path]["post"]["parameters"]]
    for each in document["paths"].values():
        for operation in each.values():
            assert operation["x-role"] in (*ROLES, OPEN, WEBHOOK) and "4XX" in operation["responses"]
    assert {role for _, _, role in routes()} == {*ROLES, OPEN, WEBHOOK}
    health = {"/health", "/api/health", "/api/cron/health"}
    assert {path for _, path, role in routes() if role == OPEN} == {*health, "/", "/ui/login", "/ui/static/x"}


@pytest.mark.parametrize(
    ("headers", "entered"),
    [
        ({"X-API-Key": OWN_KEY}, True),
        ({"Authorization": f"Bearer {OWN_KEY}"}, True),
        ({"Authorization": f"bearer  {OWN_KEY}"}, True),
        ({"Authorization": "Basic " + base64.b64encode(f":{OWN_KEY}".encode()).decode()}, True),
        ({"Authorization": "Basic " + base64.b64encode(OWN_KEY.encode()).decode()}, True),
        ({"Authorization": "Basic " + base64.b64encode(f":{OWN_KEY}".encode()).decode(), "Origin": "https://x"}, False),
        ({"Authorization": "Basic !"}, False),
        ({"Authorization": OWN_KEY}, False),
        ({"X-API-Key": OWN_KEY + "x"}, False),
        ({"X-Webhook-Secret": HOOK}, False),
        ({"X-API-Key": ""}, False),
        ({"Cookie": f"key={OWN_KEY}"}, False),
    ],
)
def test_ways_to_give_a_key(client: Client, headers: dict[str, str], entered: bool) -> None:
    http = client.http
    client.forget_failures()
    answer = http.get("/openapi.json", headers=headers)
    assert answer.status_code == (200 if entered else 401), answer.text
    if not entered:
        assert answer.headers["www-authenticate"] == "Bearer"


def test_wrong_keys_are_looked_at_less_and_less(client: Client) -> None:
    http, keys, _ = client
    client.forget_failures(seconds=1000)
    said = [http.get("/openapi.json", headers={"X-API-Key": "wrong"}).status_code for _ in range(12)]
    assert said == [401] * 10 + [429] * 2
    # Who has a key that was made here is not locked out by others; one that a person made up cannot be guessed at.
    assert http.get("/openapi.json", headers={"X-API-Key": keys["viewer"]}).status_code == 200
    limited = http.get("/openapi.json", headers={"X-API-Key": OWN_KEY})
    assert (limited.status_code, int(limited.headers["retry-after"]) > 0) == (429, True)
    client.forget_failures()


def test_a_short_key_of_one_s_own_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("LSH_API_KEY", "short")
    with pytest.raises(BadInput, match="shorter than 16"):
        make_app(Scope.USER)


# --- requests that are none


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nothing", b"", 404),
        ("PUT", "/jobs", b"", 405),
        ("POST", "/jobs", b"{", 422),
        ("POST", "/jobs", b'{"name": "x"}', 422),
        ("POST", "/jobs", b'{"name": "x", "command": "true", "frobnicate": 1}', 400),
        ("POST", "/jobs", b'{"name": "x", "command": "true", "schedule": {"cron": "61 * * * *"}}', 400),
        ("POST", "/jobs", b'{"name": "x", "command": "true", "schedule": {"moon": "full"}}', 400),
        ("POST", "/jobs", b'{"name": "\\ud800", "command": "true"}', 400),
        ("POST", "/jobs", b'{"name": "x", "command": "true", "timeout": 1e400}', 400),
        ("POST", "/jobs", b'{"name": "x", "command": "true", "timeout": ' + b"9" * 40 + b"}", 400),
        ("POST", "/jobs", b"[" * 100_000, 400),
        ("POST", "/jobs", b"x" * (BODY_BYTES + 1), 413),
        ("GET", "/jobs/%00", b"", 404),
        ("GET", "/jobs?limit=99999999999999999999", b"", 422),
        ("GET", "/runs/..%2f", b"", 404),
        ("GET", "/runs?since=%00", b"", 400),
        ("GET", "/explain?expression=x", b"", 400),
        ("GET", "/explain?expression=*+*+*+*+*&timezone=%2e%2e/x", b"", 400),
        ("GET", "/events?after=-1", b"", 400),
    ],
)
def test_bad_requests_are_told_as_problems(client: Client, method: str, path: str, body: bytes, status: int) -> None:
    http, keys, _ = client
    headers = {"X-API-Key": keys["admin"], "X-Request-ID": "mine", "Content-Type": "application/json"}
    answer = http.request(method, path, content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert (told["status"], told["error"]) == (status, told["detail"])
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_body_of_unknown_length_is_limited_too(client: Client) -> None:
    http, keys, _ = client
    chunks = (b"x" * 65536 for _ in range(BODY_BYTES // 65536 + 2))
    assert http.post("/jobs", content=chunks, headers={"X-API-Key": keys["admin"]}).status_code == 413


def test_a_request_s_id_is_no_way_into_the_log(client: Client) -> None:
    http = client.http
    assert re.fullmatch(r"[0-9a-f]{16}", http.get("/nothing", headers={"X-Request-ID": "a b"}).headers["x-request-id"])


# --- jobs as they are given


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (None, {}),
        ("0 2 * * *", {"schedule": "0 2 * * *"}),
        (["0 2 * * *", "5 4 * * *"], {"schedule": ["0 2 * * *", "5 4 * * *"]}),
        ({"cron": "0 2 * * *", "timezone": "UTC"}, {"schedule": "0 2 * * *", "timezone": "UTC"}),
        ({"every": "5m", "cron": None}, {"every": "5m"}),
        ({"at": "2027-01-31T02:00:00Z"}, {"at": "2027-01-31T02:00:00Z"}),
        ({"calendar": ["daily"]}, {"calendar": ["daily"]}),
        ({}, {}),
    ],
)
def test_schedules(schedule: Any, expected: dict[str, Any]) -> None:
    assert when(schedule) == expected
    assert plain_of({"name": "x", "enabled": True, "schedule": schedule}) == {"name": "x"} | expected


@pytest.mark.parametrize("schedule", [{"moon": "full"}, {"timezone": "UTC"}])
def test_what_is_no_schedule(schedule: dict[str, str]) -> None:
    with pytest.raises(BadInput):
        when(schedule)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {}),
        ({"timeout": "5min"}, {"timeout": "5min"}),
        ({"timezone": None}, {"timezone": None}),
        ({"schedule": {"every": "1h"}}, {"schedule": None, "every": "1h"}),
        ({"every": "1h"}, {"schedule": None, "every": "1h"}),
        ({"schedule": None}, {"schedule": None}),
        ({"env": {"B": "2", "A": None}}, {"env": {"B": "2", "C": "3"}}),
        ({"enabled": False}, {}),
    ],
)
def test_changes(body: dict[str, Any], expected: dict[str, Any]) -> None:
    job = {"name": "x", "command": "y", "schedule": ["0 2 * * *"], "timezone": "UTC", "env": {"A": "1", "C": "3"}}
    wanted = {name: value for name, value in (job | expected).items() if value is not None}
    assert changed(job, body) == wanted


def test_who_may_not_define_jobs_sees_no_values() -> None:
    told = masked({"name": "x", "env": {"A": "secret"}, "stdin": "secret", "ping": "https://x/secret", "timeout": "5m"})
    assert "secret" not in json.dumps(told)
    assert (told["env"], told["timeout"]) == ({"A": "***"}, "5m")


# --- the policy


BASE = {"name": "x", "command": "true"}


@pytest.mark.parametrize(
    ("scope", "plain", "rules", "allowed"),
    [
        (Scope.SYSTEM, {}, Api(), True),
        (Scope.SYSTEM, {"sandbox": "strict"}, Api(), True),
        (Scope.SYSTEM, {"sandbox": "none"}, Api(), False),
        (Scope.SYSTEM, {"sandbox": "none"}, Api(sandbox="none"), True),
        (Scope.SYSTEM, {"dynamic_user": False}, Api(), False),
        (Scope.SYSTEM, {"dynamic_user": False}, Api(run_as=("root",)), True),
        (Scope.SYSTEM, {"run_as": "root"}, Api(run_as=("www-data",)), False),
        (Scope.SYSTEM, {"run_as": "www-data"}, Api(run_as=("www-data",)), True),
        (Scope.USER, {}, Api(), True),
        (Scope.USER, {"sandbox": "none"}, Api(), False),
        (Scope.USER, {"applied": "web"}, Api(), False),
        (Scope.SYSTEM, {"schedule": ["@daily"], "except_calendar": ["sat,sun"]}, Api(), True),
        (Scope.SYSTEM, {"schedule": ["@daily"], "except_calendar": ["/etc/lsh/environment"]}, Api(), False),
        (Scope.SYSTEM, {"working_dir": "/srv"}, Api(), True),
        (Scope.SYSTEM, {"working_dir": "/tmp"}, Api(), False),
        (Scope.SYSTEM, {"working_dir": "/home/bob", "sandbox": "strict"}, Api(), False),
        (Scope.SYSTEM, {"working_dir": "/tmp"}, Api(allow=("write_path",)), True),
        (Scope.USER, {"secrets": ["a"]}, Api(), False),
        (Scope.USER, {"secrets": ["a"]}, Api(allow=("secrets",)), True),
        (Scope.SYSTEM, {"env_file": ["/etc/shadow"]}, Api(), False),
        (Scope.SYSTEM, {"on_failure": ["id"]}, Api(), False),
        (Scope.SYSTEM, {"write_path": ["/etc"]}, Api(), False),
        (Scope.SYSTEM, {"allow_dangerous": True}, Api(), False),
        (Scope.SYSTEM, {"from_fleet": True, "params": ["A"]}, Api(), False),
        (Scope.SYSTEM, {"once_in_fleet": True, "schedule": ["0 2 * * *"]}, Api(), False),
        (Scope.SYSTEM, {"once_in_fleet": True, "schedule": ["0 2 * * *"]}, Api(allow=("once_in_fleet",)), True),
        (Scope.SYSTEM, {"schedule": ["0 2 * * *"], "env": {"A": "1"}, "timeout": "5m"}, Api(), True),
    ],
)
def test_what_may_be_made(scope: Scope, plain: dict[str, Any], rules: Api, allowed: bool) -> None:
    job = from_plain(policy.filled_in(BASE | plain, rules, scope))
    if allowed:
        policy.check(job, rules, scope)
    else:
        with pytest.raises(policy.Forbidden):
            policy.check(job, rules, scope)


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        ({"schedule": ["0 2 * * *"]}, True),
        ({"description": "x", "timeout": "5m", "retries": 2, "tags": ["a"]}, True),
        ({"command": "id"}, False),
        ({"env": {"LD_PRELOAD": "/tmp/x.so"}}, False),
        ({"working_dir": "/tmp"}, False),
        ({"shell": "/tmp/x"}, False),
        ({"after": ["y"]}, False),
        ({"from_fleet": True}, False),
        ({"applied": "web"}, False),
        ({"schedule": ["@daily"], "except_calendar": ["/etc/shadow"]}, False),
    ],
)
def test_what_may_be_made_of_root_s_job(change: dict[str, Any], allowed: bool) -> None:
    before, job = from_plain(BASE), from_plain(BASE | change)
    if allowed:
        policy.check(job, Api(), Scope.SYSTEM, before=before)
    else:
        with pytest.raises(policy.Forbidden):
            policy.check(job, Api(), Scope.SYSTEM, before=before)


def test_what_an_administrator_has_added_to_a_job_is_for_that_job_alone() -> None:
    job = from_plain(policy.filled_in(BASE, Api(), Scope.SYSTEM))
    with pytest.raises(policy.Forbidden, match="has added to the units of x"):
        policy.check(job, Api(), Scope.SYSTEM, drop_ins=True)
    before, later = from_plain(BASE), from_plain(BASE | {"schedule": ["0 2 * * *"]})
    policy.check(later, Api(), Scope.SYSTEM, before=before, drop_ins=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[api]\nidle_seconds = 0\nrun_as = ['www-data']", Api(idle_seconds=0, run_as=("www-data",))),
        ("api = 1", "must be a table"),
        ("[api]\nport = 1", "'port' is not a setting"),
        ("[api]\nidle_seconds = true", "must be a whole number"),
        ("[api]\nidle_seconds = -1", "from 0 to"),
        ("[api]\ntrust_proxy = 1", "must be true or false"),
        ("[api]\nrun_as = 'root'", "must be a list of texts"),
        ("[api]\nsandbox = 'some'", "must be none, standard or strict"),
        ("[api]\nallow = ['run_as']", "allow has"),
    ],
)
def test_settings(text: str, expected: Api | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "lsh").mkdir()
    (tmp_path / "lsh/lsh.toml").write_text(text)
    if isinstance(expected, Api):
        assert config.load(Scope.USER).api == expected
    else:
        with pytest.raises(BadInput, match=expected):
            policy.settings(Scope.USER)


def test_pages_of_other_origins_are_let_in_by_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "lsh").mkdir()
    (tmp_path / "lsh/lsh.toml").write_text("[api]\ncors_origins = ['https://ours.example']")
    http = TestClient(make_app(Scope.USER))
    for origin, allowed in (("https://ours.example", "https://ours.example"), ("https://theirs.example", None)):
        headers = {
            "Origin": origin,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "X-API-Key",
        }
        answer = http.options("/jobs", headers=headers)
        assert answer.headers.get("access-control-allow-origin") == allowed
        assert "access-control-allow-credentials" not in answer.headers


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


def test_what_is_shipped_for_prometheus_asks_for_figures_that_there_are() -> None:
    packaging = Path(__file__).resolve().parents[2] / "packaging"
    texts = [
        (packaging / "prometheus/lsh-alerts.yml").read_text(),
        (packaging / "grafana/lsh-systemd.json").read_text(),
    ]
    json.loads(texts[1])
    source = Path(metrics.__file__).read_text()
    names = {name for text in texts for name in re.findall(r"\blsh_[a-z_]+\b", text)}
    assert len(names) > 5
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
    assert begin(store, "k", "asked") == (201, b"{}")
    with store.transaction():
        store.query("UPDATE api_answers SET at_usec = at_usec - 86400000001")
    assert begin(store, "k", "asked otherwise") is None  # a day later


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


# --- the client


@pytest.mark.parametrize(
    "url", ["", "x", "ftp://x", "http://", "https://x:y", "http://[::1", "https://:key@x", "https://x?a", "http://x\n"]
)
def test_what_is_no_url_of_an_api(url: str) -> None:
    with pytest.raises(BadInput):
        Http(url)


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (404, b'{"detail": "there is no job"}', BadInput, "there is no job"),
        (401, b'{"detail": "a key is needed"}', LshError, "a key is needed"),
        (503, b'{"problems": ["systemd does not answer"]}', LshError, "systemd does not answer"),
        (502, b"<html>", LshError, "'http://x/jobs' answers 502"),
        (500, b"[]", LshError, "'http://x/jobs' answers 500"),
    ],
)
def test_what_the_other_side_says(status: int, body: bytes, kind: type[LshError], message: str) -> None:
    error = of_answer(HTTPError("http://x/jobs", status, "", Message(), BytesIO(body)), "http://x/jobs")
    assert (type(error), error.message) == (kind, message)


@pytest.mark.parametrize("more", [["--user"], ["--system"], ["-H", "web1"]])
def test_a_url_is_one_place(more: list[str]) -> None:
    done = CliRunner().invoke(main, [*more, "--url", "http://127.0.0.1:1", "list"])
    assert (done.exit_code, "--url goes with none of" in done.output) == (2, True)


@pytest.fixture
def hostile() -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers everything with what is put into the list, and its URL."""
    answers: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if answers[-1] == b"elsewhere":
                self.send_response(302)
                self.send_header("Location", f"http://127.0.0.1:{server.server_port}/other")
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answers[-1])

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", answers
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        b"[1]",
        b"[{}]",
        b'{"a": 1}',
        b"null",
        b"[" * 100_000,
        b"elsewhere",
        b"\xff",
        b'[{"id": "a", "state": []}]',
    ],
)
@pytest.mark.parametrize("argv", [["list"], ["runs"], ["show", "x"], ["next", "x"], ["logs", "x"], ["queue"]])
def test_another_server_than_ours_is_told_in_words(
    hostile: tuple[str, list[bytes]], answer: bytes, argv: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, answers = hostile
    answers.append(answer)
    monkeypatch.setenv("LSH_API_KEY", "lsh_secret")
    done = CliRunner().invoke(main, ["--url", url, *argv])
    assert done.exit_code == 1, (done.output, done.exception)
    assert done.output.startswith("lshctl: ") and len(done.output.splitlines()) <= 2
    assert "secret" not in done.output


def test_nothing_that_the_other_side_says_moves_a_cursor(hostile: tuple[str, list[bytes]]) -> None:
    url, answers = hostile
    evil = "a\x1b[2J\u202eb"
    run = {
        "started_at": None,
        "duration_seconds": None,
        "result": evil,
        "signal": evil,
        "exit_status": 1,
        "trigger": evil,
    }
    run |= {"job": evil, "memory_peak_bytes": None, "id": evil}
    job = {"id": evil, "state": evil, "next": None, "last_run": run, "schedule": evil, "command": evil}
    job |= {"definition": {"env": {evil: evil}}}
    line = {"at": None, "identifier": evil, "message": evil}
    place = {"job": evil, "state": evil, "since": None, "waits_for": evil}
    for argv, answer in (
        (["list"], [job]), (["show", "x"], job), (["runs"], [run]), (["logs", "x"], [line]), (["queue"], [place]),
        (["list", "--json"], [job]), (["runs", "--id", "ab"], {"output": evil}),
    ):  # fmt: skip
        answers.append(json.dumps(answer).encode())
        done = CliRunner().invoke(main, ["--url", url, *argv])
        assert done.exit_code == 0, (argv, done.output, done.exception)
        assert not {"\x1b", "\u202e"} & set(done.output.replace("\x1b[1m", "").replace("\x1b[0m", "")), argv
