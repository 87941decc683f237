"""Where a value stands in the answer: links from a place to the one above it, made for every row, so bare tuples."""

from typing import Any

from graphql.pyutils import Path

# (the place above, key or index, name of the type that has the key, whether the place may be null)
ResponsePath = tuple["ResponsePath | None", str | int, str | None, bool]


def keys_of(place: ResponsePath | None) -> list[str | int]:
    """The keys and indexes that lead to a place."""
    keys: list[str | int] = []
    while place is not None:
        keys.append(place[1])
        place = place[0]
    keys.reverse()
    return keys


def path_of(place: ResponsePath) -> Path:
    """The place as graphql-core tells it to resolvers."""
    above, key, type_name, _ = place
    return Path(None if above is None else path_of(above), key, type_name)


def nearest_nullable(place: ResponsePath | None) -> ResponsePath | None:
    """The place, or the nearest one above it that may be null; None: the whole answer."""
    while place is not None and not place[3]:
        place = place[0]
    return place


def put(data: Any, place: ResponsePath, value: Any) -> None:
    """Write a value at its place of the answer, unless something above it is null by now."""
    *above, last = keys_of(place)
    for key in above:
        if data is None:
            return
        data = data[key]
    if data is not None:
        data[last] = value
