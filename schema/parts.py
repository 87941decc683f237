"""What parts of the histories of conversations and of tickets share."""

from datetime import datetime
from typing import Any

import strawberry
from strawberry import Info, Parent

from resolvers import parts, people
from resolvers.choices import PartKind
from schema.authors import Author
from schema.nodes import Node


@strawberry.type
class Part(Node):
    """One step of a history."""

    kind: PartKind
    body: str | None
    snoozed_until: datetime | None
    created_at: datetime

    @strawberry.field
    async def author(parent: Parent[Any], info: Info) -> Author:  # noqa: N805
        """Who did it."""
        return await info.context.load(people.author_of, parent["author"])

    @strawberry.field(description="Of an ASSIGNMENT: the admin or team; null where it was taken away.")
    async def assigned_to(parent: Parent[Any], info: Info) -> Node | None:  # noqa: N805
        """To whom it was assigned."""
        id_ = parent.get("assigned_to")
        return None if id_ is None else await info.context.load(parts.assigned_to, id_)
