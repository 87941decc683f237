"""Who is meant: the paragraph "identity" of the contract, rule by rule."""

import copy
import itertools
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.changes import contact_saved
from gateway.domain.contacts.contacts import (
    MAX_ANONYMOUS_IDS,
    ContactDraft,
    ContactRef,
    ContactRole,
    IdentityKind,
    check_ref,
    identities_of,
    identity,
    new_contact,
)
from gateway.domain.contacts.identity_resolution import IdentityResolver
from gateway.errors import ErrorCode, UserProblem

CREATED = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
ID, EXTERNAL, EMAIL, ANONYMOUS = IdentityKind


def stored(
    contact_id: str, *, anonymous_ids: Iterable[str] = (), role: str | None = None, **fields: Any
) -> dict[str, Any]:
    """A contact as the store keeps it."""
    document = {**new_contact(contact_id, "wsp_1", CREATED), **fields, "anonymous_ids": list(anonymous_ids)}
    known = "USER" if "external_id" in fields else "LEAD" if "email" in fields else "VISITOR"
    document["role"] = role or known
    if "email" in fields:
        document["email_lower"] = fields["email"].lower()
    document["identities"] = identities_of(document)
    return document | {"version": 1}


def directory(*contacts: dict[str, Any]) -> IdentityResolver:
    numbers = itertools.count(1)
    return IdentityResolver(contacts, lambda: new_contact(f"con_new{next(numbers)}", "wsp_1", NOW), NOW)


def keys_of(draft: ContactDraft) -> dict[str, Any]:
    document = draft.document
    return {
        "external_id": document.get("external_id"),
        "email": document.get("email"),
        "anonymous_ids": document["anonymous_ids"],
        "role": document["role"],
    }


def refused(found: IdentityResolver, **ref: str) -> UserProblem:
    with pytest.raises(UserProblem) as caught:
        found.resolve(ContactRef(**ref))
    return caught.value


# ---- the strongest key decides: found, that is the contact ------------------------------------------------------------

ALL = {"id": "con_1", "external_id": "u2", "email": "c3@example.com", "anonymous_id": "a4"}
FOUR = [
    stored("con_1"),
    stored("con_2", external_id="u2"),
    stored("con_3", email="c3@example.com"),
    stored("con_4", anonymous_ids=["a4"]),
]


@pytest.mark.parametrize(
    "given_keys", [names for size in range(1, 5) for names in itertools.combinations(ALL, size)], ids="+".join
)
def test_the_strongest_key_given_decides_and_no_other_contact_changes(given_keys: tuple[str, ...]) -> None:
    found = directory(*FOUR)
    meant = found.resolve(ContactRef(**{name: ALL[name] for name in given_keys}))
    assert meant.id == f"con_{list(ALL).index(given_keys[0]) + 1}"
    assert [draft.changed_fields() for draft in found.drafts.values()] == [{}] * 4


@pytest.mark.parametrize(
    "given_keys", [names for size in range(1, 4) for names in itertools.combinations(list(ALL)[1:], size)], ids="+".join
)
def test_a_strongest_key_that_nobody_has_creates(given_keys: tuple[str, ...]) -> None:
    """Also where weaker keys are somebody's: those are left where they are."""
    strongest = given_keys[0]
    others = [document for document in FOUR if document is not FOUR[list(ALL).index(strongest)]]
    found = directory(*others)
    meant = found.resolve(ContactRef(**{name: ALL[name] for name in given_keys}))
    role = {"external_id": "USER", "email": "LEAD", "anonymous_id": "VISITOR"}[strongest]
    assert (meant.id, meant.stored, meant.document["role"]) == ("con_new1", None, role)
    assert meant.document["identities"] == identities_of(meant.document)
    assert keys_of(meant) == {
        "external_id": "u2" if strongest == "external_id" else None,
        "email": "c3@example.com" if strongest == "email" else None,
        "anonymous_ids": ["a4"] if strongest == "anonymous_id" else [],
        "role": role,
    }
    assert [found.drafts[document["_id"]].changed_fields() for document in others] == [{}] * 3


