"""Job files: what they come to, every error at its place; and what is exported is read back the same."""

import json
import textwrap
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lsh_systemd import jobexport, jobschema, jobtemplate, specfiles
from lsh_systemd.errors import BadInput
from lsh_systemd.job import Job
from lsh_systemd.jobfile import FIELDS, from_plain
from lsh_systemd.jobspec import Gathered, Source, gather
from lsh_systemd.located import read
from lsh_systemd.scope import Scope
from lsh_systemd.text import escape_controls
from tests.hostile import plain_jobs

TEMPLATES = {
    "dump": jobtemplate.from_plain(
        "dump",
        {
            "parameters": {"db": {}, "days": {"type": "integer", "default": 7, "min": 1}},
            "job": {"name": "Dump {{ db }}", "schedule": "0 2 * * *", "command": "dump {{ db }} {{ days }}", "nice": 5},
        },
    )
}


def gathered(text: str, *included: str, file: str = "a.yaml", **variables: str) -> Gathered:
    includes = tuple(Source(located=read(each, file=f"i{at}.yaml")) for at, each in enumerate(included))
    source = Source(located=read(text, file=file), includes=includes)
    return gather([source], templates=TEMPLATES, variables=variables, environ={"HOME": "/root"})


def jobs(text: str, *included: str, **variables: str) -> dict[str, Job]:
    found = gathered(text, *included, **variables)
    assert found.refused == ()
    return {each.job.id: each.job for each in found.wanted}


def job(**fields: Any) -> Job:
    return Job(**{"name": "a", "command": "x", "applied": "default", **fields})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("jobs: [{name: a, command: x}]", job()),
        ("jobs: {a: {command: x}}", job()),
        ("project: web\njobs: {a: {command: x}}", job(applied="web")),
        ("vars: {v: p q}\njobs: {a: {command: 'x {{ v }}', description: 'x {{ v }}'}}",
         job(command="x 'p q'", description="x p q")),
        ("vars: {v: '{{ w }}/b', w: /a}\njobs: {a: {command: x, working_dir: '{{ v }}'}}", job(working_dir="/a/b")),
        ("vars: {n: 3}\njobs: {a: {command: x, retries: '{{ n }}'}}", job(retries=3)),
        ("vars: {t: [p, q]}\njobs: {a: {command: [x, '{{ t }}'], tags: [o, '{{ t }}']}}",
         job(command=("x", "p", "q"), tags=("o", "p", "q"))),
        ("jobs: {a: {command: x, working_dir: '{{ env.HOME }}'}}", job(working_dir="/root")),
        ("defaults: {timeout: 1h, env: {A: b, C: d}}\njobs: {a: {command: x, env: {C: 8}}}",
         job(timeout=timedelta(hours=1), env={"A": "b", "C": "8"})),
        ("defaults: {timeout: 1h}\njobs: {a: {command: x, timeout: null}}", job()),
        ("defaults: {schedule: '@daily'}\njobs: {a: {command: x, every: 2h}}", job(every=timedelta(hours=2))),
        ("defaults: {timezone: UTC, jitter: 5m, catch_up: all}\njobs: {a: {command: x, every: 2h}}",
         job(every=timedelta(hours=2), jitter=timedelta(minutes=5))),
        ("defaults: {timezone: UTC, jitter: 5m}\njobs: {a: {command: x}}", job()),
        ("defaults: {once_in_fleet: true, fleet_unreachable: run, params: P}\njobs: {a: {command: x, every: 2h}}",
         job(every=timedelta(hours=2))),
        ("defaults: {once_in_fleet: true, fleet_unreachable: run}\n"
         "jobs: {a: {command: x, schedule: '@daily', from_fleet: true, params: ['P=[a-z]{3}', Q]}}",
         job(schedule=("@daily",), once_in_fleet=True, fleet_unreachable="run", from_fleet=True,
             params=("P=[a-z]{3}", "Q"))),
        ("defaults: {once_in_fleet: true, fleet_unreachable: run}\n"
         "jobs: {a: {command: x, schedule: '@daily', once_in_fleet: false}}", job(schedule=("@daily",))),
        ("defaults: {timezone: UTC, catch_up: all}\njobs: {a: {command: x, schedule: '@daily', persistent: true}}",
         job(schedule=("@daily",), timezone="UTC", catch_up="once")),
        ("jobs: {a: {template: dump, set: {db: p q}}}",
         job(schedule=("0 2 * * *",), command="dump 'p q' 7", nice=5)),
        ("defaults: {nice: 1}\nvars: {d: q}\njobs: {a: {template: dump, set: {db: '{{ d }}', days: 3}, every: 1d}}",
         job(every=timedelta(days=1), command="dump q 3", nice=5)),
        ("templates: {t: {job: {command: y, nice: 2}}}\njobs: {a: {template: t, command: x}}", job(nice=2)),
    ],
)  # fmt: skip
def test_a_file_comes_to_jobs(text: str, wanted: Job) -> None:
    assert jobs(text) == {"a": wanted}


