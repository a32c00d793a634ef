"""What describes jobs, nearly right: it gives a job or says what is wrong, and no unit has a directive too many."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from lsh_systemd import (
    cron,
    crontab,
    danger,
    ics,
    jobfields,
    jobfile,
    jobtemplate,
    pythonspec,
    shellwords,
    span,
    unit,
    zones,
)
from lsh_systemd.api import shapes
from lsh_systemd.cronjobs import Account, base_name, export, job_from
from lsh_systemd.crontab import Form
from lsh_systemd.job import Job
from lsh_systemd.jobfile import from_plain, to_plain
from lsh_systemd.jobspec import gather
from lsh_systemd.scope import Scope
from lsh_systemd.specfiles import Reader
from tests.directives import check, render
from tests.fuzz import anything, bounded, law, mangled, nearly, nearly_bytes, value_or_error
from tests.hostile import plain_jobs

YAML = """project: web
vars: {days: 7, folders: [/etc, /home]}
defaults: &defaults {timeout: 1h, env: {A: b}, tags: [x]}
templates:
  dump:
    parameters: {db: {}, days: {type: integer, default: 7, min: 1, max: 90}, mode: {choices: [a, b]}}
    job: {name: "Dump {{ db }}", schedule: 0 2 * * *, command: 'dump {{ db }} "{{ days }}"'}
jobs:
  backup: {command: 'tar {{ folders }} | gzip >"/b/{{ env.HOME }}"', schedule: '*/5 * * * *', <<: *defaults}
  - name: clean
    command: [find, /tmp, -mtime, '+{{ days }}']
    every: 2h
    on_failure: ['job:backup', "mail -s 'x' root"]
  hourly: {template: dump, set: {db: prod}, calendar: Mon..Fri 09:00, retries: 3, memory_max: 1G}
