"""What the schema declares of costs: how long lists are, and what fields and filters look at beside the rows that they show."""

from typing import Annotated

import strawberry
from strawberry.schema_directive import Location

from gateway.core.pagination import DEFAULT_SIZE

# A weight counts once, and again this part of it for each object that the field belongs to: the objects of a level are
# read together, and each of many is looked through less far than one alone.
PART_OF_EACH = 20
# An object within a filter, such as a condition, costs this part of the filter's weight.
PART_OF_CONDITION = 5


@strawberry.schema_directive(
    locations=[Location.FIELD_DEFINITION],
    name="listSize",
    description="How many objects this list counts for: the largest of the arguments named (the length of one that is a list), or "
    "assumedSize without them. With sizedFields the size is that of these fields of the object.",
)
class ListSize:
    """How many objects a list has."""

    assumed_size: int | None = strawberry.UNSET
    slicing_arguments: list[str] | None = strawberry.UNSET
    sized_fields: list[str] | None = strawberry.UNSET


@strawberry.schema_directive(
    locations=[Location.FIELD_DEFINITION, Location.ARGUMENT_DEFINITION, Location.INPUT_OBJECT],
    name="cost",
    description="What is looked at beside the rows that are shown, in rows: `weight` once, and a twentieth of it for each object "
    "that the field belongs to. Of an input: wherever it is given; each object in it adds a fifth of the weight.",
)
class Cost:
    """What a field, an argument or an input costs beside rows."""

    weight: int


def list_of(size: int) -> ListSize:
    """A list of at most, or usually, so many objects."""
    return ListSize(assumed_size=size)


# A connection: its page, and 20 rows without `first` and `last`.
PAGED = ListSize(assumed_size=DEFAULT_SIZE, slicing_arguments=["first", "last"], sized_fields=["edges", "nodes"])
PAGED_BY_NAMES = ListSize(
    assumed_size=DEFAULT_SIZE, slicing_arguments=["first", "last", "names"], sized_fields=["edges", "nodes"]
)
# Up to 10,000 rows are looked at for a page: conditions on contacts and events cost more to decide than those on lists of an inbox.
SEARCH = Cost(weight=1000)
LIST_SEARCH = Cost(weight=500)
SORT = Cost(weight=250)
# Up to 10,000 entries of an index are counted.
TOTAL = Cost(weight=500)
# A text is looked for in the names of a workspace.
NAME_SEARCH = Cost(weight=500)
# What is asked of each change that a subscription hears.
STREAM = Cost(weight=100)
# Up to 10,000 rows are written in the background.
MANY = Cost(weight=1000)
ONE_ERROR = list_of(1)
Searched = Annotated[str | None, strawberry.argument(directives=[NAME_SEARCH])]