@pytest.mark.parametrize(
    "text",
    [
        "defaults: {shell: /usr/bin/python3}\njobs: {a: {command: 'print({{ v }})'}}",
        "jobs: {a: {shell: /usr/bin/fish, command: 'x {{ v }}'}}",
        "jobs: {a: {shell: /usr/bin/fish, template: dump, set: {db: '{{ v }}'}}}",
        "defaults: {shell: /usr/bin/fish}\njobs: {a: {template: dump, set: {db: '{{ v }}'}}}",
    ],
)
def test_what_no_known_shell_reads_gets_harmless_values_only(text: str) -> None:
    assert gathered(text, v="abc").refused == ()
    (refused,) = gathered(text, v="x'\\").refused
    assert "cannot be" in refused.message


def test_a_shell_that_is_taken_back_is_the_usual_one() -> None:
    text = "defaults: {shell: /usr/bin/fish}\njobs: {a: {shell: null, command: 'x {{ v }}'}}"
    assert jobs(text, v="b c")["a"].command == "x 'b c'"


def test_what_is_included_holds_and_the_nearer_wins() -> None:
    common = "vars: {a: 1, b: 2}\ndefaults: {nice: 3, timeout: 1h}\njobs: {i: {command: 'x {{ b }}'}}"
    found = jobs("vars: {b: 9}\ndefaults: {nice: 4}\njobs: {o: {command: 'x {{ a }} {{ b }}'}}", common)
    hour = timedelta(hours=1)
    assert found == {
        "i": job(name="i", command="x 2", nice=3, timeout=hour),
        "o": job(name="o", command="x 1 9", nice=4, timeout=hour),
    }
    assert jobs("vars: {b: 9}\njobs: {a: {command: 'x {{ b }}'}}", b="{{ c }}") == {"a": job(command="x '{{ c }}'")}


ERRORS = """\
projekt: x
vars: {v: "{{ v }}"}
defaults: {name: x, comand: y}
jobs:
  - name: a
    command: x {{ v }}
  - name: b
    command: x
    schedule: 61 * * * *
  - name: c
    comand: x
  - command: x
  - name: d
    command: x
    timeout: [1]
    retries: x
    run_as: "no such user"
  - name: d
    command: x
    jitter: 5m
  - template: dunp
  - template: dump
    set: {days: 0}
  - template: dump
  - name: e
    command: x
    every: 1h
    schedule: "@daily"
  - name: f
    command: x
    enabled: maybe
  - set: {}
    name: g
    command: x
  - 7
  - name: h
    command: x
  - name: H
    command: x
    applied: y
"""


def test_every_error_is_told_at_its_place() -> None:
    told = [
        (each.place.line, each.message, each.hint) for each in sorted(gathered(ERRORS).refused, key=lambda e: e.place)
    ]
    assert [(line, message.split(" ")[0]) for line, message, _ in told] == [
        (1, "'projekt'"),
        (3, "'name'"),
        (3, "'comand'"),
        (6, "the"),
        (9, "minute"),
        (10, "the"),
        (11, "'comand'"),
        (12, "the"),
        (15, "timeout"),
        (16, "retries"),
        (20, "--jitter"),
        (21, "there"),
        (23, "the"),
        (24, "the"),
        (25, "--schedule"),
        (31, "enabled"),
        (32, "set"),
        (35, "a"),
        (38, "there"),
        (40, "'applied'"),
    ]
    assert ("did you mean dump?" in [hint for _, _, hint in told]) and (
        "did you mean command?" in [h for _, _, h in told]
    )


@pytest.mark.parametrize(
    ("chain", "count", "told"),
    [
        ("'{{ a%d }}{{ a%d }}'", 35, "come to more than"),
        ("['{{ a%d }}', '{{ a%d }}']", 35, "come to more than"),
        ("'{{ a%d }}'", 300, "too many times"),
    ],
)
def test_variables_do_not_go_off(chain: str, count: int, told: str) -> None:
    lines = [f"  a{n}: {chain.replace('%d', str(n + 1))}" for n in range(count)]
    text = "\n".join(["vars:", *lines, f"  a{count}: x", "jobs: {a: {command: 'x {{ a0 }}'}}"])
    (remark,) = gathered(text).refused
    assert told in remark.message


def test_many_empty_variables_take_no_time() -> None:
    lines = [f"  a{n}: '{{{{ a{n + 1} }}}}{{{{ a{n + 1} }}}}'" for n in range(35)]
    text = "\n".join(["vars:", *lines, "  a35: ''", "jobs: {a: {command: 'x {{ a0 }}'}}"])
    assert jobs(text)["a"].command == "x ''"


