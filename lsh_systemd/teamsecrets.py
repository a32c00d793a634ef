"""The team's secrets: environment files that are kept, version by version, in Supabase, which cannot read them.

A version is added to the newest or not at all (the SQL function lsh_secrets_push sees to that); nothing is merged: two
variables may belong together. What others have pushed, and a file with changes of its own, is not written over unless
that is asked for.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from lsh_systemd import envtext, seal, teamfiles
from lsh_systemd.audit import Actor
from lsh_systemd.errors import BadInput, LshError
from lsh_systemd.remote import Remote, RemoteAway
from lsh_systemd.text import visible

# How many versions of an environment there are at most; the SQL function removes older ones.
KEPT = 50
# Whom a key with all rights speaks for; one that belongs to a tenant sees no other's rows anyway.
_TENANT = "default"
_ENV = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
# How often a forced push begins anew because somebody else's came before it.
_FORCED = 5
_LONGEST_NAME = 200


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version of an environment. ``pushed_by`` and ``host`` are what the pusher's machine told."""

    env: str
    number: int
    pushed_usec: int
    pushed_by: str
    host: str
    sealed: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"version {self.number} of {self.env}"

    @property
    def place(self) -> str:
        """What its seal is bound to."""
        return f"{self.env}\n{self.number}"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a push or a pull came to. ``changed``: whether there is a new version, or another file. ``unnoted``: why
    this machine could not make a note of it."""

    env: str
    version: int
    changed: bool
    unnoted: str | None = None


class NotOpened(LshError):
    """A version's seal does not open: another key, or not what was pushed."""


class Team:
    """The secrets of one project. ``key`` is called once, and only when something is to be sealed or opened; with True
    where nothing is there yet that the key could be tried on."""

    def __init__(self, remote: Remote, notes: teamfiles.Notes, key: Callable[[bool], bytes]) -> None:
        self._remote, self._notes, self._ask = remote, notes, key
        self._known: bytes | None = None

    def push(self, env: str, file: Path, actor: Actor, host: str, *, force: bool = False, dry: bool = False) -> Outcome:
        """Make the file the environment's next version, unless the newest is the same already.

        Raises BadInput where the newest is not the one that the file came from, unless ``force``.
        """
        check_env(env)
        data = teamfiles.load(file)
        envtext.variables(data, visible(str(file)))  # or it is refused
        newest = self._newest(env, trusting=force)
        base = newest.number if newest else 0
        if newest and self._is(newest, data, trusting=force):
            unnoted = None if dry else self._note(env, file, base, base)
            return Outcome(env=env, version=base, changed=False, unnoted=unnoted)
        came_from = self._notes.base(env, file)
        if newest and came_from != base and not force:
            raise _outrun(newest, file, came_from)
        if dry:
            return Outcome(env=env, version=base + 1, changed=True)
        version = self._add(env, base, data, actor, host, tries=_FORCED if force else 1)
        unnoted = self._note(env, file, version, version)
        return Outcome(env=env, version=version, changed=True, unnoted=unnoted)

    def pull(
        self, env: str, file: Path, *, number: int | None = None, force: bool = False, dry: bool = False
    ) -> Outcome:
        """Make the file what a version (the newest) of the environment is.

        Raises BadInput where the file has changes that are in no version; with ``force`` they are lost.
        """
        check_env(env)
        there = teamfiles.is_there(file)
        version, data = self.open(env, number, trusting=force)
        own = teamfiles.load(file) if there else None
        if own is not None and own != data and not force and not self._unchanged(version, file, own):
            raise BadInput(
                f"{visible(str(file))} has changes of its own: {version} is something else",
                hint=f"lshctl secrets diff --env {env} shows them; --force gives them up",
            )
        if not dry:
            teamfiles.save(file, data)
        seen = version.number if number is None else max(version.number, self._notes.seen(env))
        unnoted = None if dry else self._note(env, file, version.number, seen)
        return Outcome(env=env, version=version.number, changed=own != data, unnoted=unnoted)

    def differences(self, env: str, file: Path, number: int | None = None) -> tuple[Version, list[envtext.Change]]:
        """What makes the file of a version (the newest)."""
        check_env(env)
        own = envtext.variables(teamfiles.load(file), visible(str(file)))
        version, data = self.open(env, number)
        return version, envtext.changes(envtext.variables(data, str(version)), own)

    def versions(self, env: str) -> list[Version]:
        """All that there are, the newest first. Raises BadInput where there never was one."""
        check_env(env)
        found = list(self._rows(env, limit=KEPT, sealed=False))
        if not found and not self._notes.seen(env):
            raise _unknown(env)
        return found

    def open(self, env: str, number: int | None = None, *, trusting: bool = False) -> tuple[Version, bytes]:
        """A version (the newest) and its bytes. ``trusting``: even where newer ones have been there.

        Raises BadInput where there is no such one, LshError where the key is another or the row not as it was made.
        """
        version = self._newest(env, trusting=trusting) if number is None else self._find(env, number)
        if version is None and number is None:
            raise _unknown(env)
        if version is None:
            raise BadInput(
                f"there is no version {number} of {env}",
                hint=f"the newest {KEPT} are kept: lshctl secrets list --env {env}",
            )
        return version, self._opened(version)

    def _opened(self, version: Version) -> bytes:
        try:
            return seal.unseal(self._key(), version.sealed, version.place)
        except seal.WrongKey:
            raise NotOpened(
                f"{version} was sealed with another key than this", hint="nothing was changed; whose key is the team's?"
            ) from None
        except seal.Broken as error:
            raise NotOpened(
                f"{version} in Supabase is not what was pushed: {error.message}",
                hint=f"nothing was changed; an older one may do: lshctl secrets list --env {version.env}",
            ) from None

    def _is(self, newest: Version, data: bytes, *, trusting: bool) -> bool:
        """Whether the newest version has these bytes. With ``trusting``, one that cannot be opened has not."""
        try:
            return self._opened(newest) == data
        except NotOpened:
            if trusting:
                return False
            raise

    def _unchanged(self, version: Version, file: Path, own: bytes) -> bool:
        """Whether the file is still as it was pulled or pushed."""
        base = self._notes.base(version.env, file)
        came_from = self._find(version.env, base) if base is not None and base != version.number else None
        try:
            return came_from is not None and self._opened(came_from) == own
        except NotOpened:
            return False

    def _key(self, *, new: bool = False) -> bytes:
        if self._known is None:
            self._known = self._ask(new)
        return self._known

    def _add(self, env: str, base: int, data: bytes, actor: Actor, host: str, *, tries: int) -> int:
        for _ in range(tries):
            told = self._told_of_push(env, base, data, actor, host)
            if told["stored"]:
                return base + 1
            base = told["version"]
        raise BadInput(
            f"somebody else has pushed version {base} of {env} meanwhile; this one was not",
            hint=f"lshctl secrets diff --env {env}, then pull and change it anew, or push --force",
        )

    def _told_of_push(self, env: str, base: int, data: bytes, actor: Actor, host: str) -> dict[str, Any]:
        new = Version(env=env, number=base + 1, pushed_usec=0, pushed_by=actor.name, host=host)
        params = {
            "p_tenant": _TENANT,
            "p_env": env,
            "p_base": base,
            "p_sealed": seal.seal(self._key(new=base == 0), data, new.place),
            "p_by": _sendable(actor.name),
            "p_host": _sendable(host),
        }
        try:
            told = self._remote.rpc("lsh_secrets_push", params)
        except RemoteAway as error:
            hint = "whether it was stored is not known; pushing it again makes no second version"
            raise LshError(error.message, hint=hint) from None
        if not isinstance(told, dict) or type(told.get("stored")) is not bool or not _is_number(told.get("version"), 0):
            raise _nonsense()
        return told

    def _newest(self, env: str, *, trusting: bool) -> Version | None:
        newest = next(self._rows(env), None)
        if not trusting:
            self.check_back(env, newest.number if newest else 0)
        return newest

    def _find(self, env: str, number: int) -> Version | None:
        return next(self._rows(env, number=number), None)

    def _rows(self, env: str, *, number: int | None = None, limit: int = 1, sealed: bool = True) -> Iterator[Version]:
        """The newest versions, or the one of that number; with their seals or without."""
        columns = "version,pushed_at,pushed_by,host" + (",sealed" if sealed else "")
        where = [("tenant", "eq", _TENANT), ("env", "eq", env)]
        if number is not None:
            where.append(("version", "eq", str(number)))
        rows = self._remote.select("secrets", columns=columns, where=where, order=["-version"], limit=limit)
        for row in rows:
            version = _version(env, row)
            if number not in (None, version.number):
                raise _nonsense()
            yield version

    def check_back(self, env: str, newest: int) -> None:
        """Raise LshError where this machine has seen a version newer than the newest: whoever can write to the database
        can take versions away, but not without our noticing."""
        seen = self._notes.seen(env)
        if newest < seen:
            raise LshError(
                f"version {seen} of {env} has been there, and now the newest is {newest or 'none'}",
                hint="newer ones were taken away, or are withheld: ask who administers it; push and pull take --force",
            )

    def _note(self, env: str, file: Path, base: int, seen: int) -> str | None:
        try:
            self._notes.note(env, file=file, base=base, seen=seen)
        except OSError as error:
            return f"cannot write {self._notes.path}: {error.strerror or error}"
        return None


