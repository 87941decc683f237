"""Summaries: the sum of tracked events, imported numbers, and events that retention removed."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from gateway.domain.change_kinds import SummaryChange
from gateway.domain.contacts.contacts import Document

_IMPORTED_FIELDS = ("imported", "retained")
_COUNTS = ("count", "first_at", "last_at")


def with_line(before: Mapping[str, Any], ids: Mapping[str, str], line: Mapping[str, Any], now: datetime) -> Document:
    """Apply an imported line to a summary, replacing an earlier import.

    A `retained` line counts events tracked elsewhere and no longer stored. It is applied once.
    """
    counts = {name: line[name] for name in _COUNTS}
    if line.get("retained"):
        if before.get("retained"):
            return dict(before)
        tracked = summed(_part(before, "tracked_"), counts)
        return {**before, **_summed(ids, tracked, before.get("imported")), "retained": counts}
    imported = before.get("imported") or {}
    imported = dict(imported) if counts.items() <= imported.items() else {**counts, "at": now}
    return {**before, **_summed(ids, _part(before, "tracked_"), counts), "imported": imported}


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether the imported or retained numbers differ."""
    return any(before.get(name) != after.get(name) for name in _IMPORTED_FIELDS)


def summary_change(before: Mapping[str, Any], after: Mapping[str, Any]) -> SummaryChange:
    """What an import changes; `again` if first or last moved inwards."""
    reaches_less = bool(before) and (after["first_at"] > before["first_at"] or after["last_at"] < before["last_at"])
    return {
        "name": after["name"],
        "count": after["count"] - before.get("count", 0),
        "first_at": after["first_at"],
        "last_at": after["last_at"],
        "again": reaches_less,
    }


def retained_counts(summaries: Iterable[Mapping[str, Any]], swept: Iterable[Mapping[str, Any]]) -> list[Document]:
    """Counts without stored events, by name: imported as retained, or `swept` here."""
    totals: dict[str, Document] = {}
    for row in [*({**row["retained"], "name": row["name"]} for row in summaries if "retained" in row), *swept]:
        totals[row["name"]] = {"name": row["name"], **summed(totals.get(row["name"]), row)}
    return [totals[name] for name in sorted(totals)]


def summed(left: Mapping[str, Any] | None, right: Mapping[str, Any] | None) -> Document:
    """Count, first and last of both; empty if there is neither."""
    rows = [row for row in (left, right) if row]
    if not rows:
        return {}
    return {
        "count": sum(row["count"] for row in rows),
        "first_at": min(row["first_at"] for row in rows),
        "last_at": max(row["last_at"] for row in rows),
    }


def _part(summary: Mapping[str, Any], kind: str) -> Document | None:
    return {name: summary[kind + name] for name in _COUNTS} if summary.get(f"{kind}count") else None


def _summed(ids: Mapping[str, str], tracked: Document | None, imported: Mapping[str, Any] | None) -> Document:
    return {
        **ids,
        **summed(tracked, imported),
        **{f"tracked_{name}": value for name, value in (tracked or {}).items()},
    }
