"""Events: what a group of commands writes adds up to count, first and last, whatever the order, repetition and grouping."""

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.ids import Minter, Prefix, prefix_of
from gateway.domain.contacts.contacts import ContactRef, new_contact
from gateway.domain.contacts.identity_resolution import IdentityResolver
from gateway.domain.events.events import (
    GroupPlan,
    NameQuota,
    PlannedEvent,
    TrackEvent,
    TrackResult,
    add_to_summary,
    check_event_name,
    check_occurred_at,
    definition_id_of,
    plan_group,
    summary_id_of,
    track_event,
)
from gateway.errors import ErrorCode, UserProblem
from gateway.settings import Settings

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
SETTINGS = Settings()
MS = timedelta(milliseconds=1)


@dataclass
class Store:
    """The store, in memory: events by identity, contacts by id, and summaries that tallies are added to."""

    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    contacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    summaries: dict[str, dict[str, Any]] = field(default_factory=dict)
    minter: Minter = field(default_factory=Minter)
    numbers: Any = field(default_factory=lambda: itertools.count(1))

    def attempted(self, *sent: dict[str, Any], now: datetime = NOW) -> list[PlannedEvent]:
        commands = [track_event(item, SETTINGS, now) for item in sent]
        times = [command.occurred_at or now for command in commands]
        return [
            PlannedEvent(command, self.minter.mint(Prefix.EVENT, at), at, now)
            for command, at in zip(commands, times, strict=True)
        ]

    def directory(self) -> IdentityResolver:
        return IdentityResolver(
            self.contacts.values(), lambda: new_contact(f"con_{next(self.numbers)}", "wsp_1", NOW), NOW
        )

    def plan(self, attempted: list[PlannedEvent], names: NameQuota | None = None) -> GroupPlan:
        stored = {item.identity: self.events[item.identity] for item in attempted if item.identity in self.events}
        return plan_group(attempted, stored, self.directory(), names or NameQuota())

    def write(self, group: GroupPlan) -> None:
        for event in group.events:
            assert event["identity"] not in self.events, "the unique index"
            self.events[event["identity"]] = event
        for draft in group.drafts.values():
            self.contacts[draft.id] = draft.document
        for line in group.summaries():
            kept = self.summaries.setdefault(line["_id"], {**line, "count": 0})
            kept["count"] += line["count"]
            kept["first_at"] = min(kept["first_at"], line["first_at"])
            kept["last_at"] = max(kept["last_at"], line["last_at"])

    def track(self, *sent: dict[str, Any]) -> list[Any]:
        group = self.plan(self.attempted(*sent))
        self.write(group)
        return group.outcomes

    def counted(self) -> dict[tuple[str, str], tuple[int, datetime, datetime]]:
        """The summaries by the external id of their contact and their name."""
        return {
            (self.contacts[row["contact_id"]]["external_id"], row["name"]): (
                row["count"],
                row["first_at"],
                row["last_at"],
            )
            for row in self.summaries.values()
        }


def event(name: str = "a", contact: str = "u1", **more: Any) -> dict[str, Any]:
    return {"contact": {"external_id": contact}, "name": name, **more}


# ---- summaries -------------------------------------------------------------------------------------------------------

sendings = st.lists(
    st.builds(
        lambda key, contact, name, at: {
            **event(name, f"u{contact}", occurred_at=NOW - at * MS),
            **({"idempotency_key": f"k{key}"} if key is not None else {}),
        },
        st.none() | st.integers(0, 5),
        st.integers(0, 2),
        st.sampled_from(["a", "b", "A", "a "]),
        st.integers(-300_000, 400_000_000) | st.integers(0, 3),
    ),
    max_size=25,
)
cuts = st.lists(st.integers(0, 25), max_size=6)


def model(sent: list[dict[str, Any]]) -> tuple[list[str], dict[tuple[str, str], tuple[int, datetime, datetime]]]:
    """What each command comes to, and the sums, in plain Python."""
    inputs: dict[str, dict[str, Any]] = {}
    fates: list[str] = []
    times: dict[tuple[str, str], list[datetime]] = {}
    for item in sent:
        key = item.get("idempotency_key")
        if key in inputs:
            fates.append("duplicate" if inputs[key] == item else "reused")
            continue
        if key is not None:
            inputs[key] = item
        fates.append("tracked")
        times.setdefault((item["contact"]["external_id"], item["name"]), []).append(item["occurred_at"])
    return fates, {pair: (len(found), min(found), max(found)) for pair, found in times.items()}


def fate(outcome: TrackResult | UserProblem) -> str:
    if isinstance(outcome, UserProblem):
        assert (outcome.code, outcome.path) == (ErrorCode.IDEMPOTENCY_KEY_REUSED, ("idempotencyKey",))
        return "reused"
    return "duplicate" if outcome.duplicate else "tracked"


