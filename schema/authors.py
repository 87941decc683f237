"""Whoever can have written something."""

import strawberry

from resolvers.context import Source
from schema.nodes import Node, Stored


@strawberry.interface(description="Whoever wrote something: a contact, an admin, or an automation.")
class Author(Stored):
    """Whoever wrote something."""

    @classmethod
    def resolve_type(cls, value: Source, info: object, abstract: object) -> str:
        """A person is told by the id; what has none is an automation."""
        return Node.resolve_type(value, info, abstract) if "_id" in value else "Automation"

    display_name: str
    avatar_url: str | None


@strawberry.type(description="What nobody wrote by hand: a rule, a service, the gateway itself.")
class Automation(Author):
    """What nobody wrote by hand."""
