"""Counts what became of deliveries, by metric and by backfill."""

from collections import Counter
from collections.abc import Iterable, Mapping

from gateway.destinations.klaviyo.documents import MetricCounts
from gateway.outbox.deliveries import OPEN, SUPERSEDED, DeliveryState
from gateway.outbox.documents import DeliveryDocument


def metric_counts(rows: Iterable[DeliveryDocument]) -> list[MetricCounts]:
    counts: dict[str, MetricCounts] = {}
    for row in rows:
        state = row["state"]
        if row["metric"] is None or state not in (DeliveryState.DELIVERED, DeliveryState.DEAD):
            continue
        zero: MetricCounts = {
            "name": row["metric"],
            "source": row["source"],
            "delivered": 0,
            "failed": 0,
            "last_delivered_at": None,
        }
        line = counts.setdefault(row["metric"], zero)
        line["delivered" if state == DeliveryState.DELIVERED else "failed"] += 1
        if state == DeliveryState.DELIVERED:
            line["last_delivered_at"] = max(row["delivered_at"], line["last_delivered_at"] or row["delivered_at"])
    return list(counts.values())


def backfill_tallies(rows: Iterable[DeliveryDocument], before: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """The increments of `settled`, `done` and `failed` by backfill. `before`: previous states by delivery id."""
    tallies: dict[str, Counter[str]] = {}
    for row in rows:
        if row.get("backfill_id") is not None:
            tally = tallies.setdefault(row["backfill_id"], Counter())
            for state, sign in ((row["state"], 1), (before[row["_id"]], -1)):
                if state not in OPEN:
                    tally.update({"settled": sign, _tally_of(state, row): sign})
    return {
        id_: {name: increment for name, increment in tally.items() if increment}
        for id_, tally in tallies.items()
        if any(tally.values())
    }


def _tally_of(state: str, row: DeliveryDocument) -> str:
    """A superseded profile is done: the contact's newer one arrives in its place."""
    is_superseded = state == row["state"] and row.get("reason") == SUPERSEDED
    return "done" if state == DeliveryState.DELIVERED or is_superseded else "failed"
