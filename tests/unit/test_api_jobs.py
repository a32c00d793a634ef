"""What a job that comes over HTTP may be: the shapes, and the administrator's policy."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lsh_systemd import config
from lsh_systemd.api import policy
from lsh_systemd.api.app import make as make_app
from lsh_systemd.api.shapes import changed, masked, plain_of, when
from lsh_systemd.config import Api
from lsh_systemd.errors import BadInput
from lsh_systemd.jobfile import from_plain
from lsh_systemd.scope import Scope

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
    ("template", "own", "rules", "allowed"),
    [
        ("log-cleanup", {"command": "id", "env": {}}, Api(), True),
        ("log-cleanup", {}, Api(templates=("log-*", "x")), True),
        ("log-cleanup", {}, Api(templates=()), False),
        ("log-cleanup", {}, Api(templates=("*-backup",)), False),
        ("log-cleanup", {"name": "x", "schedule": None, "run_as": "bob"}, Api(commands=False), True),
        ("log-cleanup", {"command": "id"}, Api(commands=False), False),
        ("log-cleanup", {"env": {"PATH": "/tmp"}}, Api(commands=False), False),
    ],
)
def test_which_templates_may_be_used(template: str, own: dict[str, Any], rules: Api, allowed: bool) -> None:
    if allowed:
        policy.check_template(rules, template, own)
    else:
        with pytest.raises(policy.Forbidden):
            policy.check_template(rules, template, own)


def test_where_templates_alone_say_what_jobs_do() -> None:
    rules, job = Api(commands=False), from_plain(policy.filled_in(BASE, Api(), Scope.SYSTEM))
    policy.check(job, rules, Scope.SYSTEM, from_template=True)
    for before in (None, from_plain({**BASE, "command": "false"})):
        with pytest.raises(policy.Forbidden, match="by a template only"):
            policy.check(job, rules, Scope.SYSTEM, before=before)
    policy.check(job, rules, Scope.SYSTEM, before=replace(job, description="another"))


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
        ("[api]\ntrust_proxy = true", "must be a list of texts"),
        ("[api]\ntrust_proxy = ['proxy.example']", "'proxy.example' is no address"),
        ("[api]\ntrust_proxy = ['10.0.0.0/8', 'unix']", Api(trust_proxy=("10.0.0.0/8", "unix"))),
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