"""
LISTED = YAML.replace("  backup: {", "  - {name: backup, ").replace("  hourly: {", "  - {name: hourly, ")
TOML = """project = "web"
include = "other.toml"
[vars]
days = 7
[defaults.env]
A = 'b'
[jobs.backup]
command = "tar {{ days }}"
schedule = ["0 2 * * *", "@daily"]
timeout = "1h 30min"
[[jobs.list]]
name = \"\"\"x\"\"\"
[jobs."a b"]
command = ["x", "{{ days }}"]
at = 2027-01-01T00:00:00Z
"""
JSON = json.dumps(
    {
        "project": "web",
        "jobs": [
            {"name": "a", "command": "x {{ v }}", "every": "1h", "env": {"A": "b"}, "nice": 5},
            {
                "name": "b",
                "command": ["x"],
                "schedule": ["H 2 * * 1-5"],
                "timezone": "Europe/Berlin",
                "cpu_quota": "50%",
            },
        ],
        "vars": {"v": "w"},
    },
    indent=1,
)
FIELDS = sorted(jobfile.FIELDS)


def sound(job: Job) -> None:
    """A job that came in is one that a unit file can hold, and is read back the same."""
    files = value_or_error(render, job)  # its schedule may be over
    if files is None:
        return
    check(job, files)
    assert unit.read(files[job.unit], files.get(job.timer, ""), files.get).job == job


@law(150)
@given(
    st.one_of(
        st.tuples(
            st.just(".yaml"),
            nearly_bytes(YAML, LISTED, words=[*FIELDS, "<<: *defaults", "!!python/name:os", "*a", "&a "]),
        ),
        st.tuples(st.just(".toml"), nearly_bytes(TOML, words=[*FIELDS, "[[jobs]]", "[", "]", " = "])),
        st.tuples(st.just(".json"), nearly_bytes(JSON, words=[f'"{each}": ' for each in FIELDS])),
    )
)
@example((".toml", b"a.b" * 60_000 + b" = 1"))
@example((".toml", b'"a".' * 60_000 + b"a = 1"))
@example((".toml", b"a" * 200_000 + b" = 1"))
def test_job_files(tmp_path_factory: pytest.TempPathFactory, given: tuple[str, bytes]) -> None:
    ending, data = given
    path = tmp_path_factory.getbasetemp() / f"jobs{ending}"
    path.write_bytes(data)
    reader = Reader()
    with bounded():
        sources = reader.sources([str(path)])
        found = gather(sources, templates={}, variables={"w": "v"}, environ={"HOME": "/root"})
    for remark in (*reader.refused, *found.refused):
        assert len(str(remark)) < 5000 + 4 * len(data)
    for each in found.wanted:
        sound(each.job)


CRONTAB = """# m h dom mon dow command
SHELL=/bin/bash
MAILTO="root"
CRON_TZ=Europe/Berlin
PATH = /usr/bin:/bin
# job: nightly
17 2 * * 1-5 root cd / && run-parts --report /etc/cron.hourly
*/5 * * * * test -x /usr/bin/x%line 1%line \\% 2
@reboot root sleep 1
@daily root x
-0 4 L * 5#2 root y
1\t5\tcron.daily\tnice run-parts /etc/cron.daily
@monthly 45 cron.monthly run-parts /etc/cron.monthly
"""


@law(100)
@given(
    nearly_bytes(CRONTAB, words=["@every 5m", "root", "MAILTO", "=", "%", "\\%", "* * * * * ", "\n"]),
    st.sampled_from(Form),
)
def test_crontabs(data: bytes, form: Form) -> None:
    table = value_or_error(crontab.parse, data.decode(errors="surrogateescape"), form)
    assert table is not None
    account = Account(name="bob", home="/home/bob")
    for entry in table.entries:
        for scope in Scope:
            job = value_or_error(job_from, entry, name=base_name(entry), form=form, scope=scope, account=account)
            if job is not None:
                sound(job)
                value_or_error(export, [(job, True)], form=form, scope=scope, owner="bob", account=lambda name: account)


WHOLE = {
    "name": "whole",
    "command": ["/bin/echo", "a b", "%n $HOME"],
    "schedule": ["0 2 * * *"],
    "timezone": "Europe/Berlin",
    "env": {"A": "b\nc"},
    "retries": 2,
    "on_failure": ["job:other", "echo x"],
    "after": ["first"],
    "params": ["P=[a-z]+"],
    "from_fleet": True,
    "sandbox": "strict",
    "write_path": ["/srv/x"],
}
FILES = render(from_plain({**WHOLE, "from_fleet": False, "params": []}))


def read_back(*seeds: str, words: Sequence[str] = ()) -> st.SearchStrategy[str]:
    """Files nearly like these, as ``UnitDir`` reads them."""
    return nearly_bytes(*seeds, words=words).map(lambda data: data.decode("utf-8", "surrogateescape"))


X_LSH = ["\n[X-Lsh]\n", 'Name="x"\n', "Command=", "Digest=", "[Service]", "NaN", "Env={"]


@law(150)
@given(
    read_back(FILES["lsh-whole.service"], words=X_LSH),
    read_back(FILES["lsh-whole.timer"]),
    read_back(*FILES.values()),
)
def test_unit_files_that_were_edited_by_hand(service: str, timer: str, other: str) -> None:
    found = value_or_error(unit.read, service, timer, lambda name: other)
    assert (unit.is_once(service), unit.on_calendar(timer)) is not None
    if found is not None:
        sound(found.job)


# Each expression, in the fields that take it.
EXPRESSIONS = {
    "schedule": "*/5 0-23/2 1,15,L mon-fri,5#2 jan *|@daily|H H(0-7) * * *|0 0 2 LW * ? 2027-2030|@every 1h30m",
    "calendar": "Mon..Fri *-*-1..7 09:00:00 Europe/Berlin|*-02~03 0/2:30|hourly|2027-W01-1",
    "every": "1h 30min|90s|7d|3 months|1y|0.5h|1µs",
    "at": "2027-01-04T09:00:00Z|tomorrow 09:00|2027-01-04 09:00 Europe/Berlin",
    "anchor": "2027-01-04T09:00:00|2020-02-29",
    "not_before": "2027-01-04T09:00:00|2027-01-04",
    "not_after": "9999-12-31T23:59:59|2027-01-04",
    "except_calendar": "Mon|09:00-17:00|Mon 22:00-06:00|2027-12-24|/etc/x.ics",
    "timezone": "Europe/Berlin|UTC|../etc/passwd",
    "timeout": "1ms|1h 30min|36500d",
    "jitter": "5min",
    "memory_max": "1G|512MiB|1.5T|4096",
    "cpu_quota": "50%|1000000%",
    "io_max": "/:read=5M,write=10M",
    "retry_on": "timeout|signal:9|exit-code",
    "retry_delay": "1s|exponential",
    "when_socket": "8080|[::1]:80|@x|/run/x|127.0.0.1:70000",
    "when_path": "/srv/x|/srv/%n",
    "params": "P=[a-z]{3}|P=(a+)+$|P",
    "secrets": "db.pass:TOKEN|a",
    "on_failure": "job:other|echo x",
    "ping": "https://hc.example/x?y=1|http://u:p@h/{secret:x}/",
    "env_file": "-/etc/default/x|/etc/x*",
    "user": "root|0|a$",
    "run_as": "root|0|a$|%n",
    "write_path": "/srv/a b|/home/x/:y",
    "shell": "/bin/bash|/bin/sh",
    "stdin": "a%b\n",
}
TAKEN = {name: text.split("|") for name, text in EXPRESSIONS.items() if name in jobfile.FIELDS}
LISTS = {name for name in TAKEN if isinstance(getattr(Job(name="x", command="x"), name, None), tuple)}
NEEDS = {"retry_on": {"retries": 2}, "retry_delay": {"retries": 2}, "write_path": {"sandbox": "strict"},
         "anchor": {"every": "1d"}, "params": {"from_fleet": True}, "jitter": {"every": "1h"},
         "not_before": {"schedule": ["0 2 * * *"]}, "not_after": {"schedule": ["0 2 * * *"]},
         "except_calendar": {"schedule": ["0 2 * * *"]}, "timezone": {"schedule": ["0 2 * * *"]}}  # fmt: skip


@law(400)
@given(st.sampled_from(sorted(TAKEN)).flatmap(lambda name: st.tuples(st.just(name), nearly(*TAKEN[name]))))
def test_expressions(given: tuple[str, str]) -> None:
    name, text = given
    plain = {"name": "x", "command": "true", **NEEDS.get(name, {}), name: [text] if name in LISTS else text}
    job = value_or_error(from_plain, plain)
    if job is not None:
        assert from_plain(to_plain(job)) == job
        sound(job)


@law(200)
@example("@every" + "x" * 10_000, False)
@example("(" * 10_000, False)
@example("$(" * 60_000, False)
@example("ab" * 60_000, False)
@given(nearly(*(each for texts in TAKEN.values() for each in texts)), st.booleans())
def test_parsers_of_expressions(text: str, seconds: bool) -> None:
    for parse in (span.parse_span, span.parse_period, jobfile.parse_size, zones.check_zone):
        value_or_error(parse, text)
    value_or_error(cron.parse, text, seconds=seconds, key="x")
    value_or_error(shellwords.parse, text)
    value_or_error(lambda: list(danger.look(text)))
    value_or_error(jobfields.from_environment, text, {"A": "b"})


@law(100)
@given(plain_jobs.flatmap(mangled))
def test_plain_jobs(plain: dict[str, Any]) -> None:
    job = value_or_error(from_plain, plain)
    assert isinstance(jobfile.wrong_fields(plain), Mapping)
    if job is not None:
        sound(job)


BODY = {"name": "x", "command": "y", "schedule": {"cron": "* * * * *", "timezone": "UTC"}, "env": {"A": "b"}}


@law(200)
@given(mangled(BODY | {"timeout": "1h", "every": "1h", "retries": 2, "enabled": True, "template": "dump"}), anything)
def test_bodies_of_the_api(body: dict[str, Any], schedule: Any) -> None:
    for told in (body, body | {"schedule": schedule}, body | {"schedule": {"cron": schedule}}):
        for model in (shapes.NewJob, shapes.JobChanges):
            try:
                model.model_validate(told)
            except ValidationError:
                continue
            for plain in (
                value_or_error(shapes.plain_of, told),
                value_or_error(shapes.changed, {"name": "x", "command": "y"}, told),
            ):
                job = plain and value_or_error(from_plain, plain)
                if job:
                    sound(job)


TEMPLATE = {
    "description": "Dump",
    "needs": ["pg_dump"],
    "parameters": {
        "db": {"pattern": "[a-z]+"},
        "days": {"type": "integer", "default": 7, "min": 1, "max": 90},
        "paths": {"type": "path", "many": True, "default": ["/etc"]},
        "mode": {"choices": ["a", "b"]},
    },
    "job": {"name": "Dump {{ db }}", "command": "dump {{ db }} {{ days }} {{ paths }}", "env": {"M": "{{ mode }}"}},
}


@law(200)
@given(
    mangled(TEMPLATE),
    st.dictionaries(st.sampled_from(["db", "days", "type", "many", "x"]), anything, max_size=2),
    mangled(TEMPLATE["parameters"]["days"]),  # type: ignore[index]
    st.fixed_dictionaries({"db": st.one_of(nearly("prod"), anything), "mode": st.one_of(st.just("a"), anything)}),
)
def test_templates(plain: Any, more: dict[str, Any], days: Any, values: dict[str, Any]) -> None:
    if isinstance(plain.get("parameters"), dict):
        plain = plain | {"parameters": {**plain["parameters"], "days": days, **more}}
    template = value_or_error(jobtemplate.from_plain, "dump", plain)
    if template is None:
        return
    made = value_or_error(jobfields.instantiate, template, values, own={})
    job = made and value_or_error(from_plain, made[0])
    if job:
        sound(job)


@law(100)
@given(mangled({"id": "x", "fields": {"schedule": ["${A:-0 2 * * *}"], "retries": 1}, "enabled": True}), mangled(WHOLE))
def test_what_python_modules_define(definition: dict[str, Any], fields: dict[str, Any]) -> None:
    """As far as our own program in the project's interpreter can have written it."""
    if isinstance(definition.get("fields"), dict) and "id" in definition and "enabled" in definition:
        told = {
            **definition,
            "id": str(definition["id"]),
            "file": "x.py",
            "line": 1,
            "fields": {**definition["fields"], **fields},
        }
        wanted, _ = pythonspec.wanted(
            [told], module="m", interpreter="/usr/bin/python3", folder="/srv", environ={"A": "b"}
        )
        for each in wanted:
            sound(each.job)


