"""Those who answer: admins, and the teams that they are in."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from gateway.core.text_rules import check_http_url, check_text
from gateway.domain.contacts.contacts import Document, IdentityKind, check_key, distinct
from gateway.errors import ErrorCode, UserProblem

MAX_TEAMS = 100
MAX_ADMINS_OF_TEAM = 100
_LONGEST_NAME = 255


def check_admin(sent: Mapping[str, Any]) -> Document:
    """The fields to set of an admin, None for those to clear; UserProblem."""
    email = check_key(IdentityKind.EMAIL, sent["email"])
    values: Document = {"name": _name(sent["name"]), "email": email, "email_lower": email.lower()}
    if "avatar_url" in sent:
        url = sent["avatar_url"]
        values["avatar_url"] = url and check_http_url(url, ("avatarUrl",))
    if "archived" in sent:
        values["archived"] = bool(sent["archived"])
    return values


def check_team(sent: Mapping[str, Any]) -> Document:
    """The fields to set of a team, its admins each once; UserProblem."""
    name, admin_ids = _name(sent["name"]), distinct(sent["admin_ids"])
    if len(admin_ids) > MAX_ADMINS_OF_TEAM:
        raise UserProblem(
            ErrorCode.LIMIT_EXCEEDED,
            f"The team would have {len(admin_ids)} admins, and {MAX_ADMINS_OF_TEAM} are allowed.",
            ("adminIds",),
        )
    values: Document = {"name": name, "name_lower": name.lower(), "admin_ids": admin_ids}
    return values | ({"archived": bool(sent["archived"])} if "archived" in sent else {})


def new_teammate(id_: str, workspace_id: str, values: Mapping[str, Any], now: datetime) -> Document:
    """An admin or a team with those values."""
    given = {name: value for name, value in values.items() if value is not None}
    return {"_id": id_, "workspace_id": workspace_id, "archived": False, "created_at": now, **given}


def check_active(found: Document | None, id_: str, what: str, path: Sequence[str]) -> Document:
    """The admin or team (`what`) of that id, if it is there and answers; UserProblem."""
    if found is None:
        raise UserProblem(ErrorCode.NOT_FOUND, f"There is no {what} with the id '{id_}'.", tuple(path))
    if found["archived"]:
        raise UserProblem(
            ErrorCode.INVALID,
            f"The {what} '{found['name']}' is archived: choose another, or unarchive it.",
            tuple(path),
        )
    return found


def _name(name: str) -> str:
    return check_text(name, ("name",), longest=_LONGEST_NAME, named="The name")
