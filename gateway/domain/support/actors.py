"""Who did something: a contact, an admin, or the workspace's own automation."""

from dataclasses import dataclass
from enum import StrEnum

from gateway.domain.contacts.contacts import Document


class ActorKind(StrEnum):
    """What kind of somebody acts."""

    CONTACT = "CONTACT"
    ADMIN = "ADMIN"
    AUTOMATION = "AUTOMATION"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts; `id` is the contact's or the admin's."""

    kind: ActorKind
    id: str | None = None

    @property
    def stored(self) -> Document:
        """As documents have it."""
        return {"kind": self.kind.value} | ({} if self.id is None else {"id": self.id})

    @property
    def is_contact(self) -> bool:
        """Whether a contact acts, and not one of those who answer."""
        return self.kind is ActorKind.CONTACT


AUTOMATION = Actor(ActorKind.AUTOMATION)


def actor_of(stored: Document) -> Actor:
    """The actor of a document."""
    return Actor(ActorKind(stored["kind"]), stored.get("id"))
