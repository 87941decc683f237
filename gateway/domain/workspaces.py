"""The documents of workspaces and of their keys, as they are stored."""

from datetime import datetime
from typing import NotRequired, TypedDict


class WorkspaceFields(TypedDict, total=False):
    """What is set as the workspace is used.

    `demo`, `desk`: how far the demo is seeded. `definitions_rebuilt`, `definitions_given_up`: the last request of a
    rebuild that was done, or given up. The times are written so that transactions which must not miss each other conflict."""

    demo: str
    desk: str
    salt: str
    segments_turn: int
    definitions_rebuilt: str
    definitions_given_up: str
    summarized_at: datetime
    page_names_at: datetime
    swept_at: datetime
    deleted_at: datetime


class WorkspaceDocument(WorkspaceFields):
    _id: str
    name: str
    created_at: datetime


class KeyDocument(TypedDict):
    """An API key. `hash`: of its secret, which is not stored."""

    _id: str
    workspace_id: str
    name: str | None
    scopes: list[str]
    hash: str
    created_at: datetime
    last_used_at: NotRequired[datetime]
    revoked_at: NotRequired[datetime]
