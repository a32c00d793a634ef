"""Secrets on booted machines: the job has the value, as a file and as a variable, and nothing else ever has it."""

import hashlib
import itertools
import json
import signal
from collections.abc import Iterator

import pytest

from tests.system.lsh import SERVICE, Lsh
from tests.system.machine import Machine, Result, eventually

_numbers = itertools.count(1)
ALL_BYTES = bytes(range(256))
# What a shell, systemd or a terminal would make something of, were it let.
HOSTILE = [
    b"two\nlines\n",
    b"\n\n  blanks \t around  \n\n",
    b"'\"`$(touch /tmp/pwned)`;&|\\ $HOME %n %% ~ *",
    b"\x1b[31m\xff\xfe\x80\x81\x88\x9f no UTF-8",
    "ключ 鍵 🔑".encode(),
    b"-n",
    bytes(range(1, 256)),
]


@pytest.fixture
def folder(lsh: Lsh) -> Iterator[str]:
    """Where the scope's secrets are; empty before and after."""
    path = "/var/lib/lsh/secrets" if lsh.scope == "system" else "/home/bob/.local/state/lsh/secrets"
    yield path
    lsh.clean()
    lsh.machine.run("rm", "-rf", path)


def new_secret() -> str:
    return f"secret-{next(_numbers)}"


def encrypts(lsh: Lsh) -> bool:
    return lsh.scope == "system" or _major(lsh) >= 258


def _major(lsh: Lsh) -> int:
    return int(lsh.machine.systemd_version.split(".")[0].split("-")[0].split("~")[0])


def stored(lsh: Lsh, value: str | bytes, name: str | None = None) -> str:
    """Store a secret exactly as it is; its name."""
    name = name or new_secret()
    lsh("secrets", "set", "--keep-newline", name, input=value)
    return name


def seen(lsh: Lsh, options: list[str], command: str) -> bytes:
    """What a job with these options writes to the file $OUT."""
    out = f"/tmp/seen-{lsh.user}-{lsh.new_name()}"
    job = lsh.add(*options, "--env", f"OUT={out}", "--", command)
    run = lsh.run(job, check=False)
    assert run["result"] == "success", (run, lsh.machine.journal_text()[-3000:])
    lsh("remove", job)
    return bytes.fromhex(lsh.machine.run("od", "-An", "-v", "-tx1", out).stdout)


def test_a_job_has_its_secret_as_a_file_and_as_a_variable(lsh: Lsh, folder: str) -> None:
    name = new_secret()
    said = lsh("secrets", "set", name, input="s3cret word\n")
    assert said.stdout.startswith(f"Stored {name}.\n")
    assert "newline at its end is left off" in said.stderr
    assert ("not encrypted" in said.stdout) == (not encrypts(lsh))
    job = lsh.add("--secret", f"{name}:TOKEN", "--", f'cat "$CREDENTIALS_DIRECTORY/{name}"; echo "<$TOKEN>"')
    assert lsh.run(job)["output"] == "s3cret word<s3cret word>\n"
    only_file = lsh.add("--secret", name, "--", f'cat "$CREDENTIALS_DIRECTORY/{name}"; echo "<$TOKEN>"')
    assert lsh.run(only_file)["output"] == "s3cret word<>\n"
    file = f"{folder}/{name}.{'cred' if encrypts(lsh) else 'plain'}"
    modes = lsh.machine.run("stat", "-c", "%a %U", folder, file).stdout.split("\n")
    assert modes[:2] == [f"700 {lsh.user}", f"600 {lsh.user}"]
    assert ("s3cret word" in lsh.machine.read(file)) == (not encrypts(lsh))


def test_next_runs_see_a_rotated_value_and_the_unit_stays(lsh: Lsh, folder: str) -> None:
    name = stored(lsh, "old")
    job = lsh.add("--secret", f"{name}:TOKEN", "--", 'echo "$TOKEN"')
    assert lsh.run(job)["output"] == "old\n"
    before = lsh.files()
    assert lsh("secrets", "rotate", name, input="new").stdout.startswith(
        f"Rotated {name}. The next runs of {job} see it.\n"
    )
    assert lsh.run(job)["output"] == "new\n"
    assert lsh.files() == before
    assert "there is no secret nope" in lsh.refused("secrets", "rotate", "nope", input="x")


