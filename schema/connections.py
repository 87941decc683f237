"""Relay connections, over the dictionaries that `gateway.core.pagination` makes."""

from typing import Any, Generic, TypeVar

import strawberry
from strawberry import Parent

from gateway.core import pagination
from resolvers.context import Source
from resolvers.costs import TOTAL
from resolvers.total_count import LARGEST_TOTAL, total_count
from schema.access import READ_LISTS
from schema.batching import by_level

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


def _edges(parent: Parent[pagination.Connection[Source]]) -> Any:
    return pagination.edges(parent)


def _page_info(parent: Parent[pagination.Connection[Source]]) -> Any:
    return pagination.page_info(parent)


@strawberry.type
class Connection(Generic[NodeType]):
    """A page of a list."""

    edges: list[Edge[NodeType]] = strawberry.field(resolver=_edges)
    nodes: list[NodeType]
    page_info: PageInfo = strawberry.field(resolver=_page_info)


@strawberry.type(name="Connection")
class CountedConnection(Connection[NodeType], Generic[NodeType]):
    """A page of a list that can be counted."""

    @by_level(
        total_count,
        directives=[READ_LISTS, TOTAL],
        description="How many rows the whole list has, counted up to `upTo` (at most 10,000): that very number means at least so many. "
        "Null where no index tells, and 10,000 were looked at before the end.",
    )
    def total_count(self, up_to: int | None = LARGEST_TOTAL) -> int | None:
        """How many rows the whole list has."""
        return LARGEST_TOTAL if up_to is None else up_to