def test_a_new_contact_has_all_the_keys_that_nobody_has() -> None:
    meant = directory().resolve(ContactRef(external_id="u1", email="Ada@Example.com", anonymous_id="a1"))
    assert meant.document == {
        **new_contact("con_new1", "wsp_1", NOW),
        "external_id": "u1",
        "email": "Ada@Example.com",
        "email_lower": "ada@example.com",
        "anonymous_ids": ["a1"],
        "role": "USER",
        "identities": ["id:con_new1", "external_id:u1", "email:ada@example.com", "anonymous_id:a1"],
    }


def test_an_id_that_nobody_has_is_not_found() -> None:
    found = directory(stored("con_1"))
    problem = refused(found, id="con_9", external_id="u9", email="e@example.com", anonymous_id="a9")
    assert (problem.code, problem.path) == (ErrorCode.NOT_FOUND, ("id",))
    assert list(found.drafts) == ["con_1"], "nothing is created"


def test_an_id_that_was_merged_away_still_resolves() -> None:
    document = stored("con_1", external_id="u1")
    document["identities"] = ["id:con_1", "id:con_old", "external_id:u1"]
    found = directory(document)
    meant = found.resolve(ContactRef(id="con_old", anonymous_id="a1"))
    assert meant.id == "con_1"
    assert meant.document["identities"] == ["id:con_1", "id:con_old", "external_id:u1", "anonymous_id:a1"]


# ---- weaker keys -----------------------------------------------------------------------------------------------------


def test_weaker_keys_that_nobody_has_and_the_contact_lacks_are_attached() -> None:
    document = stored("con_1", anonymous_ids=["a1"])
    before = copy.deepcopy(document)
    meant = directory(document).resolve(
        ContactRef(id="con_1", external_id="u1", email="Ada@example.com", anonymous_id="a2")
    )
    assert meant.changed_fields() == {
        "external_id": "u1",
        "email": "Ada@example.com",
        "email_lower": "ada@example.com",
        "anonymous_ids": ["a1", "a2"],
        "role": "USER",
        "identities": ["id:con_1", "external_id:u1", "email:ada@example.com", "anonymous_id:a1", "anonymous_id:a2"],
        "updated_at": NOW,
    }
    assert document == before, "what is stored is left alone"


@pytest.mark.parametrize(
    "ref",
    [
        {"external_id": "u1", "email": "other@example.com"},
        {"id": "con_1", "external_id": "u2"},
        {"id": "con_1", "external_id": "u2", "email": "other@example.com"},
        {"external_id": "u1", "email": "ADA@EXAMPLE.COM"},
        {"external_id": "u1", "anonymous_id": "a1"},
    ],
    ids=str,
)
def test_a_key_that_the_contact_does_not_lack_stays_as_it_is(ref: dict[str, str]) -> None:
    document = stored("con_1", external_id="u1", email="ada@example.com", anonymous_ids=["a1"])
    assert directory(document).resolve(ContactRef(**ref)).changed_fields() == {}


def test_anonymous_ids_are_added_up_to_a_limit() -> None:
    full = [f"a{number}" for number in range(MAX_ANONYMOUS_IDS)]
    assert (
        directory(stored("con_1", anonymous_ids=full))
        .resolve(ContactRef(id="con_1", anonymous_id="more"))
        .changed_fields()
        == {}
    )
    last = directory(stored("con_1", anonymous_ids=full[1:])).resolve(ContactRef(id="con_1", anonymous_id="more"))
    assert last.document["anonymous_ids"] == [*full[1:], "more"]


@pytest.mark.parametrize("holder", ["lead", "user", "two leads"])
def test_an_email_of_somebody_else_is_left_there(holder: str) -> None:
    holders = {
        "lead": [stored("con_2", email="Ada@example.com")],
        "user": [stored("con_2", external_id="u2", email="Ada@example.com")],
        "two leads": [stored("con_2", email="Ada@example.com"), stored("con_3", email="ada@example.com")],
    }[holder]
    found = directory(stored("con_1", external_id="u1"), *holders)
    assert found.resolve(ContactRef(external_id="u1", email="ada@EXAMPLE.com")).changed_fields() == {}
    assert found.resolve(ContactRef(external_id="new", email="ada@EXAMPLE.com")).document.get("email") is None
    assert all(found.drafts[row["_id"]].changed_fields() == {} for row in holders)


