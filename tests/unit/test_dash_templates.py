"""The pages of templates, as far as they need no systemd. See tests/system/test_dash.py."""

import re
from dataclasses import fields as fields_of
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lsh_systemd import specfiles
from lsh_systemd.api.app import make as make_app
from lsh_systemd.api.dash.fields import AS_IT_IS, NEW, own_body, text_of, value_of
from lsh_systemd.errors import BadInput
from lsh_systemd.job import Job
from lsh_systemd.jobtemplate import Parameter, Template
from lsh_systemd.scope import Scope

SHIPPED = specfiles.templates(Scope.SYSTEM)
KEY = "a-key-that-a-person-made-up"
FIELDS = [each.name for each in fields_of(Job)]
FORM = NEW | {"kind": AS_IT_IS, "retries": ""}


@pytest.fixture
def http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path}/no-bus")
    monkeypatch.setenv("LSH_API_KEY", KEY)
    client = TestClient(make_app(Scope.USER), follow_redirects=False)
    client.post("/ui/login", data={"key": KEY})
    return client


def filled_in(page: str) -> dict[str, str]:
    """What a form's fields for parameters have."""
    told = dict(re.findall(r'name="(set_\w+)" value="([^"]*)"', page))
    told |= dict(re.findall(r'<textarea id="(set_\w+)"[^>]*>([^<]*)</textarea>', page))
    for name, options in re.findall(r'<select id="(set_\w+)"[^>]*>(.*?)</select>', page, re.DOTALL):
        told[name] = (re.findall(r"<option selected>([^<]*)", options) or [""])[0]
    return {name.removeprefix("set_"): unescape(text) for name, text in told.items()}


@pytest.mark.parametrize("template", SHIPPED.values(), ids=SHIPPED)
def test_a_form_that_nobody_touched_gives_the_defaults(http: TestClient, template: Template) -> None:
    page = http.get(f"/ui/templates/{template.id}")
    assert page.status_code == 200 and template.description.split("'")[0] in unescape(page.text)
    told = filled_in(page.text)
    assert {name: value_of(each, told[each.name]) for each in template.parameters for name in [each.name]} == {
        each.name: each.default for each in template.parameters
    }


def test_a_template_s_own_words_are_text(http: TestClient, tmp_path: Path) -> None:
    evil = "<script>x</script>\"'"
    folder = tmp_path / "lsh/templates.d"
    folder.mkdir(parents=True)
    quoted = repr(evil.replace("'", ""))
    lines = ["templates:", "  own:", f"    description: {quoted}", "    parameters:"]
    lines += [f"      {kind}: {{type: {kind}, description: {quoted}}}" for kind in ("text", "path", "span")]
    lines += [f"      which: {{type: choice, choices: [{quoted}, b]}}", "      n: {type: integer, min: 1}"]
    lines += ["    job:", f"      name: {quoted}", f"      category: {quoted}", "      command: 'true'"]
    (folder / "own.yaml").write_text("\n".join(lines))
    for path in ("", "/own"):
        answer = http.get(f"/ui/templates{path}")
        assert answer.status_code == 200
        assert "<script>x" not in answer.text and "&lt;script&gt;x" in answer.text
    token = re.findall(r'name="csrf" value="(\w+)"', answer.text)[0]
    form = {"csrf": token, "kind": AS_IT_IS, "set_text": "-x", "set_n": "0", "set_which": "c", "set_path": evil}
    answer = http.post("/ui/templates/own/preview", data=form)
    assert answer.status_code == 400 and "<script>x" not in answer.text
    assert re.findall(r'id="set_(\w+)-wrong"', answer.text) == ["text", "path", "span", "which", "n"]
    assert "span has to be said" in answer.text
    # In JSON, too, and as bad input.
    answer = http.post("/templates/own/jobs", headers={"X-API-Key": KEY}, json={"values": {"text": "-x"}})
    assert answer.status_code == 400 and answer.json()["detail"].startswith("text may not begin with -")
    assert http.get("/ui/templates/none").status_code == http.get("/templates/none").status_code == 404
    # A file that is none stands in the way of them all, and is named.
    (folder / "own.yaml").write_text("templates: 1")
    assert "own.yaml" in http.get("/ui/templates").text


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"name": " x ", "timeout": "5min", "run_as": "bob"}, {"name": "x", "timeout": "5min", "run_as": "bob"}),
        ({"kind": "cron", "when": "0 3 * * *"}, {"schedule": {"cron": ["0 3 * * *"]}}),
        ({"kind": ""}, {"schedule": None}),
        ({"kind": "every", "when": "1h", "timezone": "UTC"}, {"schedule": {"every": "1h"}}),
        ({"timezone": "UTC"}, {"timezone": "UTC"}),
        ({"tags": "a, b", "retries": "0", "env": "A=1"}, {"tags": ["a", "b"], "retries": 0, "env": {"A": "1"}}),
    ],
)
def test_what_a_form_says_over_a_template(fields: dict[str, str], expected: dict[str, Any]) -> None:
    assert own_body(FORM | fields) == expected


@pytest.mark.parametrize(
    ("options", "text", "expected"),
    [
        ({}, " a b ", "a b"),
        ({}, "  ", None),
        ({"type": "integer"}, "07", 7),
        ({"type": "integer"}, "7.0", BadInput),
        ({"type": "boolean"}, "false", False),
        ({"many": True}, "a\r\n\r\n b ", ["a", "b"]),
        ({"many": True, "type": "path"}, "/a\nb", BadInput),
        ({"type": "choice", "choices": ("a", "b")}, "c", BadInput),
    ],
)
def test_what_a_field_says(options: dict[str, Any], text: str, expected: Any) -> None:
    parameter = Parameter(name="x", **options)
    if expected is BadInput:
        with pytest.raises(BadInput):
            value_of(parameter, text)
        return
    assert value_of(parameter, text) == expected
    assert value_of(parameter, text_of(expected)) == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    st.sampled_from(sorted(SHIPPED)),
    st.dictionaries(st.sampled_from(sorted({"values", "enabled", "schedule", *FIELDS})), json_values, max_size=3),
    st.dictionaries(st.sampled_from(["days", "folder", "db", "paths", "run_as"]), json_values, max_size=2),
)
@example("log-cleanup", {"params": 5}, {})
@example("log-cleanup", {"params": ["days", 5]}, {"days": None})
def test_whatever_is_asked_of_a_template_is_answered(
    http: TestClient, template: str, body: dict[str, Any], values: dict[str, Any]
) -> None:
    """503: it is fine as far as can be told without systemd."""
    for each in (body, {"values": values} | body):
        answer = http.post(f"/templates/{template}/jobs?dry_run=true", headers={"X-API-Key": KEY}, json=each)
        assert answer.status_code in (400, 403, 422, 503), answer.text