def test_variables_from_outside_fill_numbers_and_booleans() -> None:
    text = """
    vars: {retries: 1}
    jobs:
      a: {command: x, retries: '{{ retries }}', nice: '{{ nice }}', persistent: '{{ on }}', enabled: '{{ on }}',
          no_retry_exit: ['{{ one }}', 2], memory_max: '{{ size }}', timeout: '{{ one }}',
          description: '{{ nice }}', schedule: '@daily'}
    """
    got = gathered(text, retries="3", nice="-5", on="false", one="1", size="8192")
    assert got.refused == ()
    (found,) = got.wanted
    assert not found.enabled
    assert found.job == job(
        retries=3, nice=-5, catch_up="none", no_retry_exit=(1, 2), memory_max=8192, timeout=timedelta(seconds=1),
        description="-5", schedule=("@daily",),
    )  # fmt: skip
    (remark,) = gathered("jobs: {a: {command: x, retries: '{{ n }}'}}", n="many").refused
    assert "retries must be a whole number" in remark.message
    assert gathered("jobs: {a: {command: x, retries: '3'}}").refused  # a text of the file's own is one


def test_two_jobs_of_one_name_are_refused_with_both_places() -> None:
    (refused,) = gathered("jobs:\n- {name: A b, command: x}\n- {name: a-B, command: y}\n").refused
    assert str(refused) == "a.yaml:3:4: there is a job a-b already, at a.yaml:2:3 (choose another name)"


scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
keys = st.sampled_from([*FIELDS, "jobs", "vars", "set", "template", "x"])


@given(st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner), max_leaves=12))
def test_any_data_comes_to_jobs_or_errors(data: Any) -> None:
    for text in (json.dumps(data), json.dumps({"jobs": [data], "vars": data, "defaults": data, "templates": data})):
        gathered(text, file="a.json")


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(plain_jobs, st.booleans())
def test_an_export_is_read_back_as_the_same_job(plain: dict[str, Any], enabled: bool) -> None:
    try:
        one = replace(from_plain(plain), applied="web")
    except BadInput:
        assume(False)
        raise
    for form in jobexport.FORMS:
        text = jobexport.write(jobexport.document([(one, enabled)]), form)
        assert escape_controls(text) == text
        found = gathered(text, file=f"a.{form}")
        assert found.refused == ()
        assert [(each.job, each.enabled) for each in found.wanted] == [(one, enabled)]


def test_the_readme_s_job_file_is_one() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    block = readme.partition("    # jobs.yaml\n")[2].partition("\n\n")[0]
    text = textwrap.dedent(block).replace("include: common.yaml", "")
    shipped = specfiles.templates(Scope.SYSTEM)
    found = gather([Source(located=read(text, file="a.yaml"))], templates=shipped, variables={}, environ={})
    assert found.refused == () and found.projects == {"web"}
    commands = {each.job.id: each.job.command for each in found.wanted}
    assert commands["nightly-dump"] == "pg_dump prod | gzip > /backups/prod_$(date +%F).sql.gz"
    assert commands["tidy"] == "tar -czf /backups/web.tgz /etc '/srv/web data'"
    assert [each.job.id for each in found.wanted if not each.enabled] == ["tidy"]


def test_the_schema_is_one_and_holds_what_is_exported() -> None:
    schema = jobschema.schema({"timeout": "How long."})
    validator = jsonschema.Draft202012Validator
    validator.check_schema(schema)
    good = read(
        "vars: {a: 1}\ninclude: b.yaml\ndefaults: {env: {A: 8}, timeout: null}\n"
        "templates: {t: {parameters: {db: null}, job: {command: x}}}\n"
        "jobs: [{template: t, set: {db: [x]}, retries: '{{ a }}', enabled: false, tags: a,\n"
        "  once_in_fleet: true, fleet_unreachable: run, from_fleet: '{{ a }}', params: ['P=[a-z]{3}']}]",
        file="a.yaml",
    )
    assert list(validator(schema).iter_errors(good.data)) == []
    for bad in (
        "{job: []}",
        "{jobs: [{comand: x}]}",
        "{jobs: [{retries: x}]}",
        "{jobs: [{overlap: maybe}]}",
        "{jobs: [{fleet_unreachable: wait}]}",
    ):
        assert list(validator(schema).iter_errors(read(bad, file="a.yaml").data))


def test_a_file_speaks_for_a_project_that_it_names_or_has_jobs_of() -> None:
    """What --prune takes away is what the files lack: no file speaks for jobs that it knows nothing of."""
    shared = Source(located=read("vars: {root: /srv}\njobs: {c: {command: x}}", file="common.yaml"), includes=())
    bare = Source(located=read("vars: {root: /srv}", file="bare.yaml"), includes=())
    shop = Source(
        located=read("project: shop\njobs: {a: {command: 'x {{ root }}'}}", file="shop.yaml"), includes=(shared,)
    )

    def found(*sources: Source) -> Gathered:
        return gather(sources, templates={}, variables={}, environ={})

    for sources in ((shop,), (shared, shop), (shop, shared), (bare, shop)):
        assert found(*sources).projects == {"shop"}
        assert {each.job.applied for each in found(*sources).wanted} == {"shop"}
    assert found(shared).projects == {"default"}
    assert found(bare).projects == set()
    assert gathered("project: shop").projects == {"shop"}
    (remark,) = gathered("# all gone\n").refused
    assert "the file is empty" in remark.message
