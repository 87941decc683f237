"""Inputs: a builder of each type builds what strawberry builds by itself, whatever was sent."""

import random
from typing import Any

import pytest
from graphql import GraphQLEnumType, GraphQLInputObjectType, GraphQLList, GraphQLNonNull
from strawberry.types.arguments import convert_argument

from gateway.execution.inputs import InputBuilder
from schema.root import build_schema

_EACH = 50


def test_builders_build_what_strawberry_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    schema, chance = build_schema(), random.Random(1)
    inputs = [type_ for type_ in schema.core.type_map.values() if isinstance(type_, GraphQLInputObjectType)]
    definitions = [type_.extensions["strawberry-definition"] for type_ in inputs]
    sent = [[_sent(type_, chance) for _ in range(_EACH)] for type_ in inputs]

    def built() -> list[list[Any]]:
        scalars = schema.schema_converter.scalar_registry
        return [
            [convert_argument(value, definition.origin, scalars, schema.config) for value in values]
            for definition, values in zip(definitions, sent, strict=True)
        ]

    assert all(isinstance(definition.from_input, InputBuilder) for definition in definitions)
    compiled = built()
    for definition in definitions:
        monkeypatch.setattr(definition, "from_input", None)
    assert repr(built()) == repr(compiled)


def _sent(type_: GraphQLInputObjectType, chance: random.Random, depth: int = 0) -> dict[str, Any]:
    return {
        name: _value(field.type, chance, depth)
        for name, field in type_.fields.items()
        if isinstance(field.type, GraphQLNonNull) or (depth < 3 and chance.random() < 0.5)
    }


def _value(type_: Any, chance: random.Random, depth: int) -> Any:
    if isinstance(type_, GraphQLNonNull):
        return _value_of(type_.of_type, chance, depth)
    return None if chance.random() < 0.2 else _value_of(type_, chance, depth)


def _value_of(type_: Any, chance: random.Random, depth: int) -> Any:
    if isinstance(type_, GraphQLList):
        return [_value(type_.of_type, chance, depth) for _ in range(chance.randrange(3))]
    if isinstance(type_, GraphQLInputObjectType):
        return _sent(type_, chance, depth + 1)
    if isinstance(type_, GraphQLEnumType):
        return chance.choice([*type_.values.values()]).value
    return chance.choice(["x", 1, True, {"a": 1}])
