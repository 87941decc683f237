"""Who is asking, and what they may do."""

from dataclasses import dataclass
from datetime import datetime
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
    """The bearer of a valid credential: one workspace, and what may be done in it.

    Of a contact's token `contact_id` is whose it is, and it holds no scope: what it may do is declared at each field.
    Of an admin's token `admin_id` is who acts by it, with the scopes of those who answer.
    `merged_ids`: of the contacts that this one took over, whose rows are its own.
    `anonymous`: it was made from an anonymous id, and never reads a USER. From `expires_at` on it is worth nothing.
    """

    id: str
    workspace_id: str
    scopes: frozenset[Scope] = frozenset()
    contact_id: str | None = None
    admin_id: str | None = None
    merged_ids: frozenset[str] = frozenset()
    anonymous: bool = False
    expires_at: datetime | None = None

    def may(self, any_of: frozenset[Scope]) -> bool:
        """Whether one of those scopes is held."""
        return not self.scopes.isdisjoint(any_of)

    def owns(self, contact_id: object) -> bool:
        """Whether what belongs to that contact is this token's own."""
        return contact_id == self.contact_id or contact_id in self.merged_ids

    @property
    def own_ids(self) -> list[str]:
        """What rows may call the contact whose token it is."""
        return sorted({*self.merged_ids, *(() if self.contact_id is None else (self.contact_id,))})

    @property
    def publishable(self) -> bool:
        """Whether it tracks by BROWSER alone: such a key stands in a page, so that anybody may hold it."""
        return Scope.BROWSER in self.scopes and Scope.TRACK not in self.scopes
