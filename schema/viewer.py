"""Who is asking, its workspace, and anything by its id."""

from datetime import datetime

import strawberry
from strawberry import Info

from gateway.core.principals import Scope
from resolvers import nodes, teammates
from resolvers.costs import ListSize, list_of
from schema.access import ANY, READ_OWN
from schema.contacts import Contact
from schema.nodes import Node
from schema.teammates import Admin


@strawberry.type(description="All that is here belongs to one workspace, and none sees another.")
class Workspace(Node):
    """A wall around all that is in it."""

    name: str
    created_at: datetime


@strawberry.type(description="How much may be asked for until a window of time ends; then all of it may be again.")
class RateLimit:
    """One limit of who is asking."""

    name: str = strawberry.field(
        description="`requests`: how many, operations on sockets among them. `cost`: the rows that operations may show."
    )
    limit: int = strawberry.field(description="How much a whole window allows.")
    remaining: int
    resets_at: datetime


@strawberry.type(description="Who is asking.")
class Viewer(Node):
    """Who is asking."""

    scopes: list[Scope] = strawberry.field(
        description="Empty for a contact's token: what it may do is said at each field."
    )

    @strawberry.field
    async def workspace(self, info: Info) -> Workspace:
        """The workspace that this key or token opens."""
        return await nodes.workspace(info.context)

    @strawberry.field(
        description="Whose token it is; null for a key, and for a token made from an anonymousId once its contact is a USER."
    )
    async def contact(self, info: Info) -> Contact | None:
        """The contact that asks."""
        return await nodes.contact(info.context)

    @strawberry.field(description="Whose token it is; null for a key.")
    async def admin(self, info: Info) -> Admin | None:
        """The admin that asks."""
        return await teammates.viewer(info.context)

    @strawberry.field(
        description="What this key may still ask for. A limit that is not set is not there.", directives=[list_of(3)]
    )
    async def limits(self, info: Info) -> list[RateLimit]:
        """What this key may still ask for."""
        return await nodes.rate_limits(info.context)


@strawberry.type
class NodeQuery:
    """The root fields for whatever has an id."""

    @strawberry.field(directives=[READ_OWN], description="Whatever has that id; null if nothing of this workspace has.")
    async def node(self, info: Info, id: strawberry.ID) -> Node | None:
        """One thing."""
        return (await nodes.nodes(info.context, [id]))[0]

    @strawberry.field(
        directives=[READ_OWN, ListSize(slicing_arguments=["ids"])],
        description="Up to 100 at once, in the order of the ids.",
    )
    async def nodes(self, info: Info, ids: list[strawberry.ID]) -> list[Node | None] | None:
        """Many things."""
        return await nodes.nodes(info.context, ids)

    @strawberry.field(directives=[ANY], description="Who is asking.")
    def viewer(self, info: Info) -> Viewer | None:
        """Who is asking."""
        return nodes.viewer(info.context)
