"""Relay connections over the dictionaries of `gateway.core.pagination`."""

from typing import Any, Generic, TypeVar

import strawberry
from strawberry import Parent

from gateway.core import pagination
from resolvers.context import Source
from resolvers.costs import TOTAL
from resolvers.total_count import LARGEST_TOTAL, total_count
from schema.access import READ_LISTS
from schema.batching import batched

NodeType = TypeVar("NodeType")


@strawberry.type(description="The position of a page in its list.")
class PageInfo:
    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@strawberry.type
class Edge(Generic[NodeType]):
    cursor: str
    node: NodeType


def _edges(parent: Parent[pagination.Connection[Source]]) -> Any:
    return pagination.edges(parent)


def _page_info(parent: Parent[pagination.Connection[Source]]) -> Any:
    return pagination.page_info(parent)


@strawberry.type
class Connection(Generic[NodeType]):
    edges: list[Edge[NodeType]] = strawberry.field(resolver=_edges)
    nodes: list[NodeType]
    page_info: PageInfo = strawberry.field(resolver=_page_info)


@strawberry.type(name="Connection")
class CountedConnection(Connection[NodeType], Generic[NodeType]):
    @batched(
        total_count,
        directives=[READ_LISTS, TOTAL],
        description="The number of rows in the whole list, counted up to `upTo` (at most 10,000). A result equal to `upTo` means at least that many. Null if the filter has no index and more than 10,000 rows would have to be read.",
    )
    def total_count(self, up_to: int | None = LARGEST_TOTAL) -> int | None:
        return LARGEST_TOTAL if up_to is None else up_to
