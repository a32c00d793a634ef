"""What a check found. Pure."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Finding:
    """``level``: ok, warning (it works, but) or error (it does not). ``fix`` is a command or the next step."""

    check: str
    level: str
    message: str
    fix: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
