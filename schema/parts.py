"""Fields that parts of conversations and of tickets share."""

from datetime import datetime

import strawberry

from resolvers import parts, teammates
from resolvers.enums import PartKind
from schema.authors import Author
from schema.batching import batched
from schema.nodes import Node


@strawberry.type
class Part(Node):
    kind: PartKind
    body: str | None
    snoozed_until: datetime | None
    created_at: datetime

    @batched(teammates.author_of, by="author")
    def author(self) -> Author: ...

    @batched(
        parts.assigned_to,
        by="assigned_to",
        description="The admin or team of an ASSIGNMENT. Null if the assignment was removed.",
    )
    def assigned_to(self) -> Node | None: ...
