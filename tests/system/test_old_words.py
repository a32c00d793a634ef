"""Every command line of the older systems' documents that lsh takes, as it is written there, on a booted machine."""

import json
import re
from collections.abc import Iterator

import pytest

from tests.documents import table
from tests.supabase.project import migrated
from tests.supabase.stack import Stack
from tests.system.lsh import Lsh
from tests.system.test_sync import connect
from tests.system.uml import only_on

pytestmark = only_on("bookworm")

# What a document leaves open: a job's id, or a template's.
_OPEN = re.compile(r"<id>|<jobId>")
# Job → what is to be in its definition, in the order in which the lines make them.
MADE = [
    ("database-backup", "pg_dump -h localhost -U postgres mydb > /backups/mydb_$(date", "0 2 * * *", {}),
    ("daily-backup", "tar -czf /backups/backup_20", "0 2 * * *", {"working_dir": "/backups", "priority": 8}),
    ("journal-cleanup", "journalctl --rotate", "30 3 * * *", {}),
    ("production-db-backup", "pg_dump -h prod-db -U backup prod_db >", "0 2 * * *", {"working_dir": "/backups"}),
    ("application-log-cleanup", "find /var/log/app -name '*.log' -mtime +7", "0 4 * * *", {"category": "maintenance"}),
    ("daily-production-backup", "pg_dump -h prod-db -U backup prod_db | gzip", "0 2 * * *", {"priority": 9}),
    ("log-rotation", "logrotate /etc/logrotate.conf", "0 0 * * *", {"working_dir": "/var/log"}),
    ("application-log-cleanup", "find /var/log/app -name '*.log' -mtime +30", "0 3 * * 0", {}),
    ("disk-space-alert", "df -h | awk '$5 > 85 {print $0}' | mail", "*/15 * * * *", {"category": "monitoring"}),
    ("system-health-check", "system-health-check.sh", "*/10 * * * *", {"priority": 8}),
    ("rotate-secrets", "lsh push --env prod", "0 2 * * 0", {}),
    ("rotate-secrets", "lsh push --env prod", "0 2 * * 0", {}),
]
# Jobs that later lines of the documents speak of; the others go once they have been looked at.
_STAY = {"daily-backup"}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with migrated() as stack:
        yield stack


@pytest.mark.parametrize("scope", ["system"], indirect=True)
def test_every_line_as_it_is_written(lsh: Lsh, stack: Stack) -> None:
    connect(lsh, stack)
    machine = lsh.machine
    lsh("secrets", "set", "lsh-secrets-key", input="wC2cM0c0yZ5kq0Q2v5cQqA9b1nq1m2n3\n")
    machine.write("/root/app/.env", "DB_PASSWORD=1\n")
    lsh.add("--", "echo hello", name="job_123")
    lsh.run("job-123")
    made, said = iter(MADE), {}
    for row in table():
        if row.taken not in ("lsh", "refused"):
            continue
        line = _OPEN.sub("journal-cleanup" if "from-template" in row.line else "any", row.line)
        if line != row.line and line.endswith(" any") and not lsh("show", "any", check=False).stdout:
            lsh.add("--", "echo hello", name="any")
        result = machine.run("sh", "-c", line, check=False, cwd="/root/app")
        said[row.line] = result.stdout
        if row.taken == "refused":
            assert (result.returncode, result.stdout) == (2, ""), result
            assert row.by in result.stderr, result
            continue
        assert result.returncode == 0, result
        assert "Traceback" not in result.stderr, result
        if re.search(r" (create|create-from-template|add) ", line):
            job, command, schedule, more = next(made)
            definition = lsh.json("show", job)["definition"]
            assert definition["command"].startswith(command), definition
            assert (definition["schedule"], definition | more) == ([schedule], definition), definition
            if job not in _STAY:
                lsh("remove", job)
    assert next(made, None) is None

    assert said["lsh daemon status"] == "The agent is active.\n"
    assert "job-123" in said["lsh cron list"] and "daily-backup" in said["lsh daemon job list"]
    assert "any: started, run " in said["lsh cron start <jobId>"]
    assert said["lsh daemon job remove <id>"] == "Removed any.\n"
    assert {line.split()[0] for line in said["lsh cron templates"].splitlines()} >= {
        "database-backup", "log-cleanup", "disk-monitor", "data-sync",
    }  # fmt: skip
    history = said["lsh daemon db history --job-id job_123"].splitlines()
    assert len(history) == 2 and history[1].split()[0] == "job-123" and "success" in history[1]
    assert re.search(r"\bsuccess +100", said["lsh daemon db stats --job-id job_123"])
    assert "job-123" in said["lsh cron comprehensive-report"] and "any" in said["lsh cron reports"]
    exported = json.loads(said["lsh cron export --format json"])
    assert [each["name"] for each in exported["jobs"]] == ["any", "Daily Backup", "job_123"]
    assert said["lsh supabase sync"].startswith("Sent: ")
    assert stack.sql("SELECT count(*) FROM public.runs WHERE job = 'job-123'") == "1"
    assert said["lsh push --env prod"] == "Pushed '.env' as version 1 of prod.\n"
    assert machine.run("lsh", "daemon", "stop").stderr.startswith("Jobs go on: ")
    machine.run("rm", "-r", "/etc/lsh", "/root/app")
    lsh("secrets", "remove", "lsh-secrets-key")


