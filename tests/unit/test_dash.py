"""The dashboard as far as it needs no systemd: sessions, forms, drawings. See tests/system/test_dash.py."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from lsh_systemd.api.access import ROLES, Caller, make
from lsh_systemd.api.app import make as make_app
from lsh_systemd.api.dash import plots
from lsh_systemd.api.dash.fields import NEW, changed_body, new_body, shown
from lsh_systemd.api.dash.page import own_path
from lsh_systemd.api.gate import Gate
from lsh_systemd.api.keys import Keys
from lsh_systemd.api.sessions import Sessions, csrf
from lsh_systemd.api.shapes import changed, plain_of
from lsh_systemd.api.wire import Wire
from lsh_systemd.errors import BadInput
from lsh_systemd.job import Job
from lsh_systemd.jobfile import from_plain, to_plain
from lsh_systemd.run import Run
from lsh_systemd.scope import Scope

NOW = datetime.now(UTC)
OWN_KEY = "a-key-that-a-person-made-up"
COOKIE = "lsh_user"


class Site(NamedTuple):
    http: TestClient
    keys: dict[str, str]
    gate: Gate


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The application before a scope without systemd and without jobs, and a key for each role."""
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path}/no-bus")
    monkeypatch.setenv("LSH_API_KEY", OWN_KEY)
    texts = {}
    for role in ROLES:
        key, texts[role] = make(role, role, now=NOW)
        Keys(Scope.USER).add(key)
    app = make_app(Scope.USER)
    http = TestClient(Wire(app), raise_server_exceptions=False, follow_redirects=False)
    yield Site(http, texts, app.state.gate)


def log_in(site: Site, key: str, **fields: str) -> Any:
    return site.http.post("/ui/login", data={"key": key, **fields})


def shown_csrf(site: Site) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', site.http.get("/ui/new").text)
    assert found
    return found[1]


# --- sessions


def test_a_session_begins_with_a_key_and_ends_with_it(site: Site) -> None:
    refused = site.http.get("/ui/runs?job=x")
    assert (refused.status_code, refused.headers["hx-refresh"]) == (401, "true")
    assert 'name="to" value="/ui/runs?job=x"' in refused.text
    answer = log_in(site, site.keys["viewer"], to="/ui/runs?job=x")
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/runs?job=x")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=") and {"httponly", "samesite=strict", "path=/"} <= set(
        cookie.lower().split("; ")
    )
    assert "secure" not in cookie.lower()
    assert site.http.get("/openapi.json").status_code == 200
    # What is kept would open nothing.
    kept = Sessions(Scope.USER)
    token = site.http.cookies[COOKIE]
    assert kept.path.stat().st_mode & 0o777 == 0o600
    assert token not in kept.path.read_text() and csrf(token) not in kept.path.read_text()
    Keys(Scope.USER).revoke("viewer")
    assert site.http.get("/openapi.json").status_code == 401


def test_who_logs_out_is_out_with_every_copy_of_the_cookie(site: Site) -> None:
    log_in(site, site.keys["viewer"])
    token = site.http.cookies[COOKIE]
    caller = Caller(id="x", name="x", role="viewer", session=Sessions(Scope.USER).all()[0].id)
    assert site.http.post("/ui/logout", data={"csrf": csrf(token)}).headers["location"] == "/ui/login"
    assert COOKIE not in site.http.cookies
    site.http.cookies.set(COOKIE, token)
    assert site.http.get("/openapi.json").status_code == 401
    assert not site.gate.still(caller)  # nor may listen on


