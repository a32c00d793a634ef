"""Changing jobs: what is changed is so in systemd at once, what is not stays, and nobody else's work is lost."""

import time

import pytest

from tests.system.lsh import SERVICE, TIMER, UNIT, Lsh, seconds
from tests.system.machine import eventually

DROP_IN = "[Service]\nNice=3\n"


def calendars(lsh: Lsh, job: str) -> list[str]:
    """The OnCalendar= values that the timer really has."""
    return sorted(spec for _, spec, _ in lsh.loaded(f"lsh-{job}.timer", TIMER, "TimersCalendar")["TimersCalendar"])


def spans(lsh: Lsh, job: str) -> dict[str, int]:
    """The timer's spans, by what they count from, in seconds."""
    loaded = lsh.loaded(f"lsh-{job}.timer", TIMER, "TimersMonotonic")["TimersMonotonic"]
    return {base: usec // 1_000_000 for base, usec, _ in loaded}


def add_drop_in(lsh: Lsh, job: str) -> None:
    lsh.write(f"lsh-{job}.service.d/override.conf", DROP_IN)
    lsh.systemctl("daemon-reload")


def test_set_replaces_one_kind_of_schedule_by_another(lsh: Lsh) -> None:
    job = lsh.add("--schedule", "0 2 * * *", "--tz", "Asia/Tokyo", "--persistent", "--", "true")
    lsh("set", job, "--schedule", "30 3 * * *")
    assert calendars(lsh, job) == ["*-*-* 03:30:00 Asia/Tokyo"]
    lsh("set", job, "--calendar", "Mon 04:00", "--calendar", "Tue 05:00")
    assert calendars(lsh, job) == ["Mon *-*-* 04:00:00 Asia/Tokyo", "Tue *-*-* 05:00:00 Asia/Tokyo"]
    lsh("set", job, "--every", "2h")
    assert (calendars(lsh, job), spans(lsh, job)) == ([], {"OnActiveUSec": 7200, "OnUnitActiveUSec": 7200})
    lsh("set", job, "--at", "2099-01-01 00:00")
    assert (calendars(lsh, job), spans(lsh, job)) == (["2099-01-01 00:00:00 UTC"], {})
    lsh("set", job, "--on-boot")
    assert calendars(lsh, job) == []
    assert lsh.json("show", job)["schedule"] == "@reboot"
    lsh("set", job, "--schedule", "@daily")
    assert calendars(lsh, job) == ["*-*-* 00:00:00"]
    assert lsh.show(f"lsh-{job}.timer", "ActiveState")["ActiveState"] == "active"
    lsh("set", job, "--unset", "schedule")
    assert lsh.show(f"lsh-{job}.timer", "LoadState")["LoadState"] == "not-found"
    assert lsh.json("show", job)["state"] == "manual"
    lsh("set", job, "--every", "1h")
    assert lsh.show(f"lsh-{job}.timer", "ActiveState", "UnitFileState") == {
        "ActiveState": "active",
        "UnitFileState": "enabled",
    }
    lsh.check_fresh()


def test_set_says_when_the_new_schedule_comes(lsh: Lsh) -> None:
    job = lsh.add("--schedule", "0 2 * * *", "--", "true")
    said = lsh("set", job, "--schedule", "15 5 * * *").stdout
    assert said.startswith(f"Changed {job}.\nNext: ")
    assert " 05:15:00 (in " in said
    assert lsh("set", job, "--schedule", "15 5 * * *").stdout == "Nothing changed.\n"


def test_set_changes_the_service_and_unset_takes_it_back(lsh: Lsh) -> None:
    job = lsh.add("--every", "1h", "--env", "A=1", "--env", "B=2", "--", "true")
    lsh("set", job, "--timeout", "5m", "--env", "B=3", "--env", "C=4", "--nice", "4", "--", "echo new")
    service = f"lsh-{job}.service"
    loaded = lsh.loaded(service, SERVICE, "Environment", "TimeoutStartUSec", "Nice", "ExecStart")
    assert loaded.pop("ExecStart")[0][1] == ["/bin/sh", "-c", "echo new"]
    environment = ["A=1", "B=3", "C=4", lsh.metrics(job)]
    assert loaded == {"Environment": environment, "TimeoutStartUSec": 300_000_000, "Nice": 4}
    lsh("set", job, "--unset", "timeout", "--unset", "env.A", "--unset", "nice")
    loaded = lsh.loaded(service, SERVICE, "Environment", "TimeoutStartUSec", "Nice")
    assert loaded == {"Environment": ["B=3", "C=4", lsh.metrics(job)], "TimeoutStartUSec": 2**64 - 1, "Nice": 0}
    assert lsh.run(job)["output"] == "new\n"
    lsh.check_fresh()


def test_set_keeps_the_phase_of_every(lsh: Lsh) -> None:
    """Where only the service changes, the next run comes when it would have come."""
    job = lsh.add("--every", "6s", "--", "true")
    lsh.ended(job)
    before = lsh.loaded(f"lsh-{job}.timer", TIMER, "NextElapseUSecMonotonic")
    lsh("set", job, "--nice", "5")
    assert lsh.loaded(f"lsh-{job}.timer", TIMER, "NextElapseUSecMonotonic") == before
    assert lsh.loaded(f"lsh-{job}.service", SERVICE, "Nice") == {"Nice": 5}


def test_set_refuses_what_cannot_be(lsh: Lsh) -> None:
    job = lsh.add("--every", "1h", "--", "true")
    for argv in (
        [],
        ["--schedule", "61 * * * *"],
        ["--every", "1s", "--schedule", "@daily"],
        ["--unset", "timeout"],
        ["--unset", "name"],
        ["--unset", "env.NONE"],
        ["--unset", "bogus"],
        ["--at", "yesterday"],
        ["--priority", "11"],
    ):
        lsh.refused("set", job, *argv)
    said = lsh.refused("set", job[:-1] + "x", "--every", "1h")
    assert "there is no job" in said


def test_a_disabled_job_stays_so_through_set(lsh: Lsh) -> None:
    job = lsh.add("--every", "1h", "--disabled", "--", "true")
    assert f"Its schedule rests: lshctl enable {job} wakes it." in lsh("set", job, "--every", "2h").stdout
    assert lsh.show(f"lsh-{job}.timer", "ActiveState")["ActiveState"] == "inactive"
    lsh("enable", job)
    assert spans(lsh, job)["OnUnitActiveUSec"] == 7200


def test_a_hand_edit_is_reported_and_kept(lsh: Lsh) -> None:
    job = lsh.add("--every", "1h", "--", "true")
    edited = lsh.read(f"lsh-{job}.service").replace("[Service]\n", "[Service]\nNice=7\n")
    lsh.write(f"lsh-{job}.service", edited)
    lsh.systemctl("daemon-reload")
    assert lsh.json("show", job)["changed"] is True
    assert f"{job}*" in lsh("list").stdout.split()
    assert "edited  yes, by hand" in lsh("show", job).stdout
    findings = {each["check"]: each for each in lsh("doctor", "--json", check=False).json()}
    assert "edited by hand" in findings[f"job {job}"]["message"]
    assert lsh.run(job)["result"] == "success"  # it keeps working
    assert "--force" in lsh.refused("set", job, "--timeout", "1m")
    assert "--force" in lsh.refused("rename", job, lsh.new_name())
    assert lsh.read(f"lsh-{job}.service") == edited
    lsh("set", job, "--timeout", "1m", "--force")
    assert lsh.json("show", job)["changed"] is False
    assert lsh.loaded(f"lsh-{job}.service", SERVICE, "Nice", "TimeoutStartUSec") == {
        "Nice": 0,
        "TimeoutStartUSec": 60_000_000,
    }


def test_an_administrators_drop_in_is_left_alone(lsh: Lsh) -> None:
    job = lsh.add("--every", "1h", "--", "true")
    add_drop_in(lsh, job)
    path = f"{lsh.folder}/lsh-{job}.service.d/override.conf"
    assert lsh.json("show", job)["drop_ins"] == [path]
    assert lsh.json("show", job)["changed"] is False
    lsh("set", job, "--timeout", "1m")
    lsh("set", job, "--schedule", "@daily")
    lsh("disable", job)
    lsh("enable", job)
    assert lsh.loaded(f"lsh-{job}.service", SERVICE, "Nice", "TimeoutStartUSec") == {
        "Nice": 3,
        "TimeoutStartUSec": 60_000_000,
    }
    assert lsh.loaded(f"lsh-{job}.service", UNIT, "DropInPaths", "NeedDaemonReload") == {
        "DropInPaths": [path],
        "NeedDaemonReload": False,
    }
    assert lsh("remove", job).stdout == f"Removed {job}.\nLeft alone: {path}\n"
    assert lsh.machine.read(path) == DROP_IN
    lsh.machine.run("rm", "-r", path.rpartition("/")[0])
    lsh.systemctl("daemon-reload")


def editor(lsh: Lsh, script: str) -> dict[str, str | None]:
    """An environment whose $EDITOR is a sed script."""
    path = f"/tmp/editor-{lsh.user}"
    lsh.machine.write(path, f'#!/bin/sh\nexec sed -i {script} "$1"\n', mode=0o755, user=lsh.user)
    return {"EDITOR": path, "VISUAL": None}


def test_edit_applies_what_was_saved(lsh: Lsh) -> None:
    job = lsh.add("--every", "1h", "--", "true")
    said = lsh("edit", job, env=editor(lsh, '\'s/1h/3h/; s/"true"/"echo edited"/\'')).stdout
    assert said.startswith(f"Changed {job}.\n")
    assert spans(lsh, job)["OnUnitActiveUSec"] == 10800
    assert lsh.run(job)["output"] == "edited\n"


def test_edit_without_a_change_changes_nothing(lsh: Lsh) -> None:
    job = lsh.add("--every", "1h", "--", "true")
    before = lsh.files()
    assert lsh("edit", job, env=editor(lsh, "p -n")).stdout == "Nothing changed.\n"
    assert lsh.files() == before


@pytest.mark.parametrize("wrong", ["'s/1h/soon/'", "'s/=/:/'", "'s/^name.*/name = \"another\"/'", "'s/every/evry/'"])
def test_edit_refuses_what_cannot_be(lsh: Lsh, wrong: str) -> None:
    job = lsh.add("--every", "1h", "--", "true")
    before = lsh.files()
    result = lsh("edit", job, env=editor(lsh, wrong), input="n\n", check=False)
    assert result.returncode == 2
    assert "nothing was changed" in result.stderr
    assert "Traceback" not in result.stderr
    assert lsh.files() == before


def test_disable_and_enable(lsh: Lsh) -> None:
    job = lsh.add("--every", "1h", "--", "true")
    assert lsh("disable", job).stdout == f"{job}: disabled.\n"
    timer = f"lsh-{job}.timer"
    assert lsh.show(timer, "ActiveState", "UnitFileState") == {"ActiveState": "inactive", "UnitFileState": "disabled"}
    assert lsh.run(job)["result"] == "success"  # by hand it still runs
    assert f"{job}: enabled.\nNext: " in lsh("enable", job).stdout
    assert lsh.show(timer, "ActiveState", "UnitFileState") == {"ActiveState": "active", "UnitFileState": "enabled"}
    assert "no schedule" in lsh.refused("enable", lsh.add("--", "true"))
    lsh.check_fresh()


def test_as_often_as_one_likes(lsh: Lsh) -> None:
    """systemd takes six starts of a unit within ten seconds for a fault."""
    job = lsh.add("--schedule", "0 3 * * *", "--", "true")
    again = f"for i in 1 2 3 4 5 6 7; do lshctl disable {job} && lshctl enable {job} || exit; done"
    lsh.machine.run("sh", "-c", again, user=lsh.user)
    assert lsh.show(f"lsh-{job}.timer", "ActiveState") == {"ActiveState": "active"}


def test_start_stop_and_restart(lsh: Lsh) -> None:
    job = lsh.add("--", "sleep 60")
    assert lsh("stop", job).stdout == f"{job} is not running.\n"
    first = lsh("start", job, "--json").json()["id"]
    second = lsh("restart", job, "--json").json()["id"]
    assert first != second
    assert lsh("stop", job).stdout == f"{job}: stopped.\n"
    runs = lsh.ended(job, 2)
    assert [(run["id"], run["result"], run["trigger"]) for run in runs] == [
        (first, "signal", "manual"),
        (second, "signal", "manual"),
    ]
    assert lsh("start", lsh.add("--", "exit 3"), "--wait", check=False).returncode == 1


def test_rename_takes_the_history_along(lsh: Lsh) -> None:
    job, name = lsh.add("--every", "1h", "--env", "A=1", "--", "echo hi"), lsh.new_name()
    run = lsh.run(job)
    assert lsh("rename", job, name).stdout == f"{job} is now {name}.\n"
    assert [path for path in lsh.files() if f"lsh-{job}." in path] == []
    assert lsh.show(f"lsh-{job}.timer", "ActiveState", "LoadState") == {
        "ActiveState": "inactive",
        "LoadState": "not-found",
    }
    assert lsh.show(f"lsh-{name}.timer", "ActiveState", "UnitFileState") == {
        "ActiveState": "active",
        "UnitFileState": "enabled",
    }
    assert lsh.runs(name) == [{**run, "job": name}]
    lsh.run(name)
    assert [each["job"] for each in lsh.runs(name)] == [name, name]
    assert "there is no job" in lsh.told_off("runs", job)
    other = lsh.add("--", "true")
    assert "already" in lsh.refused("rename", name, other)
    assert "there is no job" in lsh.refused("rename", job, lsh.new_name())


def test_remove_several_and_a_running_one_goes_on(lsh: Lsh) -> None:
    running, resting = lsh.add("--", "echo begun; sleep 2; echo end"), lsh.add("--every", "1h", "--", "true")
    lsh("start", running)
    assert lsh("remove", running, resting).stdout == (
        f"Removed {running}. Its run in progress goes on.\nRemoved {resting}.\n"
    )
    assert [path for path in lsh.files() if running in path or resting in path] == []
    assert lsh.show(f"lsh-{resting}.timer", "ActiveState")["ActiveState"] == "inactive"
    (run,) = lsh.ended(running)
    assert (run["result"], run["output"]) == ("success", "begun\nend\n")
    assert running not in {each["id"] for each in lsh.json("list")}
    kept = lsh.add("--", "true")
    assert "there is no job" in lsh.refused("remove", kept, "no-such-job")
    assert kept in {each["id"] for each in lsh.json("list")}


def test_dry_runs_change_nothing(lsh: Lsh) -> None:
    job = lsh.add("--every", "1h", "--", "true")
    before, elapse = lsh.files(), lsh.loaded(f"lsh-{job}.timer", TIMER, "NextElapseUSecMonotonic")
    assert "+OnUnitActiveSec=2h" in lsh("set", job, "--every", "2h", "--dry-run").stdout.splitlines()
    assert "+OnUnitActiveSec=3h" in lsh("edit", job, "--dry-run", env=editor(lsh, "s/1h/3h/")).stdout.splitlines()
    assert f"+++ lsh-{job}-new.service" in lsh("rename", job, f"{job}-new", "--dry-run").stdout
    assert f"Would remove {lsh.folder}/lsh-{job}.service" in lsh("remove", job, "--dry-run").stdout
    for verb in ("start", "stop", "restart", "enable", "disable"):
        assert lsh(verb, job, "--dry-run").stdout.startswith("Would ")
    assert lsh.files() == before
    assert lsh.loaded(f"lsh-{job}.timer", TIMER, "NextElapseUSecMonotonic") == elapse
    assert lsh.runs(job) == []


def test_a_changed_timer_fires_by_its_new_schedule(lsh: Lsh) -> None:
    job = lsh.add("--schedule", "0 0 1 1 *", "--", "true")
    changed = time.time()
    lsh("set", job, "--calendar", "*:*:*")
    first, second = lsh.ended(job, 2)[:2]
    assert first["trigger"] == second["trigger"] == "timer"
    assert seconds(first["started_at"]) >= changed
    lsh("set", job, "--schedule", "0 0 1 1 *")
    eventually(lambda: lsh.show(f"lsh-{job}.service", "ActiveState")["ActiveState"] == "inactive")
    count = len(lsh.ended(job, 2))
    assert calendars(lsh, job) == ["*-01-01 00:00:00"]
    assert len(lsh.runs(job)) == count
