"""Actors: who does something in a thread, a contact, an admin or the workspace's automation."""

from dataclasses import dataclass
from enum import StrEnum

from gateway.domain.support.documents import StoredActor


class ActorKind(StrEnum):
    CONTACT = "CONTACT"
    ADMIN = "ADMIN"
    AUTOMATION = "AUTOMATION"


@dataclass(frozen=True, slots=True)
class Actor:
    """An actor; `id` is the contact's or the admin's, None for the automation."""

    kind: ActorKind
    id: str | None = None

    @property
    def stored(self) -> StoredActor:
        return {"kind": self.kind.value} if self.id is None else {"kind": self.kind.value, "id": self.id}

    @property
    def is_contact(self) -> bool:
        """Whether the actor is a contact, not an admin or the automation."""
        return self.kind is ActorKind.CONTACT


AUTOMATION = Actor(ActorKind.AUTOMATION)


def actor_of(stored: StoredActor) -> Actor:
    return Actor(ActorKind(stored["kind"]), stored.get("id"))
