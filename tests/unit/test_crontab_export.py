"""Jobs → crontabs: every cron reads there what the job does here, or it is said what a crontab cannot hold."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsh_systemd import cronjobs, crontab
from lsh_systemd.crontab import Form
from lsh_systemd.job import Job
from lsh_systemd.scope import Scope
from tests.unit.test_crontab import ACCOUNTS, DAILY, read


def exported(*jobs: Job, form: Form = Form.SYSTEM, enabled: bool = True) -> cronjobs.Exported:
    owner = "root" if form is Form.SYSTEM else "bob"
    scope = Scope.SYSTEM if form is Form.SYSTEM else Scope.USER
    return cronjobs.export([(job, enabled) for job in jobs], form=form, scope=scope, owner=owner, account=ACCOUNTS.get)


def imported(text: str, form: Form = Form.SYSTEM) -> list[Job]:
    jobs = []
    for entry in read(text, form).entries:
        name, scope = cronjobs.base_name(entry), Scope.SYSTEM if form is Form.SYSTEM else Scope.USER
        account = ACCOUNTS[entry.user or "bob"]
        jobs.append(cronjobs.job_from(entry, name=name, form=form, scope=scope, account=account))
    return jobs


def test_a_crontab_holds_a_job_and_says_where_and_as_whom_it_runs() -> None:
    job = Job(name="Daily Backup", command="date +%F", schedule=("0 2 * * *",), description="All of it.", run_as="bob")
    assert exported(job).text == (
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
        "# job: Daily Backup\n# All of it.\n"
        "0 2 * * *\tbob\tcd / || exit; date +\\%F\n"
    )
    assert exported(job).left_out == exported(job).lost == ()


TIMES = [
    (("0 2 * * *",), ["0 2 * * *"]),
    (("@weekly",), ["@weekly"]),
    (("0 22-2 * * fri-mon",), ["0 0,1,2,22,23 * * 0,1,5,6"]),
    (("0 2 * * *", "0 14 * * *"), ["0 2 * * *", "0 14 * * *"]),
]


@pytest.mark.parametrize(("schedule", "times"), TIMES)
def test_times_are_written_so_that_every_cron_reads_them(schedule: tuple[str, ...], times: list[str]) -> None:
    lines = exported(Job(name="x", command="x", schedule=schedule)).text.splitlines()[2:]
    assert [line.split("\t")[0] for line in lines] == times


def test_a_hashed_time_is_written_out() -> None:
    (entry,) = read(exported(Job(name="x", command="x", schedule=("H H * * *",))).text, Form.SYSTEM).entries
    assert crontab.is_plain(entry.schedule)


LEFT_OUT = [
    (Job(name="x", command="x"), "no schedule"),
    (Job(name="x", command="x", calendar=("daily",)), "calendar"),
    (Job(name="x", command="x", every=timedelta(minutes=5)), "every"),
    (Job(name="x", command="x", schedule=("0 0 * * * 30",), seconds=True), "seconds"),
    (replace(DAILY, schedule=("0 0 L * *",)), "cron cannot write 0 0 L"),
    (replace(DAILY, command="a\nb"), "several lines"),
    (replace(DAILY, stdin="no newline"), "standard input"),
    (replace(DAILY, env_file=("/etc/x",)), "env_file"),
    (replace(DAILY, env={"A": "1\n2"}), "cannot hold the value of A"),
    (replace(DAILY, run_as="ghost"), "no user ghost"),
    (replace(DAILY, shell="/usr/bin/python3"), "no shell that could"),  # noqa: S604
]


@pytest.mark.parametrize(("job", "reason"), LEFT_OUT, ids=[reason for _, reason in LEFT_OUT])
def test_what_a_crontab_cannot_hold_is_said(job: Job, reason: str) -> None:
    told = exported(job)
    assert told.text == ""
    ((name, said),) = told.left_out
    assert name == "x" and reason in said


def test_what_is_lost_is_said() -> None:
    told = exported(replace(DAILY, nice=5, timeout=timedelta(hours=1), timezone="Asia/Tokyo"), enabled=False)
    said = " / ".join(what for _, what in told.lost)
    for word in ("timeout, nice", "CRON_TZ=Asia/Tokyo", "its schedule rests"):
        assert word in said
    assert told.text.splitlines()[-1].startswith("#@daily")


def test_variables_of_one_job_do_not_reach_the_next() -> None:
    bare = Job(name="bare", command="x", schedule=("@daily",), working_dir="/root")
    one = replace(bare, name="one", env={"A": "1"})
    other = replace(bare, name="other", env={"B": "it's", "HOME": "/srv"}, run_as="bob", working_dir="/srv")
    bobs = replace(bare, name="zz bob", env={"C": "1", "D": "2"}, run_as="bob", working_dir="/home/bob")
    entries = {entry.comment[0]: entry for entry in read(exported(one, other, bare, bobs).text, Form.SYSTEM).entries}
    assert entries["job: bare"].command == entries["job: one"].command == "x"
    assert entries["job: bare"].env.keys() == {"PATH"}
    assert entries["job: other"].command == "unset A; x"
    assert entries["job: zz bob"].command == "unset A B; x"
    assert entries["job: zz bob"].env["HOME"] == "/home/bob"


values = st.text("ab \"'$%#\\=é", max_size=6).map(str.strip)
cron_jobs = st.builds(
    lambda number, command, stdin, env, user, **rest: Job(
        name=f"job {number}",
        command=f"x{command}",
        stdin=f"{stdin}\n" if stdin else None,
        env={"PATH": "/usr/bin:/bin", "HOME": ACCOUNTS[user].home, **env, "LOGNAME": user, "SHELL": rest["shell"]},
        working_dir=ACCOUNTS[user].home,
        run_as=None if user == "root" else user,
        **rest,
    ),
    number=st.integers(1, 99),
    command=st.text("ab \\%'\"$", max_size=8),
    stdin=st.none() | st.text("ab%", min_size=1, max_size=5),
    env=st.dictionaries(st.sampled_from(["A", "B", "MAILTO"]), values, max_size=3),
    user=st.sampled_from(["root", "bob"]),
    shell=st.sampled_from(["/bin/sh", "/bin/bash"]),
    schedule=st.sampled_from([("@daily",), ("*/5 1-3 * jan-mar mon,fri",)]),
    timezone=st.sampled_from([None, "Asia/Tokyo", "Europe/Berlin"]),
    description=st.sampled_from(["", "Once a day.", "50 % of it"]),
)


@given(cron_jobs)
def test_an_imported_job_comes_back_as_it_was(job: Job) -> None:
    told = exported(job)
    if any(name in told.text for name in ("export ", "unset ")) or told.left_out:
        return  # a value that no line of variables can hold
    assert imported(told.text) == [job]


@given(st.lists(cron_jobs, max_size=5, unique_by=lambda job: job.id))
def test_each_of_many_jobs_finds_its_own_variables(jobs: list[Job]) -> None:
    told = exported(*jobs)
    names = {job.id: job for job in jobs}
    back = imported(told.text)
    assert len(back) + len(told.left_out) == len(jobs)
    for job in back:
        was = names[job.id]
        in_lines = {name: value for name, value in was.env.items() if f"export {name}=" not in job.command}
        assert {**job.env, **in_lines} == dict(job.env)  # nothing is missing or different
        extra = job.env.keys() - in_lines.keys()
        assert not extra or f"unset {' '.join(sorted(extra))};" in job.command
        assert (job.run_as, job.shell, job.stdin, job.timezone) == (was.run_as, was.shell, was.stdin, was.timezone)
        assert job.command.endswith(was.command)