CALENDAR = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//x//EN
BEGIN:VTIMEZONE
TZID:Own
BEGIN:STANDARD
DTSTART:19701025T030000
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU
END:STANDARD
END:VTIMEZONE
BEGIN:VEVENT
UID:1
DTSTAMP:20260101T000000Z
DTSTART;VALUE=DATE:20261224
DTEND;VALUE=DATE:20261227
RRULE:FREQ=YEARLY;COUNT=4
EXDATE;VALUE=DATE:20271224
END:VEVENT
BEGIN:VEVENT
UID:2
DTSTAMP:20260101T000000Z
DTSTART;TZID=Europe/Berlin:20260101T220000
DURATION:PT8H
RRULE:FREQ=WEEKLY;BYDAY=MO,TU
STATUS:CONFIRMED
END:VEVENT
END:VCALENDAR
""".replace("\n", "\r\n")
RULES = (
    "FREQ=HOURLY|FREQ=DAILY;INTERVAL=0|BYSETPOS=-1|COUNT=999999999|UNTIL=00010101T000000Z|DURATION:P9999999D|"
    "DTSTART:00010101T000000|RDATE:20270101,20270102|TZID=../../x|RECURRENCE-ID:20261231T220000|BYMONTH=13"
).split("|")


@law(40)
@given(nearly_bytes(CALENDAR, words=RULES))
def test_calendar_files(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "x.ics"
    path.write_bytes(data)
    for start, end in value_or_error(ics.busy, path, zone="Europe/Berlin", first_year=2026, last_year=2028) or ():
        assert isinstance(start, datetime) and start.tzinfo is None and start < end
