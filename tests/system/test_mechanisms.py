"""Which mechanism of systemd carries each part of the execution policy, by version and scope: one table."""

from dataclasses import dataclass

import pytest

from tests.system.lsh import SERVICE as INTERFACE
from tests.system.lsh import Lsh

JOB = "{job}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What ``options`` come to: the words of a property of a unit."""

    options: tuple[str, ...]
    unit: str
    shown: str
    words: str


SERVICE, TIMER = f"lsh-{JOB}.service", f"lsh-{JOB}.timer"
EVERY_DAY = ("--schedule", "@daily")
# The same on every version, but for what EXCEPTIONS says of a suite and a scope.
TABLE = {
    # retries: not Restart=, which counts nothing exactly, but a unit that a failure starts
    "no restart of systemd's": Row(options=("--retries", "3"), unit=SERVICE, shown="Restart", words="no"),
    "retries": Row(options=("--retries", "3"), unit=SERVICE, shown="OnFailure", words=f"lsh-failed@{JOB}.service"),
    "time-out": Row(options=("--timeout", "90s"), unit=SERVICE, shown="TimeoutStartUSec", words="1min 30s"),
    "grace": Row(options=("--grace", "5s"), unit=SERVICE, shown="TimeoutStopUSec", words="5s"),
    # overlap: systemd's own way is to queue one; for the others the timer starts a unit that looks first
    "overlap queue": Row(options=EVERY_DAY, unit=TIMER, shown="Unit", words=SERVICE),
    **{
        f"overlap {way}": Row(
            options=(*EVERY_DAY, "--overlap", way), unit=TIMER, shown="Unit", words=f"lsh-tick@{JOB}.service"
        )
        for way in ("skip", "parallel", "replace")
    },
    # caps: not ConcurrencySoftMax= (258), which knows neither priority nor user, but a path unit and a dispatcher
    "caps": Row(
        options=(*EVERY_DAY, "--group", "capped"), unit=TIMER, shown="Unit", words=f"lsh-tick@{JOB}.service"
    ),
    "queue": Row(options=("--group", "capped"), unit="lsh-queue.path", shown="Triggers", words="lsh-queue.service"),
    "priority": Row(options=("--priority", "10"), unit=SERVICE, shown="CPUWeight", words="1000"),
    "order of the queue": Row(options=("--priority", "10"), unit=SERVICE, shown="Nice", words="-10"),
    "memory": Row(options=("--memory-max", "64M"), unit=SERVICE, shown="MemoryMax", words="67108864"),
    "swap": Row(options=("--swap-max", "0"), unit=SERVICE, shown="MemorySwapMax", words="0"),
    "CPU": Row(options=("--cpu-quota", "20%"), unit=SERVICE, shown="CPUQuotaPerSecUSec", words="200ms"),
    "tasks": Row(options=("--tasks-max", "9"), unit=SERVICE, shown="TasksMax", words="9"),
    "sandbox": Row(options=("--sandbox", "standard"), unit=SERVICE, shown="NoNewPrivileges", words="yes"),
    "secrets": Row(options=("--secret", "key"), unit=SERVICE, shown="LoadCredentialEncrypted", words="key"),
    "condition": Row(options=("--condition", "true"), unit=SERVICE, shown="ExecCondition", words="/bin/sh"),
    "on-success": Row(
        options=("--on-success", "echo done"), unit=SERVICE, shown="OnSuccess", words=f"lsh-succeeded@{JOB}.service"
    ),
    "path": Row(options=("--when-path", "/tmp/drop"), unit=f"lsh-{JOB}.path", shown="Triggers", words=SERVICE),
    "socket": Row(
        options=("--when-socket", "@lsh-mechanisms"), unit=f"lsh-{JOB}.socket", shown="Triggers", words=SERVICE
    ),
    "catch-up once": Row(options=(*EVERY_DAY, "--catch-up", "once"), unit=TIMER, shown="Persistent", words="yes"),
    "catch-up all": Row(
        options=(*EVERY_DAY, "--catch-up", "all"), unit="lsh-catch-up.service", shown="UnitFileState", words="enabled"
    ),
}  # fmt: skip


# A user manager decrypts credentials from 258 on only: before, they are files of mode 0600.
_PLAIN = Row(options=("--secret", "key"), unit=SERVICE, shown="LoadCredential", words="key")
EXCEPTIONS = {("secrets", "bookworm", "user"): _PLAIN, ("secrets", "trixie", "user"): _PLAIN}


@pytest.mark.parametrize("name", TABLE)
def test_mechanism(lsh: Lsh, suite: str, name: str) -> None:
    row = EXCEPTIONS.get((name, suite, lsh.scope), TABLE[name])
    needs_secret, needs_cap = "--secret" in row.options, "capped" in row.options
    if needs_secret:
        lsh("secrets", "set", "key", input="value")
    if needs_cap:
        lsh("limits", "set", "--group", "capped=1")
    try:
        job = lsh.add(*row.options, "--", "true")
        unit, words = row.unit.replace(JOB, job), row.words.replace(JOB, job)
        if needs_secret:  # systemctl show cannot print these
            shown = {
                kind: lsh.loaded(unit, INTERFACE, kind)[kind] for kind in ("LoadCredential", "LoadCredentialEncrypted")
            }
            assert [(kind, name) for kind, found in shown.items() for name, _ in found] == [(row.shown, words)]
        else:
            text = lsh.show(unit, row.shown)[row.shown]
            assert words == text or words in text.split() or f"path={words}" in text or f"argv[]={words}" in text, text
    finally:
        lsh.clean()
        if needs_secret:
            lsh("secrets", "remove", "key")
        if needs_cap:
            lsh("limits", "set", "--group", "capped=none")