def test_list_tells_names_dates_and_jobs_alone(lsh: Lsh, folder: str) -> None:
    assert "There are no secrets" in lsh("secrets", "list").stdout
    assert lsh("secrets", "list", "--json").json() == []
    used, idle = stored(lsh, "value one"), stored(lsh, "value two")
    job = lsh.add("--secret", f"{used}:A", "--secret", used, "--", "true")
    told = lsh("secrets", "list", "--json").json()
    assert [(each["name"], each["jobs"], each["encrypted"]) for each in told] == [
        (used, [job], encrypts(lsh)),
        (idle, [], encrypts(lsh)),
    ]
    assert all(set(each) == {"name", "changed_at", "encrypted", "jobs", "rules"} for each in told)
    assert all(each["changed_at"].endswith("Z") for each in told)
    table = lsh("secrets", "list").stdout.splitlines()
    assert table[0].split() == ["SECRET", "CHANGED", "USED", "BY"]
    assert [line.split()[0] for line in table[1:]] == [used, idle]
    assert "value" not in json.dumps(told) + "".join(table)


def test_a_secret_that_is_used_stays(lsh: Lsh, folder: str) -> None:
    name = stored(lsh, "x")
    job = lsh.add("--secret", name, "--", "true")
    assert f"is used by {job}" in lsh.refused("secrets", "remove", name)
    assert f"is used by {job}" in lsh.refused("secrets", "remove", name, "--dry-run")
    lsh("set", job, "--unset", "secret")
    assert lsh("secrets", "remove", name, "--dry-run").stdout == f"Would remove {name}.\n"
    assert lsh("secrets", "remove", name).stdout == f"Removed {name}.\n"
    assert lsh("secrets", "list", "--json").json() == []
    assert "there is no secret" in lsh.refused("secrets", "remove", name)


def test_a_secret_that_is_not_there_is_asked_for(lsh: Lsh, folder: str) -> None:
    assert "there is no secret nope" in lsh.refused("add", "x", "--secret", "nope", "--", "true")
    assert "there is no secret nope" in lsh.refused("add", "x", "--secret", "nope", "--dry-run", "--", "true")
    job = lsh.add("--", "true")
    assert "there is no secret nope" in lsh.refused("set", job, "--secret", "nope:X")
    assert "there is no secret nope" in lsh.refused("set", job, "--secret", "nope:X", "--dry-run")
    assert "there is no secret nope" in lsh.refused("run", "--secret", "nope", "--", "true")
    assert lsh("run", "--secret", stored(lsh, "pass"), "--", "cat $CREDENTIALS_DIRECTORY/*").stdout == "pass"


@pytest.mark.parametrize(
    "name", ["", "../x", "a/b", ".x", "a:b", "a b", "%n", "$x", "-x", "a\n", "é", "x" * 101, "x."], ids=repr
)
def test_names_are_checked(machine: Machine, name: str) -> None:
    lsh = Lsh(machine, "system")
    for verb in ("set", "rotate", "remove"):
        lsh.refused("secrets", verb, "--", name, input="x")
    lsh.refused("add", "x", "--secret", name or ":", "--", "true")


@pytest.mark.parametrize(
    "reference", ["a:", "a:1X", "a:PATH", "a:IFS", "a:INVOCATION_ID", "a:X:Y", "a:X Y", "a:" + "X" * 201]
)
def test_variables_are_checked(machine: Machine, reference: str) -> None:
    lsh = Lsh(machine, "system")
    lsh.refused("add", "x", "--secret", reference, "--", "true")
    lsh.refused("add", "x", "--secret", "a:X", "--secret", "b:X", "--", "true")
    lsh.refused("add", "x", "--secret", "a:X", "--env", "X=1", "--", "true")


def test_any_value_arrives_as_it_is(lsh: Lsh, folder: str) -> None:
    for value in HOSTILE:
        name = stored(lsh, value)
        assert seen(lsh, ["--secret", name], f'cat "$CREDENTIALS_DIRECTORY/{name}" >"$OUT"') == value
        # as $(cat FILE) has it: without newlines at its end
        assert seen(lsh, ["--secret", f"{name}:X"], 'printf %s "$X" >"$OUT"') == value.rstrip(b"\n")
    assert not lsh.machine.exists("/tmp/pwned")


