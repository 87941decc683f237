"""Estimates the cost of an operation before validation: the rows that it may return, and those that it scans."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    SelectionSetNode,
    VariableNode,
)

from gateway.core.pagination import LARGEST_SIZE
from gateway.errors import LimitExceededError
from resolvers.costs import PART_OF_CONDITION, PART_OF_EACH
from schema.cost_tables import CostTable, FieldCost
from schema.filter_limits import member, resolve


class Work(NamedTuple):
    """The cost of a selection set.

    `once`: for the whole operation; `each`: per parent object; `row`: per row of the list that it is a page of;
    `searches`: how many of its fields scan that list again.
    """

    once: int = 0
    each: int = 0
    row: int = 0
    searches: int = 0


@dataclass(slots=True)
class CostAnalysis:
    """The cost of one operation with its variables. Each fragment is counted once and its cost reused."""

    table: CostTable
    fragments: Mapping[str, FragmentDefinitionNode]
    variables: Mapping[str, object]
    most: int
    _fragments: dict[str, Work] = field(default_factory=dict)
    _filters: dict[tuple[str, str], int] = field(default_factory=dict)
    _filtered: int = 0

    def cost(self, selections: SelectionSetNode, root: str) -> int:
        """Raises LimitExceededError if the filters alone exceed the limit."""
        work = self.of(selections, root)
        return work.once + work.each

    def of(self, selections: SelectionSetNode | None, type_name: str) -> Work:
        once = each = row = searches = 0
        costs = self.table.fields_of(type_name)
        for node in selections.selections if selections else ():
            if isinstance(node, FieldNode):
                cost = costs.get(node.name.value)
                if cost is None:
                    continue
                work = self._of_field(node, cost)
            elif isinstance(node, FragmentSpreadNode):
                work = self._of_fragment(node.name.value)
            elif isinstance(node, InlineFragmentNode):
                condition = node.type_condition
                work = self.of(node.selection_set, condition.name.value if condition else type_name)
            once, each, row, searches = (
                once + work.once,
                each + work.each,
                row + work.row,
                searches + work.searches,
            )
        return Work(once, each, row, searches)

    def _of_fragment(self, name: str) -> Work:
        work = self._fragments.get(name)
        if work is None:
            fragment = self.fragments[name]
            work = self._fragments[name] = self.of(fragment.selection_set, fragment.type_condition.name.value)
        return work

    def _of_field(self, node: FieldNode, cost: FieldCost) -> Work:
        inner = self.of(node.selection_set, cost.type_.name)
        looked_at = cost.weight
        if node.arguments and (cost.filters or cost.weights):
            looked_at += self._of_arguments(node, cost) * (1 + inner.searches)
        once, each = inner.once + looked_at, looked_at // PART_OF_EACH
        if cost.is_sized:
            return Work(once, each, cost.shows + inner.each, int(cost.searches))
        if cost.size is None:
            return Work(once, each + cost.shows + inner.each, 0, int(cost.searches))
        size = self._size(node, cost)
        if cost.sizes:
            shown = size if cost.counts_page else 0
            return Work(once, each + shown + inner.each + size * inner.row)
        return Work(once, each + size * (1 + inner.each))

    def _of_arguments(self, node: FieldNode, cost: FieldCost) -> int:
        total = 0
        for argument in node.arguments or ():
            name = argument.name.value
            if name in cost.weights and resolve(argument.value, self.variables) is not None:
                total += cost.weights[name]
            if name in cost.filters:
                total += self._of_filters(argument.value, cost.filters[name], node.name.value)
        self._filtered += total
        if self._filtered > self.most:
            raise LimitExceededError(
                f"The filters of the operation cost at least {self._filtered} rows; the limit is {self.most}: "
                "use fewer conditions, or request fewer lists at once."
            )
        return total

    def _of_filters(self, value: object, type_name: str, field_name: str) -> int:
        """The cost of the filters in a value. A variable is counted once, however often it is used."""
        key = (value.name.value, type_name) if isinstance(value, VariableNode) else None
        if key in self._filters:
            return self._filters[key]
        total, types = 0, self.table.filters
        for name, filter_ in types.filters(value, type_name, self.variables):
            objects = types.count_objects(filter_, name, self.variables, field_name)
            total += types.weight(name) + objects * types.weight(name) // PART_OF_CONDITION
            if total > self.most:
                break
        if key is not None:
            self._filters[key] = total
        return total

    def _size(self, node: FieldNode, cost: FieldCost) -> int:
        sizes = []
        for path, is_list in cost.slicing:
            value = self._argument(node, path)
            if value is not None:
                sizes.append(_length(value) if is_list else _number(value))
        return max(sizes, default=cost.size or 0)

    def _argument(self, node: FieldNode, path: str) -> object:
        name, _, inner = path.partition(".")
        for argument in node.arguments or ():
            if argument.name.value == name:
                value = resolve(argument.value, self.variables)
                return member(value, inner, self.variables) if inner else value
        return None


def _number(value: object) -> int:
    """The size that a number asks for. An invalid number counts as the largest: validation refuses it later."""
    if isinstance(value, IntValueNode):
        value = int(value.value) if len(value.value) < 12 else LARGEST_SIZE
    return max(1, min(LARGEST_SIZE, value)) if isinstance(value, int) else LARGEST_SIZE


def _length(value: object) -> int:
    """GraphQL coerces a single value to a list of one."""
    return max(
        1, len(value.values) if isinstance(value, ListValueNode) else len(value) if isinstance(value, list) else 1
    )