def check_env(env: str) -> None:
    """Refuse what is no name of an environment."""
    if not _ENV.fullmatch(env):
        raise BadInput(
            f"{visible(env)} is not the name of an environment",
            hint="use letters, digits, _ . and -, the first a letter or a digit; 64 at most",
        )


def _version(env: str, row: Any) -> Version:
    """The row, whose shape nobody guarantees."""
    try:
        number, by, host, sealed = row["version"], row["pushed_by"], row["host"], row.get("sealed", "")
        at = datetime.fromisoformat(row["pushed_at"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _nonsense() from None
    if not _is_number(number, 1) or not all(isinstance(each, str) for each in (by, host, sealed)) or not at.tzinfo:
        raise _nonsense()
    usec = round(at.timestamp() * 1e6)
    return Version(env=env, number=number, pushed_usec=usec, pushed_by=by, host=host, sealed=sealed)


def _is_number(value: Any, least: int) -> bool:
    return type(value) is int and least <= value < 2**31


def _sendable(text: str) -> str:
    """Names as PostgreSQL takes them."""
    return text.encode(errors="replace").decode().replace("\0", "")[:_LONGEST_NAME]


def _nonsense() -> LshError:
    return LshError("Supabase's answer is not what it should be", hint="lshctl supabase test")


def _unknown(env: str) -> BadInput:
    return BadInput(f"there is no environment {env} in the team's store", hint=f"lshctl secrets push --env {env}")


def _outrun(newest: Version, file: Path, came_from: int | None) -> BadInput:
    where = f"came from version {came_from}" if came_from else "is not known to come from any"
    return BadInput(
        f"{newest} was pushed by {visible(newest.pushed_by)}, and {visible(str(file))} {where}",
        hint=f"lshctl secrets diff --env {newest.env}, then pull, or push --force",
    )
