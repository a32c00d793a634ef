"""lshctl add says no, or only says what it would do: then nothing at all has changed."""

import pytest

from tests.system.lsh import Lsh
from tests.system.machine import Machine

# Arguments after `add`; a name of its own stands for NAME.
WRONG = [
    [],
    ["NAME"],
    ["NAME", "--"],
    ["NAME", "--", " "],
    ["", "--", "true"],
    [" NAME", "--", "true"],
    ["a\nb", "--", "true"],
    ["a\x1b[31mb", "--", "true"],
    ["a\u202eb", "--", "true"],
    ["a\udcffb", "--", "true"],
    ["x" * 300, "--", "true"],
    ["agent", "--", "true"],  # lsh-agent.service is our own
    ["NAME", "--bogus", "--", "true"],
    ["NAME", "--schedule", "61 * * * *", "--", "true"],
    ["NAME", "--schedule", "* * * *", "--", "true"],
    ["NAME", "--schedule", "0 2 * * *\n[Service]", "--", "true"],
    ["NAME", "--schedule", "@fortnightly", "--", "true"],
    ["NAME", "--schedule", "0 0 31 2 *", "--", "true"],  # never
    ["NAME", "--calendar", "Funday", "--", "true"],
    ["NAME", "--calendar", "daily\nOnBootSec=1", "--", "true"],
    ["NAME", "--every", "soon", "--", "true"],
    ["NAME", "--every", "-5m", "--", "true"],
    ["NAME", "--every", "0", "--", "true"],
    ["NAME", "--every", "100ms", "--", "true"],
    ["NAME", "--at", "yesterday", "--", "true"],
    ["NAME", "--at", "when it rains", "--", "true"],
    ["NAME", "--on-boot", "--transient", "--", "true"],
    ["NAME", "--every", "1h", "--schedule", "@daily", "--", "true"],
    ["NAME", "--schedule", "@daily", "--tz", "Mars/Olympus", "--", "true"],
    ["NAME", "--schedule", "@daily", "--tz", "../../etc/passwd", "--", "true"],
    ["NAME", "--every", "1h", "--tz", "Europe/Berlin", "--", "true"],
    ["NAME", "--every", "1h", "--persistent", "--", "true"],
    ["NAME", "--jitter", "5m", "--", "true"],
    ["NAME", "--description", "two\nlines", "--", "true"],
    ["NAME", "--tag", "", "--", "true"],
    ["NAME", "--env", "NOVALUE", "--", "true"],
    ["NAME", "--env", "1A=x", "--", "true"],
    ["NAME", "--env", "A B=x", "--", "true"],
    ["NAME", "--env", "A=\udcff", "--", "true"],
    ["NAME", "--env", "A=\x1b", "--", "true"],
    ["NAME", "--env-file", "/etc/*.env", "--", "true"],
    ["NAME", "--working-dir", "/tmp/../etc", "--", "true"],
    ["NAME", "--working-dir", "/tmp\nUser=root", "--", "true"],
    ["NAME", "--working-dir", "/tmp\\", "--", "true"],
    ["NAME", "--run-as", "nobody-of-that-name", "--", "true"],
    ["NAME", "--run-as", "root\nNice=1", "--", "true"],
    ["NAME", "--timeout", "0", "--", "true"],
    ["NAME", "--timeout", "1 fortnight", "--", "true"],
    ["NAME", "--priority", "11", "--", "true"],
    ["NAME", "--priority", "-1", "--", "true"],
    ["NAME", "--priority", "high", "--", "true"],
    ["NAME", "--nice", "20", "--", "true"],
    ["NAME", "--memory-max", "lots", "--", "true"],
    ["NAME", "--memory-max", "1", "--", "true"],
    ["NAME", "--memory-max", "nan", "--", "true"],
    ["NAME", "--cpu-quota", "0%", "--", "true"],
    ["NAME", "--cpu-quota", "half", "--", "true"],
    ["NAME", "--no-shell", "--", "@/bin/true"],
    ["NAME", "--no-shell", "--", "+true"],
    ["NAME", "--no-shell", "--", "a program"],
    ["NAME", "--", "echo \udcff"],
    ["NAME", "--", "x" * 70_000, "y" * 70_000],  # one line for the shell, longer than the kernel can pass
]


def test_wrong_input_changes_nothing(lsh: Lsh) -> None:
    name, before = lsh.new_name(), lsh.files()
    # What reads the words does not know the scope: a sample of them will do for the second one.
    for argv in WRONG if lsh.scope == "system" else WRONG[::4]:
        lsh.told_off("add", *(word.replace("NAME", name) for word in argv))
    assert lsh.files() == before