def test_the_key_of_the_environment_begins_sessions_too_until_it_is_another_one(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(site, OWN_KEY)
    assert site.http.get("/ui/new").status_code == 200
    assert OWN_KEY not in Sessions(Scope.USER).path.read_text()
    token = site.http.cookies[COOKIE]
    monkeypatch.setenv("LSH_API_KEY", OWN_KEY + "-changed")
    later = TestClient(make_app(Scope.USER), cookies={COOKIE: token})
    assert later.get("/ui/new").status_code == 401


def test_sessions_end_by_themselves(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lsh_systemd.api.sessions.LASTS", timedelta(seconds=-1))
    log_in(site, site.keys["viewer"])
    assert site.http.get("/openapi.json").status_code == 401
    log_in(site, site.keys["viewer"])
    assert len(Sessions(Scope.USER).all()) == 1  # what is over is forgotten


@pytest.mark.parametrize(
    ("scheme", "headers"), [("https", {}), ("http", {"X-Forwarded-Proto": "https"})], ids=["tls", "proxy"]
)
def test_with_tls_the_cookie_goes_over_tls_only(site: Site, scheme: str, headers: dict[str, str]) -> None:
    answer = site.http.post(f"{scheme}://testserver/ui/login", data={"key": site.keys["viewer"]}, headers=headers)
    assert "; secure" in answer.headers["set-cookie"].lower()


def test_wrong_keys_are_told_so_and_counted(site: Site) -> None:
    said = [log_in(site, "wrong-<b>key").status_code for _ in range(12)]
    assert said == [401] * 10 + [429] * 2
    assert log_in(site, "").status_code == 400
    assert log_in(site, site.keys["admin"]).status_code == 303


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}])
def test_no_other_site_logs_a_browser_in(site: Site, headers: dict[str, str]) -> None:
    assert site.http.post("/ui/login", data={"key": site.keys["viewer"]}, headers=headers).status_code == 403


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("/ui/jobs?q=a", "/ui/jobs?q=a"),
        ("/admin/cron/x", "/admin/cron/x"),
        ("https://evil.example/ui", "/ui"),
        ("//evil.example", "/ui"),
        ("/ui@evil.example", "/ui"),
        ("/uix", "/ui"),
        ("/ui/\r\nX: y", "/ui"),
        ("", "/ui"),
    ],
)
def test_where_a_log_in_leads(to: str, expected: str) -> None:
    assert own_path(to) == expected


# --- changes


@pytest.mark.parametrize("path", ["/ui/jobs/x/remove", "/ui/new", "/jobs/x/start", "/api/cron/stop", "/ui/logout"])
def test_a_session_changes_nothing_without_its_token(site: Site, path: str) -> None:
    log_in(site, site.keys["admin"])
    token, http = shown_csrf(site), site.http
    assert token == csrf(http.cookies[COOKIE])
    log_in(Site(TestClient(http.app), site.keys, site.gate), site.keys["admin"])
    wrong: list[dict[str, Any]] = [
        {},
        {"data": {"csrf": ""}},
        {"data": {"csrf": "0" * 64}},
        {"headers": {"X-CSRF-Token": csrf("another session's")}},
        {"json": {"csrf": token}},
        {"data": {"csrf": token}, "headers": {"Origin": "https://evil.example"}},
        {"data": {"csrf": token}, "headers": {"Sec-Fetch-Site": "same-site"}},
    ]
    for each in wrong:
        assert http.post(path, **each).status_code == 403, each
    assert http.post(path, headers={"X-CSRF-Token": token}).status_code != 403
    # Who gives a key is no browser that somebody else steers.
    if path != "/ui/logout":
        http.cookies.clear()
        assert http.post(path, headers={"X-API-Key": site.keys["admin"]}).status_code not in (401, 403)


def test_roles_hold_for_sessions(site: Site) -> None:
    log_in(site, site.keys["viewer"])
    token = csrf(site.http.cookies[COOKIE])
    for path in ("/ui/jobs/x/start", "/ui/jobs/x/remove", "/ui/new"):
        refused = site.http.post(path, data={"csrf": token})
        assert refused.status_code == 403 and "this needs the role" in refused.text
    assert site.http.get("/ui/new").status_code == 403


# --- pages


def test_pages_run_nothing_that_stands_in_them(site: Site) -> None:
    log_in(site, site.keys["admin"])
    pages = [site.http.get("/ui/login"), site.http.get("/ui/new"), site.http.get("/ui/jobs/x"), site.http.get("/ui")]
    for answer in pages:
        assert answer.headers.get_list("content-security-policy") == [
            "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
        ]
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-type"].startswith("text/html")
        assert not re.search(r"<script(?![^>]* src=)|\son\w+=|\sstyle=|<style|javascript:", answer.text)
    # All else may load nothing at all.
    assert site.http.get("/openapi.json").headers["content-security-policy"].startswith("default-src 'none'")