def test_raising_a_lead_never_gives_two_users_one_email() -> None:
    """A new externalId would make a USER of this lead, whose e-mail a USER has: tracking does not fail on it."""
    found = directory(
        stored("con_1", email="ada@example.com"), stored("con_2", external_id="u2", email="ADA@example.com")
    )
    meant = found.resolve(ContactRef(id="con_1", external_id="u1", anonymous_id="a1"))
    assert meant.id == "con_1"
    assert meant.document["anonymous_ids"] == ["a1"]
    users = [draft.id for draft in found.drafts.values() if draft.document["role"] == "USER"]
    assert users == ["con_2"]


def test_of_two_leads_with_one_email_only_one_becomes_a_user_in_a_batch() -> None:
    found = directory(stored("con_1", email="ada@example.com"), stored("con_2", email="ADA@example.com"))
    first = found.resolve(ContactRef(id="con_1", external_id="u1"))
    second = found.resolve(ContactRef(id="con_2", external_id="u2"))
    assert (first.document["role"], second.document["role"]) == ("USER", "LEAD")
    assert second.changed_fields() == {}
    assert found.resolve(ContactRef(email="Ada@Example.com")) is first


# ---- e-mails ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("email", ["ada@example.com", "ADA@EXAMPLE.COM", "Ada@Example.Com"])
@pytest.mark.parametrize("fields", [{}, {"external_id": "u1"}], ids=["lead", "user"])
def test_emails_compare_in_lower_case(email: str, fields: dict[str, str]) -> None:
    found = directory(stored("con_1", email="aDa@eXample.com", **fields))
    meant = found.resolve(ContactRef(email=email))
    assert (meant.id, meant.changed_fields()) == ("con_1", {})
    assert found.find(EMAIL, email) is meant


@pytest.mark.parametrize(("kind", "value"), [(EXTERNAL, "U1"), (ANONYMOUS, "A1")])
def test_other_keys_compare_as_they_are(kind: IdentityKind, value: str) -> None:
    found = directory(stored("con_1", external_id="u1", anonymous_ids=["a1"]))
    assert found.find(kind, value) is None
    assert found.find(kind, value.lower()).id == "con_1"  # type: ignore[union-attr]


def test_an_email_that_several_leads_share_and_no_user_has_is_a_conflict() -> None:
    found = directory(stored("con_1", email="ada@example.com"), stored("con_2", email="ADA@example.com"))
    problem = refused(found, email="Ada@example.com", anonymous_id="a1")
    assert (problem.code, problem.path) == (ErrorCode.CONFLICT, ("email",))
    assert [draft.changed_fields() for draft in found.drafts.values()] == [{}, {}]
    with pytest.raises(UserProblem):
        found.find(EMAIL, "ada@example.com")
    assert found.resolve(ContactRef(external_id="u1", email="ada@example.com")).stored is None, "a stronger key decides"
    assert found.resolve(ContactRef(id="con_2", email="ada@example.com")).id == "con_2"


def test_where_a_user_has_the_email_the_user_is_meant() -> None:
    for order in itertools.permutations(
        [
            stored("con_1", email="ada@example.com"),
            stored("con_2", external_id="u2", email="ADA@example.com"),
            stored("con_3", email="Ada@example.com"),
        ]
    ):
        assert directory(*order).resolve(ContactRef(email="ada@example.com")).id == "con_2"


def test_a_user_by_role_alone_has_the_email_too() -> None:
    found = directory(stored("con_1", email="ada@example.com"), stored("con_2", email="ada@example.com", role="USER"))
    assert found.resolve(ContactRef(email="ada@example.com")).id == "con_2"


# ---- roles -----------------------------------------------------------------------------------------------------------