def test_a_user_cannot_run_as_another(machine: Machine) -> None:
    lsh = Lsh(machine, "user")
    assert "--run-as needs --system" in lsh.refused("add", lsh.new_name(), "--run-as", "root", "--", "true")


def test_a_user_may_not_add_a_job_of_the_machine(machine: Machine) -> None:
    name = Lsh(machine, "system").new_name()
    said = Lsh(machine, "user").refused("add", name, "--system", "--", "true", status=1)
    assert "sudo" in said
    assert not machine.exists(f"/etc/systemd/system/lsh-{name}.service")


def test_a_name_is_taken_once(lsh: Lsh) -> None:
    job = lsh.add("--every", "1h", "--", "true")
    for options in ([], ["--transient"], ["--disabled"], ["--dry-run"]):
        assert f"there is a job {job} already" in lsh.refused("add", job.upper(), *options, "--", "false")
    transient = lsh.add("--transient", "--", "true")
    assert "already" in lsh.refused("add", transient, "--", "false")


@pytest.mark.parametrize("kind", ["service", "timer"])
@pytest.mark.parametrize("packaged", [False, True])
def test_a_foreign_unit_is_never_touched(lsh: Lsh, kind: str, packaged: bool) -> None:
    """A unit named lsh-* that has no [X-Lsh] section is somebody else's, wherever systemd finds it."""
    name = lsh.new_name()
    text = "[Service]\nExecStart=/bin/true\n" if kind == "service" else "[Timer]\nOnCalendar=daily\n"
    folder = f"/usr/lib/systemd/{lsh.scope}" if packaged else lsh.folder
    path = f"{folder}/lsh-{name}.{kind}"
    lsh.machine.write(path, text, user="root" if packaged else lsh.user)
    lsh.systemctl("daemon-reload")
    said = lsh.refused("add", name, "--every", "1h", "--", "true")
    assert f"{path.removeprefix('/usr')} is there already and not ours" in said
    for verb in ("show", "start", "set", "remove", "disable", "edit"):
        lsh.refused(verb, name)
    lsh.refused("rename", lsh.add("--", "true"), name)
    assert name not in {job["id"] for job in lsh.json("list")}
    assert lsh.machine.read(path) == text
    lsh.machine.run("rm", path)
    lsh.systemctl("daemon-reload")


@pytest.mark.parametrize("obstacle", ["service", "timer", "wants"])
def test_a_failure_half_way_is_taken_back(lsh: Lsh, obstacle: str) -> None:
    """Whatever step fails, the file system's or systemd's: no file is left, and systemd knows no such unit."""
    name = lsh.new_name()
    if obstacle == "wants":
        # The link to the timer cannot be made: a file stands where its folder should be.
        place = f"{lsh.folder}/timers.target.wants"
        lsh.machine.run("sh", "-c", f"[ ! -d {place} ] || mv {place} {place}.aside; touch {place}", user=lsh.user)
        undo = f"rm {place}; [ ! -d {place}.aside ] || mv {place}.aside {place}"
    else:
        # systemd refuses the unit: a drop-in that was there before makes it one that cannot be.
        wrong = "[Service]\nExecStart=\n" if obstacle == "service" else "[Timer]\nOnActiveSec=\n"
        lsh.write(f"lsh-{name}.{obstacle}.d/wrong.conf", wrong)
        undo = f"rm -r {lsh.folder}/lsh-{name}.{obstacle}.d"
    lsh.refused("add", name, "--every", "1h", "--", "true", status=1)
    assert lsh.show(f"lsh-{name}.timer", "ActiveState", "LoadState") == {
        "ActiveState": "inactive",
        "LoadState": "not-found",
    }
    lsh.machine.run("sh", "-c", undo, user=lsh.user)
    lsh.add("--every", "1h", "--", "true", name=name)
    assert lsh.show(f"lsh-{name}.timer", "ActiveState") == {"ActiveState": "active"}


@pytest.mark.parametrize("transient", [False, True])
def test_dry_run_prints_what_would_be_written(lsh: Lsh, transient: bool) -> None:
    name = lsh.new_name()
    options = [name, "--schedule", "0 2 * * *", "--env", "A=b", *(["--transient"] if transient else []), "--", "true"]
    before = lsh.files()
    printed = lsh("add", "--dry-run", *options).stdout
    assert lsh.files() == before
    assert lsh.show(f"lsh-{name}.timer", "LoadState")["LoadState"] == "not-found"
    lsh("add", *options)
    folder = lsh.transient_folder if transient else lsh.folder
    written = [
        f"# {folder}/lsh-{name}.{kind}\n{lsh.read(f'lsh-{name}.{kind}', transient=transient)}"
        for kind in ("service", "timer")
    ]
    assert printed == "\n".join(written)
