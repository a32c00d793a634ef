"""lshctl add --template: what is asked for is never more than a value; those that lshctl brings do their work."""

import json
from collections.abc import Iterator

import pytest

from tests.system.lsh import Lsh
from tests.system.machine import eventually
from tests.system.receiver import Mail
from tests.system.test_apply import path


def added(lsh: Lsh, template: str, *values: str) -> str:
    name = lsh.new_name()
    lsh("add", name, "--template", template, *(word for value in values for word in ("--set", value)))
    return name


def ends(lsh: Lsh, template: str, *values: str) -> tuple[str, str]:
    """How a job of that template ends, and its output."""
    run = lsh.run(added(lsh, template, *values), check=False)
    return run["result"], run["output"]


def test_a_template_becomes_a_job_and_no_value_a_command(lsh: Lsh) -> None:
    folder, n = lsh.new_path(), lsh.new_name()
    lsh.machine.write(f"{folder}/in/it's $(touch canary).log", "", user=lsh.user)
    lsh.machine.run("touch", "-d", "2020-01-01", f"{folder}/in/it's $(touch canary).log", user=lsh.user)
    lsh.machine.write(f"{folder}/; touch canary; #/x.log", "", user=lsh.user)
    shown = lsh("add", "--template", "log-cleanup", "--dry-run").stdout
    assert "find /var/log -name" in shown and "OnCalendar=Sun *-*-* 03:00:00" in shown
    said = lsh.refused("add", "--template", "log-cleanup", "--set", "days=; touch canary", n)
    assert "days is a whole number" in said
    for at, place in enumerate((f"{folder}/in", f"{folder}/; touch canary; #")):
        lsh("add", f"{n}-{at}", "--template", "log-cleanup", "--set", f"folder={place}", "--working-dir", folder)
        assert lsh.run(f"{n}-{at}")["result"] == "success"
    assert lsh.machine.run("find", folder, "-type", "f").stdout == f"{folder}/; touch canary; #/x.log\n"
    mine = path(lsh, "templates: {mine: {parameters: {v: {}}, job: {command: 'echo {{ v }}'}}}", name=f"{n}.yaml")
    lsh("templates", "add", mine)
    try:
        lsh("add", n, "--template", "mine", "--set", "v=$HOME;id")
        assert lsh.run(n)["output"] == "$HOME;id\n"
    finally:
        kept = "/etc/lsh" if lsh.scope == "system" else "/home/bob/.config/lsh"
        lsh.machine.run("rm", f"{kept}/templates.d/{n}.yaml")


def test_shipped_templates_do_their_work(lsh: Lsh) -> None:
    folder = lsh.new_path()
    for name, text in {"in/one": "1\n", "in/two words": "2\n", "old/session": "x", "new/session": "x"}.items():
        lsh.machine.write(f"{folder}/{name}", text, user=lsh.user)
    lsh.machine.run("mkdir", f"{folder}/done", user=lsh.user)
    lsh.machine.run("touch", "-d", "2020-01-01", f"{folder}/old/session", user=lsh.user)
    lsh.machine.run("sh", "-c", 'sha256sum "$0"/new/* >"$0/sums"', folder, user=lsh.user)

    where = (f"folder={folder}/in", f"done={folder}/done")
    assert ends(lsh, "import-files", *where, "program=/bin/cat") == ("success", "1\n2\n")
    assert (
        lsh.machine.run("ls", f"{folder}/in", f"{folder}/done").stdout
        == f"{folder}/done:\none\ntwo words\n\n{folder}/in:\n"
    )
    assert ends(lsh, "session-cleanup", f"folder={folder}", "minutes=60000")[0] == "success"
    assert lsh.machine.run("find", folder, "-name", "session").stdout == f"{folder}/new/session\n"
    assert ends(lsh, "file-integrity", f"manifest={folder}/sums") == ("success", "")
    lsh.machine.write(f"{folder}/new/session", "y", user=lsh.user)
    result, output = ends(lsh, "file-integrity", f"manifest={folder}/sums")
    assert result == "exit-code" and f"{folder}/new/session: FAILED" in output
    assert ends(lsh, "disk-space", "percent=100")[0] == "success"


@pytest.fixture
def secret(lsh: Lsh) -> Iterator[str]:
    name = f"{lsh.new_name()}-pass"
    lsh("secrets", "set", name, input="correct horse")
    yield name
    lsh.clean()
    lsh("secrets", "remove", name)


