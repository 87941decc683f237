"""Response paths as linked tuples: one is made per row, so they must be cheap."""

from typing import Any

from graphql.pyutils import Path

# (parent path, key or index, name of the parent type, whether the value may be null)
ResponsePath = tuple["ResponsePath | None", str | int, str | None, bool]


def keys_of(path: ResponsePath | None) -> list[str | int]:
    keys: list[str | int] = []
    while path is not None:
        keys.append(path[1])
        path = path[0]
    keys.reverse()
    return keys


def path_of(path: ResponsePath) -> Path:
    above, key, type_name, _ = path
    return Path(None if above is None else path_of(above), key, type_name)


def nearest_nullable(path: ResponsePath | None) -> ResponsePath | None:
    """Return the path, or the nearest one above it that may be null; None means the whole response."""
    while path is not None and not path[3]:
        path = path[0]
    return path


def put(data: Any, path: ResponsePath, value: Any) -> None:
    """Write a value at its path, unless something above it is null by now."""
    *above, last = keys_of(path)
    for key in above:
        if data is None:
            return
        data = data[key]
    if data is not None:
        data[last] = value
