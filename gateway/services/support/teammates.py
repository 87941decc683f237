"""Saves admins and teams, and finds the actor of a command."""

from collections.abc import Sequence

from gateway.core.clock import Clock
from gateway.core.ids import Minter, Prefix
from gateway.core.principals import Principal
from gateway.core.unset import UNSET, Unset
from gateway.domain.contacts.contacts import unknown_contact
from gateway.domain.support.actors import AUTOMATION, Actor, ActorKind
from gateway.domain.support.commands import ActorRef, CreateConversation, CreateTicket, SaveAdmin, SaveTeam
from gateway.domain.support.documents import AdminDocument, TeamDocument
from gateway.domain.support.teammates import MAX_TEAMS, check_active, check_admin, check_team, new_admin, new_team
from gateway.domain.support.threads import Assignees
from gateway.errors import ErrorCode, UserProblem
from gateway.services.unique_names import save_entry
from gateway.store.workspace_store import Store


class TeammateService:
    def __init__(self, store: Store, clock: Clock, minter: Minter) -> None:
        self._store = store
        self._clock = clock
        self._minter = minter

    async def save_admin(self, workspace_id: str, command: SaveAdmin) -> AdminDocument:
        store = self._store.open(workspace_id)
        values, now = check_admin(command), self._clock()
        new = new_admin(self._minter.mint(Prefix.ADMIN, now), workspace_id, values, now)
        return await save_entry(store.admins, command.id, values, new, "email")

    async def save_team(self, workspace_id: str, command: SaveTeam) -> TeamDocument:
        """Return the stored team. Its admins must exist; they may be archived."""
        store = self._store.open(workspace_id)
        values, now = check_team(command), self._clock()
        await self._check_members(workspace_id, values["admin_ids"])
        if command.id is None and len(await store.teams.all()) >= MAX_TEAMS:
            message = f"The workspace has {MAX_TEAMS} teams, which is the limit: rename one of them."
            raise UserProblem(ErrorCode.LIMIT_EXCEEDED, message)
        new = new_team(self._minter.mint(Prefix.TEAM, now), workspace_id, values, now)
        return await save_entry(store.teams, command.id, values, new, "name")

    async def active_admin(self, workspace_id: str, admin_id: str, path: Sequence[str]) -> AdminDocument:
        """Return the admin; UserProblem if there is none or it is archived."""
        admin = await self._store.open(workspace_id).admins.get(admin_id)
        return check_active(admin, admin_id, "admin", path)

    async def active_team(self, workspace_id: str, team_id: str, path: Sequence[str]) -> TeamDocument:
        """Return the team; UserProblem if there is none or it is archived."""
        team = await self._store.open(workspace_id).teams.get(team_id)
        return check_active(team, team_id, "team", path)

    async def assignees(
        self, workspace_id: str, assignee_id: str | Unset | None, team_id: str | Unset | None
    ) -> Assignees:
        """Check and return the given assignees; UserProblem. None removes one."""
        assignees: Assignees = {}
        if assignee_id is not UNSET:
            if assignee_id is not None:
                await self.active_admin(workspace_id, assignee_id, ("assigneeId",))
            assignees["assignee_id"] = assignee_id
        if team_id is not UNSET:
            if team_id is not None:
                await self.active_team(workspace_id, team_id, ("teamId",))
            assignees["team_id"] = team_id
        return assignees

    async def assignees_of_new(self, workspace_id: str, command: CreateConversation | CreateTicket) -> Assignees:
        """Check and return the assignees of a new thread; UserProblem."""
        assignee_id = UNSET if command.assignee_id is None else command.assignee_id
        return await self.assignees(workspace_id, assignee_id, UNSET if command.team_id is None else command.team_id)

    async def actor(self, principal: Principal, named: ActorRef | None, otherwise: Actor = AUTOMATION) -> Actor:
        """Return the owner of a token; for an API key the `named` ActorRef, else `otherwise`."""
        owner = _owner(principal)
        if owner is not None:
            if named:
                message = "A token always acts as its owner: leave actor out, or use an API key."
                raise UserProblem(ErrorCode.FORBIDDEN, message, ("actor",))
            return owner
        if not named:
            return otherwise
        if (admin_id := named.get("admin_id")) is not None:
            return Actor(ActorKind.ADMIN, await self._check_admin_exists(principal.workspace_id, admin_id))
        contact_id = named["contact_id"]
        contact = await self._store.open(principal.workspace_id).contacts.of_id(contact_id)
        if contact is None:
            raise unknown_contact(contact_id, "actor", "contactId")
        return Actor(ActorKind.CONTACT, contact["_id"])

    async def _check_admin_exists(self, workspace_id: str, admin_id: str) -> str:
        """An archived admin passes, since it may have acted before."""
        if not await self._store.open(workspace_id).admins.by_ids([admin_id]):
            message = f"There is no admin with the id '{admin_id}': correct the id."
            raise UserProblem(ErrorCode.NOT_FOUND, message, ("actor", "adminId"))
        return admin_id

    async def _check_members(self, workspace_id: str, admin_ids: Sequence[str]) -> None:
        admins = await self._store.open(workspace_id).admins.by_ids(admin_ids)
        for index, admin_id in enumerate(admin_ids):
            if admin_id not in admins:
                message = f"There is no admin with the id '{admin_id}': correct the id."
                raise UserProblem(ErrorCode.NOT_FOUND, message, ("adminIds", str(index)))


def _owner(principal: Principal) -> Actor | None:
    if principal.contact_id is not None:
        return Actor(ActorKind.CONTACT, principal.contact_id)
    return None if principal.admin_id is None else Actor(ActorKind.ADMIN, principal.admin_id)