@pytest.mark.parametrize("scope", ["system"], indirect=True)
def test_templates_call_the_real_tools(lsh: Lsh, secret: str) -> None:
    folder = lsh.new_path()
    lsh.machine.write(f"{folder}/in/two words", "2\n")
    env = {"RESTIC_REPOSITORY": f"{folder}/restic", "RESTIC_PASSWORD": "correct horse"}
    env |= {"BORG_REPO": f"{folder}/borg", "BORG_PASSPHRASE": "correct horse", "BORG_BASE_DIR": f"{folder}/base"}

    def call(*argv: str) -> str:
        return lsh.machine.run(*argv, env=env).stdout

    call("restic", "init", "--no-cache")
    common = (f"paths={folder}/in", f"secret={secret}")
    backup = added(lsh, "restic-backup", f"repository={folder}/restic", f"cache={folder}/cache", *common)
    assert [lsh.run(backup)["result"] for _ in range(3)] == ["success"] * 3
    kept = json.loads(call("restic", "snapshots", "--json", "--no-cache"))
    assert len(kept) in (1, 2)  # of a day the last; of all, where restic is newer, the first, too
    assert call("restic", "dump", "--no-cache", "latest", f"{folder}/in/two words") == "2\n"
    call("borg", "init", "--encryption=repokey")
    result, said = ends(lsh, "borg-backup", f"repository={folder}/borg", f"base={folder}/base", *common)
    assert result == "success", said
    (archive,) = call("borg", "list", "--short").split()
    assert f"{folder}/in/two words".lstrip("/") in call("borg", "list", "--short", f"::{archive}")
    lsh("secrets", "rotate", secret, input="wrong horse")
    assert lsh.run(backup, check=False)["result"] == "exit-code"

    for template, source in (("data-sync", "source"), ("log-shipping", "folder")):
        assert ends(lsh, template, f"{source}={folder}/in", f"target={folder}/{template}")[0] == "success"
        assert call("cat", f"{folder}/{template}/two words") == "2\n"
    lsh.machine.write(f"{folder}/app/log", "a line\n")
    lsh.machine.write(f"{folder}/rotate.conf", f"{folder}/app/log {{\n    size 1\n    rotate 2\n}}\n")
    assert ends(lsh, "log-rotation", f"config={folder}/rotate.conf") == ("success", "")
    assert call("ls", f"{folder}/app") == "log.1\n"
    assert ends(lsh, "journal-cleanup", "keep=30d", "size=2G")[0] == "success"
    assert ends(lsh, "fstrim")[0] == "success"


@pytest.mark.parametrize("scope", ["system"], indirect=True)
def test_the_mail_is_sent_by_the_machine_s_mail(lsh: Lsh) -> None:
    with Mail() as mail:
        lsh.machine.write("/etc/msmtprc", f"account default\nhost 127.0.0.1\nport {mail.port}\nfrom root@example.org\n")
        try:
            result, said = ends(lsh, "disk-monitor", "percent=1", "to=ops@example.org")
            assert result == "success", said
            eventually(lambda: mail.messages)
        finally:
            lsh.machine.run("rm", "/etc/msmtprc")
    (message,) = mail.messages
    assert (message["subject"], message["to"]) == ("Disk Space Alert", "ops@example.org")
    assert "Mounted on" in message.get_content()  # the table's head: "Use%" is more than "1", too


LINEAGE = """\
version = 2.1.0
renew_before_expiry = 30 days
archive_dir = /etc/letsencrypt/archive/{name}
cert = /etc/letsencrypt/live/{name}/cert.pem
privkey = /etc/letsencrypt/live/{name}/privkey.pem
chain = /etc/letsencrypt/live/{name}/chain.pem
fullchain = /etc/letsencrypt/live/{name}/fullchain.pem
[renewalparams]
account = 0123456789abcdef0123456789abcdef
authenticator = standalone
server = https://127.0.0.1:9/directory
key_type = rsa
"""
CERTIFICATE = """\
set -eu
mkdir -p /etc/letsencrypt/archive/$1 /etc/letsencrypt/live/$1 /etc/letsencrypt/renewal
cd /etc/letsencrypt/archive/$1
openssl req -quiet -x509 -newkey rsa:2048 -nodes -days $2 -subj /CN=$1 -addext subjectAltName=DNS:$1 \
    -keyout privkey1.pem -out cert1.pem 2>/dev/null ||
    openssl req -x509 -newkey rsa:2048 -nodes -days $2 -subj /CN=$1 -addext subjectAltName=DNS:$1 \
        -keyout privkey1.pem -out cert1.pem 2>/dev/null
cp cert1.pem chain1.pem
cp cert1.pem fullchain1.pem
for part in cert chain fullchain privkey; do ln -sf ../../archive/$1/${part}1.pem ../../live/$1/$part.pem; done
"""