def test_a_file_holds_what_systemd_takes_and_a_variable_what_the_kernel_takes(lsh: Lsh, folder: str) -> None:
    name = "x" * 10
    # systemd 252 counts the base64 of an encrypted one; lshctl takes that for all before 258
    encoded = lsh.scope == "system" and _major(lsh) < 258
    full = (ALL_BYTES * 4096)[: 2**20 - len(name) if not encoded else 850 * 1024]
    stored(lsh, full, name)
    told = seen(lsh, ["--secret", name], f'sha256sum <"$CREDENTIALS_DIRECTORY/{name}" >"$OUT"')
    assert told.split()[0].decode() == hashlib.sha256(full).hexdigest()
    assert "too large" in lsh.refused("secrets", "set", name, input=full + b"x" * (1 if not encoded else 20_000))
    assert "NUL" in lsh.refused("add", "x", "--secret", f"{name}:X", "--", "true")
    other = stored(lsh, "y" if not encoded else "y" * 190 * 1024)
    assert "too large" in lsh.refused("add", "x", "--secret", name, "--secret", other, "--", "true")
    largest = b"z" * (128 * 1024 - 1 - 200)
    stored(lsh, largest, "var")
    assert seen(lsh, ["--secret", "var:" + "V" * 199], f'printf %s "${"V" * 199}" >"$OUT"') == largest
    stored(lsh, largest + b"z", "var")
    assert "too large" in lsh.refused("add", "x", "--secret", "var:V", "--", "true")
    stored(lsh, "y", other)
    job = lsh.add("--secret", f"{other}:Y", "--", "true")
    assert "NUL" in lsh.refused("secrets", "rotate", other, input="a\0b")
    assert "empty" in lsh.refused("secrets", "set", other, input="")
    assert lsh.run(job)["result"] == "success"


def test_the_command_is_the_run_s_own_process(lsh: Lsh, folder: str) -> None:
    """The shell that sets the variables becomes the command: its PID, its exit status, its signals."""
    name = stored(lsh, "x")
    job = lsh.add("--secret", f"{name}:X", "--", 'echo $$; cat /proc/$$/comm; [ "$X" = x ] && kill -KILL $$')
    run = lsh.run(job, check=False)
    assert (run["result"], run["signal"]) == ("signal", "KILL")
    pid, comm = run["output"].split()
    assert (run["pid"] if "pid" in run else int(pid), comm) == (int(pid), "sh")
    lsh("set", job, "--", "exit 7")
    assert lsh.run(job, check=False)["exit_status"] == 7
    words = lsh.add("--secret", f"{name}:X", "--no-shell", "--", "/usr/bin/printf", "%s|", "a b", "$X", '"', "%n")
    assert lsh.run(words)["output"] == 'a b|$X|"|%n|\n' or lsh.run(words)["output"] == 'a b|$X|"|%n|'
    bash = lsh.add("--secret", f"{name}:X", "--shell", "/bin/bash", "--", 'echo "${BASH_VERSION:0:1} $X"')
    assert lsh.run(bash)["output"] == "5 x\n"
    assert lsh.loaded(f"lsh-{words}.service", SERVICE, "ExecStart")["ExecStart"][0][0] == "/bin/sh"


def test_a_job_of_another_user_has_it_too_and_nobody_else(machine: Machine) -> None:
    lsh = Lsh(machine, "system")
    machine.add_user("bob")
    name = stored(lsh, "for bob")
    job = lsh.add(
        "--run-as", "bob", "--secret", f"{name}:X", "--", f'id -un; cat $CREDENTIALS_DIRECTORY/{name}; echo "$X"'
    )
    assert lsh.run(job)["output"] == "bob\nfor bobfor bob\n"
    assert machine.run("ls", "/var/lib/lsh/secrets", user="bob", check=False).returncode != 0
    said = machine.run("lshctl", "--system", "secrets", "list", user="bob", check=False)
    assert (said.returncode, said.stderr.splitlines()[0]) == (
        1,
        "lshctl: cannot read /var/lib/lsh/secrets: Permission denied",
    )
    lsh.clean()
    machine.run("rm", "-rf", "/var/lib/lsh/secrets")


def test_it_is_there_in_a_sandbox_and_for_a_dynamic_user(lsh: Lsh, folder: str) -> None:
    name = stored(lsh, "boxed")
    job = lsh.add("--secret", f"{name}:X", "--", f'cat "$CREDENTIALS_DIRECTORY/{name}"; echo "$X"')
    # In user scope ProtectHome=yes would hide the credentials, too: they are below /run/user.
    sandbox = "ProtectSystem=strict\nProtectHome=tmpfs\nPrivateTmp=yes\nNoNewPrivileges=yes\n"
    if lsh.scope == "system":
        sandbox += "ProtectHome=yes\nPrivateDevices=yes\nDynamicUser=yes\nSystemCallFilter=@system-service\n"
    lsh.write(f"lsh-{job}.service.d/sandbox.conf", f"[Service]\n{sandbox}")
    lsh.systemctl("daemon-reload")
    try:
        assert lsh.run(job, check=False)["output"] == "boxedboxed\n"
    finally:
        lsh.machine.run("rm", "-r", f"{lsh.folder}/lsh-{job}.service.d")
        lsh.systemctl("daemon-reload")


