"""Resolvers of admins and teams, and of authors."""

from collections.abc import Sequence

import strawberry

from gateway.core.pagination import Connection, PageArguments, connection, page
from gateway.domain.support.actors import ActorKind
from gateway.domain.support.commands import SaveAdmin, SaveTeam
from gateway.domain.support.documents import AdminDocument, StoredActor, TeamDocument
from gateway.store.unique_names import N, UniqueNames
from gateway.store.workspace_store import WorkspaceStore
from resolvers.context import Context, Payload, Source
from resolvers.inputs import command

_AUTOMATION: Source = {"display_name": "Automation"}
_SOMEBODY: Source = {"display_name": "Somebody"}  # who was erased, or is not for this token to know


@strawberry.input(one_of=True, description="The actor of a call with an API key. Tokens always act as themselves.")
class ActorRef:
    contact_id: strawberry.ID | None = strawberry.UNSET
    admin_id: strawberry.ID | None = strawberry.UNSET


@strawberry.input(
    description="A new admin with a unique e-mail, or with an id the admin to change. An omitted field stays as it is; null clears it."
)
class SaveAdminInput:
    id: strawberry.ID | None = strawberry.UNSET
    name: str
    email: str
    avatar_url: str | None = strawberry.UNSET
    archived: bool | None = strawberry.UNSET


@strawberry.input(description="A new team with a unique name, or with an id the team to change.")
class SaveTeamInput:
    id: strawberry.ID | None = strawberry.UNSET
    name: str
    admin_ids: list[strawberry.ID] = strawberry.field(
        description="All members; at most 100. They replace the previous ones."
    )
    archived: bool | None = strawberry.UNSET


async def save_admin(context: Context, input_: SaveAdminInput) -> Payload:
    admin = command(SaveAdmin, input_, nulls=True)
    saved = await context.services.teammates.save_admin(context.principal.workspace_id, admin)
    return {"admin": saved if await context.may_read() else None}


async def save_team(context: Context, input_: SaveTeamInput) -> Payload:
    team = command(SaveTeam, input_, nulls=True)
    saved = await context.services.teammates.save_team(context.principal.workspace_id, team)
    return {"team": saved if await context.may_read() else None}


async def admins(context: Context, arguments: PageArguments) -> Connection[AdminDocument]:
    page_request = page(arguments, await context.cursor_cipher(), "admins", context.principal.workspace_id)
    rows = await context.store.admins.page(page_request, context.services.clock())
    return connection(rows, page_request, lambda row: row["_id"])


async def teams(context: Context) -> list[TeamDocument]:
    return await context.store.teams.all()


async def viewer(context: Context) -> AdminDocument | None:
    own = context.principal.admin_id
    return None if own is None else await context.store.admins.get(own)


async def admins_of(parents: Sequence[TeamDocument], _: None, context: Context) -> list[list[AdminDocument]]:
    rows = await _by_ids(context.store.admins, [id_ for parent in parents for id_ in parent["admin_ids"]])
    return [[rows[id_] for id_ in parent["admin_ids"] if id_ in rows] for parent in parents]


async def admins_by_id(ids: Sequence[str], _: None, context: Context) -> list[AdminDocument | None]:
    """Any caller may load these: access is checked at each field of Admin."""
    rows = await _by_ids(_all_of(context).admins, ids)
    return [rows.get(id_) for id_ in ids]


async def teams_by_id(ids: Sequence[str], _: None, context: Context) -> list[TeamDocument | None]:
    rows = await _by_ids(context.store.teams, ids)
    return [rows.get(id_) for id_ in ids]


async def author_of(actors: Sequence[StoredActor], _: None, context: Context) -> list[Source]:
    """The contact, admin or automation of each stored actor."""
    ids: dict[str, list[str]] = {}
    for actor in actors:
        if "id" in actor:
            ids.setdefault(actor["kind"], []).append(actor["id"])
    admins = await _by_ids(_all_of(context).admins, ids.get(ActorKind.ADMIN, ()))
    contacts = await context.store.contacts.of_ids(list(dict.fromkeys(ids.get(ActorKind.CONTACT, ()))))
    authors: dict[str, Source] = {**admins, **contacts}
    return [
        _AUTOMATION if actor["kind"] == ActorKind.AUTOMATION else authors.get(actor["id"], _SOMEBODY)
        for actor in actors
    ]


def _all_of(context: Context) -> WorkspaceStore:
    """The store of the whole workspace: a contact token may see admins and teams of its own parts."""
    return context.services.store.open(context.principal.workspace_id)


async def _by_ids(teammates: UniqueNames[N], ids: Sequence[str]) -> dict[str, N]:
    return await teammates.by_ids(list(dict.fromkeys(ids)))
