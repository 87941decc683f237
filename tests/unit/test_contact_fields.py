"""The table of contact fields, held against the SDL and against everything that it drives."""

from datetime import UTC, datetime
from typing import Any

import pytest
from graphql import GraphQLInputObjectType, GraphQLObjectType, build_schema

from gateway.destinations.klaviyo.mapping import profile_attributes
from gateway.domain.contacts.contacts import ContactDraft, logged_values, new_contact
from gateway.domain.contacts.field_values import check_value, set_values
from gateway.domain.contacts.fields import (
    CONTACT_FIELDS,
    FIELD_BY_FILTER,
    FIELD_BY_NAME,
    STATED_FIELDS,
    ContactField,
    FieldKind,
    MergeRule,
)
from gateway.domain.contacts.merging import merge
from gateway.domain.filters.conditions import TEXT_FIELDS, TIME_FIELDS
from gateway.domain.messages.templates import template_data
from gateway.settings import Settings
from gateway.transfer.contact_rows import EXPORTED, ContactColumns, contact_of, contact_row
from schema.root import build_schema as build_gateway_schema

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
EARLIER = datetime(2026, 5, 3, 12, tzinfo=UTC)
SDL = build_schema(build_gateway_schema().as_str(), assume_valid=True)
# What the GraphQL types have beside the table, and why.
NOT_IN_THE_TABLE = {
    "Contact": {
        "id": "minted, and never changes",
        "displayName": "computed from names, keys and role",
        **dict.fromkeys(
            ("events", "eventSummaries", "eventSummary", "conversations", "tickets", "segments", "klaviyo"),
            "read from other collections",
        ),
    },
    "UpsertContactInput": {
        "id": "names the contact, and never changes",
        "anonymousId": "names the contact; it is added to anonymousIds",
        "idempotencyKey": "of the call, not of the contact",
    },
    "ContactFilter": {
        **dict.fromkeys(("and", "or", "not"), "joins conditions"),
        "event": "of the contact's events",
        "segment": "of its memberships",
    },
}
TYPES = {
    FieldKind.KEY: "String",
    FieldKind.KEYS: "[String!]!",
    FieldKind.ROLE: "ContactRole!",
    FieldKind.TEXT: "String",
    FieldKind.URL: "String",
    FieldKind.TIME: "DateTime",
    FieldKind.FLAG: "Boolean!",
    FieldKind.COUNT: "Int!",
    FieldKind.TAGS: "[String!]",
    FieldKind.LOCATION: "Location",
    FieldKind.ATTRIBUTES: "JSONObject",
}
ALWAYS_THERE = ("created_at", "updated_at")
FILTER_TYPES = {FieldKind.ROLE: "[ContactRole!]", FieldKind.TIME: "TimeFilter", FieldKind.ATTRIBUTES: "AttributeFilter"}


def graphql_fields(name: str) -> dict[str, str]:
    type_ = SDL.type_map[name]
    assert isinstance(type_, GraphQLObjectType | GraphQLInputObjectType)
    names = NOT_IN_THE_TABLE[name].keys()
    assert names <= type_.fields.keys(), "an exception that is none"
    return {field: str(value.type) for field, value in type_.fields.items() if field not in names}


def test_the_contact_type_has_the_fields_of_the_table() -> None:
    types = {field.api_name: TYPES[field.kind] for field in CONTACT_FIELDS}
    types |= {FIELD_BY_NAME[name].api_name: "DateTime!" for name in ALWAYS_THERE}
    assert graphql_fields("Contact") == types


def test_an_upsert_states_the_fields_that_the_table_says() -> None:
    stated = {field.api_name: TYPES[field.kind].rstrip("!") for field in CONTACT_FIELDS if field.stated}
    stated["location"] = "LocationInput"
    assert graphql_fields("UpsertContactInput") == stated
    assert {field.name for field in CONTACT_FIELDS if field.stated and field not in STATED_FIELDS} == {
        "external_id",
        "email",
    }, "identities are stated through identity resolution"


def test_a_filter_compares_the_fields_that_the_table_says() -> None:
    filters = {name: FILTER_TYPES.get(field.kind, "StringFilter") for name, field in FIELD_BY_FILTER.items()}
    camel = {name: FIELD_BY_NAME[name].api_name for name in filters if name in FIELD_BY_NAME}
    camel |= {"custom_attribute": "customAttribute"}
    assert graphql_fields("ContactFilter") == {camel.get(name, name): type_ for name, type_ in filters.items()}
    assert TEXT_FIELDS.keys() | TIME_FIELDS | {"role", "custom_attribute"} == filters.keys()


