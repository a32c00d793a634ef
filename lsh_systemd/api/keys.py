"""The file of keys: api-keys.json beside the store. It holds digests, never a key."""

from collections.abc import Sequence
from pathlib import Path

from lsh_systemd.api.access import Key
from lsh_systemd.api.kept import Kept
from lsh_systemd.errors import BadInput
from lsh_systemd.scope import Scope, state_dir
from lsh_systemd.text import visible


def path(scope: Scope) -> Path:
    return state_dir(scope) / "api-keys.json"


class Keys(Kept[Key]):
    """The keys of a scope. Where their file cannot be read, nobody may enter."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(
            path(scope),
            lambda row: Key(**(row | {"jobs": tuple(row["jobs"])})),
            "mend it, or remove it and make new keys",
        )

    def add(self, key: Key) -> None:
        self.change(lambda keys: [*keys, key])

    def revoke(self, wanted: str) -> Key:
        """Take away the key of this id, or of this name where it is the only one; the key that was."""
        found: list[Key] = []

        def without(keys: Sequence[Key]) -> list[Key]:
            found.extend(each for each in keys if wanted in (each.id, each.name))
            if len(found) != 1:
                many = "several keys are" if found else "no key is"
                raise BadInput(f"{many} called {visible(wanted)}", hint="lshctl api key list shows their ids")
            return [each for each in keys if each is not found[0]]

        self.change(without)
        return found[0]