@given(sendings, cuts)
def test_summaries_are_what_was_tracked_however_it_was_grouped(sent: list[dict[str, Any]], places: list[int]) -> None:
    store = Store()
    edges = sorted({0, len(sent), *(place for place in places if place < len(sent))})
    outcomes = [outcome for start, end in itertools.pairwise(edges) for outcome in store.track(*sent[start:end])]
    fates, sums = model(sent)
    assert [fate(outcome) for outcome in outcomes] == fates
    assert store.counted() == sums
    assert len(store.events) == fates.count("tracked")
    recount = {row["_id"]: row for row in add_to_summary(store.events.values())}
    assert recount == store.summaries, "count, first and last never disagree with the events"


@given(
    sendings.map(lambda sent: [{**item, "idempotency_key": str(place)} for place, item in enumerate(sent)]), st.data()
)
def test_any_order_and_repetition_of_commands_with_keys_comes_to_the_same(
    sent: list[dict[str, Any]], data: st.DataObject
) -> None:
    repeated = data.draw(
        st.permutations(sent + data.draw(st.lists(st.sampled_from(sent), max_size=10) if sent else st.just([])))
    )
    store = Store()
    for item in repeated:
        store.track(item)
    assert store.counted() == model(sent)[1]
    assert len(store.events) == len(sent)


@given(sendings, st.data())
def test_a_commit_whose_answer_was_lost_is_recognised(sent: list[dict[str, Any]], data: st.DataObject) -> None:
    """Each further attempt has the same ids and finds what an earlier one stored: same outcomes, counted once."""
    store = Store()
    attempted = store.attempted(*sent)
    first = store.plan(attempted)
    if data.draw(st.booleans(), "the transaction was stored"):
        store.write(first)
    again = store.plan(attempted)
    store.write(again)
    assert (
        [fate(outcome) for outcome in again.outcomes] == [fate(outcome) for outcome in first.outcomes] == model(sent)[0]
    )
    assert store.counted() == model(sent)[1]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.integers(0, 9)), max_size=20), st.data())
def test_tallies_add_up(rows: list[tuple[str, str, int]], data: st.DataObject) -> None:
    found = [
        {"workspace_id": "wsp_1", "contact_id": who, "name": name, "occurred_at": NOW + at * MS}
        for who, name, at in rows
    ]
    assert {row["_id"]: row for row in add_to_summary(found)} == {
        row["_id"]: row for row in add_to_summary(data.draw(st.permutations(found)))
    }
    assert sum(row["count"] for row in add_to_summary(found)) == len(found)


def test_a_tally_line_by_line() -> None:
    def row(contact: str, name: str, at: int) -> dict[str, Any]:
        return {"workspace_id": "wsp_1", "contact_id": contact, "name": name, "occurred_at": NOW + at * MS}

    def line(contact: str, name: str, count: int, first: int, last: int) -> dict[str, Any]:
        id_ = summary_id_of("wsp_1", contact, name)
        return {
            "_id": id_,
            "contact_id": contact,
            "name": name,
            "count": count,
            "first_at": NOW + first * MS,
            "last_at": NOW + last * MS,
        }

    assert add_to_summary(
        [row("c1", "a", 5), row("c2", "a", 1), row("c1", "b", 2), row("c1", "a", 3), row("c1", "a", 9)]
    ) == [
        line("c1", "a", 3, 3, 9),
        line("c2", "a", 1, 1, 1),
        line("c1", "b", 1, 2, 2),
    ]
    assert add_to_summary([]) == []


def test_ids_of_summaries_and_definitions() -> None:
    assert summary_id_of("w", "c", "n") == summary_id_of("w", "c", "n")
    assert (
        len(
            {
                summary_id_of("w", "c", "n"),
                summary_id_of("w", "cn", ""),
                summary_id_of("wc", "n", ""),
                summary_id_of("w", "n", "c"),
            }
        )
        == 4
    )
    assert prefix_of(summary_id_of("w", "c", "n")) is Prefix.SUMMARY
    assert prefix_of(definition_id_of("w", "n")) is Prefix.DEFINITION
    assert definition_id_of("w", "n") != definition_id_of("w", "N")


# ---- groups ----------------------------------------------------------------------------------------------------------


