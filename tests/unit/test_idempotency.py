"""Idempotency keys: the same input has the same fingerprint, and any other input another one."""

import copy
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.core.idempotency import MAX_KEY_LENGTH, Claim, claim, fingerprint
from gateway.domain.events.events import check_idempotency_key, track_event
from gateway.errors import ErrorCode, UserProblem
from gateway.settings import Settings

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
inputs = st.dictionaries(texts, json_values, max_size=5)


def shuffled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shuffled(inner) for key, inner in reversed(value.items())}
    return [shuffled(inner) for inner in value] if isinstance(value, list) else value


def told_apart(value: Any) -> Any:
    """A value that equals another only where the JSON is the same: Python's 1 == True == 1.0 does not do."""
    if isinstance(value, dict):
        return {key: told_apart(inner) for key, inner in value.items()}
    return [told_apart(inner) for inner in value] if isinstance(value, list) else (type(value).__name__, repr(value))


def test_no_key_is_no_claim() -> None:
    assert claim("trackEvent", None, {"name": "a"}) is None


def test_a_claim_is_unique_to_its_mutation() -> None:
    assert claim("trackEvent", "k", {"a": 1}) == Claim("trackEvent:k", fingerprint({"a": 1}))
    assert claim("upsertContact", "k", {"a": 1}) == Claim("upsertContact:k", fingerprint({"a": 1}))


def test_the_same_input_passes_and_another_is_refused() -> None:
    first, second = claim("m", "k", {"a": 1}), claim("m", "k", {"a": 2})
    assert first
    assert second
    first.check(fingerprint({"a": 1}))
    with pytest.raises(UserProblem) as caught:
        second.check(first.fingerprint)
    assert (caught.value.code, caught.value.path) == (ErrorCode.IDEMPOTENCY_KEY_REUSED, ("idempotencyKey",))


@given(inputs)
def test_a_fingerprint_does_not_depend_on_the_order_of_keys(sent: dict[str, Any]) -> None:
    assert fingerprint(shuffled(sent)) == fingerprint(sent) == fingerprint(copy.deepcopy(sent))


@given(inputs, inputs)
def test_fingerprints_differ_where_inputs_differ(one: dict[str, Any], other: dict[str, Any]) -> None:
    assume(told_apart(one) != told_apart(other))
    assert fingerprint(one) != fingerprint(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": True}),
        ({"a": 1}, {"a": 1.0}),
        ({"a": 0}, {"a": False}),
        ({"a": 1}, {"a": "1"}),
        ({"a": []}, {"a": {}}),
        ({"a": None}, {}),
        ({"a": ["b", "c"]}, {"a": ["c", "b"]}),
        ({"a": {"b": 1}}, {"a": 1, "b": 1}),
        ({"a": 2**63 - 1}, {"a": 2**63 - 2}),
        ({"a": ""}, {"a": " "}),
    ],
)
def test_inputs_that_differ(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert fingerprint(one) != fingerprint(other)


def test_a_time_is_the_same_whatever_object_holds_it() -> None:
    assert fingerprint({"at": NOW}) == fingerprint({"at": NOW.astimezone(timezone(timedelta(0)))})
    assert fingerprint({"at": NOW}) != fingerprint({"at": NOW + timedelta(milliseconds=1)})


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("", ErrorCode.INVALID),
        ("  ", ErrorCode.INVALID),
        ("a\0b", ErrorCode.INVALID),
        ("\udfff", ErrorCode.INVALID),
        ("k" * (MAX_KEY_LENGTH + 1), ErrorCode.LIMIT_EXCEEDED),
    ],
    ids=lambda value: ascii(value[:10]),
)
def test_keys_that_cannot_be_one(key: str, code: ErrorCode) -> None:
    with pytest.raises(UserProblem) as caught:
        check_idempotency_key(key)
    assert (caught.value.code, caught.value.path) == (code, ("idempotencyKey",))


@pytest.mark.parametrize("key", [None, "k", "k" * MAX_KEY_LENGTH, "$a.b:c", "日本"], ids=lambda key: str(key)[:10])
def test_keys_that_can_be_one(key: str | None) -> None:
    assert check_idempotency_key(key) == key


def test_the_claim_of_an_event_is_its_input_as_sent_without_the_key() -> None:
    sent = {"contact": {"external_id": "u"}, "name": "a", "metadata": {"n": 1}}
    first = track_event({**sent, "idempotency_key": "k"}, Settings(), NOW).claim
    later = track_event({**sent, "idempotency_key": "k"}, Settings(), NOW + timedelta(days=400)).claim
    other_key = track_event({**sent, "idempotency_key": "k2"}, Settings(), NOW).claim
    with_time = track_event({**sent, "occurred_at": NOW, "idempotency_key": "k"}, Settings(), NOW).claim
    assert first == later == Claim("trackEvent:k", fingerprint(sent))
    assert other_key == Claim("trackEvent:k2", fingerprint(sent))
    assert with_time
    assert first
    assert with_time.fingerprint != first.fingerprint, "an omitted occurredAt is omitted"
    assert track_event(sent, Settings(), NOW).claim is None
