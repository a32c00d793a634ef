"""Crontabs: what Debian's cron and anacron make of a line is what we make of it; and the way back.

The tables marked "seen" were filled in from runs of Debian's own cron (3.0pl1-162 and -212), not from its manual.
"""

import base64
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsh_systemd import cronjobs, crontab, unit
from lsh_systemd.cronjobs import Account
from lsh_systemd.crontab import Crontab, Entry, Form
from lsh_systemd.errors import BadInput
from lsh_systemd.job import Job
from lsh_systemd.scope import Scope

DAILY = Job(name="x", command="x", schedule=("@daily",))
ROOT = Account(name="root", home="/root")
BOB = Account(name="bob", home="/home/bob")
ACCOUNTS = {"root": ROOT, "bob": BOB, "nobody": Account(name="nobody", home="/nonexistent", has_home=False)}


def read(text: str, form: Form = Form.USER) -> Crontab:
    found = crontab.parse(text, form)
    assert not found.bad, found.bad
    return found


def only(text: str, form: Form = Form.USER) -> Entry:
    (entry,) = read(text, form).entries
    return entry


def job_of(text: str, form: Form = Form.USER, account: Account = ROOT, scope: Scope = Scope.SYSTEM) -> Job:
    entry = only(text, form)
    return cronjobs.job_from(entry, name=cronjobs.base_name(entry), form=form, scope=scope, account=account)


# --- the percent sign (seen)

PERCENT = [
    (r"printf '[\%s]' 'a\\b\n\z'", r"printf '[%s]' 'a\b\n\z'", None),
    (r"printf '[\%s]' 'x\\\%y' 'a\\\\b' 'c\\d'", r"printf '[%s]' 'x\%y' 'a\\b' 'c\d'", None),
    (r"printf 'x\\%'", "printf 'x\\", "'\n"),
    (r"cat%line1%line2\%x\\%y\z%", "cat", "line1\nline2%x\\%y\\z\n"),
    ("cat%line1%line2", "cat", "line1\nline2\n"),
    ("cat%", "cat", None),
    ("cat%%", "cat", "\n"),
    ("cat%a%%", "cat", "a\n\n"),
    ('echo "lead$0"   ', 'echo "lead$0"   ', None),
    ("date +\\%F", "date +%F", None),
    ("mail -s \"It's 10pm\" joe%Joe,%%Where are they?%", "mail -s \"It's 10pm\" joe", "Joe,\n\nWhere are they?\n"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "command", "stdin"), PERCENT)
def test_percent_signs_divide_command_and_input(line: str, command: str, stdin: str | None) -> None:
    entry = only(f"* * * * * {line}\n")
    assert (entry.command, entry.stdin) == (command, stdin)


@given(command=st.text("a \\%\n'", min_size=1), stdin=st.none() | st.text("a\\%\n", min_size=1))
def test_what_is_written_is_read_back(command: str, stdin: str | None) -> None:
    try:
        text = crontab.join_percent(command, stdin)
    except BadInput:
        hopeless = "\n" in command or (stdin is not None and (not stdin.endswith("\n") or "\\\n" in stdin))
        assert hopeless
    else:
        assert "\n" not in text
        assert crontab.split_percent(text) == (command, stdin)


# --- variables (seen)

VARIABLES = [
    ("FOO = bar baz  ", ("FOO", "bar baz")),
    ('QUOTED="  two  "', ("QUOTED", "  two")),  # the manual says that quotes preserve trailing blanks
    ("SINGLE='it \"is\"  '", ("SINGLE", 'it "is"')),
    ('PARTIAL=a"b"c', ("PARTIAL", 'a"b"c')),
    ('EMPTY=""', ("EMPTY", "")),
    ("  INDENT=yes", ("INDENT", "yes")),
    ("PCT=50%", ("PCT", "50%")),
    ("HASH=a # b", ("HASH", "a # b")),
    ('"Q"=x', ("Q", "x")),
    ("DOLLAR=$HOME/bin", ("DOLLAR", "$HOME/bin")),
    ("UNCLOSED=it's", ("UNCLOSED", "it's")),
]


@pytest.mark.parametrize(("line", "variable"), VARIABLES)
def test_variables_are_read_as_cron_does(line: str, variable: tuple[str, str]) -> None:
    assert dict([variable]).items() <= only(f"{line}\n@daily x\n").env.items()


def test_variables_hold_from_their_line_on() -> None:
    entries = read("A=1\n@daily x\nA=2\nB=3\n\n@daily y\n").entries
    assert [entry.env for entry in entries] == [{"A": "1"}, {"A": "2", "B": "3"}]


