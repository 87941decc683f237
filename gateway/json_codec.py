"""Decodes and encodes JSON."""

import json
import re
from typing import Any

import orjson

_LONGEST_INTEGER = 40
_LONG_NUMBER = re.compile(rb"\d{19}")  # may exceed 64 bits


def decode_json(data: str | bytes) -> Any:
    """Decode JSON as Python does: NaN and infinite numbers pass, and are refused by the type of their field.

    Raises json.JSONDecodeError for any invalid text."""
    encoded = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if _LONG_NUMBER.search(encoded) is None:
        try:
            return orjson.loads(encoded)
        except orjson.JSONDecodeError:  # invalid, or an extension that Python accepts
            pass
    try:
        return _JSON.decode(data if isinstance(data, str) else data.decode(json.detect_encoding(data), "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise json.JSONDecodeError(f"not JSON ({type(error).__name__})", "", 0) from None


def encode_json(value: object) -> bytes:
    """Encode JSON with times in UTC; times without a zone are taken as UTC."""
    return orjson.dumps(value, option=orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC)


def _integer(digits: str) -> int | float:
    """Parse an integer; return infinity for very long ones, which would be slow to parse."""
    return int(digits) if len(digits) <= _LONGEST_INTEGER else float("inf")


_JSON = json.JSONDecoder(parse_int=_integer)