def test_a_role_rises_with_the_keys_from_visitor_to_lead_to_user() -> None:
    found = directory()
    visitor = found.resolve(ContactRef(anonymous_id="a1"))
    assert visitor.document["role"] == "VISITOR"
    visitor_again = found.resolve(ContactRef(id=visitor.id, email="ada@example.com"))
    assert visitor_again is visitor
    assert visitor.document["role"] == "LEAD"
    assert visitor.document["identities"] == [f"id:{visitor.id}", "lead_email:ada@example.com", "anonymous_id:a1"]
    found.resolve(ContactRef(id=visitor.id, external_id="u1"))
    assert visitor.document["role"] == "USER"
    assert visitor.document["identities"] == [
        f"id:{visitor.id}",
        "external_id:u1",
        "email:ada@example.com",
        "anonymous_id:a1",
    ]


@pytest.mark.parametrize("role", ["LEAD", "USER"])
def test_a_role_never_falls_by_itself(role: str) -> None:
    found = directory(stored("con_1", role=role, anonymous_ids=["a1"]))
    assert found.resolve(ContactRef(anonymous_id="a1")).document["role"] == role
    assert found.resolve(ContactRef(id="con_1", email="ada@example.com")).document["role"] == role


# ---- several references in one batch ---------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [{"external_id": "u1"}, {"email": "ada@example.com"}, {"anonymous_id": "a1"}], ids=str)
def test_two_references_to_the_same_new_contact_create_one(key: dict[str, str]) -> None:
    found = directory()
    assert found.resolve(ContactRef(**key)) is found.resolve(ContactRef(**key))
    assert list(found.drafts) == ["con_new1"]


def test_a_new_contact_is_found_by_every_key_it_got() -> None:
    found = directory()
    first = found.resolve(ContactRef(external_id="u1", email="ada@example.com", anonymous_id="a1"))
    for ref in ({"email": "ADA@example.com"}, {"anonymous_id": "a1"}, {"external_id": "u1"}, {"id": first.id}):
        assert found.resolve(ContactRef(**ref)) is first
    assert list(found.drafts) == [first.id]


def test_a_key_attached_in_a_batch_is_taken_for_the_rest_of_it() -> None:
    found = directory(stored("con_1", external_id="u1"), stored("con_2", external_id="u2"))
    first = found.resolve(ContactRef(external_id="u1", email="ada@example.com", anonymous_id="a1"))
    second = found.resolve(ContactRef(external_id="u2", email="ADA@example.com", anonymous_id="a1"))
    assert second.changed_fields() == {}
    assert found.resolve(ContactRef(email="Ada@example.com")) is first
    assert found.resolve(ContactRef(anonymous_id="a1")) is first


names = st.sampled_from([None, "1", "2", "3"])
refs = st.builds(
    lambda id_, external, email, anonymous: ContactRef(
        id_ and f"con_{id_}",
        external and f"u{external}",
        email and f"E{email}@example.com",
        anonymous and f"a{anonymous}",
    ),
    *[names] * 4,
).filter(lambda ref: bool(ref.keys()))
contacts = st.sets(st.sampled_from(range(8)), max_size=8).map(
    lambda chosen: [
        document
        for number, document in enumerate(
            [
                stored("con_1"),
                stored("con_2", email="e1@example.com"),
                stored("con_3", email="E1@example.com"),
                stored("con_4", external_id="u1", email="e1@EXAMPLE.com"),
                stored("con_5", external_id="u2"),
                stored("con_6", anonymous_ids=["a1", "a2"]),
                stored("con_7", email="e2@example.com", anonymous_ids=["a3"]),
                stored("con_8", role="USER", email="e3@example.com"),
            ]
        )
        if number in chosen
    ]
)


