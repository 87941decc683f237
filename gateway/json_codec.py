"""JSON as it comes in and as it goes out."""

import json
import re
from typing import Any

import orjson

_LONGEST_INTEGER = 40
_LONG_NUMBER = re.compile(rb"\d{19}")  # perhaps beyond 64 bits


def decode_json(data: str | bytes) -> Any:
    """JSON as Python reads it: NaN and numbers that nothing can keep arrive as such, and are refused where they stand.

    json.JSONDecodeError, whatever is wrong with the text."""
    written = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if _LONG_NUMBER.search(written) is None:
        try:
            return orjson.loads(written)
        except orjson.JSONDecodeError:  # wrong, or one of those things that Python reads all the same
            pass
    try:
        return _JSON.decode(data if isinstance(data, str) else data.decode(json.detect_encoding(data), "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise json.JSONDecodeError(f"not JSON ({type(error).__name__})", "", 0) from None


def encode_json(value: Any) -> bytes:
    """JSON with times in UTC, as the contract has them; a time without a zone is one."""
    return orjson.dumps(value, option=orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC)


def _integer(digits: str) -> int | float:
    """An integer, or infinity where it lies so far beyond 64 bits that reading it would be work."""
    return int(digits) if len(digits) <= _LONGEST_INTEGER else float("inf")


_JSON = json.JSONDecoder(parse_int=_integer)
