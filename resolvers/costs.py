"""Directives that declare costs: sizes of lists, and weights of fields, arguments and inputs."""

from typing import Annotated

import strawberry
from strawberry.schema_directive import Location

from gateway.core.pagination import DEFAULT_SIZE

# A weight counts once, and this part of it again for each parent object: the objects of a level are
# read together, and each of many is scanned less far than a single one.
PART_OF_EACH = 20
# An object within a filter, such as a condition, costs this part of the filter's weight.
PART_OF_CONDITION = 5


@strawberry.schema_directive(
    locations=[Location.FIELD_DEFINITION],
    name="listSize",
    description="Size of this list in cost analysis: the largest of the slicing arguments (the length of one that is a list), or assumedSize without them. With sizedFields it is the size of these fields of the object.",
)
class ListSize:
    assumed_size: int | None = strawberry.UNSET
    slicing_arguments: list[str] | None = strawberry.UNSET
    sized_fields: list[str] | None = strawberry.UNSET


@strawberry.schema_directive(
    locations=[Location.FIELD_DEFINITION, Location.ARGUMENT_DEFINITION, Location.INPUT_OBJECT],
    name="cost",
    description="The number of rows that a field costs beside the rows that it returns: `weight` once, and a twentieth of it for each parent object. An input costs its weight wherever it is given; each object in it adds a fifth.",
)
class Cost:
    weight: int


def list_of(size: int) -> ListSize:
    """A list of at most, or usually, this many objects."""
    return ListSize(assumed_size=size)


# A connection: its page, and 20 rows without `first` and `last`.
PAGED = ListSize(assumed_size=DEFAULT_SIZE, slicing_arguments=["first", "last"], sized_fields=["edges", "nodes"])
PAGED_BY_NAMES = ListSize(
    assumed_size=DEFAULT_SIZE, slicing_arguments=["first", "last", "names"], sized_fields=["edges", "nodes"]
)
# A page scans up to 10,000 rows. Conditions on contacts and events cost more than those on inbox lists.
SEARCH = Cost(weight=1000)
LIST_SEARCH = Cost(weight=500)
SORT = Cost(weight=250)
# Up to 10,000 entries of an index are counted.
TOTAL = Cost(weight=500)
# A text search in the names of a workspace.
NAME_SEARCH = Cost(weight=500)
# Evaluated for each change that a subscription receives.
STREAM = Cost(weight=100)
# Up to 10,000 rows are written in the background.
MANY = Cost(weight=1000)
ONE_ERROR = list_of(1)
Searched = Annotated[str | None, strawberry.argument(directives=[NAME_SEARCH])]
