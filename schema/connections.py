"""Relay connections, over the dictionaries that `gateway.domain.pages` makes."""

from typing import Generic, TypeVar

import strawberry

NodeType = TypeVar("NodeType")


@strawberry.type(description="Where a page lies in its list.")
class PageInfo:
    """Where a page lies in its list."""

    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@strawberry.type
class Edge(Generic[NodeType]):
    """One row and the cursor that leads to it."""

    cursor: str
    node: NodeType


@strawberry.type
class Connection(Generic[NodeType]):
    """A page of a list."""

    edges: list[Edge[NodeType]]
    nodes: list[NodeType]
    page_info: PageInfo
