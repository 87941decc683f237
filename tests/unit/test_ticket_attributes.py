"""Values of a ticket's attributes: what each kind takes, and what becomes of them when their type changes."""

from typing import Any

import pytest

from gateway.domain.support.commands import SaveTicketType
from gateway.domain.support.ticket_types import changed_values, check_ticket_type, new_values, shown_values
from gateway.errors import ErrorCode, UserProblem


def type_with(*attributes: dict[str, Any]) -> dict[str, Any]:
    return {
        "category": "CUSTOMER",
        **check_ticket_type(SaveTicketType("Bug", "CUSTOMER", attributes=list(attributes))),
    }


TYPE = type_with(
    {"name": "text", "kind": "STRING"},
    {"name": "long", "kind": "LONG_STRING"},
    {"name": "whole", "kind": "INTEGER"},
    {"name": "number", "kind": "DECIMAL"},
    {"name": "flag", "kind": "BOOLEAN"},
    {"name": "at", "kind": "DATETIME"},
    {"name": "choice", "kind": "LIST", "options": ["low", "high"]},
)
NEEDS = type_with(
    {"name": "seen", "kind": "STRING", "required": True},
    {"name": "inner", "kind": "STRING", "required": True, "visible_to_contacts": False},
)


def changed(type_: dict[str, Any], stored: dict[str, Any], sent: dict[str, Any], *, by_contact: bool = False) -> Any:
    return changed_values(type_, stored, sent, by_contact=by_contact, path=("attributes",))


def created(type_: dict[str, Any], sent: dict[str, Any], *, by_contact: bool = False) -> Any:
    return new_values(type_, sent, by_contact=by_contact, path=("attributes",))


def test_each_kind_takes_its_values() -> None:
    sent = {
        "text": "a" * 255,
        "long": "a\n" * 5000,
        "whole": -(2**53 - 1),
        "number": 1.5,
        "flag": False,
        "at": "2026-01-31T10:30:00+01:00",
        "choice": "low",
    }
    assert created(TYPE, sent) == {**sent, "at": "2026-01-31T09:30:00.000Z"}
    assert created(TYPE, {"number": 7, "text": None}) == {"number": 7}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("text", [1, True, [], {}, "", "a" * 256, "a\0", "\ud800"]),
        ("long", [1, "a" * 10_001]),
        ("whole", [True, 1.5, 1.0, "1", 2**53]),
        ("number", [True, "1", float("inf"), float("nan"), 2**53]),
        ("flag", [0, 1, "true"]),
        ("at", [1767225600, "2026-01-31", "tomorrow", "2026-01-31T10:30:00"]),
        ("choice", ["medium", "LOW", 1, ["low"]]),
        ("unheard of", ["x"]),
    ],
)
def test_no_kind_takes_another_value_and_the_error_names_the_attribute(name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(UserProblem) as refused:
            changed(TYPE, {}, {name: value})
        assert refused.value.path == ("attributes", name), value
        assert f"'{name}'" in refused.value.message, value


def test_what_is_required_must_be_there_of_a_contact_what_it_sees() -> None:
    for by_contact, sent, missing in (
        (False, {}, "seen"),
        (False, {"seen": "x"}, "inner"),
        (True, {}, "seen"),
        (False, {"seen": None, "inner": "x"}, "seen"),
    ):
        with pytest.raises(UserProblem) as refused:
            created(NEEDS, sent, by_contact=by_contact)
        assert (refused.value.code, refused.value.path) == (ErrorCode.INVALID, ("attributes", missing))
    assert created(NEEDS, {"seen": "x"}, by_contact=True) == {"seen": "x"}
    assert created(NEEDS, {"seen": "x", "inner": "y"}) == {"seen": "x", "inner": "y"}


def test_a_contact_neither_sees_nor_sets_what_is_hidden() -> None:
    with pytest.raises(UserProblem) as hidden:
        created(NEEDS, {"seen": "x", "inner": "y"}, by_contact=True)
    with pytest.raises(UserProblem) as absent:
        created(NEEDS, {"seen": "x", "absent": "y"}, by_contact=True)
    assert hidden.value.message.replace("inner", "absent") == absent.value.message
    values = {"seen": "x", "inner": "y", "removed": "z"}
    assert shown_values(NEEDS, values, to_contact=True) == {"seen": "x"}
    assert shown_values(NEEDS, values, to_contact=False) == values


def test_an_update_checks_what_is_sent_and_leaves_the_rest() -> None:
    stored = {"seen": "x", "gone": 5}
    assert changed(NEEDS, stored, {}) == stored
    assert changed(NEEDS, stored, {"seen": "y"}) == {"seen": "y", "gone": 5}
    assert changed(NEEDS, stored, {"gone": None}) == {"seen": "x"}
    for sent in ({"gone": 6}, {"seen": None}, {"seen": 5}, {"never": None}):
        with pytest.raises(UserProblem):
            changed(NEEDS, stored, sent)
    assert stored == {"seen": "x", "gone": 5}