@pytest.mark.parametrize("scope", ["system"], indirect=True)
def test_every_call_over_http_as_it_is_written(lsh: Lsh) -> None:
    """But for what a .curlrc adds: the key, and the socket that stands for all hosts. Who has TLS before the API calls
    it by https, as the documents do."""
    machine, job = lsh.machine, lsh.add("--stuck-after", "1h", "--", "echo hello")
    machine.write("/etc/lsh/environment", "CRON_WEBHOOK_SECRET=secret-secret-secret\n")
    machine.run("chmod", "600", "/etc/lsh/environment")
    lsh("api", "enable", "--listen", "127.0.0.1:3053")
    key = lsh("api", "key", "create", "documents", "--role", "admin", "--json").json()["key"]
    # fail: an answer of 400 or more is an exit status of 22
    machine.write(
        "/root/words/.curlrc", f'unix-socket = /run/lsh/api.sock\nheader = "X-API-Key: {key}"\nfail\nsilent\n'
    )
    body = json.dumps({"name": "made", "command": "echo made", "schedule": {"cron": "0 2 * * *"}})
    environ = {"CURL_HOME": "/root/words", "LSH_URL": "http://localhost:3030"}
    answers = {}
    for row in table():
        program, *rest = row.line.split()
        if row.taken != "api" or program not in ("curl", "GET", "POST"):
            continue
        if program == "curl":
            line = row.line.replace("https://", "http://")
        else:
            data = f"--header 'Content-Type: application/json' --data '{body}'" if rest == ["/jobs"] else ""
            line = f"curl -X {program} {data if program == 'POST' else ''} 'http://localhost{rest[0]}'"
        line = line.replace(":id", job)
        if rest == ["/events"]:
            line = f"timeout 5 {line} --max-time 3 --dump-header -"
        result = machine.run("sh", "-c", line, env=environ, check=False)
        assert result.returncode == 0 or rest == ["/events"], result
        answers[row.line] = result.stdout
    assert "text/event-stream" in answers["GET /events"]
    assert json.loads(answers["GET /health"])["status"] == "healthy"
    assert lsh.json("show", "made")["definition"]["schedule"] == ["0 2 * * *"]
    assert [run["job"] for run in lsh.ended(job)] == [job] * len(lsh.runs(job))
    lsh("api", "disable")
    lsh("agent", "disable")
    machine.run("rm", "-r", "/etc/lsh", "/root/words")
