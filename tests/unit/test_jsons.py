"""JSON as it comes in and as it goes out."""

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from bson.tz_util import utc
from hypothesis import given
from hypothesis import strategies as st

from gateway.json_codec import decode_json, encode_json
from resolvers.scalars import SCALARS

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(values, st.booleans())
def test_json_is_read_as_python_reads_it(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    expected = json.loads(text)
    for data in (text, text.encode("utf-8", "surrogatepass")):
        assert repr(_bounded(decode_json(data))) == repr(_bounded(expected))


@pytest.mark.parametrize(
    "text", ["NaN", "[Infinity]", "1e400", '"\\ud800"', "9" * 25, "-" + "9" * 30, "\ufeff{}", " 1 "]
)
def test_what_the_faster_reader_refuses_or_rounds_is_read_by_python(text: str) -> None:
    found, expected = decode_json(text.encode()), json.loads(text.encode())
    assert repr(found) == repr(expected)


def test_an_integer_that_would_be_work_to_read_is_infinite() -> None:
    assert decode_json("[" + "9" * 100_000 + "]") == [math.inf]


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a":}', b"\xff\xff"])
def test_what_is_no_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(json.JSONDecodeError):
        decode_json(text)


@pytest.mark.parametrize(
    "zone", [None, UTC, utc, timezone(timedelta(hours=2))], ids=["none", "Python's", "driver's", "other"]
)
@pytest.mark.parametrize(("micros", "shown"), [(0, ""), (123_000, ".123000")])
def test_times_are_written_in_utc(zone: Any, micros: int, shown: str) -> None:
    hour = 11 if zone is not None and zone.utcoffset(None) else 9
    at = datetime(2026, 1, 31, hour, 30, 0, micros, tzinfo=zone)
    sent: Any = SCALARS[datetime].serialize(at)  # type: ignore[misc]
    assert encode_json([sent]) == f'["2026-01-31T09:30:00{shown}Z"]'.encode()


def _bounded(value: Any) -> Any:
    """The value, with integers beyond forty digits as infinities."""
    if isinstance(value, dict):
        return {key: _bounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_bounded(one) for one in value]
    if type(value) is int and len(str(abs(value))) + (value < 0) > 40:
        return math.inf
    return value
