"""Who a contact is to Klaviyo, what its profile is, and what would be refused: pure functions."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.destinations.klaviyo.bulk_payloads import MOST_EVENTS, bulk_body, chunks, groups, index_of_pointer
from gateway.destinations.klaviyo.identifiers import e164, identifiers_of
from gateway.destinations.klaviyo.mapping import event_payload, money_of, profile_attributes, profile_payload
from gateway.destinations.klaviyo.validation import problem_of_event, problem_of_profile
from gateway.domain.contacts.contacts import ContactDraft
from gateway.domain.deliveries import GIVEN_UP_AFTER, attempt, claim_limit, released_lane, retried, retry_delay
from gateway.services.outboxes import changed_profile

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
ADA = {"_id": "con_1", "role": "USER", "email": "ada@shop.example", "tags": ["vip"], "custom_attributes": {}}


@pytest.mark.parametrize(
    ("phone", "country", "found"),
    [
        ("+1 500 555 0006", None, "+15005550006"),
        ("+34 612 345 678", "Spain", "+34612345678"),
        ("612 345 678", "ES", "+34612345678"),
        ("612 345 678", "es", "+34612345678"),
        ("612 345 678", "Spain", None),
        ("612 345 678", None, None),
        ("+34 12", None, None),
        ("call me", "ES", None),
        ("", None, None),
    ],
)
def test_phones(phone: str, country: str | None, found: str | None) -> None:
    assert e164(phone, country) == found


@pytest.mark.parametrize(
    ("contact", "email", "phone", "problem"),
    [
        ({"email": "Ada@Shop.example"}, "Ada@Shop.example", None, None),
        ({"email": "ada@shop.example", "phone": "x"}, "ada@shop.example", None, None),
        ({"phone": "+15005550006"}, None, "+15005550006", None),
        ({"email": "ada@localhost", "phone": "+15005550006"}, None, "+15005550006", None),
        ({"email": "a" * 100 + "@shop.example"}, None, None, "The contact has no e-mail and no phone that Klaviyo"),
        ({}, None, None, "The contact has no e-mail and no phone that Klaviyo"),
        (
            {"email": "ada@TEST.com"},
            "ada@TEST.com",
            None,
            "Klaviyo silently drops what is sent for addresses at test.com.",
        ),
        ({"email": "ada@sub.example.com"}, "ada@sub.example.com", None, None),
    ],
)
def test_identifiers(contact: dict[str, Any], email: str | None, phone: str | None, problem: str | None) -> None:
    found = identifiers_of(contact)
    assert (found.email, found.phone) == (email, phone)
    assert (found.problem or "").startswith(problem or "")
    assert (found.problem is None) == (problem is None)


def test_a_profile_has_every_field_and_clears_what_is_gone() -> None:
    contact = {
        **ADA,
        "phone": "+15005550006",
        "name": "Ada King Lovelace",
        "avatar_url": "https://shop.example/ada.png",
        "location": {"city": "Vigo", "country": "ES", "region": "Galicia", "timezone": "Europe/Madrid"},
        "has_hard_bounced": True,
        "opted_out_subscription_types_count": 2,
        "custom_attributes": {"plan": "pro", "address": {"zip": "1"}, "sizes": [1, 2]},
    }
    assert profile_attributes(contact) == {
        "email": "ada@shop.example",
        "phone_number": "+15005550006",
        "first_name": "Ada",
        "last_name": "King Lovelace",
        "image": "https://shop.example/ada.png",
        "location": {"city": "Vigo", "country": "ES", "region": "Galicia"},
        "properties": {
            "Intercom contact ID": "con_1",
            "Contact role": "user",
            "Intercom_has_hard_bounced": True,
            "Intercom_marked_email_as_spam": False,
            "Intercom_unsubscribed_from_emails": False,
            "Intercom_opted_out_subscription_types_count": 2,
            "Intercom_custom_attributes": {"plan": "pro", "address": {"zip": "1"}, "sizes": [1, 2]},
            "Intercom_tags": ["vip"],
            "Intercom_custom_attributes_plan": "pro",
            "Intercom_custom_attributes_sizes": [1, 2],
        },
    }
    bare = profile_attributes(ADA)
    assert (bare["first_name"], bare["image"], bare["location"]) == (
        None,
        None,
        {"city": None, "country": None, "region": None},
    )


def test_a_property_that_came_back_is_not_unset() -> None:
    attributes = profile_attributes({**ADA, "custom_attributes": {"plan": "pro"}})
    payload = profile_payload(attributes, ["Intercom_custom_attributes_plan", "Intercom_custom_attributes_old"])
    assert payload["data"]["meta"] == {"patch_properties": {"unset": ["Intercom_custom_attributes_old"]}}
    assert "meta" not in profile_payload(attributes, ["Intercom_custom_attributes_plan"])["data"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"last_seen_at": NOW}, False),
        ({"updated_at": NOW}, False),
        ({"external_id": "7"}, False),
        ({"phone": "no number"}, False),
        ({"tags": []}, True),
        ({"phone": "+15005550006"}, True),
        ({"location": {"city": "Vigo"}}, True),
        ({"location": {"timezone": "UTC"}}, False),
        ({"role": "LEAD"}, True),
        ({"custom_attributes": {"a": 1}}, True),
        ({"email": "other@shop.example"}, True),
    ],
)
def test_only_what_is_sent_queues_a_profile(change: dict[str, Any], told: bool) -> None:
    assert bool(changed_profile(ContactDraft({**ADA, **change}, ADA))) is told


def test_nobody_knows_a_visitor() -> None:
    visitor = {"_id": "con_2", "role": "VISITOR", "custom_attributes": {"a": 1}}
    assert changed_profile(ContactDraft(visitor, None)) == []


@pytest.mark.parametrize(
    ("properties", "at", "reason"),
    [
        ({"a": 1}, NOW, None),
        ({str(number): 1 for number in range(401)}, NOW, "It has 401 properties; Klaviyo accepts 400."),
        ({"a": "x" * 100_001}, NOW, "The text of 'a' has more than 100000 bytes."),
        ({"a": [0] * 4001}, NOW, "The list of 'a' has more than 4000 items."),
        ({"a": ["x" * 90_000] * 12}, NOW, "It has 1080"),
        (
            {},
            datetime(1999, 12, 31, tzinfo=UTC),
            "It happened at 1999-12-31T00:00:00+00:00: Klaviyo accepts events",
        ),
        ({}, NOW + timedelta(days=366), "It happened at 2027-11-26T12:00:00+00:00: Klaviyo accepts"),
    ],
)
def test_what_klaviyo_would_refuse_is_refused(properties: dict[str, Any], at: datetime, reason: str | None) -> None:
    found = problem_of_event(event_payload("m", ADA, properties, at, "u"), ADA, at, NOW)
    assert (found or "").startswith(reason or "")
    assert (found is None) == (reason is None)


def test_what_nests_too_deep_is_refused() -> None:
    value: Any = 1
    for _ in range(10):
        value = {"a": value}
    assert problem_of_event(event_payload("m", ADA, value, NOW, "u"), ADA, NOW, NOW) is None
    deeper = event_payload("m", ADA, {"a": value}, NOW, "u")
    assert problem_of_event(deeper, ADA, NOW, NOW) == "The value of 'a' is nested deeper than 10 levels."


def test_a_profile_that_is_too_large_is_refused() -> None:
    contact = {**ADA, "custom_attributes": {"a": "x" * 60_000}}
    payload = profile_payload(profile_attributes(contact), ())
    assert (problem_of_profile(payload, contact) or "").endswith("bytes; the limit is 95000.")


def test_money_is_in_units_of_its_currency() -> None:
    entry = {"type": "MoneyMetadata", "key": "p", "amount_minor": 1999, "currency": "USD"}
    assert money_of([{"type": "TextMetadata", "key": "t", "text": "x"}, entry]) == (19.99, "USD")
    assert money_of([{**entry, "amount_minor": 500, "currency": "JPY"}]) == (500.0, "JPY")
    assert money_of([]) is None


def rows(*emails: str) -> list[dict[str, Any]]:
    return [
        {"_id": f"dlv_{place}", "payload": event_payload("m", {"email": email}, {}, NOW, str(place))}
        for place, email in enumerate(emails)
    ]


def test_a_bulk_is_grouped_by_profile_and_its_refusal_leads_back() -> None:
    several = rows("a@shop.example", "b@shop.example", "a@shop.example")
    grouped = groups(several)
    assert [[row["_id"] for row in group] for group in grouped] == [["dlv_0", "dlv_2"], ["dlv_1"]]
    data = bulk_body(grouped)["data"]["attributes"]["events-bulk-create"]["data"]
    assert [len(group["attributes"]["events"]["data"]) for group in data] == [2, 1]
    assert "profile" not in data[0]["attributes"]["events"]["data"][0]["attributes"]
    for item, id_ in (((0, 1), "dlv_2"), ((1, 0), "dlv_1"), ((1, None), "dlv_1")):
        assert (index_of_pointer(grouped, item) or {})["_id"] == id_
    for unknown in (None, (0, None), (2, 0), (0, 2)):
        assert index_of_pointer(grouped, unknown) is None


def test_requests_are_small_enough() -> None:
    assert [len(chunk) for chunk in chunks(rows(*["a@shop.example"] * (MOST_EVENTS + 1)))] == [MOST_EVENTS, 1]
    large = [{"payload": event_payload("m", ADA, {"a": "x" * 90_000}, NOW, str(number))} for number in range(60)]
    assert [len(chunk) for chunk in chunks(large)] == [49, 11]


def test_pauses_have_full_jitter_under_a_ceiling() -> None:
    chance = random.Random(3)
    for attempts, ceiling in ((0, 1), (3, 8), (9, 512), (10, 900), (1000, 900)):
        pauses = [retry_delay(attempts, chance).total_seconds() for _ in range(500)]
        assert 0 <= min(pauses) < ceiling * 0.1
        assert ceiling * 0.9 < max(pauses) <= ceiling


def test_retry_after_is_a_floor_and_72_hours_the_end() -> None:
    row = {"kind": "EVENT", "attempts": [], "attempt_count": 0}
    tried = attempt(NOW, 5, 429, "Klaviyo responded 429: throttled", 120)
    again = retried(row, tried, random.Random(1), None)
    assert timedelta(seconds=120) <= again["next_attempt_at"] - NOW <= timedelta(seconds=121)
    old = {**row, "first_attempt_at": NOW - GIVEN_UP_AFTER, "attempt_count": 90}
    assert (retried(old, tried, random.Random(1), None)["state"], old["attempt_count"]) == ("DEAD", 90)
    assert retried(old, tried, random.Random(1), NOW - timedelta(hours=1))["state"] == "RETRYING"


def test_a_lane_is_due_when_what_is_left_in_it_is() -> None:
    lane = {"seq": 250, "head": 1}
    assert claim_limit(lane) == 100
    assert released_lane(lane, 100, None, None, NOW) == {"lease": None, "head": 101, "due_at": NOW}
    assert released_lane({"seq": 7, "head": 5}, 7, None, None, NOW) == {"lease": None, "head": 8, "due_at": None}
    left = {"seq": 6, "next_attempt_at": NOW + timedelta(hours=1)}
    assert released_lane({"seq": 7, "head": 5}, 7, left, None, NOW)["due_at"] == NOW + timedelta(hours=1)
    assert released_lane({"seq": 7, "head": 5}, 7, left, NOW, NOW) == {"lease": None, "head": 6, "due_at": NOW}
