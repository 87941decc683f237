"""The documents of segments, their members and reviews, and filters as they are stored."""

from datetime import datetime
from typing import NotRequired, TypeAlias, TypedDict

# A filter in snake_case, without nulls.
FilterValue: TypeAlias = dict[str, "FilterValue"] | list["FilterValue"] | str | int | float | bool | datetime | None
StoredFilter: TypeAlias = dict[str, FilterValue]


class SegmentDocument(TypedDict):
    """`complete`: all members of this revision are stored. `hidden`: deleted, but members are left."""

    _id: str
    workspace_id: str
    name: str
    filter: StoredFilter
    revision: int
    complete: bool
    created_at: datetime
    updated_at: datetime
    hidden: NotRequired[bool]


class MemberDocument(TypedDict):
    _id: str
    workspace_id: str
    segment_id: str
    contact_id: str
    since: datetime


class ReviewDocument(TypedDict):
    """When a contact is evaluated again. The id is the contact's."""

    _id: str
    workspace_id: str
    due_at: datetime
