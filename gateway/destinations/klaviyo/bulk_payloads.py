"""Bulk requests: splits rows into requests, builds the body, and finds the row that a refusal points at."""

from collections.abc import Iterable, Sequence

import orjson

from gateway.domain.contacts.contacts import Document
from gateway.outbox.documents import DeliveryDocument

MOST_EVENTS = 1000
LARGEST_BODY = 4_500_000


def chunks(rows: Iterable[DeliveryDocument]) -> list[list[DeliveryDocument]]:
    """The rows in order, in lists small enough for one request."""
    requests: list[list[DeliveryDocument]] = []
    size = 0
    for row in rows:
        row_size = len(orjson.dumps(row["payload"]))
        if not requests or len(requests[-1]) >= MOST_EVENTS or size + row_size > LARGEST_BODY:
            requests.append([])
            size = 0
        requests[-1].append(row)
        size += row_size
    return requests


def groups(rows: Sequence[DeliveryDocument]) -> list[list[DeliveryDocument]]:
    """The rows grouped by profile, in order of each profile's first row, as a bulk request has them."""
    by_profile: dict[bytes, list[DeliveryDocument]] = {}
    for row in rows:
        profile = row["payload"]["data"]["attributes"]["profile"]
        by_profile.setdefault(orjson.dumps(profile, option=orjson.OPT_SORT_KEYS), []).append(row)
    return list(by_profile.values())


def bulk_body(grouped: Sequence[Sequence[DeliveryDocument]]) -> Document:
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


def index_of_pointer(
    grouped: Sequence[Sequence[DeliveryDocument]], item: tuple[int, int | None] | None
) -> DeliveryDocument | None:
    """The row that a refusal points at; None if it is unclear which."""
    if item is None or item[0] >= len(grouped):
        return None
    group, index = grouped[item[0]], item[1]
    if index is None:
        return group[0] if len(group) == 1 else None
    return group[index] if index < len(group) else None


def _event(row: DeliveryDocument) -> Document:
    attributes = row["payload"]["data"]["attributes"]
    return {"type": "event", "attributes": {name: value for name, value in attributes.items() if name != "profile"}}
