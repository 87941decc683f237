"""Random people with what they did, random filters, and what plain Python answers: of a filter as it is sent, and a world as it was made."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st

Json = dict[str, Any]
WORDS = ["Pro", "pro", "PROfit", "go", "Straße"]
NAMES = ["viewed", "bought", "came"]
KEYS = ["plan", "size", "paid"]
UPSERT = "mutation($i: UpsertContactInput!) { upsertContact(input: $i) { userErrors { code message path } } }"
IMPORT = (
    "mutation($i: ImportEventSummariesInput!) { importEventSummaries(input: $i) { userErrors { code message path } } }"
)

# What there is. Ages are in quarters of a day, and an hour: no filter's bound comes near one while the test runs.
ages = st.integers(0, 40)
words = st.sampled_from(WORDS)
dates = st.sampled_from(["2020-01-01T00:00:00Z", "2029-05-05T12:00:00.250Z", "1960-02-03T00:00:00+02:00"])
values = st.one_of(
    words,
    st.integers(-2, 3),
    st.floats(-2, 3, width=16),
    st.booleans(),
    dates,
    st.just("https://Example.com/pro"),
    st.builds(lambda word: {"url": "https://example.com/go", "value": word}, words),
    st.builds(lambda n, code: {"amount": n, "currency": code}, st.integers(-2, 3), st.sampled_from(["usd", "EUR"])),
    st.just(["pro"]),
    st.none(),
)
attributes = st.dictionaries(st.sampled_from(KEYS), values, max_size=3)
people = st.fixed_dictionaries(
    {"role": st.sampled_from(["USER", "LEAD", "VISITOR"])},
    optional={
        "name": words,
        "tags": st.lists(words, max_size=2, unique=True),
        "country": words,
        "signed_up": ages,
        "attributes": attributes,
    },
)
deeds = st.fixed_dictionaries(
    {"who": st.integers(0, 5), "name": st.sampled_from(NAMES), "age": ages, "metadata": attributes}
)
imports = st.fixed_dictionaries({"who": st.integers(0, 5), "name": st.sampled_from(NAMES), "count": st.integers(1, 3)})
worlds = st.fixed_dictionaries(
    {
        "people": st.lists(people, min_size=1, max_size=6),
        "deeds": st.lists(deeds, max_size=25),
        "imports": st.lists(imports, max_size=1),
    }
)

# What is asked.


def some_of(**members: Any) -> Any:
    return st.fixed_dictionaries({}, optional=members)


numbers = st.integers(-1, 4)
number_filters = some_of(eq=numbers, ne=numbers, gt=numbers, gte=numbers, lt=numbers, lte=numbers)
text_filters = some_of(
    eq=words, ne=words, startsWith=words, endsWith=words, contains=words, known=st.booleans()
) | st.fixed_dictionaries({"in": st.lists(words, max_size=3)})
days = st.integers(0, 10)
time_filters = some_of(
    moreThanDaysAgo=days, lessThanDaysAgo=days, lessThanMinutesAgo=days.map(lambda n: n * 1440), known=st.booleans()
) | some_of(after=dates, before=dates)
attribute_filters = st.fixed_dictionaries(
    {"key": st.sampled_from(KEYS)},
    optional={
        "string": text_filters,
        "number": number_filters,
        "boolean": st.booleans(),
        "time": time_filters,
        "link": text_filters,
        "money": some_of(currency=st.sampled_from(["USD", "eur"]), amountMinor=number_filters),
    },
).filter(lambda asked: len(asked) <= 2)
told_apart = {
    "within": time_filters,
    "beforeSignUp": st.booleans(),
    "metadata": st.lists(attribute_filters, max_size=2),
}
event_names = st.sampled_from(NAMES)
event_filters = st.fixed_dictionaries(
    {"name": event_names},
    optional={
        "count": number_filters,
        "first": time_filters,
        "last": time_filters,
        "notFollowedBy": event_names,
        **told_apart,
    },
) | st.fixed_dictionaries({"name": event_names, "never": st.just(True)}, optional=told_apart)
leaves = st.one_of(
    st.fixed_dictionaries({"event": event_filters}),
    st.fixed_dictionaries({"event": event_filters}),
    st.fixed_dictionaries({"role": st.lists(st.sampled_from(["USER", "LEAD"]), max_size=2)}),
    *(st.fixed_dictionaries({field: text_filters}) for field in ("name", "tag", "country", "city")),
    *(st.fixed_dictionaries({field: time_filters}) for field in ("createdAt", "signedUpAt", "lastSeenAt")),
    st.fixed_dictionaries({"customAttribute": attribute_filters}),
)
filters = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"and": st.lists(inner, max_size=3)}),
        st.fixed_dictionaries({"or": st.lists(inner, max_size=3)}),
        st.fixed_dictionaries({"not": inner}),
        st.builds(lambda one, other: one | other, inner, inner),
    ),
    max_leaves=4,
).filter(lambda asked: depth(asked) <= 5)


def depth(asked: Json) -> int:
    inner = [*asked.get("and", ()), *asked.get("or", ()), *([asked["not"]] if "not" in asked else [])]
    return 1 + max(map(depth, inner), default=0)


# What plain Python answers: of a filter as it is sent, and a world as it was made.


def text_holds(asked: Json, texts: list[str]) -> bool:
    small = [text.lower() for text in texts]
    one: list[Callable[[str], bool]] = []
    for name, value in asked.items():
        if name == "ne" and value.lower() in small:
            return False
        if name == "known" and value is not bool(small):
            return False
        if name == "eq":
            one.append(lambda text, value=value: text == value.lower())  # type: ignore[misc]
        if name == "in":
            one.append(lambda text, value=value: any(text == each.lower() for each in value))  # type: ignore[misc]
        if name == "startsWith":
            one.append(lambda text, value=value: text[: len(value)] == value.lower())  # type: ignore[misc]
        if name == "endsWith":
            one.append(lambda text, value=value: text.endswith(value.lower()))  # type: ignore[misc]
        if name == "contains":
            one.append(lambda text, value=value: text.find(value.lower()) >= 0)  # type: ignore[misc]
    return not one or any(all(test(text) for test in one) for text in small)


def number_holds(asked: Json, number: Any) -> bool:
    if number is None:
        return not set(asked) - {"ne"}
    return (
        asked.get("eq", number) == number
        and asked.get("ne") != number
        and number > asked.get("gt", number - 1)
        and number >= asked.get("gte", number)
        and number < asked.get("lt", number + 1)
        and number <= asked.get("lte", number)
    )


def time_holds(asked: Json, at: datetime | None, now: datetime) -> bool:
    if at is None:
        return asked in ({}, {"known": False})
    day = timedelta(days=1)
    tests = {
        "known": lambda known: known,
        "after": lambda text: at > datetime.fromisoformat(text),
        "before": lambda text: at < datetime.fromisoformat(text),
        "moreThanDaysAgo": lambda n: at < now - n * day,
        "lessThanDaysAgo": lambda n: at > now - n * day,
        "lessThanMinutesAgo": lambda n: at > now - timedelta(minutes=n),
    }
    return all(tests[name](value) for name, value in asked.items())


def link_of(value: Any) -> list[str]:
    if isinstance(value, str) and value.startswith("http"):
        return [value]
    return [value["url"]] if isinstance(value, dict) and "url" in value else []


def attribute_holds(asked: Json, found: Json, now: datetime) -> bool:
    if asked["key"] not in found and asked.keys() == {"key"}:
        return False
    value = found.get(asked["key"])
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
    at = datetime.fromisoformat(value) if isinstance(value, str) and value[0] in "12" else None
    money = value if isinstance(value, dict) and "amount" in value else None
    tests = {
        "key": lambda _: True,
        "string": lambda inner: text_holds(inner, [value] if isinstance(value, str) else []),
        "number": lambda inner: number_holds(inner, number),
        "boolean": lambda inner: isinstance(value, bool) and value == inner,
        "time": lambda inner: time_holds(inner, at, now),
        "link": lambda inner: text_holds(inner, link_of(value)),
        "money": lambda inner: (
            money is not None
            and inner.get("currency", money["currency"]).lower() == money["currency"].lower()
            and number_holds(inner.get("amountMinor", {}), money["amount"])
        ),
    }
    return all(tests[name](inner) for name, inner in asked.items())


def event_holds(asked: Json, person: Json, now: datetime) -> bool:
    def times(name: str, *, told: bool) -> list[datetime]:
        found = []
        for event in person["events"]:
            kept = event["name"] == name
            if kept and told:
                kept = time_holds(asked.get("within", {}), event["at"], now)
                kept &= all(attribute_holds(one, event["metadata"], now) for one in asked.get("metadata", ()))
                kept &= (
                    not asked.get("beforeSignUp") or not person["signed_up_at"] or event["at"] < person["signed_up_at"]
                )
            found += [event["at"]] if kept else []
        return found

    tells = asked.get("within") or asked.get("beforeSignUp") or asked.get("metadata")
    own = times(asked["name"], told=True) + ([] if tells else person["imported"].get(asked["name"], []))
    if asked.get("never"):
        return not own
    if "notFollowedBy" in asked:
        others = times(asked["notFollowedBy"], told=False) + person["imported"].get(asked["notFollowedBy"], [])
        if not own or any(other >= max(own) for other in others):
            return False
    if not any(asked.get(name) for name in ("count", "first", "last")):
        return bool(own)
    return (
        number_holds(asked.get("count", {}), len(own))
        and time_holds(asked.get("first", {}), min(own, default=None), now)
        and time_holds(asked.get("last", {}), max(own, default=None), now)
    )


def holds(asked: Json, person: Json, now: datetime) -> bool:
    tests: dict[str, Callable[[Any], bool]] = {
        "and": lambda inner: all(holds(one, person, now) for one in inner),
        "or": lambda inner: any(holds(one, person, now) for one in inner),
        "not": lambda inner: not holds(inner, person, now),
        "event": lambda inner: event_holds(inner, person, now),
        "role": lambda inner: person["role"] in inner,
        "name": lambda inner: text_holds(inner, [person["name"]] if person["name"] else []),
        "tag": lambda inner: text_holds(inner, person["tags"]),
        "country": lambda inner: text_holds(inner, [person["country"]] if person["country"] else []),
        "city": lambda inner: text_holds(inner, []),
        "createdAt": lambda inner: time_holds(inner, now - timedelta(seconds=1), now),
        "signedUpAt": lambda inner: time_holds(inner, person["signed_up_at"], now),
        "lastSeenAt": lambda inner: time_holds(inner, max((e["at"] for e in person["events"]), default=None), now),
        "customAttribute": lambda inner: attribute_holds(inner, person["attributes"], now),
    }
    return all(tests[name](inner) for name, inner in asked.items())


# One world, made.


async def made(workspace: Any, world: Json, now: datetime) -> dict[str, Json]:
    """The world's people by externalId, after the gateway was told of them."""
    found: dict[str, Json] = {}
    for place, person in enumerate(world["people"]):
        signed_up_at = now - person["signed_up"] * timedelta(hours=6) if "signed_up" in person else None
        own = {key: value for key, value in person.get("attributes", {}).items() if value is not None}
        found[f"u{place}"] = {
            "role": "USER",  # whoever has an externalId is one
            "name": person.get("name"),
            "tags": person.get("tags", []),
            "country": person.get("country"),
            "signed_up_at": signed_up_at,
            "attributes": own,
            "events": [],
            "imported": {},
        }
        sent = {
            "externalId": f"u{place}",
            "name": person.get("name"),
            "tags": person.get("tags", []),
            "customAttributes": own,
        }
        sent |= {"location": {"country": person["country"]}} if "country" in person else {}
        sent |= {"signedUpAt": signed_up_at.isoformat()} if signed_up_at else {}
        assert (await workspace.data(UPSERT, {"i": sent}))["upsertContact"]["userErrors"] == []
    await do(workspace, found, world["deeds"], now)
    for line in world["imports"]:
        who, at = f"u{line['who'] % len(found)}", now - timedelta(days=400)
        found[who]["imported"][line["name"]] = [at] * line["count"]
        summary = {"name": line["name"], "count": line["count"], "firstAt": at.isoformat(), "lastAt": at.isoformat()}
        sent = {"contact": {"externalId": who}, "summaries": [summary]}
        assert (await workspace.data(IMPORT, {"i": sent}))["importEventSummaries"]["userErrors"] == []
    return found


async def do(workspace: Any, people: dict[str, Json], deeds: list[Json], now: datetime) -> None:
    """Tell the gateway, in one call, what these people did, and note it of them."""
    events, everybody = [], list(people)
    for deed in deeds:
        who = everybody[deed["who"] % len(everybody)]
        at = now - deed["age"] * timedelta(hours=6) - timedelta(hours=1)
        people[who]["events"].append({"name": deed["name"], "at": at, "metadata": deed["metadata"]})
        ref = {"contact": {"externalId": who}, "name": deed["name"]}
        events.append({**ref, "occurredAt": at.isoformat(), "metadata": deed["metadata"]})
    if events:
        assert (await workspace.track(*events))["rejected"] == 0
