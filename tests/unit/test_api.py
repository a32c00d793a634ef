"""What of the HTTP API is pure: who may enter, and requests that are none. See tests/system/test_api.py."""

import base64
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from lsh_systemd import environment
from lsh_systemd.api.access import OPEN, ROLES, WEBHOOK, Caller, Failures, find, make
from lsh_systemd.api.app import ROUTES
from lsh_systemd.api.app import make as make_app
from lsh_systemd.api.keys import Keys
from lsh_systemd.api.sessions import MOST_OF_A_KEY, Sessions
from lsh_systemd.api.wire import BODY_BYTES, Wire
from lsh_systemd.errors import BadInput
from lsh_systemd.scope import Scope

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


def test_who_does_something_is_told_from_others_of_that_name() -> None:
    callers = [find(text, [key], NOW) for key, text in (make("ci", "viewer", now=NOW), make("ci", "viewer", now=NOW))]
    signatures = {each.signature for each in callers if each}
    assert len(signatures) == 2 and all(re.fullmatch(r"ci \([0-9a-f]{12}\)", each) for each in signatures)
    assert Caller(id="", name="LSH_API_KEY", role="admin").signature == "LSH_API_KEY"


def test_a_key_s_sessions_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever logs in again and again logs out himself, not others."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    sessions = Sessions(Scope.USER)
    one, two = (Caller(id=each, name="x", role="viewer") for each in ("1", "2"))
    others = sessions.begin(two, "")
    mine = [sessions.begin(one, "") for _ in range(MOST_OF_A_KEY + 5)]
    assert sessions.find(others)
    assert [bool(sessions.find(each)) for each in mine] == [False] * 5 + [True] * MOST_OF_A_KEY


@pytest.mark.parametrize(
    ("text", "mode", "names"),
    [
        (f"LSH_API_KEY={OWN_KEY}\n", 0o644, ["LSH_API_KEY"]),
        (f"LSH_API_KEY={OWN_KEY}\n", 0o620, ["LSH_API_KEY"]),
        (f"LSH_API_KEY={OWN_KEY}\n", 0o640, []),
        (f"LSH_API_KEY={OWN_KEY}\n", 0o600, []),
        (f"# LSH_API_KEY={OWN_KEY}\nhttps_proxy=http://x\nLSH_API_KEY=\n", 0o644, []),
        (
            f'A=b\n export CRON_WEBHOOK_SECRET = "{HOOK}"\nSLACK_WEBHOOK_URL=x',
            0o604,
            ["CRON_WEBHOOK_SECRET", "SLACK_WEBHOOK_URL"],
        ),
    ],
)
def test_secrets_in_a_file_that_others_may_read_count_for_nothing(
    text: str, mode: int, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    file = environment.path(Scope.USER)
    file.parent.mkdir()
    file.write_text(text)
    file.chmod(mode)
    assert environment.exposed(Scope.USER) == names
    (*said,) = environment.examine(Scope.USER)
    assert [("chmod 600" in str(each.fix), OWN_KEY in str(each)) for each in said] == [(True, False)] * bool(names)
    monkeypatch.setenv("LSH_API_KEY", OWN_KEY)
    monkeypatch.setenv("CRON_WEBHOOK_SECRET", HOOK)
    http = TestClient(Wire(make_app(Scope.USER)), raise_server_exceptions=False)
    entered = http.get("/openapi.json", headers={"X-API-Key": OWN_KEY}).status_code == 200
    assert entered is ("LSH_API_KEY" not in names)
    hooked = http.post("/api/cron/webhook", headers={"X-Webhook-Secret": HOOK}).status_code != 401
    assert hooked is ("CRON_WEBHOOK_SECRET" not in names)


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
        self.app.state.gate._wrong_keys = Failures(**options)
        self.app.state.gate._wrong_secrets = Failures(**options)


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


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/jobs", "GET, POST"),
        ("OPTIONS", "/api/jobs/x", "DELETE, GET, PATCH"),
        ("DELETE", "/api/cron/trigger", "POST"),
    ],
)
def test_what_else_may_be_done_is_told(client: Client, method: str, path: str, allowed: str) -> None:
    answer = client.http.request(method, path, headers={"X-API-Key": client.keys["viewer"]})
    assert (answer.status_code, answer.headers["allow"], answer.json()["status"]) == (405, allowed, 405)


def test_of_two_parameters_none_is_passed_over(client: Client) -> None:
    key = {"X-API-Key": client.keys["viewer"]}
    answer = client.http.get("/jobs?status=failed&status=running", headers=key)
    assert (answer.status_code, "status" in answer.json()["detail"]) == (400, True)
    assert client.http.get("/fleet/hosts?host=a&host=b", headers=key).status_code == 404  # no project, but two hosts


def test_the_document_is_whole(client: Client) -> None:
    document = client.http.get("/openapi.json", headers={"X-API-Key": client.keys["viewer"]}).json()
    there = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(re.findall(r'"(#/[^"]+)"', json.dumps(document))) == there
    operations = {each["operationId"]: each for path in document["paths"].values() for each in path.values()}
    for operation in operations.values():
        for status, response in operation["responses"].items():
            assert status == "204" or response["content"], operation["operationId"]
            assert set(response.get("links", ())) <= set(operations)


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
            assert operation["x-role"] in (*ROLES, OPEN, WEBHOOK) and "5XX" in operation["responses"]
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
    # Nor does it lock out the webhook, or the reverse.
    hook = [http.post("/api/cron/webhook", headers={"X-Webhook-Secret": each}).status_code for each in (HOOK, "wrong")]
    assert (hook[0] not in (401, 429), hook[1]) == (True, 401)
    client.forget_failures(seconds=1000)
    said = [http.post("/api/cron/webhook", headers={"X-Webhook-Secret": "wrong"}).status_code for _ in range(12)]
    assert said == [401] * 10 + [429] * 2
    assert http.get("/openapi.json", headers={"X-API-Key": OWN_KEY}).status_code == 200
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