def test_the_event_as_it_is_stored() -> None:
    store = Store()
    sent = event("order", occurred_at=NOW - 5 * MS, metadata={"plan": "pro"}, idempotency_key="k")
    (item,) = store.attempted(sent)
    group = store.plan([item])
    assert item.command.claim
    assert group.events == [
        {
            "_id": item.event_id,
            "workspace_id": "wsp_1",
            "contact_id": "con_1",
            "name": "order",
            "occurred_at": NOW - 5 * MS,
            "received_at": NOW,
            "metadata": [{"type": "TextMetadata", "key": "plan", "text": "pro"}],
            "metadata_json": {"plan": "pro"},
            "identity": "trackEvent:k",
            "fingerprint": item.command.claim.fingerprint,
        }
    ]
    assert group.outcomes == [TrackResult(group.events[0], duplicate=False)]
    (keyless,) = store.plan(store.attempted(event())).events
    assert keyless["identity"] == keyless["_id"]
    assert "fingerprint" not in keyless


def test_of_two_with_one_key_in_a_batch_the_second_is_the_duplicate() -> None:
    store = Store()
    first, second, third = store.track(*[event(idempotency_key="k")] * 3)
    assert (first.duplicate, second.duplicate, third.duplicate) == (False, True, True)
    assert first.event is second.event is third.event
    assert [row["count"] for row in store.summaries.values()] == [1]


@pytest.mark.parametrize(
    "other",
    [
        event("b"),
        event(contact="u2"),
        event(metadata={"n": 1}),
        event(occurred_at=NOW),
        event(counts_as_seen=False),
    ],
    ids=lambda sent: str(sorted(sent)),
)
def test_a_key_with_another_input_is_refused_in_a_batch_and_later(other: dict[str, Any]) -> None:
    other = {**other, "idempotency_key": "k"}
    store = Store()
    assert [fate(outcome) for outcome in store.track(event(idempotency_key="k"), other)] == ["tracked", "reused"]
    assert [fate(outcome) for outcome in store.track(other)] == ["reused"]
    assert list(store.contacts) == ["con_1"], "nothing was written for it"


def test_a_key_holds_for_ever() -> None:
    store = Store()
    sent = event(idempotency_key="k")
    store.track(sent)
    later = store.plan(store.attempted(sent, now=NOW + timedelta(days=4000)))
    assert [fate(outcome) for outcome in later.outcomes] == ["duplicate"]
    assert later.events == []


def test_one_that_is_refused_leaves_the_others() -> None:
    store = Store()
    attempted = store.attempted(
        event("new", "u9", idempotency_key="k"),
        event("a"),
        {"contact": {"id": "con_x", "external_id": "u8"}, "name": "a"},
        event("a", idempotency_key="k"),
    )
    group = store.plan(attempted, NameQuota(frozenset({"new"}), 0))
    refused, tracked, unknown, reuse = group.outcomes
    assert isinstance(refused, UserProblem)
    assert (refused.code, refused.path) == (ErrorCode.LIMIT_EXCEEDED, ("name",))
    assert isinstance(tracked, TrackResult)
    assert isinstance(unknown, UserProblem)
    assert (unknown.code, unknown.path) == (ErrorCode.NOT_FOUND, ("contact", "id"))
    assert isinstance(reuse, TrackResult), "a key whose event was not stored is free"
    assert [draft.document["external_id"] for draft in group.drafts.values()] == ["u1"]
    assert [row["count"] for row in group.summaries()] == [2]


def test_an_email_that_leads_share_is_told_with_its_path() -> None:
    store = Store()
    for number in (1, 2):
        document = {**new_contact(f"con_l{number}", "wsp_1", NOW), "email": "ada@example.com", "role": "LEAD"}
        store.contacts[document["_id"]] = document
    (outcome,) = store.track({"contact": {"email": "Ada@example.com"}, "name": "a"})
    assert isinstance(outcome, UserProblem)
    assert (outcome.code, outcome.path) == (ErrorCode.CONFLICT, ("contact", "email"))


def test_a_refused_name_that_was_tracked_before_is_still_a_duplicate() -> None:
    store = Store()
    store.track(event(idempotency_key="k"))
    group = store.plan(store.attempted(event(idempotency_key="k")), NameQuota(frozenset({"a"}), 0))
    assert [fate(outcome) for outcome in group.outcomes] == ["duplicate"]


@pytest.mark.parametrize("order", list(itertools.permutations([1, 5, 3])), ids=str)
def test_a_contact_was_last_seen_at_its_latest_visit(order: tuple[int, ...]) -> None:
    store = Store()
    visits = [event(occurred_at=NOW - minutes * timedelta(minutes=1)) for minutes in order]
    group = store.plan(store.attempted(*visits, event(counts_as_seen=False), event(contact="u2", counts_as_seen=False)))
    assert group.seen == {"con_1": NOW - timedelta(minutes=1)}
    assert set(group.drafts) == {"con_1", "con_2"}


def test_two_events_of_one_new_contact_create_one() -> None:
    store = Store()
    store.track(
        {"contact": {"external_id": "u1", "email": "Ada@example.com", "anonymous_id": "a1"}, "name": "a"},
        {"contact": {"email": "ada@example.com"}, "name": "a"},
        {"contact": {"anonymous_id": "a1"}, "name": "a"},
    )
    assert list(store.contacts) == ["con_1"]
    assert store.counted() == {("u1", "a"): (3, NOW, NOW)}