def test_all_that_pages_load_is_here(site: Site) -> None:
    loaded = set(re.findall(r'(?:src|href)="(/ui/static/[^"?]+)', site.http.get("/ui/login").text))
    assert {Path(each).name for each in loaded} == {"htmx.min.js", "dash.js", "dash.css", "icon.svg"}
    for path in loaded:
        answer = site.http.get(path)
        assert answer.status_code == 200 and answer.content
        assert "://" not in re.sub(rb"http://www.w3.org/[0-9/a-z]+", b"", answer.content).decode() or "htmx" in path
    for path in ("LICENSE.htmx", "..%2fagent.py", "%00"):
        assert site.http.get(f"/ui/static/{path}").status_code in (401, 404)


EVIL = "<script>alert(1)</script>\"'&<img src=x onerror=alert(2)>\u202e"


@pytest.mark.parametrize("path", ["/ui/jobs/{}", "/ui/runs/{}", "/ui/explain?kind=cron&when={}", "/ui/runs?job={}"])
def test_what_is_asked_for_comes_back_as_text(site: Site, path: str) -> None:
    log_in(site, site.keys["admin"])
    answer = site.http.get(path.format(EVIL))
    assert "<script>a" not in answer.text and "<img" not in answer.text.replace('<img src="/ui/static', "")
    assert "\u202e" not in answer.text


def test_an_address_that_leads_nowhere_is_told_in_a_page(site: Site) -> None:
    assert site.http.get("/ui/nothing").status_code == 401
    log_in(site, site.keys["viewer"])
    answer = site.http.get("/ui/nothing")
    assert answer.status_code == 404 and "there is no page &#39;nothing&#39;" in answer.text
    assert site.http.get("/ui/").headers["location"] == "/ui"
    assert site.http.get("/").headers["location"] == "/ui"


def test_a_form_that_is_refused_comes_back_as_it_was(site: Site) -> None:
    log_in(site, site.keys["admin"])
    token = csrf(site.http.cookies[COOKIE])
    answer = site.http.post(
        "/ui/new", data={"csrf": token, "name": "x", "command": EVIL, "when": "61 * * * *", "kind": "cron"}
    )
    assert answer.status_code == 400
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in answer.text and "<script>a" not in answer.text
    assert 'role="alert"' in answer.text and ">61 * * * *</textarea>" in answer.text


# --- forms


@pytest.mark.parametrize(
    "plain",
    [
        {"name": "a", "command": "true"},
        {"name": "a", "command": "x\ny", "schedule": ["0 2 * * *", "5 4 * * *"], "timezone": "Europe/Berlin"},
        {"name": "a", "command": ["echo", "a b"], "calendar": ["daily"], "tags": ["x", "y"], "retries": 3},
        {"name": "a", "command": "true", "every": "5min", "timeout": "1h", "memory_max": "1G", "env": {"A": "b=c"}},
        {"name": "a", "command": "true", "at": "2037-01-31T02:00:00Z", "description": "d", "category": "c"},
        {"name": "a", "command": "true", "on_boot": True, "env": {"A": "two\nlines"}},
        {"name": "a", "command": "true", "schedule": ["0 0 2 * * *"], "seconds": True},
    ],
)
def test_a_form_that_nobody_touched_changes_nothing(plain: dict[str, Any]) -> None:
    job = from_plain(plain)
    fields = {name: text.replace("\n", "\r\n") for name, text in shown(to_plain(job)).items()}  # as browsers send it
    assert changed_body(to_plain(job), fields) == {}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"kind": "every", "when": "5min"}, {"every": "5min"}),
        ({"kind": "cron", "when": "0 3 * * *\r\n\r\n5 4 * * *"}, {"schedule": ["0 3 * * *", "5 4 * * *"]}),
        ({"kind": "cron", "when": "30 0 3 * * *"}, {"schedule": ["30 0 3 * * *"], "seconds": True}),
        ({"kind": "", "when": "whatever"}, {}),
        ({"kind": "on_boot"}, {"on_boot": True}),
        ({"timezone": ""}, {"schedule": ["0 2 * * *"]}),
        ({"tags": "x, y,"}, {"tags": ["x", "y"]}),
        ({"env": "A=1\r\nC=x=y"}, {"env": {"A": "1", "C": "x=y"}}),
        ({"retries": "2"}, {"retries": 2}),
    ],
)
def test_what_a_form_changes(fields: dict[str, str], expected: dict[str, Any]) -> None:
    job = from_plain(
        {"name": "a", "command": "true", "schedule": "0 2 * * *", "timezone": "UTC", "env": {"A": "1", "B": "2"}}
    )
    told = to_plain(from_plain(changed(to_plain(job), changed_body(to_plain(job), shown(to_plain(job)) | fields))))
    assert {name: told.get(name) for name in expected} == expected
    if "kind" in fields:
        assert not {"schedule", "every", "on_boot"} & set(told) - set(expected)


