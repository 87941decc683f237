"""Principals: who sends a request, and with which rights."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Scope(StrEnum):
    READ = "READ"
    TRACK = "TRACK"
    SUPPORT = "SUPPORT"
    KLAVIYO = "KLAVIYO"
    ADMIN = "ADMIN"
    BROWSER = "BROWSER"


READS_LISTS = (Scope.READ, Scope.KLAVIYO)  # each lets its key read some lists


@dataclass(frozen=True, slots=True)
class Principal:
    """The bearer of a valid credential in one workspace.

    A contact token has `contact_id` and no scopes: each field declares what it may do.
    An admin token has `admin_id`, and the scopes of a teammate.
    `merged_ids`: contacts merged into this one, which owns their rows too.
    `anonymous`: the token was made from an anonymous id, and never reads a USER.
    `expires_at`: from then on the credential is invalid.
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
        """Whether the principal holds at least one of these scopes."""
        return not self.scopes.isdisjoint(any_of)

    def owns(self, contact_id: object) -> bool:
        """Whether the contact is this token's contact, or was merged into it."""
        return contact_id == self.contact_id or contact_id in self.merged_ids

    @property
    def own_ids(self) -> list[str]:
        """Every contact id under which this contact's rows may be stored, sorted."""
        return sorted({*self.merged_ids, *(() if self.contact_id is None else (self.contact_id,))})

    @property
    def publishable(self) -> bool:
        """Whether the key tracks by BROWSER alone: anybody can read it in a web page."""
        return Scope.BROWSER in self.scopes and Scope.TRACK not in self.scopes