@given(contacts, st.lists(refs, max_size=12))
def test_whatever_is_tracked_no_two_contacts_get_one_key(found: list[dict[str, Any]], batch: list[ContactRef]) -> None:
    before = copy.deepcopy(found)
    opened = directory(*found)
    order = list(ContactRole)
    for ref in batch:
        kind, value = ref.keys()[0]
        roles = {draft.id: draft.document["role"] for draft in opened.drafts.values()}
        others = {id_: copy.deepcopy(draft.document) for id_, draft in opened.drafts.items()}
        problem: UserProblem | None = None
        try:
            known = opened.find(kind, value)
            meant = opened.resolve(ref)
        except UserProblem as refusal:
            problem = refusal
        if problem:
            assert (problem.code, kind) in ((ErrorCode.NOT_FOUND, ID), (ErrorCode.CONFLICT, EMAIL))
            assert {id_: draft.document for id_, draft in opened.drafts.items()} == others
            continue
        assert known in (meant, None)
        assert opened.resolve(ref) is meant, "asked again, the answer is the same"
        if kind is not EMAIL:
            assert identity(kind, value) in meant.document["identities"]
        assert meant.document["identities"] == identities_of(meant.document)
        assert order.index(meant.document["role"]) >= order.index(roles.get(meant.id, "VISITOR"))  # type: ignore[arg-type]
        for id_, document in others.items():
            assert id_ == meant.id or opened.drafts[id_].document == document, "no other contact changes"
    unique = [text for draft in opened.drafts.values() for text in draft.document["identities"]]
    assert len(unique) == len(set(unique))
    assert found == before


# ---- facts: set_keys and settle --------------------------------------------------------------------------------------


def states(found: IdentityResolver, draft: ContactDraft, **keys: str | None) -> None:
    found.set_keys(draft, **keys)
    found.claim_identities(draft)


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ({"external_id": "u2"}, "externalId"),
        ({"email": "BOB@example.com"}, "email"),
        ({"anonymous_id": "a2"}, "anonymousId"),
        ({"external_id": "free", "email": "free@example.com", "anonymous_id": "a2"}, "anonymousId"),
    ],
    ids=str,
)
def test_a_fact_that_another_contact_has_is_a_conflict(keys: dict[str, str], name: str) -> None:
    other = stored("con_2", external_id="u2", email="bob@example.com", anonymous_ids=["a2"])
    document = stored("con_1", external_id="u1", email="ada@example.com")
    found = directory(document, other)
    with pytest.raises(UserProblem) as caught:
        states(found, found.drafts["con_1"], **keys)
    assert (caught.value.code, caught.value.path) == (ErrorCode.CONFLICT, (name,))
    assert "con_2" not in caught.value.message, "whoever may not READ learns no ids from it"
    assert found.drafts["con_2"].changed_fields() == {}
    assert document == stored("con_1", external_id="u1", email="ada@example.com")


def test_facts_that_nobody_has_are_set() -> None:
    found = directory(stored("con_1", external_id="u1", email="ada@example.com", anonymous_ids=["a1"]))
    draft = found.drafts["con_1"]
    states(found, draft, external_id="u9", email="New@example.com", anonymous_id="a9")
    assert draft.changed_fields() == {
        "external_id": "u9",
        "email": "New@example.com",
        "email_lower": "new@example.com",
        "anonymous_ids": ["a1", "a9"],
        "identities": ["id:con_1", "external_id:u9", "email:new@example.com", "anonymous_id:a1", "anonymous_id:a9"],
    }


def test_facts_that_are_so_already_change_nothing() -> None:
    found = directory(stored("con_1", external_id="u1", email="ada@example.com", anonymous_ids=["a1"]))
    states(found, found.drafts["con_1"], external_id="u1", email="ada@example.com", anonymous_id="a1")
    assert found.drafts["con_1"].changed_fields() == {}


def test_null_clears_a_fact_and_what_is_omitted_stays() -> None:
    found = directory(stored("con_1", external_id="u1", email="ada@example.com"))
    draft = found.drafts["con_1"]
    states(found, draft, email=None)
    assert draft.changed_fields() == {"email": None, "email_lower": None, "identities": ["id:con_1", "external_id:u1"]}
    assert "email" not in draft.document
    assert "email_lower" not in draft.document


def test_leads_may_share_an_email_and_users_may_not() -> None:
    found = directory(stored("con_1", email="ada@example.com"), stored("con_2"))
    lead = found.drafts["con_2"]
    found.set_keys(lead, email="ADA@example.com")
    lead.document["role"] = "LEAD"
    found.claim_identities(lead)
    assert lead.document["email_lower"] == "ada@example.com"
    first = found.drafts["con_1"]
    first.document["role"] = "USER"
    found.claim_identities(first)
    lead.document["role"] = "USER"
    with pytest.raises(UserProblem) as caught:
        found.claim_identities(lead)
    assert (caught.value.code, caught.value.path) == (ErrorCode.CONFLICT, ("email",))


