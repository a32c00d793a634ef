"""Who may do what. Pure: what a key is, and which jobs and routes it opens."""

import fnmatch
import hashlib
import hmac
import ipaddress
import re
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.job import Job
from lsh_systemd.text import check_line, visible

# Each may do all that those before it may. OPEN: whoever calls, without a key.
ROLES = ("viewer", "operator", "admin")
OPEN, WEBHOOK = "open", "webhook"
# A key that a person has made up can be guessed where it is shorter.
LEAST_CHARACTERS = 16
_PREFIX = "lsh"
_KEY = re.compile(r"lsh_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_SELECTOR = re.compile(r"(tag:|category:)?[^\s,]{1,200}")


class Unauthorized(LshError):
    """No key, or one that is not known, or not any more."""


class Forbidden(LshError):
    """The key is good, but not for this."""


class TooManyFailures(LshError):
    """Too many wrong keys from there; ``seconds``: when to come back."""

    def __init__(self, seconds: int) -> None:
        super().__init__("too many wrong keys from this address", hint=f"try again in {seconds} s")
        self.seconds = seconds


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key as it is kept: ``digest`` is the SHA-256 of the whole key, whose 256 random bits nobody can guess: a slow
    hash would gain nothing. ``jobs``: selectors; none is all jobs. Times are RFC 3339."""

    id: str
    name: str
    role: str
    jobs: tuple[str, ...] = ()
    created_at: str = ""
    expires_at: str | None = None
    digest: str = ""

    def to_json(self) -> dict[str, Any]:
        """What ``api key list --json`` promises: all but the digest."""
        shown = {name: getattr(self, name) for name in ("id", "name", "role", "created_at", "expires_at")}
        return shown | {"jobs": list(self.jobs), "expired": self.is_over(datetime.now(UTC))}

    def is_over(self, now: datetime) -> bool:
        return self.expires_at is not None and datetime.fromisoformat(self.expires_at) <= now


@dataclass(frozen=True, kw_only=True)
class Caller:
    """On whose behalf a request is: ``id`` is the key's, empty where no key was needed; ``session`` that of a
    browser's session."""

    id: str
    name: str
    role: str
    jobs: tuple[str, ...] = ()
    session: str = ""

    @property
    def signature(self) -> str:
        """How what he does is signed: names of keys come again, ids do not."""
        return f"{self.name} ({self.id})" if self.id else self.name

    def may(self, role: str) -> bool:
        return role == OPEN or (self.role in ROLES and ROLES.index(self.role) >= ROLES.index(role))

    def sees(self, job_id: str, job: Job | None) -> bool:
        """Whether the job is one that the key is for. Of a job that is gone only the id is known."""
        return self.covers(job_id, job.category if job else "", job.tags if job else ())

    def covers(self, job_id: str, category: str, tags: Sequence[str]) -> bool:
        return not self.jobs or any(_matches(each, job_id, category, tags) for each in self.jobs)


def make(
    name: str, role: str, *, jobs: Sequence[str] = (), expires_at: datetime | None = None, now: datetime
) -> tuple[Key, str]:
    """A new key, and what its holder is to send; that is nowhere else. Raises BadInput."""
    check_line("name of the key", name, longest=60)
    if not name.strip():
        raise BadInput("a key needs a name", hint="lshctl api key create ci --role operator")
    if role not in ROLES:
        raise BadInput(f"{visible(role)} is not a role", hint=", ".join(ROLES))
    for each in jobs:
        if not _SELECTOR.fullmatch(each):
            raise BadInput(f"{visible(each)} selects no jobs", hint="tag:NAME, category:NAME, or a job, perhaps with *")
    if expires_at is not None and expires_at <= now:
        raise BadInput("the key would have expired already")
    key_id = secrets.token_hex(6)
    text = f"{_PREFIX}_{key_id}_{secrets.token_urlsafe(32)}"
    key = Key(
        id=key_id,
        name=name,
        role=role,
        jobs=tuple(dict.fromkeys(jobs)),
        created_at=_told(now),
        expires_at=_told(expires_at) if expires_at else None,
        digest=digest(text),
    )
    return key, text


def find(text: str, keys: Sequence[Key], now: datetime) -> Caller | None:
    """Whose key it is; None for one that is not known or has expired."""
    match = _KEY.fullmatch(text)
    wanted = next((key for key in keys if match and key.id == match[1]), None)
    # Reckoned in any case, so that the time it takes tells nothing.
    same = hmac.compare_digest(digest(text), wanted.digest if wanted else "")
    if wanted is None or not same or wanted.is_over(now):
        return None
    return caller_of(wanted)


def caller_of(key: Key, *, session: str = "") -> Caller:
    return Caller(id=key.id, name=key.name, role=key.role, jobs=key.jobs, session=session)


def is_made_here(text: str) -> bool:
    """Whether it has the form of a key of ours: no use in guessing such."""
    return _KEY.fullmatch(text) is not None


def same(given: str, known: str) -> bool:
    """Whether two secrets are the same, in a time that does not tell where they differ."""
    return hmac.compare_digest(digest(given), digest(known))


def is_loopback(host: str) -> bool:
    """Whether only this machine can call there."""
    name = host.lower().rstrip(".")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


class Failures:
    """Wrong keys, or secrets, by address: ten at once, then one every six seconds. Remembers the last ten thousand
    addresses. Each kind of secret has counters of its own: who guesses at the one locks nobody out of the other."""

    def __init__(self, *, burst: int = 10, seconds: float = 6.0, addresses: int = 10_000) -> None:
        self._burst, self._seconds, self._addresses = burst, seconds, addresses
        self._until: OrderedDict[str, float] = OrderedDict()  # when all of an address's failures are forgotten

    def wait(self, address: str, now: float) -> float:
        """The seconds until a wrong key from there is looked at again; 0 where it is now."""
        left = self._until.get(address, 0.0) - now - (self._burst - 1) * self._seconds
        return max(0.0, left)

    def count(self, address: str, now: float) -> None:
        """One more. It counts no further than the burst and one: a flood does not lock out for longer."""
        most = now + self._burst * self._seconds
        self._until[address] = min(max(self._until.pop(address, 0.0), now) + self._seconds, most)
        while len(self._until) > self._addresses:
            self._until.popitem(last=False)


def _matches(selector: str, job_id: str, category: str, tags: Sequence[str]) -> bool:
    kind, mark, name = selector.partition(":")
    if mark and kind == "tag":
        return name in tags
    if mark and kind == "category":
        return name == category
    return fnmatch.fnmatchcase(job_id, selector)


def _told(at: datetime) -> str:
    return at.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")