# ---- the command -----------------------------------------------------------------------------------------------------


def refusal(sent: dict[str, Any], now: datetime = NOW) -> UserProblem:
    with pytest.raises(UserProblem) as caught:
        track_event(sent, SETTINGS, now)
    return caught.value


def test_a_command_with_nothing_but_what_it_needs() -> None:
    assert track_event(event(), SETTINGS, NOW) == TrackEvent(
        ContactRef(external_id="u1"), "a", None, {}, [], True, None
    )


def test_a_command_with_everything() -> None:
    at = datetime(2026, 1, 31, 10, 30, 0, 123_999, tzinfo=timezone(timedelta(hours=1)))
    command = track_event(
        event("n" * 200, occurred_at=at, metadata={"n": 1}, counts_as_seen=False, idempotency_key="k"), SETTINGS, NOW
    )
    assert command.occurred_at == datetime(2026, 1, 31, 9, 30, 0, 123_000, tzinfo=UTC)
    assert command.occurred_at.tzinfo is UTC
    assert (command.name, command.metadata, command.counts_as_seen) == ("n" * 200, {"n": 1}, False)
    assert command.typed == [{"type": "NumberMetadata", "key": "n", "number": 1, "exact": "1"}]


@pytest.mark.parametrize(
    ("more", "code", "path"),
    [
        ({"name": ""}, ErrorCode.INVALID, ("name",)),
        ({"name": " \n"}, ErrorCode.INVALID, ("name",)),
        ({"name": "a\0"}, ErrorCode.INVALID, ("name",)),
        ({"name": "\ud800"}, ErrorCode.INVALID, ("name",)),
        ({"name": "n" * 201}, ErrorCode.LIMIT_EXCEEDED, ("name",)),
        ({"metadata": {"a.b": 1}}, ErrorCode.INVALID, ("metadata", "a.b")),
        ({"metadata": {"m": {"amount": 1.5, "currency": "USD"}}}, ErrorCode.INVALID, ("metadata", "m", "amount")),
        ({"contact": {}}, ErrorCode.INVALID, ("contact",)),
        ({"contact": {"email": "ada"}}, ErrorCode.INVALID, ("contact", "email")),
        ({"contact": {"external_id": ""}}, ErrorCode.INVALID, ("contact", "externalId")),
        ({"idempotency_key": ""}, ErrorCode.INVALID, ("idempotencyKey",)),
        ({"occurred_at": NOW + timedelta(minutes=5) + MS}, ErrorCode.INVALID, ("occurredAt",)),
        ({"occurred_at": NOW - timedelta(days=3652.5) - MS}, ErrorCode.INVALID, ("occurredAt",)),
    ],
    ids=ascii,
)
def test_commands_that_are_refused(more: dict[str, Any], code: ErrorCode, path: tuple[str, ...]) -> None:
    problem = refusal({**event(), **more})
    assert (problem.code, problem.path) == (code, path)


@pytest.mark.parametrize("at", [NOW + timedelta(minutes=5), NOW - timedelta(days=3652.5), NOW, NOW - MS])
def test_the_times_an_event_may_have(at: datetime) -> None:
    assert track_event(event(occurred_at=at), SETTINGS, NOW).occurred_at == at


def test_below_a_millisecond_nothing_is_told_apart() -> None:
    ahead = NOW + timedelta(minutes=5, microseconds=999)
    assert check_occurred_at(ahead, NOW, 10) == NOW + timedelta(minutes=5)
    assert check_occurred_at(None, NOW, 10) is None


@given(
    st.datetimes(timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))),
    st.sampled_from([10, 30, 100]),
)
@example(datetime(1, 1, 1, tzinfo=timezone(timedelta(minutes=1))), 10)
@example(datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone(timedelta(minutes=-1))), 10)
def test_any_time_is_taken_or_refused(at: datetime, years: int) -> None:
    problem: UserProblem | None = None
    try:
        found = check_occurred_at(at, NOW, years, ("firstAt",))
    except UserProblem as refused:
        problem, found = refused, None
    if problem:
        assert (problem.code, problem.path) == (ErrorCode.INVALID, ("firstAt",))
        return
    assert found is not None
    assert timedelta(0) <= at - found < MS
    assert NOW - timedelta(days=years * 365.25) <= found <= NOW + timedelta(minutes=5)


@pytest.mark.parametrize("name", ["a", "n" * 200, "日" * 200, "created report", "$x.y", " a "])
def test_names_an_event_may_have(name: str) -> None:
    assert check_event_name(name, SETTINGS) == name