SWEEP = r"""
pattern=/tmp/pattern.$$
printf %s "$value" >"$pattern"
found() { grep -qaF -f "$pattern" && echo "$1"; }
# cmdlines first, again and again while the job runs
for i in 1 2 3; do cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' '; done | found cmdline
journalctl --sync; journalctl --all --output=export | found journal
dump=/tmp/dump.$$
{ systemctl show '*' --all; systemctl cat '*'; } 2>/dev/null | found system-show
grep -rlaF -f "$pattern" /etc /run/systemd /run/user/1000/systemd /home/bob/.config /var/lib/lsh/lsh.db* \
    /home/bob/.local/state/lsh/lsh.db* 2>/dev/null
# world-readable files, wherever
find /run /var /etc /tmp /home /dev/shm -xdev -type f -perm /0044 -size -5M ! -path "$pattern" -print0 2>/dev/null |
    xargs -0r grep -laF -f "$pattern" 2>/dev/null
rm -f "$pattern"
true
"""


def test_the_value_is_nowhere_else(lsh: Lsh, folder: str) -> None:
    value = f"correct-horse-{lsh.scope}-battery"
    name = new_secret()
    said: list[Result] = [lsh("secrets", "set", name, input=value)]
    job = lsh.new_name()
    command = f'[ "$X" = "$(cat $CREDENTIALS_DIRECTORY/{name})" ] && touch /tmp/{job}.seen && sleep 30'
    said.append(lsh("add", job, "--every", "1h", "--secret", f"{name}:X", "--", command))
    said.append(lsh("start", job))
    eventually(lambda: lsh.machine.exists(f"/tmp/{job}.seen"))
    # The sweep can find something: the variable is in the job's own environment.
    pid = lsh.show(f"lsh-{job}.service", "MainPID")["MainPID"]
    assert value in lsh.machine.run("cat", f"/proc/{pid}/environ").stdout
    lsh.machine.write("/etc/planted", value)
    # not as an argument: that would be seen in /proc
    script = "read -r value; . /tmp/sweep"
    lsh.machine.write("/tmp/sweep", SWEEP)
    planted = lsh.machine.run("sh", "-c", script, input=value + "\n", timeout=120).stdout.split()
    lsh.machine.run("rm", "/etc/planted")
    assert set(planted) == {"/etc/planted"}
    assert lsh.machine.run("sh", "-c", script, input=value + "\n", timeout=120).stdout == ""
    for argv in (["show", job], ["show", "--json", job], ["list"], ["logs", job], ["runs", job], ["doctor"],
                 ["secrets", "list"], ["secrets", "list", "--json"], ["export", job], ["stop", job],
                 ["runs", "--json", job], ["set", job, "--timeout", "1h", "--dry-run"], ["set", job, "--timeout", "1h"],
                 ["secrets", "remove", name], ["secrets", "rotate", name, "--dry-run"]):  # fmt: skip
        said.append(lsh(*argv, check=False, input=value))
    said.append(lsh.systemctl("show", f"lsh-{job}.service", "--all"))
    said.append(lsh.systemctl("cat", f"lsh-{job}.service"))
    assert [result for result in said if value in result.stdout + result.stderr] == []
    assert lsh.machine.run("sh", "-c", script, input=value + "\n", timeout=120).stdout == ""
    lsh.machine.run("rm", f"/tmp/{job}.seen", "/tmp/sweep")


CMDLINES = r"""
while [ ! -e /tmp/enough ]; do cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null; echo; done | tr '\0' '\n' \
    | grep -a -e needle- -e systemd-creds | sort -u
"""


def test_our_own_helpers_do_not_show_it_either(machine: Machine) -> None:
    """While set encrypts and a run begins, no process has the value on its command line."""
    lsh = Lsh(machine, "system")
    name, needle = new_secret(), "needle-" + "x" * 600_000
    with machine.popen("sh", "-c", CMDLINES) as watch:
        try:
            for _ in range(5):
                lsh("secrets", "set", name, input=needle)
            lsh.run(lsh.add("--secret", name, "--", "true"))
        finally:
            machine.run("touch", "/tmp/enough")
        lines, _ = watch.communicate(timeout=30)
    assert "systemd-creds" in lines  # it was looked at while it ran
    assert "needle-x" not in lines
    lsh.clean()
    machine.run("rm", "-rf", "/var/lib/lsh/secrets", "/tmp/enough")