def example(field: ContactField, number: int = 1) -> Any:
    """A value of a field that is not its default."""
    return {
        FieldKind.KEY: f"{field.name}{number}@shop.example",
        FieldKind.KEYS: [f"a{number}"],
        FieldKind.ROLE: "LEAD",
        FieldKind.TEXT: f"{field.name} {number}",
        FieldKind.URL: f"https://shop.example/{number}",
        FieldKind.TIME: [NOW, EARLIER][number - 1],
        FieldKind.FLAG: True,
        FieldKind.COUNT: number + 1,
        FieldKind.TAGS: [f"t{number}"],
        FieldKind.LOCATION: {"city": f"Vigo {number}", "country": "ES"},
        FieldKind.ATTRIBUTES: {f"plan{number}": "pro"},
    }[field.kind]


def contact(id_: str, **fields: Any) -> dict[str, Any]:
    return {**new_contact(id_, "wsp_1", NOW), **fields}


def full(id_: str, number: int = 1) -> dict[str, Any]:
    return contact(id_, **{field.name: example(field, number) for field in CONTACT_FIELDS})


@pytest.mark.parametrize("field", CONTACT_FIELDS, ids=lambda field: field.name)
def test_every_field_is_exported_and_imported(field: ContactField) -> None:
    row = contact_row(full("con_1"), (), ())
    assert row[field.api_name] is not None
    assert set(field.columns) <= set(EXPORTED)
    stored = contact_of(row, ContactColumns(), text=False)
    assert stored[field.name] == example(field)


@pytest.mark.parametrize("field", STATED_FIELDS, ids=lambda field: field.name)
def test_every_stated_field_is_set_and_cleared(field: ContactField) -> None:
    settings, document = Settings(), contact("con_1")
    value = check_value(field, example(field), settings, NOW)
    assert value == example(field)
    set_values(document, {field.name: value}, settings)
    if field.kind is FieldKind.ROLE:
        assert document["role"] == "VISITOR", "set with the keys, since it never falls"
        return
    assert document[field.name] == value
    set_values(document, {field.name: check_value(field, None, settings, NOW)}, settings)
    assert document.get(field.name) == (field.default() if field.default is not None else None)


def merged(gone: dict[str, Any], survivor: dict[str, Any]) -> dict[str, Any]:
    return merge(
        gone, ContactDraft(dict(survivor), survivor), NOW, email_free=True, max_attributes=50
    ).survivor.document


@pytest.mark.parametrize("field", CONTACT_FIELDS, ids=lambda field: field.name)
def test_every_field_is_merged_by_its_rule(field: ContactField) -> None:
    own, other = example(field), example(field, 2)
    bare = contact("con_2") if field.kind is FieldKind.ROLE else contact("con_2", role="LEAD")
    filled = merged(full("con_1", 2), bare).get(field.name)
    kept = merged(full("con_1", 2), full("con_2"))[field.name]
    unions = {FieldKind.TAGS: ["t1", "t2"], FieldKind.KEYS: ["a2", "a1"], FieldKind.ATTRIBUTES: {"plan1": "pro", "plan2": "pro"}}  # fmt: skip
    expected = {
        MergeRule.OWN: (bare.get(field.name), own),
        MergeRule.FILL: (other, own),
        MergeRule.UNION: (other, unions.get(field.kind)),
        MergeRule.EITHER: (True, True),
        MergeRule.GREATEST: (other, max(own, other) if field.merge is MergeRule.GREATEST else None),
        MergeRule.EMAIL: (other, own),
        MergeRule.WITH_EMAIL: (other, own),
    }[field.merge]
    if field.name == "updated_at":
        expected = (NOW, NOW)
    assert (filled, kept) == expected


def test_templates_read_the_fields_that_the_table_says() -> None:
    data = template_data(full("con_1"), None)["contact"]
    assert data.keys() == {"id", "displayName", *(field.api_name for field in CONTACT_FIELDS if field.in_templates)}
    assert all(value for value in data.values())


def test_profiles_have_the_properties_that_the_table_says() -> None:
    properties = profile_attributes(full("con_1"))["properties"]
    named = {field.profile_property for field in CONTACT_FIELDS if field.profile_property is not None}
    assert properties.keys() == {"Intercom contact ID", "Intercom_custom_attributes_plan1", *named}


@pytest.mark.parametrize("field", CONTACT_FIELDS, ids=lambda field: field.name)
def test_a_change_is_visible_and_logged_as_the_table_says(field: ContactField) -> None:
    before = contact("con_1")
    changed = ContactDraft(
        {**before, field.name: example(field) if field.kind is not FieldKind.TIME else EARLIER}, before
    )
    assert changed.visible_fields() == ([field.name] if field.visible else [])
    assert (field.name in logged_values(full("con_1"))) == field.logged
