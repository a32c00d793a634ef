"""JobManager, called from Python on a booted machine; what it does is what lshctl tells of it."""

import json

from tests.system.lsh import Lsh
from tests.system.uml import only_on

pytestmark = only_on("bookworm")

SCRIPT = """
import json, sys
from datetime import UTC, datetime, timedelta
from lsh_systemd import JobManager
from lsh_systemd.errors import BadInput
from lsh_systemd.jobtemplate import from_plain

said = {}
with JobManager() as manager:
    job = manager.create_from_template("database-backup", name="Production Backup", command="echo dumped",
                                       values={"db": "prod"}, timeout=timedelta(minutes=30), retries=0)
    said["job"] = [job.id, job.state, job.schedule, job.next_run > datetime.now(UTC), job.last_run]
    own = from_plain("custom-backup", {"job": {"command": "exit 3", "schedule": "0 1 * * *", "tags": ["custom"]}})
    bad = manager.create_from_template(own, name="Custom Backup", enabled=False)
    said["custom"] = [bad.id, bad.state, list(bad.definition.tags)]
    run = manager.run(job.id)
    said["run"] = [run.result, run.output.decode()]
    said["failed"] = manager.run("Custom Backup").exit_status
    report = manager.report(job.id)
    said["report"] = [report.runs, f"{report.success_rate:.0%}", "success  100" in str(report)]
    whole = manager.comprehensive_report(since=datetime.now(UTC) - timedelta(days=1))
    said["whole"] = [whole.overall.runs, whole.overall.failures, str(whole)]
    said["reports"] = [each.job for each in manager.reports()]
    loop = manager.create("loop", ["/bin/sleep", "1000"])
    run_id = manager.start("loop")
    said["stopped"] = [manager.get("loop").state, manager.start("loop") == run_id, manager.stop("loop"),
                       manager.stop("loop")]
    manager.disable(job.id)
    said["disabled"] = manager.get(job.id).state
    manager.enable(job.id)
    said["list"] = [[each.id, each.state, each.last_run.result] for each in manager.list()]
    said["templates"] = [each.id for each in manager.templates()]
    for each in manager.list():
        manager.remove(each.id)
    said["left"] = [len(manager.list()), [each.result for each in manager.runs(job.id)], manager.report(job.id).runs]
    for call in (
        lambda: manager.get("nothing"),
        lambda: manager.create("x", "rm -rf /"),
        lambda: manager.create("x", "true", schedule="* * *"),
        lambda: manager.create("x", "true", colour="red"),
        lambda: JobManager("me"),
    ):
        try:
            call()
        except BadInput as error:
            said.setdefault("errors", []).append(error.message)
print(json.dumps(said))
"""


def test_what_a_program_does_with_jobs(lsh: Lsh) -> None:
    before = lsh.json("report", "--all")["overall"]
    failures = sum(before["failures_by_result"].values())
    said = json.loads(lsh.machine.run("python3", "-c", SCRIPT, user=lsh.user).stdout)
    assert said["job"] == ["production-backup", "waiting", "0 2 * * *", True, None]
    assert said["custom"] == ["custom-backup", "disabled", ["custom"]]
    assert said["run"] == ["success", "dumped\n"]
    assert said["failed"] == 3
    assert said["report"] == [1, "100%", True]
    assert said["whole"][:2] == [before["runs"] + 2, failures + 1]
    assert "| production-backup |" in said["whole"][2].replace("\\", "")
    assert {"production-backup", "custom-backup"} <= set(said["reports"])
    assert said["stopped"] == ["running", True, True, False]
    assert said["disabled"] == "disabled"
    assert {each[0]: each[1] for each in said["list"] if each[0] != "loop"} == {
        "custom-backup": "failed", "production-backup": "waiting",
    }  # fmt: skip
    assert "data-sync" in said["templates"]
    assert said["left"] == [0, ["success"], 1]
    for message, words in zip(
        said["errors"], ("no job", "dangerous", "field", "not a field of a job", "no scope"), strict=True
    ):
        assert words in message
    told = lsh.json("audit", "production-backup")
    assert [each["verb"] for each in told] == ["remove", "enable", "disable", "add"]