@given(value=st.text("ab \"'$%#\\=\té"))
def test_a_written_variable_is_read_back(value: str) -> None:
    try:
        line = crontab.variable_line("NAME", value)
    except BadInput:
        assert value != value.strip() or ('"' in value and "'" in value)
    else:
        assert only(f"{line}\n@daily x\n").env == {"NAME": value}


# --- lines that cannot be taken: cron's own refusals (seen), and ours

BAD = [
    (Form.USER, "5/15 * * * * x", "step"),
    (Form.USER, "-* * * * * x", "no - before the time"),
    (Form.USER, "@Daily x", "@Daily is no time that cron knows"),
    (Form.USER, "@every_minute x", "no time that cron knows"),
    (Form.USER, "E=", "neither a variable nor five fields"),
    (Form.USER, "E='a' b", "neither a variable nor five fields"),
    (Form.USER, "E='a'b", "neither a variable nor five fields"),
    (Form.USER, "60 * * * * x", "minute '60'"),
    (Form.USER, "~ * * * * x", "minute '~'"),
    (Form.USER, "*/0 * * * * x", "a step is a number from 1 on"),
    (Form.USER, "0 0 0 * * x", "day of month '0'"),
    (Form.USER, "0 0 31 2 * x", "no such date ever comes"),
    (Form.USER, "* * * * *", "the command is missing"),
    (Form.USER, "@daily", "the command is missing"),
    (Form.USER, "* * * * * %x", "it ends at the first %"),
    (Form.USER, "* * * *", "neither a variable nor five fields"),
    (Form.USER, "* * * * * x\r", "carriage return"),
    (Form.USER, "A-B=3", "not a variable name"),
    (Form.USER, "0 5 * * * x\0y", "NUL"),
    (Form.USER, "0 5 * * * \udcff", "not valid UTF-8"),
    (Form.USER, "0 5 * * * " + "x" * 131072, "longer than"),
    (Form.SYSTEM, "@daily root", "the command is missing"),
    (Form.SYSTEM, "* * * * * root ", "the command is missing"),
    (Form.SYSTEM, "* * * * * bob:bob true", "not a user name"),
    (Form.SYSTEM, "* * * * * /usr/bin/true now", "not a user name"),
    (Form.ANACRON, "30 5 x run", "a period of '30'"),
    (Form.ANACRON, "1 soon x run", "the delay 'soon'"),
    (Form.ANACRON, "1 5 x", "period delay job-identifier command"),
    (Form.ANACRON, "1 5 x run \\", "goes on in the next line"),
]


@pytest.mark.parametrize(("form", "line", "reason"), BAD, ids=[line[:30] for _, line, _ in BAD])
def test_a_bad_line_is_named_with_its_reason(form: Form, line: str, reason: str) -> None:
    found = crontab.parse(f"# one\n\n{line}\n", form)
    assert not found.entries
    (bad,) = found.bad
    assert (bad.line, bad.text) == (3, line)
    assert reason in bad.reason


@given(st.text(st.sampled_from("*/,-@%\\\"'=# \t\r\n\0015aroot\udcff") | st.characters()), st.sampled_from(Form))
def test_no_text_whatever_breaks_the_parser(text: str, form: Form) -> None:
    found = crontab.parse(text, form)
    lines = len(text.split("\n"))
    assert all(1 <= each.line <= lines for each in (*found.entries, *found.bad))


NOTES = [
    ("MAILTO=ops@example.org\n", "no mail goes to ops@example.org"),
    ("CRON_TZ=Asia/Tokyo\n", "Debian's own cron ignores it"),
    ("LOGNAME=x\n", "always the user"),
    ("22-2 * * * * x\n", "not plain cron"),  # cron takes it and never runs it
    ("5 4 * * 1#2 x\n", "not plain cron"),  # cron takes it for every Monday
    ("@daily x", "does not end in a newline"),
    ("@daily [ -d /run/systemd/system ] || x\n", "its package may have a timer"),
]


@pytest.mark.parametrize(("text", "note"), NOTES)
def test_what_will_be_otherwise_is_said(text: str, note: str) -> None:
    (found,) = read(text).notes
    assert note in found.text


def test_nothing_is_said_of_a_plain_line() -> None:
    assert read('MAILTO=""\nA=1\n*/5 1-3,7 * jan-mar mon,fri-sat x\n').notes == ()


# --- real files