def test_an_external_id_may_contain_a_colon() -> None:
    found = directory(stored("con_1", external_id="email:a:b"), stored("con_2"))
    with pytest.raises(UserProblem) as caught:
        states(found, found.drafts["con_2"], external_id="email:a:b")
    assert caught.value.path == ("externalId",)
    assert found.find(EMAIL, "a:b") is None


# ---- references, as they are sent ------------------------------------------------------------------------------------


def test_a_reference_needs_a_key() -> None:
    for sent in ({}, {"id": None, "email": None}):
        with pytest.raises(UserProblem) as caught:
            check_ref(sent)
        assert (caught.value.code, caught.value.path) == (ErrorCode.INVALID, ())


@pytest.mark.parametrize(
    ("kind", "name"), [("id", "id"), ("external_id", "externalId"), ("email", "email"), ("anonymous_id", "anonymousId")]
)
@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("", ErrorCode.INVALID),
        (" ", ErrorCode.INVALID),
        ("a@b\0", ErrorCode.INVALID),
        ("a@\ud800", ErrorCode.INVALID),
        ("a@" + "b" * 254, ErrorCode.LIMIT_EXCEEDED),
    ],
    ids=lambda value: ascii(value)[:12],
)
def test_keys_that_cannot_be_kept(kind: str, name: str, value: str, code: ErrorCode) -> None:
    with pytest.raises(UserProblem) as caught:
        check_ref({kind: value})
    assert (caught.value.code, caught.value.path) == (code, (name,))


@pytest.mark.parametrize(
    "email",
    ["ada", "@example.com", "ada@", "a b@example.com", " ada@example.com", "ada@example.com\n", "ada@exam ple.com"],
)
def test_what_is_no_email(email: str) -> None:
    with pytest.raises(UserProblem) as caught:
        check_ref({"email": email})
    assert (caught.value.code, caught.value.path) == (ErrorCode.INVALID, ("email",))


def test_keys_come_strongest_first() -> None:
    ref = check_ref({"anonymous_id": "a", "email": "Ada@b.c", "external_id": "u", "id": "con_1", "more": 1})
    assert ref == ContactRef("con_1", "u", "Ada@b.c", "a")
    assert ref.keys() == [(ID, "con_1"), (EXTERNAL, "u"), (EMAIL, "Ada@b.c"), (ANONYMOUS, "a")]
    assert check_ref({"email": "a@" + "b" * 253}).email == "a@" + "b" * 253


# ---- what a draft tells ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"), [(1, True), (0, False), (True, 1), ([1], [True]), ({"a": 0}, {"a": False})], ids=str
)
def test_a_draft_tells_true_from_one(before: Any, after: Any) -> None:
    """To Python True equals 1, to the caller who corrects a custom attribute it does not."""
    document = stored("con_1", custom_attributes={"vip": before})
    draft = ContactDraft({**document, "custom_attributes": {"vip": after}}, document)
    assert repr(draft.changed_fields()) == repr({"custom_attributes": {"vip": after}})


def test_a_draft_tells_what_changed_and_what_was_cleared() -> None:
    document = stored("con_1", name="Ada", phone="1")
    changed = {**document, "name": "Bea", "tags": ["t"]}
    del changed["phone"]
    draft = ContactDraft(changed, document)
    assert draft.changed_fields() == {"name": "Bea", "tags": ["t"], "phone": None}
    assert draft.visible_fields()
    entry = contact_saved("chg_1", draft, NOW)
    assert (entry["kind"], entry["contact_id"], entry["fields"], entry["at"]) == (
        "UPDATED",
        "con_1",
        ["name", "phone", "tags"],
        NOW,
    )
    assert (entry["before"]["phone"], entry["after"].get("phone"), entry["before"]["tags"]) == ("1", None, [])


def test_having_been_seen_is_not_worth_telling() -> None:
    document = stored("con_1")
    assert not ContactDraft({**document, "last_seen_at": NOW, "updated_at": NOW}, document).visible_fields()
    assert ContactDraft(document, None).visible_fields()
    assert contact_saved("chg_1", ContactDraft(document, None), NOW)["kind"] == "CREATED"
