"""Checks that JSON input can be stored, hashed and returned."""

import math

from gateway.core.text_rules import check_unicode
from gateway.errors import ErrorCode, UserProblem

Path = tuple[str, ...]
MAX_DEPTH = 100  # far above GATEWAY_MAX_METADATA_DEPTH, and far below the limit of JSON writers
_LARGEST_INT64 = 2**63 - 1


def check_value(value: object, path: Path, depth: int = 0) -> None:
    """Check a JSON value recursively. UserProblem names the first bad text, number or key."""
    if isinstance(value, str):
        if not value.isascii():
            check_unicode(value, path, named=f"'{shown(path[-1])}'")
    elif isinstance(value, dict):
        _check_depth(path, depth)
        for key, inner in value.items():
            check_unicode(key, (*path, key), named=f"The key '{shown(key)}'")
            check_value(inner, (*path, key), depth + 1)
    elif isinstance(value, list):
        _check_depth(path, depth)
        for index, inner in enumerate(value):
            check_value(inner, (*path, str(index)), depth + 1)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        check_number(value, path)


def check_number(value: float, path: Path) -> None:
    """Raise UserProblem unless a database can store the number."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UserProblem(
            ErrorCode.INVALID,
            f"'{shown(path[-1])}' is not a number that can be stored (NaN, infinite, or beyond 64 bits): send it as text.",
            path,
        )
    if isinstance(value, int) and not -_LARGEST_INT64 - 1 <= value <= _LARGEST_INT64:
        raise UserProblem(
            ErrorCode.INVALID, f"'{shown(path[-1])}' is an integer beyond 64 bits: send it as text.", path
        )


def shown(key: str) -> str:
    """A key for use in error messages: short and printable."""
    printable = key.encode("utf-8", "replace").decode().replace("\0", "\\0")
    return printable if len(printable) <= 60 else printable[:57] + "..."


def _check_depth(path: Path, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise UserProblem(
            ErrorCode.LIMIT_EXCEEDED, f"'{shown(path[-1])}' is deeper than {MAX_DEPTH} levels: flatten it.", path
        )
