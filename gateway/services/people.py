"""Those who answer: admins and teams are saved here, and here it is told who acts."""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.domain.access import Principal
from gateway.domain.actors import AUTOMATION, Actor, ActorKind
from gateway.domain.clocks import Clock
from gateway.domain.contacts import Document, unknown_contact
from gateway.domain.ids import Minter, Prefix
from gateway.domain.people import MAX_TEAMS, check_active, check_admin, check_team, new_person
from gateway.errors import ErrorCode, UserProblem
from gateway.services.attempts import until_stored
from gateway.store.people import People
from gateway.store.stores import Store


class PeopleService:
    """What can be done to admins and teams, and who of them (or of the contacts) acts."""

    def __init__(self, store: Store, clock: Clock, minter: Minter) -> None:
        self._store = store
        self._clock = clock
        self._minter = minter

    async def save_admin(self, workspace_id: str, sent: Mapping[str, Any]) -> Document:
        """The admin as it is now. `sent`: the input in snake_case without what was omitted; None clears."""
        store = self._store.open(workspace_id)
        values = check_admin(sent)
        return await self._save(store.admins, Prefix.ADMIN, workspace_id, sent.get("id"), values, "email")

    async def save_team(self, workspace_id: str, sent: Mapping[str, Any]) -> Document:
        """The team as it is now; its admins must be there, archived or not."""
        store = self._store.open(workspace_id)
        values = check_team(sent)
        await self._check_members(workspace_id, values["admin_ids"])
        if sent.get("id") is None and len(await store.teams.all()) >= MAX_TEAMS:
            message = f"The workspace has {MAX_TEAMS} teams, and no more are kept: give one of them another name."
            raise UserProblem(ErrorCode.LIMIT_EXCEEDED, message)
        return await self._save(store.teams, Prefix.TEAM, workspace_id, sent.get("id"), values, "name")

    async def active_admin(self, workspace_id: str, admin_id: str, path: Sequence[str]) -> Document:
        """The admin of that id; UserProblem where there is none or it is archived."""
        found = await self._store.open(workspace_id).admins.by_ids([admin_id])
        return check_active(found.get(admin_id), admin_id, "admin", path)

    async def active_team(self, workspace_id: str, team_id: str, path: Sequence[str]) -> Document:
        """The team of that id; UserProblem where there is none or it is archived."""
        found = await self._store.open(workspace_id).teams.by_ids([team_id])
        return check_active(found.get(team_id), team_id, "team", path)

    async def actor(
        self, principal: Principal, named: Mapping[str, Any] | None, otherwise: Actor = AUTOMATION
    ) -> Actor:
        """Who acts: a token's owner; by a service's key whoever is `named` (an ActorRef in snake_case), or `otherwise`."""
        owner = _owner(principal)
        if owner is not None:
            if named:
                message = "A token speaks for its owner: leave actor out, or act by a service's key."
                raise UserProblem(ErrorCode.FORBIDDEN, message, ("actor",))
            return owner
        if not named:
            return otherwise
        if (admin_id := named.get("admin_id")) is not None:
            return Actor(ActorKind.ADMIN, await self._known_admin(principal.workspace_id, admin_id))
        contact_id = str(named["contact_id"])
        found = (await self._store.open(principal.workspace_id).contacts.of_ids([contact_id])).get(contact_id)
        if found is None:
            raise unknown_contact(contact_id, "actor", "contactId")
        return Actor(ActorKind.CONTACT, found["_id"])

    async def _known_admin(self, workspace_id: str, admin_id: str) -> str:
        """The id itself; also of an archived admin, who may have acted before."""
        if not await self._store.open(workspace_id).admins.by_ids([admin_id]):
            message = f"There is no admin with the id '{admin_id}'."
            raise UserProblem(ErrorCode.NOT_FOUND, message, ("actor", "adminId"))
        return admin_id

    async def _check_members(self, workspace_id: str, admin_ids: Sequence[str]) -> None:
        found = await self._store.open(workspace_id).admins.by_ids(admin_ids)
        for place, admin_id in enumerate(admin_ids):
            if admin_id not in found:
                message = f"There is no admin with the id '{admin_id}'."
                raise UserProblem(ErrorCode.NOT_FOUND, message, ("adminIds", str(place)))

    async def _save(
        self, people: People, prefix: Prefix, workspace_id: str, id_: str | None, values: Document, unique: str
    ) -> Document:
        """Set those values, or add a document with them; CONFLICT where another one has the text that must be `unique`."""
        now = self._clock()
        new_id = self._minter.mint(prefix, now)

        async def attempt(_: int) -> Document:
            other = await people.with_text(values[people.UNIQUE])
            if other is not None and other["_id"] not in (id_, new_id):
                raise UserProblem(
                    ErrorCode.CONFLICT,
                    f"{other['_id']} has this {unique} already: pass its id to change it.",
                    (unique,),
                )
            if id_ is not None:
                changed = await people.change(id_, values)
                if changed is None:
                    raise UserProblem(ErrorCode.NOT_FOUND, f"Nobody here has the id '{id_}'.", ("id",))
                return changed
            if other is None:
                await people.insert(new_person(new_id, workspace_id, values, now))
            return (await people.by_ids([new_id]))[new_id]

        return await until_stored(attempt)


def _owner(principal: Principal) -> Actor | None:
    """Whose token it is; None for a service's key."""
    if principal.contact_id is not None:
        return Actor(ActorKind.CONTACT, principal.contact_id)
    return None if principal.admin_id is None else Actor(ActorKind.ADMIN, principal.admin_id)
