"""Builds strawberry inputs with converters that are chosen once per type instead of once per value."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING
from typing import Any

from graphql import GraphQLInputObjectType, GraphQLSchema
from strawberry import UNSET
from strawberry.relay.types import GlobalID
from strawberry.scalars import is_scalar
from strawberry.types.arguments import InputContext
from strawberry.types.base import (
    StrawberryList,
    StrawberryMaybe,
    StrawberryObjectDefinition,
    StrawberryOptional,
    has_object_definition,
)
from strawberry.types.enum import StrawberryEnumDefinition, has_enum_definition

Convert = Callable[[Any, InputContext], Any]


def compile_inputs(schema: GraphQLSchema) -> None:
    for type_ in schema.type_map.values():
        definition = (type_.extensions or {}).get("strawberry-definition")
        if isinstance(type_, GraphQLInputObjectType) and isinstance(definition, StrawberryObjectDefinition):
            definition.from_input = InputBuilder(definition)


class InputBuilder:
    def __init__(self, definition: StrawberryObjectDefinition) -> None:
        self._definition = definition
        self._fields: list[tuple[str, str, Convert | None]] | None = None
        self._omitted = {
            field.python_name: None
            for field in definition.fields
            if field.default_value is MISSING and field.default_factory is MISSING
        }

    def __call__(self, class_: type, value: Mapping[str, Any], context: InputContext) -> Any:
        if self._fields is None:
            self._fields = self._compiled(context)  # types can be resolved only after the schema is built
        arguments: dict[str, Any] = self._omitted.copy()
        for key, name, convert in self._fields:
            if key in value:
                inner = value[key]
                arguments[name] = (
                    inner if convert is None or inner is None or inner is UNSET else convert(inner, context)
                )
        return class_(**arguments)

    def _compiled(self, context: InputContext) -> list[tuple[str, str, Convert | None]]:
        name_of = context.config.name_converter.from_field
        return [
            (
                name_of(field),
                field.python_name,
                _conversion(field.resolve_type(type_definition=self._definition), context),
            )
            for field in self._definition.fields
        ]


def _conversion(type_: Any, context: InputContext) -> Convert | None:
    """Return the converter for values that are neither null nor omitted; None if the value is used as it is."""
    if isinstance(type_, StrawberryOptional) and not isinstance(type_, StrawberryMaybe):
        return _conversion(type_.of_type, context)
    if isinstance(type_, StrawberryList):
        return _of_items(_conversion(type_.of_type, context))
    if isinstance(type_, StrawberryEnumDefinition) or has_enum_definition(type_):
        return None
    if type_ is not GlobalID and is_scalar(type_, context.scalar_registry):
        return None
    if has_object_definition(type_) and isinstance(build := type_.__strawberry_definition__.from_input, InputBuilder):
        return lambda inner, context: build(type_, inner, context)
    return lambda inner, context: context.convert(inner, type_)


def _of_items(convert: Convert | None) -> Convert:
    if convert is None:
        return lambda inner, _: list(inner)
    return lambda inner, context: [None if item is None else convert(item, context) for item in inner]
