"""The interface of everything that can write a part."""

import strawberry

from resolvers.context import Source
from schema.nodes import Node, Stored


@strawberry.interface(description="The author of a part: a contact, an admin or an automation.")
class Author(Stored):
    @classmethod
    def resolve_type(cls, value: Source, info: object, abstract: object) -> str:
        """An automation has no id; the id of others names their type."""
        return Node.resolve_type(value, info, abstract) if "_id" in value else "Automation"

    display_name: str
    avatar_url: str | None


@strawberry.type(description="An author that is not a person: a rule, a service or the gateway itself.")
class Automation(Author): ...
