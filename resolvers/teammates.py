"""How those who answer are read and saved, and who stands behind what was written."""

from collections.abc import Sequence
from typing import Any

import strawberry

from gateway.core.pagination import PageArguments, connection, page
from gateway.domain.contacts.contacts import Document
from gateway.domain.support.actors import ActorKind
from gateway.store.unique_names import UniqueNames
from resolvers.context import Context
from resolvers.inputs import provided_fields

_AUTOMATION: Document = {"display_name": "Automation"}
_SOMEBODY: Document = {"display_name": "Somebody"}  # who was erased, or is not for this token to know


@strawberry.input(one_of=True, description="Who did it, when a service's key speaks; tokens speak for themselves.")
class ActorRef:
    """Who did it."""

    contact_id: strawberry.ID | None = strawberry.UNSET
    admin_id: strawberry.ID | None = strawberry.UNSET


@strawberry.input(description="Without id a new admin, whose e-mail no other has. Omitted: left alone; null: cleared.")
class SaveAdminInput:
    """Who answers."""

    id: strawberry.ID | None = strawberry.UNSET
    name: str
    email: str
    avatar_url: str | None = strawberry.UNSET
    archived: bool | None = strawberry.UNSET


@strawberry.input(description="Without id a new team, whose name no other has.")
class SaveTeamInput:
    """Who answers together."""

    id: strawberry.ID | None = strawberry.UNSET
    name: str
    admin_ids: list[strawberry.ID] = strawberry.field(description="All of them, at most 100.")
    archived: bool | None = strawberry.UNSET


async def save_admin(context: Context, input_: SaveAdminInput) -> Document:
    """The payload of `saveAdmin`."""
    saved = await context.services.people.save_admin(
        context.principal.workspace_id, provided_fields(input_, nulls=True)
    )
    return {"admin": saved if await context.may_read() else None}


async def save_team(context: Context, input_: SaveTeamInput) -> Document:
    """The payload of `saveTeam`."""
    saved = await context.services.people.save_team(context.principal.workspace_id, provided_fields(input_, nulls=True))
    return {"team": saved if await context.may_read() else None}


async def admins(context: Context, arguments: PageArguments) -> Document:
    """A page of the admins, the newest first."""
    page_request = page(arguments, await context.cursor_cipher(), "admins", context.principal.workspace_id)
    rows = await context.store.admins.page(page_request, context.services.clock())
    return connection(rows, page_request, lambda row: str(row["_id"]))


async def teams(context: Context) -> list[Document]:
    """Every team, by name."""
    return await context.store.teams.all()


async def viewer(context: Context) -> Document | None:
    """The admin whose token asks; None for a key, and for a contact's token."""
    own = context.principal.admin_id
    return None if own is None else (await context.store.admins.by_ids([own])).get(own)


async def admins_of(parents: Sequence[Document], _: None, context: Context) -> list[list[Document]]:
    """Batch: the admins of each team, in the order in which they were named."""
    rows = await _by_ids(context.store.admins, [id_ for parent in parents for id_ in parent["admin_ids"]])
    return [[rows[id_] for id_ in parent["admin_ids"] if id_ in rows] for parent in parents]


async def admins_by_id(ids: Sequence[str], _: None, context: Context) -> list[Document | None]:
    """Batch: the admins of those ids, whoever asks; what a contact's token may see of one is said at each field."""
    rows = await _by_ids(_all_of(context).admins, ids)
    return [rows.get(id_) for id_ in ids]


async def teams_by_id(ids: Sequence[str], _: None, context: Context) -> list[Document | None]:
    """Batch: the teams of those ids."""
    rows = await _by_ids(context.store.teams, ids)
    return [rows.get(id_) for id_ in ids]


async def author_of(actors: Sequence[Document], _: None, context: Context) -> list[Document]:
    """Batch: an Author for each stored actor: a contact, an admin, or what is neither."""
    ids: dict[str, list[str]] = {}
    for actor in actors:
        if actor.get("id") is not None:
            ids.setdefault(actor["kind"], []).append(actor["id"])
    admins = await _by_ids(_all_of(context).admins, ids.get(ActorKind.ADMIN, ()))
    contacts = await context.store.contacts.of_ids(list(dict.fromkeys(ids.get(ActorKind.CONTACT, ()))))
    authors = admins | contacts
    return [
        _AUTOMATION if actor["kind"] == ActorKind.AUTOMATION else authors.get(actor["id"], _SOMEBODY)
        for actor in actors
    ]


def _all_of(context: Context) -> Any:
    """The store of the workspace as a whole, for what a contact's token sees through its own parts alone."""
    return context.services.store.open(context.principal.workspace_id)


async def _by_ids(people: UniqueNames, ids: Sequence[str]) -> dict[str, Document]:
    return await people.by_ids(list(dict.fromkeys(ids)))
