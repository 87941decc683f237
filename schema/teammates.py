"""Those who answer: admins, teams, and what is written by neither person nor contact."""

import strawberry
from strawberry import Info, Parent

from gateway.domain.support.documents import AdminDocument
from resolvers import teammates
from resolvers.costs import ONE_ERROR, PAGED, list_of
from resolvers.inputs import page_arguments
from resolvers.teammates import SaveAdminInput, SaveTeamInput
from schema.access import ADMIN, READ
from schema.authors import Author
from schema.batching import by_level
from schema.connections import Connection
from schema.errors import UserError, payload
from schema.nodes import Node


@strawberry.type(description="Somebody who answers.")
class Admin(Node, Author):
    """Somebody who answers."""

    avatar_url: str | None
    name: str | None = strawberry.field(directives=[READ])
    email: str | None = strawberry.field(directives=[READ])
    archived: bool | None = strawberry.field(
        directives=[READ],
        description="Whether nothing is assigned to them any more, and their tokens are worth nothing.",
    )

    @strawberry.field
    def display_name(parent: Parent[AdminDocument]) -> str:  # type: ignore[override] # noqa: N805
        """The name."""
        return parent["name"]


@strawberry.type(description="Admins who answer together.")
class Team(Node):
    """Admins who answer together."""

    name: str
    archived: bool

    @by_level(teammates.admins_of, directives=[list_of(50)])
    def admins(self) -> list[Admin]:
        """Who is in it."""


@strawberry.type
class SaveAdminPayload:
    """The admin as it is now."""

    admin: Admin | None = strawberry.field(description="Null for a key that may not READ.")
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class SaveTeamPayload:
    """The team as it is now."""

    team: Team | None = strawberry.field(description="Null for a key that may not READ.")
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class PeopleQuery:
    """The root fields that read admins and teams."""

    @strawberry.field(directives=[READ, PAGED], description="Everybody who answers or did, the newest first.")
    async def admins(
        self,
        info: Info,
        first: int | None = strawberry.UNSET,
        after: str | None = strawberry.UNSET,
        last: int | None = strawberry.UNSET,
        before: str | None = strawberry.UNSET,
    ) -> Connection[Admin] | None:
        """A page of admins."""
        return await teammates.admins(info.context, page_arguments(first, after, last, before))

    @strawberry.field(directives=[READ, list_of(100)], description="Every team by name, at most 100.")
    async def teams(self, info: Info) -> list[Team] | None:
        """The teams."""
        return await teammates.teams(info.context)


@strawberry.type
class PeopleMutation:
    """The root fields that save admins and teams."""

    @strawberry.mutation(directives=[ADMIN], description="Add somebody who answers, or change them.")
    async def save_admin(self, info: Info, input: SaveAdminInput) -> SaveAdminPayload | None:
        """Save an admin."""
        return await payload(teammates.save_admin, info, input, admin=None)

    @strawberry.mutation(directives=[ADMIN], description="Add a team, or say anew what it is called and who is in it.")
    async def save_team(self, info: Info, input: SaveTeamInput) -> SaveTeamPayload | None:
        """Save a team."""
        return await payload(teammates.save_team, info, input, team=None)
