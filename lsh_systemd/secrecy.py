"""Which secrets there are, which jobs and alert rules use them, and whether these can have what they ask for."""

import re
from collections.abc import Iterable

from lsh_systemd import alertfile, credentials, hooks
from lsh_systemd.alertrule import Rule, secrets_in
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.job import Job
from lsh_systemd.jobs import Found, Jobs
from lsh_systemd.manager import Manager
from lsh_systemd.scope import Scope
from lsh_systemd.vault import Stored, Vault

# From here on a user's systemd decrypts credentials; before, LoadCredentialEncrypted= fails there (seen on 252).
# (The limit for large ones was lifted in between; nobody will miss the difference.)
_USERS_FROM = 258


def vault(scope: Scope, manager: Manager) -> Vault:
    """The secrets of the scope."""
    number = re.match(r"\d+", manager.version)
    new = number is not None and int(number[0]) >= _USERS_FROM
    return Vault(scope, encrypts=new or scope is Scope.SYSTEM, takes_large=new)


def plain_secrets(job: Job, scope: Scope, manager: Manager) -> frozenset[str]:
    """Those of the job's secrets that are not encrypted. In system scope all are."""
    if scope is Scope.SYSTEM or not job.secrets:
        return frozenset()
    kept = vault(scope, manager)
    encrypted = {each.name: each.encrypted for each in kept.all()}
    return frozenset(name for name in credentials.names(job) if not encrypted.get(name, kept.encrypts))


def check(job: Job, scope: Scope, manager: Manager) -> None:
    """Raise BadInput where a secret of the job's is not there, or is not what a run could be given."""
    if not named(job):
        return
    kept = vault(scope, manager)
    there = {each.name for each in kept.all()}
    for name in named(job):
        if name not in there:
            raise BadInput(f"there is no secret {name} in the {scope} scope", hint=f"lshctl secrets set {name}")
    values = {name: kept.value(name) for name in credentials.names(job)}
    for name in credentials.variables(job).values():
        check_variable(name, values[name])
    for name in secrets_in(job.ping or ""):
        _check_pinged(job, name, kept.value(name))
    if sum(len(name) + len(value) for name, value in values.items()) > credentials.MAX_BYTES:
        raise BadInput("the secrets of the job are too large", hint="systemd takes 1 MiB for all of them together")


def named(job: Job) -> list[str]:
    """The secrets that the job, or the URL that it pings, asks for."""
    return [*credentials.names(job), *secrets_in(job.ping or "")]


def named_by(rule: Rule) -> list[str]:
    """The secrets in the rule's URLs."""
    return [name for url in rule.to for name in secrets_in(url)]


def check_variable(name: str, value: bytes) -> None:
    """Raise BadInput for what no variable can hold."""
    if b"\0" in value:
        raise BadInput(f"the secret {name} holds a NUL byte, which no variable can", hint="use it as a file")
    if len(value) > credentials.MAX_VARIABLE_BYTES - credentials.MAX_NAME_BYTES:
        raise BadInput(
            f"the secret {name} is too large for a variable", hint="use it as a file: $CREDENTIALS_DIRECTORY/" + name
        )


def _check_pinged(job: Job, name: str, value: bytes) -> None:
    text = value.decode("utf-8", "replace").rstrip("\n")  # as the shell takes it
    hooks.check_pinged((job.ping or "").replace(f"{{secret:{name}}}", text))


def used_by(jobs: Jobs, name: str) -> list[Found]:
    """The jobs that use the secret; also one whose files no longer tell a job, but still name it."""
    mark = re.compile(rf"^LoadCredential(Encrypted)?={re.escape(name)}:", re.MULTILINE)
    return [
        found for found in jobs.all() if (name in named(found.job) if found.job else mark.search(found.pair.service))
    ]


def check_unused(jobs: Jobs, name: str) -> None:
    """Raise BadInput while a job or an alert rule uses the secret."""
    if users := used_by(jobs, name):
        raise BadInput(
            f"the secret {name} is used by {', '.join(found.id for found in users)}",
            hint=f"lshctl set {users[0].id} --unset secrets, or remove the job",
        )
    if rules := [rule.name for rule in alertfile.load(jobs.scope) if name in named_by(rule)]:
        raise BadInput(
            f"the secret {name} is used by the alert rule {', '.join(rules)}", hint=f"lshctl alerts remove {rules[0]}"
        )


def put(kept: Vault, jobs: Jobs, name: str, value: bytes) -> Stored:
    """Give the secret a value. Raises BadInput for one that would not do."""
    check_fit(jobs, name, value)
    return kept.store(name, value)


def check_fit(jobs: Jobs, name: str, value: bytes) -> None:
    """Raise BadInput for a value that is empty, too large, or of no use to a job that has it as a variable or pings
    it."""
    if not value:
        raise BadInput(f"the value of {name} is empty", hint="did the command before the | fail?")
    if len(name) + len(value) > credentials.MAX_BYTES:
        raise BadInput(f"the value of {name} is too large", hint="systemd takes 1 MiB at most, the name included")
    for found in used_by(jobs, name):
        if found.job and name in credentials.variables(found.job).values():
            check_variable(name, value)
        if found.job and name in secrets_in(found.job.ping or ""):
            _check_pinged(found.job, name, value)


def problem(names: Iterable[str], scope: Scope, manager: Manager) -> tuple[str, str] | None:
    """The first of these secrets that cannot be had, and why."""
    for name in names:
        try:
            vault(scope, manager).value(name)
        except LshError as error:
            return name, error.message
    return None