def test_a_full_disk_leaves_the_old_value(machine: Machine) -> None:
    lsh, path = Lsh(machine, "system"), "/var/lib/lsh/secrets"
    machine.run("mkdir", "-p", path)
    # not every machine has mount(8)
    mount = f"import ctypes; exit(ctypes.CDLL(None).mount(b'x', b'{path}', b'tmpfs', 0, b'size=64k'))"
    machine.run("python3", "-c", mount)
    name = stored(lsh, "old")
    said = lsh.told_off("secrets", "set", name, input=b"x" * 200_000, status=1)
    assert "No space left" in said
    assert machine.run("ls", "-A", path).stdout == f"{name}.cred\n"
    assert machine.run("stat", "-c", "%a", path).stdout == "700\n"
    assert seen(lsh, ["--secret", name], f"cat $CREDENTIALS_DIRECTORY/{name} >$OUT") == b"old"
    machine.run("python3", "-c", f"import ctypes; exit(ctypes.CDLL(None).umount(b'{path}'))")
    machine.run("rm", "-rf", path)


def test_ctrl_c_leaves_the_old_value(lsh: Lsh, folder: str) -> None:
    name = stored(lsh, "old")
    with lsh.popen("secrets", "set", name, stdin=-1) as process:
        assert process.stdin
        process.stdin.write("ne")
        process.stdin.flush()
        eventually(lambda: lsh.machine.run("pgrep", "-f", "lshctl secrets set", check=False).returncode == 0)
        eventually(
            lambda: "pipe" in lsh.machine.run("sh", "-c", "cat /proc/$(pgrep -of 'lshctl secrets set')/wchan").stdout
        )
        process.interrupt(signal.SIGINT)
        process.wait(timeout=20)
    assert process.returncode == 130
    assert seen(lsh, ["--secret", name], f"cat $CREDENTIALS_DIRECTORY/{name} >$OUT") == b"old"


# A terminal: what is typed there, and what it shows.
TYPED = """
import os, pty, sys, time
typed = [line + "\\n" for line in sys.argv[2:]]
pid, master = pty.fork()
if pid == 0:
    os.execvp("lshctl", ["lshctl", "secrets", "set", sys.argv[1]])
shown, answered = b"", 0
try:
    while chunk := os.read(master, 1024):
        shown += chunk
        prompts = shown.count(b"(not shown): ") + shown.count(b"Again: ")
        if prompts > answered and typed:
            answered = prompts
            os.write(master, typed.pop(0).encode())
except OSError:
    pass
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.stdout.write(shown.decode())
sys.exit(status)
"""


def test_at_a_terminal_it_is_asked_for_and_not_shown(lsh: Lsh, folder: str) -> None:
    name = new_secret()
    done = lsh.machine.run("python3", "-c", TYPED, name, "typed päss", "typed päss", user=lsh.user)
    assert f"Stored {name}." in done.stdout
    assert "typed" not in done.stdout
    assert seen(lsh, ["--secret", f"{name}:X"], 'printf %s "$X" >$OUT').decode() == "typed päss"
    done = lsh.machine.run("python3", "-c", TYPED, name, "one", "two", user=lsh.user, check=False)
    assert (done.returncode, "not the same" in done.stdout) == (2, True)
    done = lsh.machine.run("python3", "-c", TYPED, name, "\x03", user=lsh.user, check=False)
    assert (done.returncode, "interrupted" in done.stdout) == (130, True)
    assert seen(lsh, ["--secret", f"{name}:X"], 'printf %s "$X" >$OUT').decode() == "typed päss"


def test_a_lost_key_or_file_is_told_in_words(machine: Machine) -> None:
    lsh = Lsh(machine, "system")
    name, gone = stored(lsh, "x"), stored(lsh, "y")
    job, orphan = lsh.add("--secret", name, "--", "true"), lsh.add("--secret", gone, "--", "true")
    machine.run("sh", "-c", f"echo nonsense >/var/lib/lsh/secrets/{name}.cred; rm /var/lib/lsh/secrets/{gone}.cred")
    assert lsh.run(orphan, check=False)["exit_status"] == 243
    assert "cannot decrypt the secret" in lsh.told_off("set", job, "--secret", f"{name}:X", status=1)
    found = {each["check"]: each for each in lsh("doctor", "--json", check=False).json()}
    assert f"there is no secret {gone}" in found[f"job {orphan}"]["message"]
    assert f"lshctl --system secrets set {gone}" in found[f"job {orphan}"]["fix"]
    assert f"cannot decrypt the secret {name}" in found[f"job {job}"]["message"]
    lsh("set", orphan, "--timeout", "1h")  # what it had stays
    lsh("refresh")
    lsh("rename", orphan, f"{orphan} b")
    lsh.clean()
    machine.run("rm", "-rf", "/var/lib/lsh/secrets")
