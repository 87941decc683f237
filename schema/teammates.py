"""Admins and teams."""

import strawberry
from strawberry import Info, Parent

from gateway.domain.support.documents import AdminDocument
from resolvers import teammates
from resolvers.costs import ONE_ERROR, PAGED, list_of
from resolvers.inputs import page_arguments
from resolvers.teammates import SaveAdminInput, SaveTeamInput
from schema.access import ADMIN, READ
from schema.authors import Author
from schema.batching import batched
from schema.connections import Connection
from schema.errors import UserError, payload
from schema.nodes import Node


@strawberry.type(description="A person who answers customers.")
class Admin(Node, Author):
    avatar_url: str | None
    name: str | None = strawberry.field(directives=[READ])
    email: str | None = strawberry.field(directives=[READ])
    archived: bool | None = strawberry.field(
        directives=[READ],
        description="True if nothing can be assigned to the admin any more and its tokens are no longer valid.",
    )

    @strawberry.field
    def display_name(parent: Parent[AdminDocument]) -> str:  # type: ignore[override] # noqa: N805
        return parent["name"]


@strawberry.type(description="A group of admins.")
class Team(Node):
    name: str
    archived: bool

    @batched(teammates.admins_of, directives=[list_of(50)])
    def admins(self) -> list[Admin]: ...


@strawberry.type
class SaveAdminPayload:
    admin: Admin | None = strawberry.field(description="Null for an API key without the scope READ.")
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class SaveTeamPayload:
    team: Team | None = strawberry.field(description="Null for an API key without the scope READ.")
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class TeammateQuery:
    @strawberry.field(directives=[READ, PAGED], description="All admins, also archived ones, newest first.")
    async def admins(
        self,
        info: Info,
        first: int | None = strawberry.UNSET,
        after: str | None = strawberry.UNSET,
        last: int | None = strawberry.UNSET,
        before: str | None = strawberry.UNSET,
    ) -> Connection[Admin] | None:
        return await teammates.admins(info.context, page_arguments(first, after, last, before))

    @strawberry.field(directives=[READ, list_of(100)], description="All teams, ordered by name. At most 100.")
    async def teams(self, info: Info) -> list[Team] | None:
        return await teammates.teams(info.context)


@strawberry.type
class TeammateMutation:
    @strawberry.mutation(directives=[ADMIN], description="Create or update an admin.")
    async def save_admin(self, info: Info, input: SaveAdminInput) -> SaveAdminPayload | None:
        return await payload(teammates.save_admin, info, input, admin=None)

    @strawberry.mutation(directives=[ADMIN], description="Create a team, or change its name and members.")
    async def save_team(self, info: Info, input: SaveTeamInput) -> SaveTeamPayload | None:
        return await payload(teammates.save_team, info, input, team=None)
