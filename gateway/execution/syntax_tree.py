"""Nodes of parsed documents: all of them below one, and the memory that they take."""

import gc
import sys
from collections.abc import Iterator
from enum import Enum
from typing import Any

from graphql import Node, Source
from graphql.language.ast import QUERY_DOCUMENT_KEYS

_NO_PART_OF_NODES = (type, Enum, Source)


def nodes_below(*nodes: Node) -> Iterator[Node]:
    """Those nodes and all below them, each once for each place that it stands at."""
    waiting = list(nodes)
    while waiting:
        here = waiting.pop()
        yield here
        for key in QUERY_DOCUMENT_KEYS.get(here.kind, ()):
            below = getattr(here, key)
            waiting += [below] if isinstance(below, Node) else below or ()


def node_bytes(*nodes: Any) -> int:
    """About how many bytes nodes take with all that is below them, but for the text that they were read from."""
    weight, waiting, seen = 0, list(nodes), set[int]()
    while waiting:
        here = waiting.pop()
        if id(here) not in seen and not isinstance(here, _NO_PART_OF_NODES):
            seen.add(id(here))
            weight += sys.getsizeof(here)
            waiting += gc.get_referents(here)
    return weight * 5 // 4  # memory is given out in larger pieces
