"""lshctl apply --git: a job of ours makes the machine's jobs those that somebody trusted has signed."""

from tests.system.lsh import Lsh

JOBS = """\
project: {n}
jobs:
  {n}-a: {{every: {every}, command: "true"}}
"""


def test_a_job_follows_a_repository(lsh: Lsh) -> None:
    n, folder, timeout = lsh.new_name(), lsh.new_path(), 60

    def sh(script: str) -> None:
        lsh.machine.run("sh", "-ec", script, user=lsh.user, cwd=folder, timeout=timeout)

    def commit(every: str, *, key: str) -> None:
        lsh.machine.write(f"{folder}/repository/jobs.yaml", JOBS.format(n=n, every=every), user=lsh.user)
        sh(f"cd repository && git add jobs.yaml && git -c user.signingkey=../{key} commit -q -S -m '{every}'")

    lsh.machine.write(f"{folder}/.keep", "", user=lsh.user)
    sh("for name in ann eve; do ssh-keygen -q -t ed25519 -N '' -f $name; done; echo \"ann $(cat ann.pub)\" >signers")
    sh("git init -q -b main repository && cd repository && git config gpg.format ssh && git config user.name A")
    sh("cd repository && git config user.email a@example.org")
    command = f"lshctl --{lsh.scope} apply --git {folder}/repository --ref main --signed-by {folder}/signers --prune"
    job = lsh.add("--", command)

    commit("2h", key="ann")
    run = lsh.run(job)
    assert run["result"] == "success"
    assert run["output"].splitlines()[-1] == "1 added, 0 unchanged."
    assert "signed by ann" in run["output"]
    assert lsh.json("show", f"{n}-a")["definition"]["every"] == "2h"

    commit("3h", key="eve")
    run = lsh.run(job, check=False)
    assert (run["result"], run["exit_status"]) == ("exit-code", 1)
    assert "has no signature of anybody in" in run["output"]
    assert lsh.json("show", f"{n}-a")["definition"]["every"] == "2h"

    commit("4h", key="ann")
    assert lsh.run(job)["output"].splitlines()[-1] == "1 changed, 0 unchanged."
    assert lsh("diff", *command.split()[3:]).stdout == "Nothing to change: 1 job as described.\n"
