"""The size of filters, checked before they are coerced, in the document or in variables."""

from collections.abc import Iterable, Iterator, Mapping

from graphql import (
    GraphQLInputObjectType,
    GraphQLNamedType,
    ListValueNode,
    NullValueNode,
    ObjectValueNode,
    VariableNode,
    get_named_type,
)

from gateway.domain.filters.conditions import MAX_DEPTH, MAX_OBJECTS
from gateway.errors import BadRequestError

_ITEMS_OF_AN_OBJECT = 50  # this many texts or numbers of a list count as one object


class FilterTypes:
    """The input types that are filters or contain some. `weights` has 0 for an input that is no filter."""

    def __init__(self, weights: Iterable[tuple[GraphQLInputObjectType, int]]) -> None:
        self._weights: dict[str, int] = {}
        self._inputs: dict[str, dict[str, str]] = {}
        self._others: dict[str, frozenset[str]] = {}
        for type_, weight in weights:
            named = {name: get_named_type(field.type) for name, field in type_.fields.items()}
            inputs = {
                name: input_type.name
                for name, input_type in named.items()
                if isinstance(input_type, GraphQLInputObjectType)
            }
            self._weights[type_.name], self._inputs[type_.name] = weight, inputs
            self._others[type_.name] = frozenset(named.keys() - inputs.keys())
        self._holding = {name for name, weight in self._weights.items() if weight}
        while (
            more := {name for name, inner in self._inputs.items() if self._holding & {*inner.values()}} - self._holding
        ):
            self._holding |= more

    def has_filters(self, type_: GraphQLNamedType) -> bool:
        return type_.name in self._holding

    def weight(self, type_name: str) -> int:
        return self._weights[type_name]

    def filters(self, value: object, type_name: str, variables: Mapping[str, object]) -> Iterator[tuple[str, object]]:
        waiting = [(type_name, value)]
        while waiting:
            name, given = waiting.pop()
            for item in _objects(given, variables):
                if self._weights[name]:
                    yield name, item
                else:
                    members = _members(item, variables)
                    inner = [(key, of) for key, of in self._inputs[name].items() if of in self._holding]
                    waiting += [(of, members[key]) for key, of in inner if key in members]

    def count_objects(self, value: object, type_name: str, variables: Mapping[str, object], field: str) -> int:
        """How many objects a filter has, including itself, empty ones and long lists of texts.

        Raises BadRequestError if there are too many, or they are nested too deeply.
        """
        total, waiting = 0, [(1, type_name, value)]
        while waiting:
            level, name, given = waiting.pop()
            if level > MAX_DEPTH:
                raise BadRequestError(f"The filter of '{field}' is nested deeper than {MAX_DEPTH} levels: flatten it.")
            members = _members(given, variables)
            lengths = (_length(members[key], variables) for key in self._others[name] & members.keys())
            total += 1 + sum(length // _ITEMS_OF_AN_OBJECT for length in lengths)
            for key, inner in self._inputs[name].items():
                if key in members:
                    below = level + (inner == type_name)
                    waiting += [(below, inner, value) for value in _objects(members[key], variables)]
            if total + len(waiting) > MAX_OBJECTS:
                raise BadRequestError(
                    f"The filter of '{field}' has more than {MAX_OBJECTS} objects: "
                    "remove empty ones, or use fewer conditions."
                )
        return total


def resolve(value: object, variables: Mapping[str, object]) -> object:
    """A literal, or a variable's value. None for null."""
    given = variables.get(value.name.value) if isinstance(value, VariableNode) else value
    return None if isinstance(given, NullValueNode) else given


def member(value: object, name: str, variables: Mapping[str, object]) -> object:
    return resolve(_members(value, variables).get(name), variables)


def _members(value: object, variables: Mapping[str, object]) -> Mapping[str, object]:
    given = resolve(value, variables)
    if isinstance(given, ObjectValueNode):
        return {field.name.value: field.value for field in given.fields}
    return given if isinstance(given, dict) else {}


def _objects(value: object, variables: Mapping[str, object]) -> list[object]:
    """The objects of a list, at most one more than the limit; or the only object."""
    given = resolve(value, variables)
    items = given.values if isinstance(given, ListValueNode) else given if isinstance(given, list) else [given]
    return [item for item in items[: MAX_OBJECTS + 1] if isinstance(resolve(item, variables), ObjectValueNode | dict)]


def _length(value: object, variables: Mapping[str, object]) -> int:
    given = resolve(value, variables)
    return len(given.values) if isinstance(given, ListValueNode) else len(given) if isinstance(given, list) else 0