@pytest.mark.parametrize(
    "fields", [{"kind": "moon"}, {"kind": "cron", "when": " "}, {"retries": "many"}, {"env": "no equals"}]
)
def test_what_no_form_holds(fields: dict[str, str]) -> None:
    with pytest.raises(BadInput):
        new_body(NEW | {"name": "a", "command": "true", "when": "@daily"} | fields)


def test_a_new_job_s_form() -> None:
    body = new_body(NEW | {"name": " a ", "command": "true", "when": "0 2 * * *", "timezone": "UTC", "timeout": "5min"})
    assert plain_of(body) == {
        "name": "a",
        "command": "true",
        "schedule": ["0 2 * * *"],
        "timezone": "UTC",
        "timeout": "5min",
    }


# --- drawings


def test_a_strip_tells_each_day() -> None:
    drawn = plots.strip({10: (4, 4, 0), 12: (3, 1, 1), 13: (2, 0, 1)}, 13, 4)
    assert drawn.cells == 4
    assert {tone: re.findall(r"M(\d)", path) for tone, path in drawn.paths.items()} == {
        "good": ["0"], "idle": ["1"], "warn": ["2"], "bad": ["3"]
    }  # fmt: skip
    assert drawn.words == "5 of 7 runs succeeded in 4 days"
    assert plots.strip({}, 13, 30).words == "no runs in 30 days"


@given(st.lists(st.one_of(st.none(), st.integers(0, 2**40)), max_size=60))
def test_bars_fit_their_box(durations: list[int | None]) -> None:
    runs = [Run(id=str(n), job="a", unit="a", result="success", duration_usec=each) for n, each in enumerate(durations)]
    drawn, highest = plots.bars(runs)
    assert [bar.x for bar in drawn] == list(range(len(drawn)))
    assert all(1 <= bar.height <= plots.HEIGHT for bar in drawn)
    assert highest == max((each for each in durations if each is not None), default=0) / 1e6


@pytest.mark.parametrize(
    ("when", "ticks", "dense"),
    [
        ({"schedule": ("0 */6 * * *",)}, 4, False),
        ({"schedule": ("* * * * *",)}, 1, True),
        ({"every": timedelta(hours=8)}, 3, False),
        ({"every": timedelta(seconds=1)}, 1, True),
        ({"calendar": ("daily",)}, 1, False),
    ],
)
def test_the_timeline_of_a_day(when: dict[str, Any], ticks: int, dense: bool) -> None:
    now = round(datetime(2027, 1, 15, tzinfo=UTC).timestamp() * 1e6)
    first = now + 3600 * 6 * 10**6
    drawn = plots.line(Job(name="a", command="true", **when), first, "UTC", now + plots.DAY_USEC, now)
    assert (len(drawn.ticks), drawn.dense, drawn.ticks[0]) == (ticks if "*/6" not in str(when) else 3, dense, 360.0)


def test_the_coming_week() -> None:
    now = datetime(2027, 1, 15, 12, tzinfo=UTC)
    days = plots.week(Job(name="a", command="true", schedule=("0,15 9 * * 1-5", "0 12 * * *")), "UTC", now)
    assert [day.label for day in days] == ["Sat 16", "Sun 17", "Mon 18", "Tue 19", "Wed 20", "Thu 21", "Fri 22"]
    assert re.findall(r"M(\d+)\.", days[2].path) == ["18", "24"]
    assert plots.week(Job(name="a", command="true", schedule=("0 0 1 1 *",)), "UTC", now) == []
    assert plots.week(Job(name="a", command="true", every=timedelta(hours=1)), "UTC", now) == []
