"""What parts of the histories of conversations and of tickets share."""

from datetime import datetime

import strawberry

from resolvers import parts, teammates
from resolvers.enums import PartKind
from schema.authors import Author
from schema.batching import by_level
from schema.nodes import Node


@strawberry.type
class Part(Node):
    """One step of a history."""

    kind: PartKind
    body: str | None
    snoozed_until: datetime | None
    created_at: datetime

    @by_level(teammates.author_of, by="author")
    def author(self) -> Author:
        """Who did it."""

    @by_level(
        parts.assigned_to,
        by="assigned_to",
        description="Of an ASSIGNMENT: the admin or team; null where it was taken away.",
    )
    def assigned_to(self) -> Node | None:
        """To whom it was assigned."""
