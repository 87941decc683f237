"""Values that come in as JSON: which of them can be stored, hashed and shown again."""

import math
from typing import Any

from gateway.core.text_rules import check_unicode
from gateway.errors import ErrorCode, UserProblem

Path = tuple[str, ...]
MAX_DEPTH = 100  # far above GATEWAY_MAX_METADATA_DEPTH, and far below where writers of JSON end
_LARGEST_INT64 = 2**63 - 1


def check_value(value: Any, path: Path, depth: int = 0) -> None:
    """Pass what can be stored; UserProblem names the first text, number or key within it that cannot."""
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
        for place, inner in enumerate(value):
            check_value(inner, (*path, str(place)), depth + 1)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        check_number(value, path)


def check_number(value: float, path: Path) -> None:
    """Pass a number that a database can keep."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UserProblem(
            ErrorCode.INVALID,
            f"'{shown(path[-1])}' is not a number that can be kept (NaN, infinite, or beyond 64 bits): send it as text.",
            path,
        )
    if isinstance(value, int) and not -_LARGEST_INT64 - 1 <= value <= _LARGEST_INT64:
        raise UserProblem(
            ErrorCode.INVALID, f"'{shown(path[-1])}' is an integer beyond 64 bits: send it as text.", path
        )


def shown(key: str) -> str:
    """A key as messages show it: short, and of characters that can be sent."""
    printable = key.encode("utf-8", "replace").decode().replace("\0", "\\0")
    return printable if len(printable) <= 60 else printable[:57] + "..."


def _check_depth(path: Path, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise UserProblem(
            ErrorCode.LIMIT_EXCEEDED, f"'{shown(path[-1])}' is deeper than {MAX_DEPTH} levels: flatten it.", path
        )
