"""Those who answer: admins and teams are saved here, and here it is told who acts."""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.core.clock import Clock
from gateway.core.ids import Minter, Prefix
from gateway.core.principals import Principal
from gateway.domain.contacts.contacts import Document, unknown_contact
from gateway.domain.support.actors import AUTOMATION, Actor, ActorKind
from gateway.domain.support.teammates import MAX_TEAMS, check_active, check_admin, check_team, new_teammate
from gateway.errors import ErrorCode, UserProblem
from gateway.services.unique_names import save_entry
from gateway.store.workspace_store import Store


class TeammateService:
    """What can be done to admins and teams, and who of them (or of the contacts) acts."""

    def __init__(self, store: Store, clock: Clock, minter: Minter) -> None:
        self._store = store
        self._clock = clock
        self._minter = minter

    async def save_admin(self, workspace_id: str, sent: Mapping[str, Any]) -> Document:
        """The admin as it is now. `sent`: the input in snake_case without what was omitted; None clears."""
        store = self._store.open(workspace_id)
        values = check_admin(sent)
        new = self._new(Prefix.ADMIN, workspace_id, values)
        return await save_entry(store.admins, sent.get("id"), values, new, "email")

    async def save_team(self, workspace_id: str, sent: Mapping[str, Any]) -> Document:
        """The team as it is now; its admins must be there, archived or not."""
        store = self._store.open(workspace_id)
        values = check_team(sent)
        await self._check_members(workspace_id, values["admin_ids"])
        if sent.get("id") is None and len(await store.teams.all()) >= MAX_TEAMS:
            message = f"The workspace has {MAX_TEAMS} teams, and no more are kept: give one of them another name."
            raise UserProblem(ErrorCode.LIMIT_EXCEEDED, message)
        new = self._new(Prefix.TEAM, workspace_id, values)
        return await save_entry(store.teams, sent.get("id"), values, new, "name")

    async def active_admin(self, workspace_id: str, admin_id: str, path: Sequence[str]) -> Document:
        """The admin of that id; UserProblem where there is none or it is archived."""
        found = await self._store.open(workspace_id).admins.by_ids([admin_id])
        return check_active(found.get(admin_id), admin_id, "admin", path)

    async def active_team(self, workspace_id: str, team_id: str, path: Sequence[str]) -> Document:
        """The team of that id; UserProblem where there is none or it is archived."""
        found = await self._store.open(workspace_id).teams.by_ids([team_id])
        return check_active(found.get(team_id), team_id, "team", path)

    async def assignees(
        self, workspace_id: str, sent: Mapping[str, Any], *, nulls: bool = True
    ) -> dict[str, str | None]:
        """To whom something is to be assigned (`assignee_id`, `team_id`), as far as that is said; UserProblem where there
        is none or it is archived. With `nulls` None takes it away."""
        found: dict[str, str | None] = {}
        for name, public, check in (
            ("assignee_id", "assigneeId", self.active_admin),
            ("team_id", "teamId", self.active_team),
        ):
            if sent.get(name) is not None:
                await check(workspace_id, sent[name], (public,))
            if sent.get(name) is not None or (nulls and name in sent):
                found[name] = sent[name]
        return found

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

    def _new(self, prefix: Prefix, workspace_id: str, values: Document) -> Document:
        now = self._clock()
        return new_teammate(self._minter.mint(prefix, now), workspace_id, values, now)

    async def _check_members(self, workspace_id: str, admin_ids: Sequence[str]) -> None:
        found = await self._store.open(workspace_id).admins.by_ids(admin_ids)
        for place, admin_id in enumerate(admin_ids):
            if admin_id not in found:
                message = f"There is no admin with the id '{admin_id}'."
                raise UserProblem(ErrorCode.NOT_FOUND, message, ("adminIds", str(place)))


def _owner(principal: Principal) -> Actor | None:
    """Whose token it is; None for a service's key."""
    if principal.contact_id is not None:
        return Actor(ActorKind.CONTACT, principal.contact_id)
    return None if principal.admin_id is None else Actor(ActorKind.ADMIN, principal.admin_id)
