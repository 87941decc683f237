"""Saves admins and teams, and finds the actor of a command."""

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
    def __init__(self, store: Store, clock: Clock, minter: Minter) -> None:
        self._store = store
        self._clock = clock
        self._minter = minter

    async def save_admin(self, workspace_id: str, fields: Mapping[str, Any]) -> Document:
        """Return the stored admin. `fields`: the given input fields in snake_case; None clears."""
        store = self._store.open(workspace_id)
        values = check_admin(fields)
        new = self._new(Prefix.ADMIN, workspace_id, values)
        return await save_entry(store.admins, fields.get("id"), values, new, "email")

    async def save_team(self, workspace_id: str, fields: Mapping[str, Any]) -> Document:
        """Return the stored team. Its admins must exist; they may be archived."""
        store = self._store.open(workspace_id)
        values = check_team(fields)
        await self._check_members(workspace_id, values["admin_ids"])
        if fields.get("id") is None and len(await store.teams.all()) >= MAX_TEAMS:
            message = f"The workspace has {MAX_TEAMS} teams, which is the limit: rename one of them."
            raise UserProblem(ErrorCode.LIMIT_EXCEEDED, message)
        new = self._new(Prefix.TEAM, workspace_id, values)
        return await save_entry(store.teams, fields.get("id"), values, new, "name")

    async def active_admin(self, workspace_id: str, admin_id: str, path: Sequence[str]) -> Document:
        """Return the admin; UserProblem if there is none or it is archived."""
        admins = await self._store.open(workspace_id).admins.by_ids([admin_id])
        return check_active(admins.get(admin_id), admin_id, "admin", path)

    async def active_team(self, workspace_id: str, team_id: str, path: Sequence[str]) -> Document:
        """Return the team; UserProblem if there is none or it is archived."""
        teams = await self._store.open(workspace_id).teams.by_ids([team_id])
        return check_active(teams.get(team_id), team_id, "team", path)

    async def assignees(
        self, workspace_id: str, fields: Mapping[str, Any], *, nulls: bool = True
    ) -> dict[str, str | None]:
        """Check and return the given assignees; UserProblem. `nulls`: include None, which removes one."""
        assignees: dict[str, str | None] = {}
        for name, public, check in (
            ("assignee_id", "assigneeId", self.active_admin),
            ("team_id", "teamId", self.active_team),
        ):
            if fields.get(name) is not None:
                await check(workspace_id, fields[name], (public,))
            if fields.get(name) is not None or (nulls and name in fields):
                assignees[name] = fields[name]
        return assignees

    async def actor(
        self, principal: Principal, named: Mapping[str, Any] | None, otherwise: Actor = AUTOMATION
    ) -> Actor:
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
        contact_id = str(named["contact_id"])
        contact = (await self._store.open(principal.workspace_id).contacts.of_ids([contact_id])).get(contact_id)
        if contact is None:
            raise unknown_contact(contact_id, "actor", "contactId")
        return Actor(ActorKind.CONTACT, contact["_id"])

    async def _check_admin_exists(self, workspace_id: str, admin_id: str) -> str:
        """An archived admin passes, since it may have acted before."""
        if not await self._store.open(workspace_id).admins.by_ids([admin_id]):
            message = f"There is no admin with the id '{admin_id}': correct the id."
            raise UserProblem(ErrorCode.NOT_FOUND, message, ("actor", "adminId"))
        return admin_id

    def _new(self, prefix: Prefix, workspace_id: str, values: Document) -> Document:
        now = self._clock()
        return new_teammate(self._minter.mint(prefix, now), workspace_id, values, now)

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
