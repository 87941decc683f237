"""Teammates: admins and their teams."""

from collections.abc import Sequence
from datetime import datetime
from typing import NotRequired, TypedDict, TypeVar

from gateway.core.text_rules import check_http_url, check_text
from gateway.core.unset import UNSET
from gateway.domain.contacts.contacts import IdentityKind, check_key, distinct
from gateway.domain.support.commands import SaveAdmin, SaveTeam
from gateway.domain.support.documents import AdminDocument, TeamDocument
from gateway.errors import ErrorCode, UserProblem

P = TypeVar("P", AdminDocument, TeamDocument)
MAX_TEAMS = 100
MAX_ADMINS_OF_TEAM = 100
_LONGEST_NAME = 255


class AdminValues(TypedDict):
    """The values to set on an admin; None clears."""

    name: str
    email: str
    email_lower: str
    avatar_url: NotRequired[str | None]
    archived: NotRequired[bool]


class TeamValues(TypedDict):
    name: str
    name_lower: str
    admin_ids: list[str]
    archived: NotRequired[bool]


def check_admin(command: SaveAdmin) -> AdminValues:
    """The values to set on an admin; UserProblem."""
    email = check_key(IdentityKind.EMAIL, command.email)
    values: AdminValues = {"name": _name(command.name), "email": email, "email_lower": email.lower()}
    if (url := command.avatar_url) is not UNSET:
        values["avatar_url"] = url and check_http_url(url, ("avatarUrl",))
    if command.archived is not UNSET:
        values["archived"] = bool(command.archived)
    return values


def check_team(command: SaveTeam) -> TeamValues:
    """The values to set on a team, without duplicate admins; UserProblem."""
    name, admin_ids = _name(command.name), distinct(command.admin_ids)
    if len(admin_ids) > MAX_ADMINS_OF_TEAM:
        raise UserProblem(
            ErrorCode.LIMIT_EXCEEDED,
            f"The team would have {len(admin_ids)} admins; the limit is {MAX_ADMINS_OF_TEAM}.",
            ("adminIds",),
        )
    values: TeamValues = {"name": name, "name_lower": name.lower(), "admin_ids": admin_ids}
    if command.archived is not UNSET:
        values["archived"] = bool(command.archived)
    return values


def new_admin(id_: str, workspace_id: str, values: AdminValues, now: datetime) -> AdminDocument:
    admin: AdminDocument = {
        "_id": id_,
        "workspace_id": workspace_id,
        "archived": values.get("archived", False),
        "created_at": now,
        "name": values["name"],
        "email": values["email"],
        "email_lower": values["email_lower"],
    }
    if (avatar_url := values.get("avatar_url")) is not None:
        admin["avatar_url"] = avatar_url
    return admin


def new_team(id_: str, workspace_id: str, values: TeamValues, now: datetime) -> TeamDocument:
    return {
        "_id": id_,
        "workspace_id": workspace_id,
        "archived": values.get("archived", False),
        "created_at": now,
        "name": values["name"],
        "name_lower": values["name_lower"],
        "admin_ids": values["admin_ids"],
    }


def check_active(teammate: P | None, id_: str, what: str, path: Sequence[str]) -> P:
    """The admin or team (`what` names it in messages); UserProblem if it is missing or archived."""
    if teammate is None:
        raise UserProblem(ErrorCode.NOT_FOUND, f"There is no {what} with the id '{id_}': correct the id.", tuple(path))
    if teammate["archived"]:
        raise UserProblem(
            ErrorCode.INVALID,
            f"The {what} '{teammate['name']}' is archived: choose another, or unarchive it.",
            tuple(path),
        )
    return teammate


def _name(name: str) -> str:
    return check_text(name, ("name",), longest=_LONGEST_NAME, named="The name")
