"""Sorts a document's fragments by dependency, and refuses unknown and recursive ones."""

from collections.abc import Iterator, Mapping, Sequence

from graphql import FieldNode, FragmentDefinitionNode, FragmentSpreadNode, OperationDefinitionNode, SelectionSetNode

from gateway.errors import BadRequestError

_LONGEST_NAME = 100


def sort_fragments(
    fragments: Mapping[str, FragmentDefinitionNode], operations: Sequence[OperationDefinitionNode]
) -> list[str]:
    """Fragment names, each after those that it spreads. Raises BadRequestError."""
    spreads = {name: _spreads(fragment.selection_set) for name, fragment in fragments.items()}
    for names in (*spreads.values(), *(_spreads(operation.selection_set) for operation in operations)):
        for name in names:
            if name not in fragments:
                raise BadRequestError(
                    f"The document spreads the fragment '{name[:_LONGEST_NAME]}' but does not define it: define it, or remove the spread."
                )
    ordered: dict[str, None] = {}
    for name in fragments:
        _visit(name, spreads, ordered)
    return list(ordered)


def _visit(start: str, spreads: Mapping[str, list[str]], ordered: dict[str, None]) -> None:
    """Depth first, without recursion: a document can have a long chain of fragments."""
    path: dict[str, Iterator[str]] = {} if start in ordered else {start: iter(spreads[start])}
    while path:
        name, inner = next(reversed(path.items()))
        following = next((other for other in inner if other not in ordered), None)
        if following is None:
            del path[name]
            ordered[name] = None
        elif following in path:
            raise BadRequestError(_circle([*path][[*path].index(following) :]))
        else:
            path[following] = iter(spreads[following])


def _circle(names: Sequence[str]) -> str:
    way = "".join(f", through '{name[:_LONGEST_NAME]}'" for name in names[1:2])
    return f"The fragment '{names[0][:_LONGEST_NAME]}' spreads itself{way}: remove one of these spreads."


def _spreads(selections: SelectionSetNode) -> list[str]:
    names: dict[str, None] = {}
    waiting = [selections]
    while waiting:
        for node in waiting.pop().selections:
            if isinstance(node, FragmentSpreadNode):
                names[node.name.value] = None
            elif isinstance(node, FieldNode) and node.selection_set is None:
                continue
            else:
                waiting.append(node.selection_set)  # type: ignore[attr-defined] # a field's, or an inline fragment's
    return list(names)
