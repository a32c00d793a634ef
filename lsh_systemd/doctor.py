"""What usually goes wrong, looked for one by one; each finding with the command that mends it."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from lsh_systemd import alerts, caps, config, connect, daemons, follow, ledger, membership, notify, secrecy, storefile
from lsh_systemd.alertrule import SLACK_RULE
from lsh_systemd.batch import unfinished
from lsh_systemd.control import Control
from lsh_systemd.errors import LshError
from lsh_systemd.finding import Finding
from lsh_systemd.held import not_held
from lsh_systemd.hints import hints
from lsh_systemd.jobs import Found
from lsh_systemd.manager import TIMER, UNIT, AccessDenied, NoSuchUnit
from lsh_systemd.outbox import Outbox
from lsh_systemd.queue import Queue
from lsh_systemd.refresh import stale
from lsh_systemd.run import rfc3339
from lsh_systemd.scope import Scope, runtime_dir, unit_dir
from lsh_systemd.store import Store, StoreDamaged
from lsh_systemd.unsent import Unsent

# The oldest systemd whose behaviour is tested.
_OLDEST_SYSTEMD = 252
_LOW_SPACE = 100 * 2**20
_LATE_SECONDS = 60
_NO_UNIT = "lsh-doctor-looks-whether-it-may.service"


class Doctor:
    """Examines one scope. Every check stands alone: one that fails does not hide the others."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.scope, self.manager, self.jobs = control.scope, control.manager, control.jobs

    def examine(self) -> Iterator[Finding]:
        """All findings, in the order in which they should be mended."""
        checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
            ("manager", self._manager),
            ("access", self._access),
            ("lingering", self._lingering),
            ("recorder", self._recorder),
            ("journal", self._journal),
            ("agent", self._agent),
            ("queue", self._queue),
            ("alerts", self._alerts),
            ("supabase", self._supabase),
            ("fleet", lambda: membership.examine(self.control)),
            ("settings", self._settings),
            ("store", self._store),
            ("clock", self._clock),
            ("jobs", self._jobs),
            ("apply", self._apply),
            ("schedules", self._schedules),
            ("limits", self._limits),
        ]
        for name, check in checks:
            problems = False
            try:
                for finding in check():
                    problems = True
                    yield finding
            except LshError as error:
                problems = True
                yield Finding(check=name, level="error", message=error.message, fix=error.hint)
            if not problems:
                yield Finding(check=name, level="ok", message="")

    def _manager(self) -> Iterator[Finding]:
        version = self.manager.version
        digits = version.split(".")[0].split("~")[0].split("-")[0]
        if digits.isdecimal() and int(digits) < _OLDEST_SYSTEMD:
            yield Finding(
                check="manager", level="warning", message=f"systemd {version} is older than {_OLDEST_SYSTEMD}",
                fix="upgrade systemd: records and limits are untested below that",
            )  # fmt: skip

    def _access(self) -> Iterator[Finding]:
        if self.scope is Scope.SYSTEM and not os.access(unit_dir(self.scope), os.W_OK):
            yield Finding(
                check="access",
                level="error",
                message=f"you may not write to {unit_dir(self.scope)}",
                fix="sudo lshctl …, or lshctl --user … for jobs of your own",
            )
        try:
            # There is no such unit; systemd asks polkit before it says so.
            self.manager.start(_NO_UNIT)
        except AccessDenied as error:
            yield Finding(
                check="access",
                level="error",
                message=f"polkit refuses: {error.message}",
                fix="sudo lshctl …, or lshctl --user … for jobs of your own",
            )
        except NoSuchUnit:
            return

    def _lingering(self) -> Iterator[Finding]:
        if self.scope is Scope.SYSTEM:
            return
        import pwd

        try:
            user = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            user = str(os.getuid())
        if not Path("/var/lib/systemd/linger", user).exists():
            yield Finding(
                check="lingering", level="warning", message="your jobs end when you log out and wait for a login",
                fix=f"sudo loginctl enable-linger {user}",
            )  # fmt: skip
        if not (runtime_dir() / "bus").exists():
            yield Finding(
                check="lingering", level="error", message=f"there is no user bus at {runtime_dir() / 'bus'}",
                fix="install dbus-user-session and log in anew (not through su or sudo)",
            )  # fmt: skip

    def _recorder(self) -> Iterator[Finding]:
        if not os.access(daemons.script("record"), os.R_OK):
            path = daemons.script("record")
            yield Finding(
                check="recorder", level="error", message=f"{path} is missing: runs would leave no record",
                fix="install lsh-systemd anew",
            )  # fmt: skip
        logger = shutil.which("logger", path="/usr/bin:/bin")
        if not logger or "--journald" not in _output_of([logger, "--help"]):
            yield Finding(
                check="recorder", level="error", message="logger cannot write to the journal: no records",
                fix="install util-linux's logger (Debian: apt install bsdutils)",
            )  # fmt: skip

    def _journal(self) -> Iterator[Finding]:
        if self.control.journal.tail() is None:
            fix = (
                "sudo mkdir -p /var/log/journal && sudo systemctl restart systemd-journald"
                if self.scope is Scope.USER and not Path("/var/log/journal").exists()
                else f"sudo usermod -aG systemd-journal {os.environ.get('USER', '$USER')}, then log in anew"
            )
            yield Finding(check="journal", level="error", message="you cannot read your lines in the journal", fix=fix)
        elif not Path("/var/log/journal").exists():
            yield Finding(
                check="journal", level="warning", message="a reboot empties the journal: what is not collected is lost",
                fix="sudo mkdir -p /var/log/journal && sudo systemctl restart systemd-journald",
            )  # fmt: skip

    def _agent(self) -> Iterator[Finding]:
        state = self.manager.get(daemons.AGENT, UNIT, "ActiveState")
        if state != "active":
            yield Finding(
                check="agent", level="warning",
                message=f"the agent is {state}: runs are collected only when lshctl looks at them",
                fix=f"lshctl --{self.scope} agent enable",
            )  # fmt: skip
        elif self.manager.get(daemons.PRUNE_TIMER, UNIT, "ActiveState") != "active":
            yield Finding(
                check="agent", level="warning", message=f"{daemons.PRUNE_TIMER} does not run: nothing is pruned",
                fix=f"lshctl --{self.scope} agent enable",
            )  # fmt: skip

    def _queue(self) -> Iterator[Finding]:
        waiting = Queue(self.scope).entries()
        if not waiting and not any(cap for _, cap in caps.load(self.scope).named()):
            return
        state = self.manager.get(daemons.QUEUE, UNIT, "ActiveState")
        if state != "active":
            yield Finding(
                check="queue", level="error",
                message=f"{daemons.QUEUE} is {state}: nothing starts what waits ({len(waiting)} now)",
                fix=f"systemctl --{self.scope} enable --now {daemons.QUEUE}",
            )  # fmt: skip

    def _alerts(self) -> Iterator[Finding]:
        rules = alerts.rules_of(self.scope)
        if not rules or not ledger.path(self.scope).exists():
            return
        if not notify.is_there() and any(rule.name != SLACK_RULE for rule in rules):
            yield Finding(
                check="alerts", level="error", message="apprise, which sends them, is missing", fix=notify.INSTALL
            )
        if self.manager.get(daemons.AGENT, UNIT, "ActiveState") != "active":
            yield Finding(
                check="alerts", level="error", message="there are rules, but the agent, which sends, is off",
                fix=f"lshctl --{self.scope} agent enable",
            )  # fmt: skip
        for rule in rules:
            if problem := secrecy.problem(secrecy.named_by(rule), self.scope, self.manager):
                secret, words = problem
                yield Finding(
                    check="alerts", level="error", message=f"the rule {rule.name} cannot send: {words}",
                    fix=f"lshctl --{self.scope} secrets set {secret}",
                )  # fmt: skip
        outbox = Outbox(Store(ledger.path(self.scope)))
        given_up, targets = outbox.given_up(), {rule.name: len(rule.to) for rule in rules}
        for (name, target), state in outbox.targets().items():
            lost = given_up.get((name, target), 0)
            if state.tries and target < targets.get(name, 0):
                yield Finding(
                    check="alerts", level="error",
                    message=f"the rule {name} cannot send (tries: {state.tries}, given up: {lost}): {state.error}",
                    fix=f"lshctl --{self.scope} alerts test {name}",
                )  # fmt: skip

    def _supabase(self) -> Iterator[Finding]:
        if connect.url(self.scope) is None:
            return
        call = f"lshctl --{self.scope}"
        if self.manager.get(daemons.AGENT, UNIT, "ActiveState") != "active":
            yield Finding(
                check="supabase", level="error", message="a project is set, but the agent, which sends, is off",
                fix=f"{call} agent enable",
            )  # fmt: skip
        unsent = Unsent(Store(ledger.path(self.scope)))
        if (progress := unsent.progress()).tries:
            said = f"nothing can be sent (tries: {progress.tries}): {progress.error}"
            yield Finding(check="supabase", level="error", message=said, fix=f"{call} sync test")
        if refused := unsent.refused():
            said = f"Supabase has refused {len(refused)} rows"
            yield Finding(check="supabase", level="warning", message=said, fix=f"{call} sync status")

    def _settings(self) -> Iterator[Finding]:
        from lsh_systemd import environment

        yield from environment.examine(self.scope)
        config.load(self.scope)

    def _store(self) -> Iterator[Finding]:
        path = ledger.path(self.scope)
        if os.access(path.parent, os.X_OK) and not path.exists():
            return
        yield from self._store_file(path)
        for aside in storefile.asides(path):
            was = "damaged" if ".corrupt-" in aside.name else "replaced by a backup"
            yield Finding(
                check="store", level="warning", message=f"a ledger that was {was} is kept as {aside}",
                fix=f"when nothing is missing: rm {aside}*",
            )  # fmt: skip
        free = shutil.disk_usage(path.parent).free
        if free < _LOW_SPACE:
            yield Finding(
                check="store", level="warning", message=f"only {free // 2**20} MiB are free for {path}",
                fix=f"df -h {path.parent}",
            )  # fmt: skip

    def _store_file(self, path: Path) -> Iterator[Finding]:
        try:
            with contextlib.closing(Store(path)) as store:
                verdict = store.check()
                if verdict == "ok":
                    yield from self._store_contents(store, path)
                else:
                    raise store.condemn(verdict)
        except StoreDamaged as error:
            yield Finding(
                check="store", level="error", message=error.message,
                fix=f"lshctl --{self.scope} prune --check keeps it aside and makes it anew from the journal",
            )  # fmt: skip

    def _store_contents(self, store: Store, path: Path) -> Iterator[Finding]:
        """How large it is and how far it reaches; whether an agent that runs keeps up."""
        count, newest = store.summary()
        reach = "" if newest is None else f", the newest of {rfc3339(newest)}"
        yield Finding(
            check="store", level="ok", message=f"{count} runs in {storefile.size(path) / 2**20:.1f} MiB{reach}"
        )
        month = (time.time() - 30 * 86_400) * 1e6
        for gap in store.gaps(round(month)):
            yield Finding(
                check="store", level="warning", message=gap.words(),
                fix=f"lshctl --{self.scope} agent enable, or SystemMaxUse= in /etc/systemd/journald.conf",
            )  # fmt: skip
        journal = self.control.journal
        unread = journal.events(store.cursor(), journal.boots(besides=store.boots()))
        waiting = next((at for _, at, _ in unread), None)
        late = 0 if waiting is None else time.time() - waiting / 1e6
        if late > _LATE_SECONDS and self.manager.get(daemons.AGENT, UNIT, "ActiveState") == "active":
            yield Finding(
                check="store", level="warning", message=f"the agent has not collected what came {late:.0f} s ago",
                fix=f"journalctl {'' if self.scope is Scope.SYSTEM else '--user '}-u {daemons.AGENT}",
            )  # fmt: skip

    def _clock(self) -> Iterator[Finding]:
        answer = _output_of(["timedatectl", "show", "--property=NTPSynchronized", "--value"]).strip()
        if answer == "no":
            yield Finding(
                check="clock", level="warning", message="the clock is not synchronized and may be wrong",
                fix="sudo timedatectl set-ntp true",
            )  # fmt: skip

    def _jobs(self) -> Iterator[Finding]:
        units = self.manager.units("lsh-*")
        all_found = {found.id: found for found in self.jobs.all()}
        for found in all_found.values():
            name = f"job {found.id}"
            if found.problem:
                yield Finding(
                    check=name, level="error", message=f"its unit file tells no job: {found.problem}",
                    fix=f"mend [X-Lsh] in {found.dir.path / found.service}",
                )  # fmt: skip
                continue
            if found.changed:
                yield Finding(
                    check=name, level="warning", message="its unit files were edited by hand",
                    fix=f"lshctl --{self.scope} set {found.id} --force … takes that back; a drop-in keeps it",
                )  # fmt: skip
            if found.job and (problem := secrecy.problem(secrecy.named(found.job), self.scope, self.manager)):
                secret, words = problem
                yield Finding(
                    check=name, level="error", message=words, fix=f"lshctl --{self.scope} secrets set {secret}"
                )  # fmt: skip
            if found.job and found.job.ping and not shutil.which("curl", path="/usr/bin:/bin"):
                yield Finding(
                    check=name, level="error", message="it has a --ping, but there is no curl", fix="apt install curl"
                )  # fmt: skip
            timer = units.get(found.timer)
            yield from self._missing(found, all_found)
            waits_on = [each for each in found.activators if each != found.timer or not found.valid_job.on_boot]
            resting = [each for each in waits_on if each not in units or units[each].active != "active"]
            if found.pair.enabled and resting:
                yield Finding(
                    check=name, level="error", message=f"it is enabled, but {resting[0]} does not run",
                    fix=f"lshctl --{self.scope} enable {found.id}",
                )  # fmt: skip
            elif timer is not None and self.manager.get(found.timer, UNIT, "NeedDaemonReload"):
                yield Finding(
                    check=name, level="warning", message="systemd has not read its changed unit files yet",
                    fix=f"systemctl --{self.scope} daemon-reload",
                )  # fmt: skip
            if timer is not None and self.manager.get(found.timer, TIMER, "Result") not in ("success", ""):
                yield Finding(
                    check=name, level="error", message="its timer has failed",
                    fix=f"systemctl --{self.scope} status {found.timer}",
                )  # fmt: skip

    def _missing(self, found: Found, all_found: Mapping[str, Found]) -> Iterator[Finding]:
        for edge in follow.dangling(found.valid_job, all_found):
            if edge.kind == "after":
                message = f"it runs after {edge.first}, which is not there: it never runs by itself"
                fix = f"lshctl --{self.scope} set {found.id} --unset after, or --after JOB"
            else:
                message = f"it starts {edge.then} ({edge.kind}), which is not there"
                fix = f"lshctl --{self.scope} set {found.id} --unset {edge.kind}"
            yield Finding(check=f"job {found.id}", level="warning", message=message, fix=fix)

    def _apply(self) -> Iterator[Finding]:
        if left := sorted(unfinished(self.scope) | {each.job for each in self.control.under_way.left()}):
            shown = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
            yield Finding(
                check="apply",
                level="error",
                message=f"a change of jobs was cut off, or goes on: {shown} may be half there",
                fix="repeat it",
            )

    def _schedules(self) -> Iterator[Finding]:
        due = [each.found.id for each in stale(self.control)]
        if due:
            shown = ", ".join(due[:5]) + (" …" if len(due) > 5 else "")
            yield Finding(
                check="schedules",
                level="warning",
                message=f"written for another time zone, year or version: {shown}",
                fix=f"lshctl --{self.scope} refresh",
            )

    def _limits(self) -> Iterator[Finding]:
        """What of the jobs' limits and isolation does not hold here, and what of it has made a last run fail."""
        try:
            store = ledger.current(self.scope, self.jobs)
        except LshError:  # told of by another check
            store = None
        last_runs = store.last_runs() if store else {}
        for found in self.jobs.all():
            if found.job is None:
                continue
            for line in not_held(self.control, found.job):
                yield Finding(check=f"job {found.id}", level="warning", message=line)
            last = last_runs.get(found.id)
            if store and last and last.failed:
                for hint in hints(found.job, store.run(last.id)[0]):
                    yield Finding(
                        check=f"job {found.id}",
                        level="warning",
                        message=f"its last run failed: {hint.reason}",
                        fix=f"lshctl --{self.scope} set {found.id} {hint.options}",
                    )


def _output_of(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
