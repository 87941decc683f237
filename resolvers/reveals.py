"""What filters and sorts reveal: each condition and each sort key names the fields of objects behind it."""

from enum import Enum
from typing import Any, TypeVar

import strawberry
from strawberry.schema_directive import Location
from strawberry.types.enum import StrawberryEnumDefinition

EnumType = TypeVar("EnumType", bound=type[Enum])


@strawberry.schema_directive(
    locations=[Location.INPUT_FIELD_DEFINITION, Location.ENUM_VALUE],
    name="reveals",
    description="The fields that a list reveals when it is filtered or sorted by this: who may not read all of them is refused.",
)
class Reveals:
    """The fields that a condition or a sort key reveals, as `Type.field`."""

    fields: list[str]


def revealing(*fields: str, name: str | None = None, description: str | None = None) -> Any:
    """A field of a filter that may be omitted, and reveals those fields of objects."""
    return strawberry.field(
        name=name, default=strawberry.UNSET, description=description, directives=[Reveals(fields=list(fields))]
    )


def sort_enum(keys: EnumType, revealed: dict[Any, str], description: str) -> EnumType:
    """The enum of what a list is sorted by, each key with the field that it reveals."""
    made = strawberry.enum(keys, description=description)
    definition: StrawberryEnumDefinition = made.__strawberry_definition__  # type: ignore[attr-defined]
    for value in definition.values:
        value.directives = (Reveals(fields=[revealed[value.value]]),)
    return made
