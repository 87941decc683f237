"""Nodes of parsed documents: traversal and memory size."""

import gc
import sys
from collections.abc import Iterator
from enum import Enum
from typing import Any

from graphql import Node, Source
from graphql.language.ast import QUERY_DOCUMENT_KEYS

_NO_PART_OF_NODES = (type, Enum, Source)


def nodes_below(*nodes: Node) -> Iterator[Node]:
    """Yield the nodes and all their descendants; a shared node appears once per occurrence."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        yield node
        for key in QUERY_DOCUMENT_KEYS.get(node.kind, ()):
            below = getattr(node, key)
            waiting += [below] if isinstance(below, Node) else below or ()


def node_bytes(*nodes: Any) -> int:
    """Estimate the bytes of nodes with their descendants, without the source text."""
    weight, waiting, seen = 0, list(nodes), set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) not in seen and not isinstance(node, _NO_PART_OF_NODES):
            seen.add(id(node))
            weight += sys.getsizeof(node)
            waiting += gc.get_referents(node)
    return weight * 5 // 4  # the allocator rounds up
