"""Declares which fields of objects each condition and sort key reveals."""

from enum import Enum
from typing import Any, TypeVar

import strawberry
from strawberry.schema_directive import Location
from strawberry.types.enum import StrawberryEnumDefinition

EnumType = TypeVar("EnumType", bound=type[Enum])


@strawberry.schema_directive(
    locations=[Location.INPUT_FIELD_DEFINITION, Location.ENUM_VALUE],
    name="reveals",
    description="The fields that a list reveals if it is filtered or sorted by this. A caller that may not read all of them is refused.",
)
class Reveals:
    fields: list[str]


def revealing(*fields: str, name: str | None = None, description: str | None = None) -> Any:
    """An optional field of a filter that reveals these fields of objects."""
    return strawberry.field(
        name=name, default=strawberry.UNSET, description=description, directives=[Reveals(fields=list(fields))]
    )


def sort_enum(keys: EnumType, revealed: dict[Any, str], description: str) -> EnumType:
    """The enum of sort keys, each with the field that it reveals."""
    made = strawberry.enum(keys, description=description)
    definition: StrawberryEnumDefinition = made.__strawberry_definition__  # type: ignore[attr-defined]
    for value in definition.values:
        value.directives = (Reveals(fields=[revealed[value.value]]),)
    return made
