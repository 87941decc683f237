"""Deliveries as requests: one by one, or many events in one, cut down to whatever of them Klaviyo refuses."""

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from gateway.domain.contacts.contacts import Document

MOST_EVENTS = 1000
LARGEST_BODY = 4_500_000


def chunks(rows: Iterable[Document]) -> list[list[Document]]:
    """The rows in their order, in requests that are small enough."""
    found: list[list[Document]] = []
    size = 0
    for row in rows:
        more = len(orjson.dumps(row["payload"]))
        if not found or len(found[-1]) >= MOST_EVENTS or size + more > LARGEST_BODY:
            found.append([])
            size = 0
        found[-1].append(row)
        size += more
    return found


def groups(rows: Sequence[Document]) -> list[list[Document]]:
    """The rows by the profile that they are of, in the order of each profile's first: as a bulk request has them."""
    found: dict[bytes, list[Document]] = {}
    for row in rows:
        profile = row["payload"]["data"]["attributes"]["profile"]
        found.setdefault(orjson.dumps(profile, option=orjson.OPT_SORT_KEYS), []).append(row)
    return list(found.values())


def bulk_body(grouped: Sequence[Sequence[Document]]) -> Document:
    """The body of a bulk request."""
    rows = [
        {
            "type": "event-bulk-create",
            "attributes": {
                "profile": group[0]["payload"]["data"]["attributes"]["profile"],
                "events": {"data": [_event(row) for row in group]},
            },
        }
        for group in grouped
    ]
    return {"data": {"type": "event-bulk-create-job", "attributes": {"events-bulk-create": {"data": rows}}}}


def index_of_pointer(grouped: Sequence[Sequence[Document]], item: tuple[int, int | None] | None) -> Document | None:
    """The row that a refusal points at; None where it does not say which."""
    if item is None or item[0] >= len(grouped):
        return None
    group, place = grouped[item[0]], item[1]
    if place is None:
        return group[0] if len(group) == 1 else None
    return group[place] if place < len(group) else None


def _event(row: Document) -> dict[str, Any]:
    attributes = row["payload"]["data"]["attributes"]
    return {"type": "event", "attributes": {name: value for name, value in attributes.items() if name != "profile"}}
