"""Access of filters and sorts: each needs the scopes of the fields that it reveals, in every list."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Protocol

from graphql import (
    GraphQLEnumType,
    GraphQLEnumValue,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
)

from gateway.core.principals import Scope
from gateway.errors import ForbiddenError
from resolvers.context import Context
from resolvers.reveals import Reveals

_DEFINITION = "strawberry-definition"
# Called with the context; raises if the caller may not use the argument.
Checks = Sequence[Callable[[Context], None]]


class Rights(Protocol):
    scopes: list[Scope]
    contact_token: bool


@dataclass(frozen=True, slots=True)
class Revealed:
    """A restricted field that a condition or sort key reveals, with the scopes that it needs."""

    name: str
    field: str
    access: Rights

    def check(self, context: Context) -> None:
        """Raises ForbiddenError if the caller may not read the field."""
        if context.principal.contact_id is not None:
            if not self.access.contact_token:
                raise ForbiddenError(
                    f"A contact token may not filter or sort by '{self.name}', because it reveals '{self.field}': leave it out."
                )
        elif not context.principal.may(frozenset(self.access.scopes)):
            needed = " or ".join(sorted(scope.value for scope in self.access.scopes))
            raise ForbiddenError(
                f"This API key may not filter or sort by '{self.name}', because it reveals '{self.field}': it needs the scope {needed}."
            )


class RevealedFields:
    """The scopes that the arguments of fields need. `access_of` gives the declared access of a field."""

    def __init__(self, schema: GraphQLSchema, access_of: Callable[[GraphQLField], Rights | None]) -> None:
        self._schema = schema
        self._access_of = access_of
        self._by_input: dict[str, dict[str, list[Revealed]]] = {}
        for type_ in schema.type_map.values():
            if isinstance(type_, GraphQLInputObjectType | GraphQLEnumType):
                self._by_input[type_.name] = self._declared(type_)

    def checks_of(self, field: GraphQLField) -> Callable[[Mapping[str, object]], Checks] | None:
        """None if no argument needs a scope."""
        inputs = {name: get_named_type(argument.type) for name, argument in field.args.items()}
        restricted = {name: type_ for name, type_ in inputs.items() if self._needs_rights(type_, set())}
        return partial(self._checks, restricted) if restricted else None

    def _checks(self, inputs: Mapping[str, GraphQLNamedType], arguments: Mapping[str, object]) -> Checks:
        return [
            revealed.check
            for name, type_ in inputs.items()
            if arguments.get(name) is not None
            for revealed in self._revealed(type_, arguments[name])
        ]

    def _revealed(self, type_: GraphQLNamedType, value: object) -> Iterator[Revealed]:
        declared = self._by_input.get(type_.name, {})
        if isinstance(value, list):
            for item in value:
                yield from self._revealed(type_, item)
        elif isinstance(type_, GraphQLEnumType):
            yield from declared.get(value.name if isinstance(value, Enum) else str(value), ())
        elif isinstance(type_, GraphQLInputObjectType) and isinstance(value, dict):
            for name, inner in value.items():
                if inner is not None and name in declared:
                    yield from declared[name]
                elif inner is not None:
                    yield from self._revealed(get_named_type(type_.fields[name].type), inner)

    def _needs_rights(self, type_: GraphQLNamedType, seen: set[str]) -> bool:
        if type_.name in seen:
            return False
        seen.add(type_.name)
        if any(self._by_input.get(type_.name, {}).values()):
            return True
        inner = type_.fields.values() if isinstance(type_, GraphQLInputObjectType) else ()
        return any(self._needs_rights(get_named_type(field.type), seen) for field in inner)

    def _declared(self, type_: GraphQLInputObjectType | GraphQLEnumType) -> dict[str, list[Revealed]]:
        members: Mapping[str, GraphQLInputField | GraphQLEnumValue] = (
            type_.fields if isinstance(type_, GraphQLInputObjectType) else type_.values
        )
        return {
            name: [restricted for field in reveals.fields if (restricted := self._restricted(name, field)) is not None]
            for name, member in members.items()
            if (reveals := _reveals(member)) is not None
        }

    def _restricted(self, name: str, field: str) -> Revealed | None:
        type_name, _, field_name = field.partition(".")
        type_ = self._schema.type_map.get(type_name)
        if not isinstance(type_, GraphQLObjectType) or field_name not in type_.fields:
            raise TypeError(f"'{name}' reveals {field}, and there is no such field")
        access = self._access_of(type_.fields[field_name])
        return None if access is None else Revealed(name, field, access)


def _reveals(member: GraphQLInputField | GraphQLEnumValue) -> Reveals | None:
    definition = member.extensions.get(_DEFINITION)
    return (
        next((directive for directive in definition.directives if isinstance(directive, Reveals)), None)
        if definition
        else None
    )
