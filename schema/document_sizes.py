"""The size of a document after its fragments are expanded. Each fragment is measured once."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from graphql import (
    ArgumentNode,
    DirectiveNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    ListValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
)

_INTROSPECTION = frozenset({"__schema", "__type"})


@dataclass(slots=True)
class Size:
    """The size of a part of a document, and whether it uses introspection.

    `fields`: with spreads and inline fragments. `values`: of arguments, including items and objects. `depth`: levels of
    fields. `levels`: nested selection sets, including those of fragments.
    """

    fields: int = 0
    values: int = 0
    aliases: int = 0
    directives: int = 0
    duplicates: int = 0
    depth: int = 0
    levels: int = 0
    introspects: bool = False

    def add(self, inner: "Size", *, deeper: int = 0) -> None:
        self.fields += inner.fields
        self.values += inner.values
        self.aliases += inner.aliases
        self.directives += inner.directives
        self.duplicates += inner.duplicates
        self.introspects = self.introspects or inner.introspects
        self.depth = max(self.depth, inner.depth + deeper)
        self.levels = max(self.levels, inner.levels + 1)


def measure_fragments(fragments: Mapping[str, FragmentDefinitionNode], order: Iterable[str]) -> dict[str, Size]:
    """`order` has each fragment after those that it spreads."""
    measured: dict[str, Size] = {}
    for name in order:
        measured[name] = measure(fragments[name].selection_set, measured)
    return measured


def measure(selections: SelectionSetNode | None, measured: Mapping[str, Size]) -> Size:
    total, keys = Size(), Counter[str]()
    for node in selections.selections if selections else ():
        total.fields += 1
        if node.directives:
            total.directives += len(node.directives)
            total.values += _count_values(node.directives)
        if isinstance(node, FieldNode):
            total.introspects = total.introspects or node.name.value in _INTROSPECTION
            total.aliases += node.alias is not None
            keys[(node.alias or node.name).value] += 1
            if node.arguments:
                total.values += _count_values((node,))
            total.add(measure(node.selection_set, measured), deeper=1)
        elif isinstance(node, InlineFragmentNode):
            total.add(measure(node.selection_set, measured))
        elif isinstance(node, FragmentSpreadNode):
            total.add(measured[node.name.value])
            keys["..." + node.name.value] += 1
    total.duplicates += sum(count - 1 for count in keys.values())
    return total


def measure_operation(operation: OperationDefinitionNode, measured: Mapping[str, Size]) -> Size:
    size = measure(operation.selection_set, measured)
    size.directives += len(operation.directives or ())
    return size


def count_written(selections: Iterable[SelectionSetNode]) -> int:
    """How many fields, spreads and inline fragments are written, without expanding fragments."""
    written, waiting = 0, list(selections)
    while waiting:
        nodes = waiting.pop().selections
        written += len(nodes)
        waiting += [inner for node in nodes if (inner := getattr(node, "selection_set", None)) is not None]
    return written


def _count_values(nodes: Iterable[FieldNode | DirectiveNode]) -> int:
    arguments: Iterable[ArgumentNode] = (argument for node in nodes for argument in node.arguments or ())
    total, waiting = 0, [argument.value for argument in arguments]
    while waiting:
        total += 1
        waiting += _inner_values(waiting.pop())
    return total


def _inner_values(value: ValueNode) -> Iterable[ValueNode]:
    if isinstance(value, ListValueNode):
        return value.values
    return [field.value for field in value.fields] if isinstance(value, ObjectValueNode) else ()
