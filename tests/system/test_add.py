"""lshctl add: what was asked is what systemd has loaded, or else nothing has changed."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.system.lsh import SERVICE, TIMER, UNIT, Lsh, seconds
from tests.system.machine import Machine, eventually

NewMachine = Callable[..., Machine]

SECOND = 1_000_000
NEVER = 2**64 - 1

# Options → the timer's OnCalendar= values, as systemd tells them. The machine's zone is UTC: no summer time.
CALENDARS = [
    (["--schedule", "0 2 * * *"], ["*-*-* 02:00:00"]),
    (["--schedule", "*/15 9-17 * * 1-5"], ["Mon..Fri *-*-* 09..17:00..45/15:00"]),
    # cron starts on the 13th and on every Friday: one line that had both would mean Friday the 13th
    (["--schedule", "0 3 13 * 5"], ["*-*-13 03:00:00", "Fri *-*-* 03:00:00"]),
    (["--schedule", "0 3 * * 7"], ["Sun *-*-* 03:00:00"]),
    (["--schedule", "0 3 L * *"], ["*-*~01 03:00:00"]),
    (["--schedule", "5 4 * * *", "--schedule", "0 12 1 * *"], ["*-*-* 04:05:00", "*-*-01 12:00:00"]),
    (["--schedule", "@hourly"], ["*-*-* *:00:00"]),
    (["--schedule", "@daily"], ["*-*-* 00:00:00"]),
    (["--schedule", "@weekly"], ["Sun *-*-* 00:00:00"]),  # systemd's own weekly is Monday
    (["--schedule", "@monthly"], ["*-*-01 00:00:00"]),
    (["--schedule", "@yearly"], ["*-01-01 00:00:00"]),
    (["--schedule", "* * * * * */10", "--seconds"], ["*-*-* *:*:00..50/10"]),
    (["--calendar", "Sat *-*-1..7 18:00:00"], ["Sat *-*-01..07 18:00:00"]),
    (["--calendar", "daily", "--calendar", "*-12-24 16:00"], ["*-*-* 00:00:00", "*-12-24 16:00:00"]),
    (["--at", "2099-01-31 02:00"], ["2099-01-31 02:00:00 UTC"]),
    (["--at", "2099-01-31 02:00", "--tz", "Asia/Tokyo"], ["2099-01-30 17:00:00 UTC"]),
    (["--schedule", "30 2 * * *", "--tz", "Asia/Tokyo"], ["*-*-* 02:30:00 Asia/Tokyo"]),
    (["--calendar", "02:30", "--tz", "Europe/Berlin"], ["*-*-* 02:30:00 Europe/Berlin"]),
]
# Options → the timer's other directives; {boot} is what "since boot" is called in the scope.
SPANS = [
    (["--every", "1h30m"], {"OnActiveUSec": 5400 * SECOND, "OnUnitActiveUSec": 5400 * SECOND}),
    (["--schedule", "@every 90s"], {"OnActiveUSec": 90 * SECOND, "OnUnitActiveUSec": 90 * SECOND}),
    (["--on-boot"], {"{boot}": 0}),
    (["--schedule", "@reboot"], {"{boot}": 0}),
]


def _id(options: list[str] | Any) -> str | None:
    return " ".join(options) if isinstance(options, list) and options[0].startswith("--") else ""


def test_calendars_are_loaded_as_meant(lsh: Lsh) -> None:
    # What writes the lines does not know the scope: a sample of them will do for the second one.
    for options, calendar in CALENDARS if lsh.scope == "system" else CALENDARS[::3]:
        job = lsh.add(*options, "--", "true")
        timer = lsh.loaded(f"lsh-{job}.timer", TIMER, "TimersCalendar", "TimersMonotonic", "Unit", "AccuracyUSec")
        lines = timer.pop("TimersCalendar")
        assert sorted((base, spec) for base, spec, _ in lines) == [("OnCalendar", line) for line in sorted(calendar)]
        # on the second, not within a minute
        assert timer == {"TimersMonotonic": [], "Unit": f"lsh-{job}.service", "AccuracyUSec": 1}


def test_spans_are_loaded_as_meant(lsh: Lsh) -> None:
    boot = "OnBootUSec" if lsh.scope == "system" else "OnStartupUSec"
    for options, spans in SPANS:
        job = lsh.add(*options, "--", "true")
        timer = lsh.loaded(f"lsh-{job}.timer", TIMER, "TimersCalendar", "TimersMonotonic")
        assert {base: usec for base, usec, _ in timer["TimersMonotonic"]} == {
            name.format(boot=boot): usec for name, usec in spans.items()
        }
        assert timer["TimersCalendar"] == []


def test_a_schedule_of_another_zone_knows_its_summer_time(lsh: Lsh) -> None:
    """The rule is written in the zone itself; the instants that systemd alone would leave out stand beside it."""
    job = lsh.add("--schedule", "30 2 * * *", "--tz", "Europe/Berlin", "--", "true")
    loaded = lsh.loaded(f"lsh-{job}.timer", TIMER, "TimersCalendar")["TimersCalendar"]
    assert "*-*-* 02:30:00 Europe/Berlin" in [spec for _, spec, _ in loaded]
    told = lsh.json("explain", "30 2 * * *", "--tz", "Europe/Berlin")["next"][0]
    assert lsh.json("show", job)["next"] == told


def test_a_job_without_a_schedule_has_no_timer(lsh: Lsh) -> None:
    name = lsh.new_name()
    said = lsh("add", name, "--", "true").stdout
    assert said.splitlines() == [
        f"Added {name} (lsh-{name}.service).",
        f"It has no schedule: lshctl start {name} starts it.",
    ]
    assert lsh.show(f"lsh-{name}.timer", "LoadState")["LoadState"] == "not-found"
    assert lsh.run(name)["result"] == "success"


def test_all_options_arrive_in_the_service(lsh: Lsh) -> None:
    folder = f"/tmp/{lsh.new_name()} of {lsh.user}"
    for path in (f"{folder}/one.env", f"{folder}/two.env"):
        lsh.machine.write(path, "FROM_FILE=yes\n", user=lsh.user)
    job = lsh.add(
        *("--description", "100 % of it", "--tag", "a", "--tag", "b", "--category", "c"),
        *("--env", "A=1 2", "--env", "B=$A%n", "--env-file", f"{folder}/one.env", "--env-file", f"{folder}/two.env"),
        *("--working-dir", folder, "--timeout", "90m", "--priority", "8"),
        *("--memory-max", "512M", "--cpu-quota", "150%", "--", "echo $A; pwd"),
    )
    service = f"lsh-{job}.service"
    unit = lsh.loaded(service, UNIT, "Description", "LoadState", "DropInPaths")
    assert unit == {"Description": "100 % of it", "LoadState": "loaded", "DropInPaths": []}
    loaded = lsh.loaded(
        service,
        SERVICE,
        *("Type", "ExecStart", "ExecStartPre", "ExecStartPost", "Environment", "EnvironmentFiles", "WorkingDirectory"),
        *("User", "TimeoutStartUSec", "MemoryMax", "CPUQuotaPerSecUSec", "Nice", "CPUWeight", "IOWeight"),
        *("OOMScoreAdjust", "SyslogIdentifier", "Restart"),
    )
    (start,) = loaded.pop("ExecStart")
    assert start[:3] == ["/bin/sh", ["/bin/sh", "-c", "echo $$A; pwd"], False]  # $$ is how systemd keeps $
    assert loaded == {
        "Type": "oneshot",
        "ExecStartPre": [],
        "ExecStartPost": [],
        "Environment": ["A=1 2", "B=$A%n", lsh.metrics(job)],
        "EnvironmentFiles": [[f"{folder}/one.env", False], [f"{folder}/two.env", False]],
        "WorkingDirectory": folder,
        "User": "",
        "TimeoutStartUSec": 90 * 60 * SECOND,
        "MemoryMax": 512 * 2**20,
        "CPUQuotaPerSecUSec": 3 * SECOND // 2,
        "Nice": -6,
        "CPUWeight": 398,
        "IOWeight": 398,
        "OOMScoreAdjust": -300,
        "SyslogIdentifier": f"lsh-{job}",
        "Restart": "no",
    }
    assert lsh.run(job)["output"] == f"1 2\n{folder}\n"


@pytest.mark.parametrize(
    ("options", "interface", "loaded"),
    [
        (["--nice", "7"], SERVICE, {"Nice": 7, "CPUWeight": NEVER}),
        (["--nice", "7", "--priority", "0"], SERVICE, {"Nice": 7, "CPUWeight": 10, "OOMScoreAdjust": 500}),
        (["--priority", "5"], SERVICE, {"Nice": 0, "CPUWeight": NEVER, "IOWeight": NEVER, "MemoryMax": NEVER}),
        (["--every", "1h", "--jitter", "5m"], TIMER, {"RandomizedDelayUSec": 300 * SECOND, "FixedRandomDelay": True}),
        (["--every", "1h"], TIMER, {"RandomizedDelayUSec": 0, "Persistent": False}),
        (["--schedule", "@daily", "--persistent"], TIMER, {"Persistent": True}),
        (["--schedule", "@daily", "--no-persistent"], TIMER, {"Persistent": False}),
        (["--at", "2099-01-01"], TIMER, {"Persistent": True}),  # what comes only once is not lost to a reboot
        (["--at", "2099-01-01", "--no-persistent"], TIMER, {"Persistent": False}),
    ],
    ids=_id,
)
def test_an_option_arrives(lsh: Lsh, options: list[str], interface: str, loaded: dict[str, Any]) -> None:
    job = lsh.add(*options, "--", "true")
    unit = f"lsh-{job}.{'timer' if interface == TIMER else 'service'}"
    assert lsh.loaded(unit, interface, *loaded) == loaded


def test_words_run_without_a_shell(lsh: Lsh) -> None:
    words = ["/bin/echo", "a b", "$HOME", "%n", ";", "'", '"', "", "\\"]
    job = lsh.add("--no-shell", "--", *words)
    (start,) = lsh.loaded(f"lsh-{job}.service", SERVICE, "ExecStart")["ExecStart"]
    assert start[:3] == ["/bin/echo", [word.replace("$", "$$") for word in words], False]
    assert lsh.run(job)["output"] == "a b $HOME %n ; ' \"  \\\n"


def test_a_system_job_runs_as_the_user_asked_for(machine: Machine) -> None:
    lsh = Lsh(machine, "system")
    machine.add_user("bob")
    job = lsh.add("--run-as", "bob", "--", "id -un")
    assert lsh.loaded(f"lsh-{job}.service", SERVICE, "User") == {"User": "bob"}
    assert lsh.run(job)["output"] == "bob\n"
    lsh.clean()


def test_every_priority_can_run(lsh: Lsh) -> None:
    """A user may not raise a priority: the kernel gives less then, and the job runs all the same."""
    for priority in ("0", "10"):
        assert lsh.run(lsh.add("--priority", priority, "--", "true"))["result"] == "success"


def test_next_is_read_back_from_systemd(lsh: Lsh) -> None:
    name = lsh.new_name()
    said = lsh("add", name, "--schedule", "30 4 * * *", "--", "true").stdout
    elapse = lsh.loaded(f"lsh-{name}.timer", TIMER, "NextElapseUSecRealtime")["NextElapseUSecRealtime"]
    at = datetime.fromtimestamp(elapse / 1e6, UTC)
    assert (at.hour, at.minute, at.second) == (4, 30, 0)
    assert timedelta() < at - datetime.now(UTC) <= timedelta(days=1)
    lines = said.splitlines()
    assert lines[0] == f"Added {name} (lsh-{name}.timer)."
    assert re.fullmatch(rf"Next: {at:%Y-%m-%d %H:%M:%S} \(in \d+\w+( \d+\w+)?\)\.", lines[1])
    assert seconds(lsh.json("show", name)["next"]) == elapse / 1e6


def test_json_is_the_job_and_nothing_else(lsh: Lsh) -> None:
    name = lsh.new_name()
    told = lsh.json("add", name, "--schedule", "@daily", "--tag", "x", "--timeout", "1h", "--", "echo hi")
    elapse = lsh.loaded(f"lsh-{name}.timer", TIMER, "NextElapseUSecRealtime")["NextElapseUSecRealtime"]
    assert seconds(told["next"]) == elapse / 1e6
    expected = {
        "id": name,
        "name": name,
        "schedule": "@daily",
        "timezone": None,
        "command": "echo hi",
        "enabled": True,
        "state": "waiting",
        "last_run": None,
        "transient": False,
        "changed": False,
        "tags": ["x"],
        "unit_files": [f"{lsh.folder}/lsh-{name}.service", f"{lsh.folder}/lsh-{name}.timer"],
        "drop_ins": [],
        "problem": None,
        "definition": {
            "name": name,
            "command": "echo hi",
            "schedule": ["@daily"],
            "tags": ["x"],
            "timeout": "1h",
        },
    }
    assert {key: told[key] for key in expected} == expected


def test_a_name_becomes_a_slug(lsh: Lsh) -> None:
    number = lsh.new_name()
    said = lsh("add", f"Größe & Co. {number}", "--", "true").stdout
    assert said.startswith(f"Added groe-co-{number} (lsh-groe-co-{number}.service).\n")
    assert lsh.json("show", f"Größe & Co. {number}")["name"] == f"Größe & Co. {number}"


def test_the_same_twice_gives_the_same_text(lsh: Lsh) -> None:
    """Removed and added again, a job is what it was."""
    options = ("--schedule", "0 2 * * *", "--tz", "Europe/Berlin", "--env", "A=1", "--", "true")
    job = lsh.add(*options)
    before = lsh.files()
    lsh("remove", job)
    lsh.add(*options, name=job)
    assert lsh.files() == before


def test_disabled_jobs_rest(lsh: Lsh) -> None:
    name = lsh.new_name()
    said = lsh("add", name, "--every", "1s", "--disabled", "--", "true").stdout
    assert f"Its schedule rests: lshctl enable {name} wakes it." in said
    assert lsh.show(f"lsh-{name}.timer", "ActiveState", "UnitFileState") == {
        "ActiveState": "inactive",
        "UnitFileState": "disabled",
    }
    told = lsh.json("show", name)
    assert (told["enabled"], told["state"], told["next"]) == (False, "disabled", None)


def test_a_job_of_the_boot_waits_for_it(lsh: Lsh) -> None:
    """The boot is over by now: adding the job must not run it."""
    name = lsh.new_name()
    said = lsh("add", name, "--on-boot", "--", "true").stdout
    assert "Next: at the next boot." in said
    assert lsh.show(f"lsh-{name}.timer", "UnitFileState") == {"UnitFileState": "enabled"}
    assert lsh.runs(name) == []


def test_no_unit_wants_a_reload_after_add(lsh: Lsh) -> None:
    """On systemd 258 and later, EnableUnitFiles would leave every unit of the machine so."""
    lsh.check_fresh()
    for options in (["--every", "1h"], ["--schedule", "@daily"], ["--on-boot"], [], ["--every", "1h", "--transient"]):
        lsh.add(*options, "--", "true")
        lsh.systemctl("list-units", "--all", "lsh-*")
        lsh.check_fresh()
    removed = lsh.add("--every", "1h", "--", "true")
    lsh("remove", removed)
    lsh.add("--every", "2h", "--", "true", name=removed)
    lsh.check_fresh()


def test_the_unit_reads_like_an_experts(lsh: Lsh) -> None:
    """systemd-analyze verify finds nothing to say of it."""
    job = lsh.add("--schedule", "*/5 * * * *", "--memory-max", "1G", "--env", "A=b", "--", 'echo "$A" %')
    argv = ("systemd-analyze", f"--{lsh.scope}", "--man=no", "verify")
    files = (f"{lsh.folder}/lsh-{job}.service", f"{lsh.folder}/lsh-{job}.timer")
    result = lsh.machine.run(*argv, *files, user=lsh.user)
    assert f"lsh-{job}" not in result.stdout + result.stderr


def test_transient_jobs_live_under_run(lsh: Lsh) -> None:
    name = lsh.new_name()
    before = lsh.files()
    said = lsh("add", name, "--every", "1h", "--transient", "--", "true").stdout
    assert "It is transient: the next reboot ends it." in said.splitlines()
    assert {path.rpartition("/")[0] for path in lsh.files().keys() - before.keys()} == {
        lsh.transient_folder,
        f"{lsh.transient_folder}/timers.target.wants",
    }
    assert lsh.show(f"lsh-{name}.timer", "ActiveState")["ActiveState"] == "active"
    assert lsh.json("show", name)["transient"] is True
    assert "the next reboot ends it" in lsh("show", name).stdout
    assert lsh.run(name)["result"] == "success"


def test_a_reboot_keeps_jobs_and_ends_transient_ones(new_machine: NewMachine, suite: str) -> None:
    machine = new_machine(suite)
    both = [Lsh(machine, scope) for scope in ("system", "user")]
    for lsh in both:
        lsh("add", "kept", "--every", "1s", "--", "true")
        lsh("add", "daily", "--schedule", "@daily", "--", "true")
        lsh("add", "boot", "--on-boot", "--", "true")
        lsh("add", "resting", "--every", "1s", "--disabled", "--", "true")
        lsh("add", "gone", "--every", "1s", "--transient", "--", "true")
        lsh.ended("gone")
        assert lsh.runs("boot") == []
    machine.reboot()
    for lsh in both:
        assert {job["id"]: job["enabled"] for job in lsh.json("list")} == {
            "boot": True,
            "daily": True,
            "kept": True,
            "resting": False,
        }
        assert not [path for path in lsh.files() if "gone" in path]
        last = lsh.runs("kept")[-1]["started_at"]
        eventually(lambda lsh=lsh, last=last: lsh.runs("kept")[-1]["started_at"] > last)  # type: ignore[misc]
        assert lsh.json("show", "daily")["next"] is not None
        assert lsh.runs("resting") == []
        (run,) = lsh.ended("boot")
        assert (run["trigger"], run["result"]) == ("timer", "success")