ETC_CRONTAB = r"""# /etc/crontab: system-wide crontab
# Unlike any other crontab you don't have to run the `crontab'
# command to install the new version when you edit this file
# and files in /etc/cron.d. These files also have username fields,
# that none of the other crontabs do.

SHELL=/bin/sh
# You can also override PATH, but by default, newer versions inherit it from the environment
#PATH=/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin

# Example of job definition:
# .---------------- minute (0 - 59)
# |  .------------- hour (0 - 23)
# |  |  .---------- day of month (1 - 31)
# |  |  |  .------- month (1 - 12) OR jan,feb,mar,apr ...
# |  |  |  |  .---- day of week (0 - 6) (Sunday=0 or 7) OR sun,mon,tue,wed,thu,fri,sat
# |  |  |  |  |
# *  *  *  *  * user-name command to be executed
17 *	* * *	root	cd / && run-parts --report /etc/cron.hourly
25 6	* * *	root	test -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.daily; }
47 6	* * 7	root	test -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.weekly; }
52 6	1 * *	root	test -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.monthly; }
#
"""
E2SCRUB = """30 3 * * 0 root test -e /run/systemd/system || SERVICE_MODE=1 /usr/lib/x86_64-linux-gnu/e2fsprogs/e2scrub_all_cron
10 3 * * * root test -e /run/systemd/system || SERVICE_MODE=1 /sbin/e2scrub_all -A -r
"""  # noqa: E501
PHP = """# /etc/cron.d/php@PHP_VERSION@: crontab fragment for PHP
#  This purges session files in session.save_path older than X,
#  where X is defined in seconds as the largest value of
#  session.gc_maxlifetime from all your SAPI php.ini files
#  or 24 minutes if not defined.  The script triggers only
#  when session.save_handler=files.

# Look for and purge old sessions every 30 minutes
09,39 *     * * *     root   [ -x /usr/lib/php/sessionclean ] && if [ ! -d /run/systemd/system ]; then /usr/lib/php/sessionclean; fi
"""  # noqa: E501
CERTBOT = r"""# /etc/cron.d/certbot: crontab entries for the certbot package
#
# certbot.timer.
SHELL=/bin/sh
PATH=/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin

0 */12 * * * root test -x /usr/bin/certbot -a \! -d /run/systemd/system && perl -e 'sleep int(rand(43200))' && certbot -q renew
"""  # noqa: E501
SYSSTAT = """# The first element of the path is a directory where the debian-sa1
# script is located
PATH=/usr/lib/sysstat:/usr/sbin:/usr/sbin:/usr/bin:/sbin:/bin

# Activity reports every 10 minutes everyday
5-55/10 * * * * root command -v debian-sa1 > /dev/null && debian-sa1 1 1

# Additional run at 23:59 to rotate the statistics file
59 23 * * * root command -v debian-sa1 > /dev/null && debian-sa1 60 2
"""
USER = """# Edit this file to introduce tasks to be run by cron.
#
# For more information see the manual pages of crontab(5) and cron(8)
#
# m h  dom mon dow   command
*/5 * * * * /home/bob/bin/check --all >/dev/null 2>&1
# Backup of the database
#0 4 * * * /opt/old-backup
0 5 * * 1 tar -zcf /var/backups/home.tgz /home/

# job: Nightly Report
# Goes to the whole team,
# and to the boss.
30 23 * * mon-fri cd /srv/report && FOO=1 python3 make.py | mail -s report team%Here it is.%
@reboot /usr/bin/flock -n /tmp/x.lock /opt/watch.sh
"""
ANACRONTAB = """# /etc/anacrontab: configuration file for anacron

SHELL=/bin/sh
HOME=/root
LOGNAME=root

# These replace cron's entries
1	5	cron.daily	run-parts --report /etc/cron.daily
7	10	cron.weekly	run-parts --report /etc/cron.weekly
@monthly	15	cron.monthly	run-parts --report 100% /etc/cron.monthly
"""

FILES = [
    (ETC_CRONTAB, Form.SYSTEM, "", [
        ("cron.hourly", "17 * * * *", ""), ("cron.daily", "25 6 * * *", ""),
        ("cron.weekly", "47 6 * * 7", ""), ("cron.monthly", "52 6 1 * *", "")]),
    (E2SCRUB, Form.SYSTEM, "e2scrub_all", [("e2scrub_all", "30 3 * * 0", ""), ("e2scrub_all", "10 3 * * *", "")]),
    (PHP, Form.SYSTEM, "php", [("php", "09,39 * * * *", "Look for and purge old sessions every 30 minutes")]),
    (CERTBOT, Form.SYSTEM, "certbot", [("certbot", "0 */12 * * *", "")]),
    (SYSSTAT, Form.SYSTEM, "", [
        ("debian-sa1", "5-55/10 * * * *", "Activity reports every 10 minutes everyday"),
        ("debian-sa1", "59 23 * * *", "Additional run at 23:59 to rotate the statistics file")]),
    (USER, Form.USER, "", [
        ("check", "*/5 * * * *", ""), ("tar", "0 5 * * 1", ""),
        ("Nightly Report", "30 23 * * mon-fri", "Goes to the whole team, and to the boss."),
        ("watch.sh", "@reboot", "")]),
    (ANACRONTAB, Form.ANACRON, "", [
        ("cron.daily", "@daily", "These replace cron's entries"), ("cron.weekly", "@weekly", ""),
        ("cron.monthly", "@monthly", "")]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "form", "label", "expected"), FILES, ids=[text[:25] for text, *_ in FILES])
