"""Tracking, signing in, merging and erasing in any order, against a model of a few lines."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from examples import examples
from gateways import Gateway
from hypothesis import given
from hypothesis import strategies as st

TRACK = "mutation($i: TrackEventInput!) { trackEvent(input: $i) { event { contact { id } } userErrors { code } } }"
IDENTIFY = (
    "mutation($i: IdentifyContactInput!) { identifyContact(input: $i) { contact { id } merged userErrors { code } } }"
)
MERGE = (
    "mutation($i: MergeContactsInput!) { mergeContacts(input: $i) { contact { id } movedEvents userErrors { code } } }"
)
DELETE = "mutation($i: DeleteContactInput!) { deleteContact(input: $i) { deletedId userErrors { code } } }"
SHOWN = """{ contacts(first: 100) { nodes { id externalId anonymousIds events(first: 100) { nodes { name contact { id } } }
  eventSummaries(first: 100) { nodes { name count } } } } }"""


@dataclass(eq=False)
class Person:
    """What the model knows of a contact."""

    id: str = ""
    external: str | None = None
    anonymous: set[str] = field(default_factory=set)
    events: Counter[str] = field(default_factory=Counter)


@dataclass
class Model:
    """Who there is; `ids`: whom each id ever given leads to now."""

    people: list[Person] = field(default_factory=list)
    ids: dict[str, Person | None] = field(default_factory=dict)
    erased: set[str] = field(default_factory=set)

    def of(self, external: str | None, anonymous: str | None) -> Person | None:
        found = (p for p in self.people if (external and p.external == external) or (anonymous in p.anonymous))
        return next(found, None)

    def add(self, external: str | None, anonymous: str | None) -> Person | str:
        if (external or anonymous) in self.erased:
            return "FORBIDDEN"
        person = Person(external=external, anonymous=set() if external else {str(anonymous)})
        self.people.append(person)
        return person

    def meant(self, external: str | None, anonymous: str | None) -> Person | str:
        person = self.of(external, None) if external else self.of(None, anonymous)
        person = person or self.add(external, anonymous)
        if isinstance(person, Person) and anonymous and anonymous not in self.erased and not self.of(None, anonymous):
            person.anonymous.add(anonymous)
        return person

    def join(self, gone: Person, into: Person) -> int:
        self.people.remove(gone)
        into.anonymous |= gone.anonymous
        into.events += gone.events
        self.ids |= {id_: into for id_, person in self.ids.items() if person is gone}
        return gone.events.total()

    def track(self, external: str | None, anonymous: str | None, name: str) -> Person | str:
        person = self.meant(external, anonymous)
        if isinstance(person, Person):
            person.events[name] += 1
        return person

    def identify(self, external: str, anonymous: str) -> tuple[Person | str, bool]:
        user, visitor = self.of(external, None), self.of(None, anonymous)
        if visitor is None or visitor.external:
            return self.meant(external, anonymous if visitor is None else None), False
        if user is None:
            if external in self.erased:
                return "FORBIDDEN", False
            visitor.external = external
            return visitor, False
        self.join(visitor, user)
        return user, True

    def merge(self, from_: str, into: str) -> tuple[Person | str, int]:
        gone, survivor = self.ids[from_], self.ids[into]
        if from_ == into:
            return "INVALID", 0
        if gone is None or survivor is None:
            return "NOT_FOUND", 0
        if gone is survivor:
            return ("ILLEGAL_TRANSITION", 0) if survivor.id == from_ else (survivor, 0)
        if gone.external or not survivor.external:
            return "ILLEGAL_TRANSITION", 0
        return survivor, self.join(gone, survivor)

    def delete(self, id_: str) -> str | None:
        person = self.ids[id_]
        if person is None:
            return "NOT_FOUND"
        self.people.remove(person)
        self.ids |= {other: None for other, whose in self.ids.items() if whose is person}
        self.erased |= person.anonymous | ({person.external} if person.external else set())
        return None


async def asked(workspace: Any, mutation: str, **sent: Any) -> tuple[Any, str | None]:
    """The payload, and the code of what is wrong with the call."""
    (payload,) = (await workspace.data(mutation, {"i": sent})).values()
    return payload, next((problem["code"] for problem in payload["userErrors"]), None)


def told(model: Model, expected: Person | str, code: str | None, shown: Any) -> None:
    """The answer is what the model says; a new person's id is learned from it."""
    if isinstance(expected, str):
        assert code == expected
        return
    assert code is None
    expected.id = expected.id or shown["id"]
    assert shown["id"] == expected.id
    model.ids.setdefault(expected.id, expected)


async def step(workspace: Any, model: Model, kind: str, first: int, second: int) -> None:
    external, anonymous = f"e{first % 2}", f"a{second % 3}"
    ids = sorted(model.ids)
    if kind in ("user", "visitor", "both"):
        ref = {
            "externalId": external if kind != "visitor" else None,
            "anonymousId": anonymous if kind != "user" else None,
        }
        name = f"did {first % 2}"
        expected = model.track(ref["externalId"], ref["anonymousId"], name)
        payload, code = await asked(workspace, TRACK, contact=ref, name=name)
        told(model, expected, code, payload["event"] and payload["event"]["contact"])
    elif kind == "identify":
        expected, merged = model.identify(external, anonymous)
        payload, code = await asked(workspace, IDENTIFY, anonymousId=anonymous, externalId=external)
        told(model, expected, code, payload["contact"])
        assert payload["merged"] is merged
    elif kind == "merge" and ids:
        from_, into = ids[first % len(ids)], ids[second % len(ids)]
        expected, moved = model.merge(from_, into)
        payload, code = await asked(workspace, MERGE, **{"from": from_, "into": into})
        told(model, expected, code, payload["contact"])
        assert payload["movedEvents"] == moved
    elif kind == "delete" and ids:
        expected_code = model.delete(ids[first % len(ids)])
        _, code = await asked(workspace, DELETE, id=ids[first % len(ids)])
        assert code == expected_code


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["user", "visitor", "visitor", "both", "identify", "identify", "merge", "delete"]),
        st.integers(0, 5),
        st.integers(0, 5),
    ),
    min_size=4,
    max_size=14,
)


@examples(25)
@given(steps=STEPS)
async def test_contacts_are_what_a_model_says(fast_gateway: Gateway, steps: list[tuple[str, int, int]]) -> None:
    workspace, model = await fast_gateway.workspace(), Model()
    for each in steps:
        await step(workspace, model, *each)
    shown = (await workspace.data(SHOWN))["contacts"]["nodes"]
    assert {
        row["id"]: (
            row["externalId"],
            set(row["anonymousIds"]),
            Counter(event["name"] for event in row["events"]["nodes"]),
        )
        for row in shown
    } == {person.id: (person.external, person.anonymous, person.events) for person in model.people}
    for row in shown:
        assert {event["contact"]["id"] for event in row["events"]["nodes"]} <= {row["id"]}
        counts = Counter(event["name"] for event in row["events"]["nodes"])
        assert {summary["name"]: summary["count"] for summary in row["eventSummaries"]["nodes"]} == counts
    ids = sorted(model.ids)
    nodes = (await workspace.data("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", {"ids": ids}))["nodes"]
    whose = [model.ids[id_] for id_ in ids]
    assert nodes == [None if person is None else {"id": person.id} for person in whose]
    assert len(await workspace.store.events._find({})) == sum(person.events.total() for person in model.people)
