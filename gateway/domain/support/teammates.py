"""Teammates: admins and their teams."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from gateway.core.text_rules import check_http_url, check_text
from gateway.domain.contacts.contacts import Document, IdentityKind, check_key, distinct
from gateway.errors import ErrorCode, UserProblem

MAX_TEAMS = 100
MAX_ADMINS_OF_TEAM = 100
_LONGEST_NAME = 255


def check_admin(fields: Mapping[str, Any]) -> Document:
    """The values to set on an admin, None for those to clear; UserProblem."""
    email = check_key(IdentityKind.EMAIL, fields["email"])
    values: Document = {"name": _name(fields["name"]), "email": email, "email_lower": email.lower()}
    if "avatar_url" in fields:
        url = fields["avatar_url"]
        values["avatar_url"] = url and check_http_url(url, ("avatarUrl",))
    if "archived" in fields:
        values["archived"] = bool(fields["archived"])
    return values


def check_team(fields: Mapping[str, Any]) -> Document:
    """The values to set on a team, without duplicate admins; UserProblem."""
    name, admin_ids = _name(fields["name"]), distinct(fields["admin_ids"])
    if len(admin_ids) > MAX_ADMINS_OF_TEAM:
        raise UserProblem(
            ErrorCode.LIMIT_EXCEEDED,
            f"The team would have {len(admin_ids)} admins; the limit is {MAX_ADMINS_OF_TEAM}.",
            ("adminIds",),
        )
    values: Document = {"name": name, "name_lower": name.lower(), "admin_ids": admin_ids}
    return values | ({"archived": bool(fields["archived"])} if "archived" in fields else {})


def new_teammate(id_: str, workspace_id: str, values: Mapping[str, Any], now: datetime) -> Document:
    provided = {name: value for name, value in values.items() if value is not None}
    return {"_id": id_, "workspace_id": workspace_id, "archived": False, "created_at": now, **provided}


def check_active(teammate: Document | None, id_: str, what: str, path: Sequence[str]) -> Document:
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