def test_real_files(text: str, form: Form, label: str, expected: list[tuple[str, str, str]]) -> None:
    told = [
        (cronjobs.base_name(entry, label=label), entry.schedule, cronjobs.description(entry.comment))
        for entry in read(text, form).entries
    ]
    assert told == expected


def test_a_job_has_what_cron_gives_it() -> None:
    text = 'MAILTO=ops\nSHELL=/bin/bash\nCRON_TZ=Asia/Tokyo\nLOGNAME=x\n# Say it.\n5 4 * * sun cat "$0" %a%b\n'
    assert job_of(text, account=BOB) == Job(  # noqa: S604
        name="Say it",
        command='cat "$0" ',
        shell="/bin/bash",
        stdin="a\nb\n",
        schedule=("5 4 * * sun",),
        timezone="Asia/Tokyo",
        description="Say it.",
        env={"SHELL": "/bin/bash", "PATH": "/usr/bin:/bin", "HOME": "/home/bob", "LOGNAME": "bob", "MAILTO": "ops"},
        working_dir="/home/bob",
        run_as="bob",
    )


def test_the_scope_decides_who_runs_it() -> None:
    assert job_of("@daily x\n", account=BOB, scope=Scope.USER).run_as is None
    assert job_of("@daily x\n").run_as is None  # root, in the system's scope
    assert job_of("@daily root x\n", Form.SYSTEM).working_dir == "/root"
    assert job_of("HOME=/srv\n@daily x\n").working_dir == "/srv"
    assert job_of("@daily x\n", account=ACCOUNTS["nobody"]).working_dir == "/"
    assert job_of("CRON_TZ=Asia/Tokyo\n@reboot x\n").on_boot


def test_anacron_makes_up_for_what_was_missed() -> None:
    entry = read(ANACRONTAB, Form.ANACRON).entries[1]
    job = cronjobs.job_from(entry, name="x", form=Form.ANACRON, scope=Scope.SYSTEM, account=ROOT)
    assert (job.schedule, job.catch_up, job.jitter) == (("@weekly",), "once", timedelta(minutes=10))
    assert job.env == {"SHELL": "/bin/sh", "HOME": "/root", "LOGNAME": "root"}
    assert read(ANACRONTAB, Form.ANACRON).entries[2].command.endswith("100% /etc/cron.monthly")


PROGRAMS = [
    ("[ -x /usr/lib/x ] && /usr/lib/x", "x"),
    ("/usr/bin/env FOO=1 nice -n 19 /opt/backup.sh >/dev/null", "backup.sh"),
    ("timeout 5m php -f /var/www/cron.php", "cron.php"),
    ("(cd /srv; ./run.sh)", "run.sh"),
    ("%$!", "cron job"),
]


@pytest.mark.parametrize(("command", "name"), PROGRAMS)
def test_a_line_is_named_after_its_program(command: str, name: str) -> None:
    assert cronjobs.program(command) == name


def test_names_are_unique_and_not_our_own() -> None:
    assert cronjobs.free_name("backup", {"backup", "backup-2"}) == "backup 3"
    assert cronjobs.free_name("sync", ()) == "cron sync"


@given(st.text(max_size=300))
def test_standard_input_reaches_the_unit_file_whole(stdin: str) -> None:
    try:
        job = replace(DAILY, stdin=stdin)
    except BadInput:
        assert "\0" in stdin
        return
    now = datetime(2026, 11, 22, tzinfo=UTC)
    files = unit.render(job, scope=Scope.SYSTEM, recorder="/r", now=now, local_zone="UTC")
    assert unit.read(*files.values()).job == job
    data = re.findall(r"^StandardInputData=([A-Za-z0-9+/=]*)$", files[job.unit], re.MULTILINE)
    assert b"".join(map(base64.b64decode, data)).decode() == stdin


SHELLS = ["sh", "/bin/sh -e", "/bin/../sh", "/bin/$SHELL", "/bin/%n", "", "/", "/bin/"]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_is_the_path_of_a_program(shell: str) -> None:
    with pytest.raises(BadInput):
        replace(DAILY, shell=shell)
