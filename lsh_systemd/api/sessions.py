"""Browsers that have shown a key: api-sessions.json beside the store. It holds digests, never what a cookie says."""

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lsh_systemd.api.access import Caller, digest
from lsh_systemd.api.kept import Kept
from lsh_systemd.scope import Scope, state_dir

LASTS = timedelta(hours=12)
# So many at once, and of one key; the oldest go.
_MOST = 500
MOST_OF_A_KEY = 20


@dataclass(frozen=True, kw_only=True)
class Session:
    """``id``: the digest of its token. ``key``: the key's id, empty for LSH_API_KEY, of which ``witness`` then tells
    whether it is still the same. ``expires``: s since 1970."""

    id: str
    key: str
    witness: str
    expires: float


class Sessions(Kept[Session]):
    """The sessions of a scope. They outlast the server, which ends when nobody calls."""

    def __init__(self, scope: Scope) -> None:
        file = state_dir(scope) / "api-sessions.json"
        super().__init__(file, lambda row: Session(**row), "remove it, and log in again")

    def begin(self, caller: Caller, own_key: str) -> str:
        """A new session of who has shown a key; its token."""
        token = secrets.token_urlsafe(32)
        now = datetime.now(UTC)
        session = Session(
            id=digest(token),
            key=caller.id,
            witness="" if caller.id else witness(token, own_key),
            expires=(now + LASTS).timestamp(),
        )

        def added(sessions: Sequence[Session]) -> list[Session]:
            alive = [each for each in sessions if each.expires > now.timestamp()]
            own = [each for each in alive if each.key == session.key]
            gone = own[: len(own) + 1 - MOST_OF_A_KEY] if len(own) >= MOST_OF_A_KEY else []
            return [*(each for each in alive if each not in gone), session][-_MOST:]

        self.change(added)
        return token

    def find(self, token: str) -> Session | None:
        """The session of that token, unless it is over."""
        return self.known(digest(token))

    def known(self, session_id: str) -> Session | None:
        now = datetime.now(UTC).timestamp()
        found = (each for each in self.all() if hmac.compare_digest(each.id, session_id) and each.expires > now)
        return next(found, None)

    def end(self, token: str) -> None:
        self.change(lambda sessions: [each for each in sessions if each.id != digest(token)])


def witness(token: str, key: str) -> str:
    """By which a session tells whether a key is the one that began it; only who has the token can try keys on it."""
    return _keyed(token, "key " + key)


def csrf(token: str) -> str:
    """What requests of a session that change something have to say beside the cookie: other sites cannot know it."""
    return _keyed(token, "csrf")


def _keyed(token: str, text: str) -> str:
    return hmac.new(token.encode(), text.encode(errors="surrogateescape"), "sha256").hexdigest()
