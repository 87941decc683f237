"""Values that no caller should send, at every place of the schema that takes one: inputs that are valid but for one value."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLScalarType,
    get_nullable_type,
    is_list_type,
    is_non_null_type,
)

Place = tuple[str | int, ...]
_MOST_PLACES = 2

# ---- values -----------------------------------------------------------------------------------------------------


def nested(levels: int, inner: Any = 1) -> Any:
    """That many objects and lists around a value."""
    for level in range(levels):
        inner = {"a": inner} if level % 2 else [inner]
    return inner


def parts(value: Any) -> Iterator[Any]:
    """The texts, numbers and keys that a value is made of."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            waiting += [*part, *part.values()]
        elif isinstance(part, list):
            waiting += part
        else:
            yield part


def is_deep(value: Any) -> bool:
    """Whether it nests deeper than what Python's own functions walk through without care."""
    levels, here = 0, [value]
    while here := [inner for part in here if isinstance(part, dict | list) for inner in _inner(part)]:
        levels += 1
    return levels > 100


def _inner(part: Any) -> Iterable[Any]:
    return part.values() if isinstance(part, dict) else part


TEXTS = [
    "\ud800",
    "a\udfffb",
    "\udc00@\ud800.example",
    "a\0b",
    "",
    "x" * 12_000,
    "\u202e\x1b[2J\r\n",
    "{{ x | y }}{% z %}",
]
INTEGERS = [2**31 - 1, -(2**31), 2**31, 2**63, -(2**63) - 1, 10**39, 10**400, 1.5, 1e300]
FLOATS = [float("nan"), float("inf"), -float("inf"), 1e308, -1.7976931348623157e308, 5e-324, 2**63, 10**39, 10**400]
TIMES = [
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59.999999Z",
    "9999-12-31T23:59:59-23:59",
    "1969-12-31T23:59:59.999Z",
    "2026-02-30T00:00:00Z",
    "2016-12-31T23:59:60Z",
    "\ud800",
    2**63,
    float("nan"),
    {},
]
JSON_VALUES: list[Any] = [
    "\ud800",
    "a\0b",
    2**63,
    -(2**63) - 1,
    2**64,
    10**39,
    10**400,
    float("nan"),
    float("inf"),
    1.7976931348623157e308,
    nested(60),
    nested(400),
    {"\ud800": 1},
    {"a\0b": 1},
    {"$gt": 1},
    {"a.b": 1},
    {"": 1},
    {"deep": [{"er": ["\udfff", 2**70]}]},
    {"url": "https://[x", "value": "\ud800"},
    {"amount": 2**63, "currency": "USD"},
    {"amount": 1, "currency": "\ud800"},
    [1, "a", {"b": None}] * 50,
]
OBJECTS: list[Any] = [
    *({"plan": value} for value in JSON_VALUES),
    *(value for value in JSON_VALUES if isinstance(value, dict)),
    {"signup_date": 10**30},
    {"signup_date": -1e300},
    {"stripe_invoice": "\ud800"},
    {f"key{number}": number for number in range(2000)},
    [],
    "\ud800",
    2**63,
]
HOSTILE: Mapping[str, list[Any]] = {
    "String": TEXTS,
    "ID": [*TEXTS, 2**63, 10**400],
    "Int": INTEGERS,
    "SafeInt": INTEGERS,
    "Float": FLOATS,
    "DateTime": TIMES,
    "JSON": JSON_VALUES,
    "JSONObject": OBJECTS,
}

# ---- places -----------------------------------------------------------------------------------------------------


def places(type_: Any) -> Iterator[tuple[Place, str]]:
    """Every place of a scalar below an input type, with the scalar's name; of a shared input such as StringFilter two places."""
    return _places(type_, (), Counter())


def _places(type_: Any, around: tuple[str, ...], met: Counter[str]) -> Iterator[tuple[Place, str]]:
    named = get_nullable_type(type_)
    if is_list_type(named):
        yield from (((0, *path), scalar) for path, scalar in _places(named.of_type, around, met))
    elif isinstance(named, GraphQLScalarType):
        if named.name in HOSTILE:
            yield (), named.name
    elif isinstance(named, GraphQLInputObjectType) and named.name not in around and met[named.name] < _MOST_PLACES:
        met[named.name] += 1
        for name, field in named.fields.items():
            yield from (((name, *path), scalar) for path, scalar in _places(field.type, (*around, named.name), met))


def valid(type_: Any, target: Place | None, value: Any, known: Mapping[str, Any], name: str = "") -> Any:
    """The least valid value of an input type, with that value at the target place; `known`: valid values of fields by name."""
    named = get_nullable_type(type_)
    if target == ():
        return value
    if is_list_type(named):
        item = valid(named.of_type, None if target is None else target[1:], value, known, name)
        return [item]
    if isinstance(named, GraphQLEnumType):
        return known.get(name, next(iter(named.values)))
    if isinstance(named, GraphQLInputObjectType):
        return _valid_object(named, target, value, known)
    return known.get(name, _PLAIN[named.name])


def _valid_object(type_: GraphQLInputObjectType, target: Place | None, value: Any, known: Mapping[str, Any]) -> Any:
    wanted = target[0] if target else None
    chosen = {name for name, field in type_.fields.items() if name == wanted or is_non_null_type(field.type)}
    if wanted is None:
        chosen |= set(_NEEDED.get(type_.name, ()))
    return {
        name: valid(field.type, target[1:] if target and name == wanted else None, value, known, name)
        for name, field in type_.fields.items()
        if name in chosen
    }


_PLAIN = {
    "String": "text",
    "ID": "unknown",
    "Int": 1,
    "SafeInt": 1,
    "Float": 1.5,
    "Boolean": True,
    "DateTime": "2026-01-31T09:30:00Z",
    "JSON": 1,
    "JSONObject": {},
}
# Inputs without a required field that need one all the same.
_NEEDED = {
    "ContactRef": ("externalId",),
    "ContactKey": ("externalId",),
    "TicketKey": ("number",),
    "RuleTriggerInput": ("everyTime",),
    "ActorRef": ("adminId",),
    "UpsertContactInput": ("externalId",),
}
