"""How large a filter is, found out before it is coerced: written out in the document, or sent in variables."""

from collections.abc import Mapping
from typing import Any

from graphql import FieldNode, ListValueNode, ObjectValueNode, VariableNode

from gateway.domain.conditions import MAX_CONDITIONS, MAX_DEPTH
from gateway.errors import BadRequestError

_COMPOSED = frozenset({"and", "or", "not"})


def count_conditions(node: FieldNode, variables: Mapping[str, Any]) -> int:
    """How many conditions the field's filter has, counted until they are too many; BadRequestError where it nests too deep."""
    arguments = {argument.name.value: _meant(argument.value, variables) for argument in node.arguments or ()}
    inner = _members(arguments.get("input"), variables)
    given = arguments.get("filter", inner.get("filter", inner.get("audience")))
    total, waiting = 0, [(1, given)]
    while waiting and total <= MAX_CONDITIONS:
        level, asked = waiting.pop()
        if level > MAX_DEPTH:
            raise BadRequestError(
                f"The filter of '{node.name.value}' nests deeper than the {MAX_DEPTH} levels that are allowed: flatten it."
            )
        for name, value in _members(asked, variables).items():
            if name in _COMPOSED:
                waiting += [(level + 1, one) for one in _items(value, variables)]
            elif name == "metadata":
                total += len(_items(value, variables))
            else:
                total += 1 + len(_items(_members(value, variables).get("metadata"), variables))
    return total


def _members(value: Any, variables: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(value, ObjectValueNode):
        return {field.name.value: _meant(field.value, variables) for field in value.fields}
    return value if isinstance(value, dict) else {}


def _items(value: Any, variables: Mapping[str, Any]) -> list[Any]:
    if isinstance(value, ListValueNode):
        return [_meant(item, variables) for item in value.values]
    return value if isinstance(value, list) else [] if value is None else [value]


def _meant(value: Any, variables: Mapping[str, Any]) -> Any:
    return variables.get(value.name.value) if isinstance(value, VariableNode) else value
