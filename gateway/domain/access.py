"""Who is asking, and what they may do."""

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """A right of a key; none implies another."""

    READ = "READ"
    TRACK = "TRACK"
    SUPPORT = "SUPPORT"
    KLAVIYO = "KLAVIYO"
    ADMIN = "ADMIN"
    BROWSER = "BROWSER"


@dataclass(frozen=True, slots=True)
class Principal:
    """The bearer of a valid credential: one workspace, and what may be done in it."""

    id: str
    workspace_id: str
    scopes: frozenset[Scope]

    def may(self, any_of: frozenset[Scope]) -> bool:
        """Whether one of those scopes is held."""
        return not self.scopes.isdisjoint(any_of)