@pytest.mark.parametrize("scope", ["system"], indirect=True)
def test_certificates_that_are_not_due_stay_and_others_are_asked_for(lsh: Lsh) -> None:
    def lineage(name: str, days: int) -> None:
        lsh.machine.run("sh", "-s", name, str(days), input=CERTIFICATE)
        lsh.machine.write(f"/etc/letsencrypt/renewal/{name}.conf", LINEAGE.format(name=name))

    try:
        # Debian's packages before what the machine has of PyPI for lshctl.
        name = added(lsh, "certificate-renewal")
        lsh("set", name, "--env", "PYTHONPATH=/usr/lib/python3/dist-packages")
        runs = [lsh.run(name, check=False)]
        lineage("young.example.org", 89)
        runs.append(lsh.run(name, check=False))
        assert [(run["result"], run["output"]) for run in runs] == [("success", "")] * 2
        lineage("old.example.org", 2)
        run = lsh.run(name, check=False)  # nobody answers here
        result, said = run["result"], run["output"]
        assert result == "exit-code" and "old.example.org" in said and "young.example.org" not in said
    finally:
        lsh.machine.run("rm", "-rf", "/etc/letsencrypt")


@pytest.mark.parametrize("scope", ["system"], indirect=True)
def test_disks_are_asked_by_smartctl(lsh: Lsh) -> None:
    assert ends(lsh, "smart-check") == ("success", "")  # a container has none
    lsh.machine.run("mknod", "/dev/sda", "b", "250", "0")  # a disk that nobody drives
    try:
        result, said = ends(lsh, "smart-check")
        assert result == "exit-code" and "/dev/sda could not be asked" in said and "is failing" not in said
    finally:
        lsh.machine.run("rm", "/dev/sda")


# A repository with a newer version of a package that is installed, and apt that knows no other one.
REPOSITORY = """\
set -eu
mkdir -p $1/repo $1/lists/partial $1/empty $1/tree/DEBIAN
cd $1
for version in 1 2; do
    cat >tree/DEBIAN/control <<END
Package: lsh-dummy
Version: $version
Architecture: all
Maintainer: Somebody <somebody@example.org>
Description: nothing
END
    dpkg-deb --root-owner-group --build tree repo/lsh-dummy_$version.deb >/dev/null
done
dpkg --install repo/lsh-dummy_1.deb >/dev/null
cd repo
rm lsh-dummy_1.deb
sum() { sha256sum $1 | cut -d' ' -f1; }
size() { stat -c %s $1; }
cat ../tree/DEBIAN/control - >Packages <<END
Filename: ./lsh-dummy_2.deb
Size: $(size lsh-dummy_2.deb)
SHA256: $(sum lsh-dummy_2.deb)
END
cat >Release <<END
Origin: Test
Suite: test
Codename: test
Architectures: all $(dpkg --print-architecture)
Date: $(LC_ALL=C date -Ru)
SHA256:
 $(sum Packages) $(size Packages) Packages
END
echo "deb [trusted=yes] file:$1/repo ./" >../sources.list
cat >../apt.conf <<END
Dir::Etc::SourceList "$1/sources.list";
Dir::Etc::SourceParts "$1/empty";
Dir::State::Lists "$1/lists";
#clear Unattended-Upgrade::Origins-Pattern;
Unattended-Upgrade::Origins-Pattern { "origin=Test"; };
END
"""


@pytest.mark.parametrize("scope", ["system"], indirect=True)
def test_upgrades_are_installed(lsh: Lsh) -> None:
    folder, name = lsh.new_path(), lsh.new_name()
    lsh.machine.run("sh", "-s", folder, input=REPOSITORY)
    apt = f"APT_CONFIG={folder}/apt.conf"
    lsh("add", name, "--template", "unattended-upgrades", "--env", apt)
    try:
        run = lsh.run(name, check=False)
        assert run["result"] == "success", run["output"]
        installed = lsh.machine.run("dpkg-query", "--show", "--showformat=${Version}", "lsh-dummy").stdout
        assert installed == "2", run["output"]
    finally:
        lsh.machine.run("dpkg", "--purge", "lsh-dummy", check=False)
