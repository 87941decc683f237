"""The caller, its workspace and its rate limits, and objects by id."""

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


@strawberry.type(description="A tenant. All data belongs to one workspace, and no workspace can see another.")
class Workspace(Node):
    name: str
    created_at: datetime


@strawberry.type(description="A rate limit of the caller. The full amount is available again after the window ends.")
class RateLimit:
    name: str = strawberry.field(
        description="`requests`: the number of operations, over HTTP and websockets. `cost`: the rows that operations may return."
    )
    limit: int = strawberry.field(description="The amount that is allowed per window.")
    remaining: int
    resets_at: datetime


@strawberry.type(description="The caller: an API key, an admin or a contact.")
class Viewer(Node):
    scopes: list[Scope] = strawberry.field(description="Empty for a contact token: see `@access` at each field.")

    @strawberry.field
    async def workspace(self, info: Info) -> Workspace:
        return await nodes.workspace(info.context)

    @strawberry.field(
        description="The contact of a contact token. Null for others, and for a token made from an anonymousId whose contact became a USER."
    )
    async def contact(self, info: Info) -> Contact | None:
        return await nodes.contact(info.context)

    @strawberry.field(description="The admin of an admin token. Null for others.")
    async def admin(self, info: Info) -> Admin | None:
        return await teammates.viewer(info.context)

    @strawberry.field(
        description="What the rate limits still allow. A limit that is not configured is not listed.",
        directives=[list_of(3)],
    )
    async def limits(self, info: Info) -> list[RateLimit]:
        return await nodes.rate_limits(info.context)


@strawberry.type
class NodeQuery:
    @strawberry.field(directives=[READ_OWN], description="The object with this id. Null if the workspace has none.")
    async def node(self, info: Info, id: strawberry.ID) -> Node | None:
        return (await nodes.nodes(info.context, [id]))[0]

    @strawberry.field(
        directives=[READ_OWN, ListSize(slicing_arguments=["ids"])],
        description="Up to 100 objects, in the order of the ids.",
    )
    async def nodes(self, info: Info, ids: list[strawberry.ID]) -> list[Node | None] | None:
        return await nodes.nodes(info.context, ids)

    @strawberry.field(directives=[ANY], description="The caller: an API key, an admin or a contact.")
    def viewer(self, info: Info) -> Viewer | None:
        return nodes.viewer(info.context)
